"""What every embedded program can do, whichever it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from junctor.cli.process import ProcessStatus, Stopped


@dataclass(frozen=True, slots=True)
class Started:
    """What starting a program came to.

    ``fresh`` is False when it ran already.  ``moved_from`` is the port that it had before, when that was taken; 0 if it
    has kept its port.  ``notes`` are sentences for whoever started it.
    """

    name: str
    port: int
    fresh: bool
    moved_from: int = 0
    notes: tuple[str, ...] = ()


class Store(Protocol):
    """The life of an embedded program.  Everything may block; nothing may be called from a server."""

    name: str

    def install_check(self) -> str:
        """The version of the program; raises ``EnvironmentProblem`` saying what to do when it cannot be run."""

    def create(self) -> None:
        """What the program needs on disk is there.  Called once, by who creates the environment."""

    def start(self) -> Started:
        """The program runs and answers; raises ``ProcessFailed`` with its log when it does not."""

    def stop(self) -> Stopped:
        """The program does not run, and was asked before it was killed."""

    def kill(self) -> None:
        """The program does not run, and was not asked."""

    def status(self) -> ProcessStatus:
        """Whether the program runs; it is not asked."""

    def ping(self) -> bool:
        """Whether the program answers one that knows its password."""

    def wait_ready(self, timeout: float) -> None:
        """Returns when ``ping()`` says so; raises ``ProcessFailed`` after ``timeout`` seconds."""


def store_environment() -> dict[str, str]:
    """The environment variables of an embedded program: none of ours, for some of them are secrets."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_PRELOAD", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {"LC_ALL": "C", "TZ": "UTC", **kept}
