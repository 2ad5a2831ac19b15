"""Progress of what takes a while: ``[k/T] what was done``."""

from __future__ import annotations

import sys

import click

from junctor.cli.session import Session
from junctor.cli.visible import visible


class Progress:
    """Numbers the steps of a command; on standard error when JSON is wanted, so that standard output is JSON alone."""

    def __init__(self, session: Session, total: int) -> None:
        self._session = session
        self._total = total
        self._step = 0

    def done(self, text: str) -> None:
        """One more step is done."""
        self._step += 1
        click.echo(f"[{self._step}/{self._total}] {visible(text)}", err=self._session.as_json)
        (sys.stderr if self._session.as_json else sys.stdout).flush()

    def report(self, step: int, total: int, text: str) -> None:
        """The form in which ``junctor.cli.cluster`` reports: its steps are some of these."""
        del step, total
        self.done(text)
