"""What a run shows while it goes on: a live view on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from junctor.cli.chaos.run import Run
from junctor.cli.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

WIDTH = 36  # characters of the bar


class Display:
    """Shows a run; ``tell`` is what ``Run.execute`` calls.  Everything goes to standard error when standard output is JSON's."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._live: Live | None = None
        self._phase = ""
        self._faults = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty() if self._as_json else sys.stdout.isatty():
            from rich.console import Console  # 40 ms, which only terminals pay
            from rich.live import Live

            console = Console(stderr=self._as_json, highlight=False, emoji=False)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self._live is not None:
            self._live.stop()

    def tell(self, run: Run) -> None:
        """Shows how far ``run`` is."""
        if self._live is not None:
            self._live.update(_view(run), refresh=True)
        elif run.phase != self._phase:
            self._phase = run.phase
            click.echo(f"{run.history.now:7.1f} s  {visible(line(run))}", err=self._as_json)


def line(run: Run) -> str:
    """How far a run is, in a line."""
    received = sum(behaviour.received for behaviour in run.behaviours.values())
    faults = run.nemesis.done if run.nemesis else 0
    return f"{run.phase}: {run.acknowledged:,} acknowledged, {received:,} received, {faults} faults over"


def _view(run: Run) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now = min(run.history.now, run.plan.seconds)
    filled = round(WIDTH * now / run.plan.seconds)
    current = ", ".join(run.nemesis.current.values()) if run.nemesis else ""
    head = Text.assemble(
        ("━" * filled, "green"),
        ("━" * (WIDTH - filled), "bright_black"),
        f"  {now:.0f} of {run.plan.seconds:g} s  ",
        (run.phase, "bold"),
    )
    fault = Text.assemble(("fault  ", "bright_black"), (current or "none", "red" if current else ""))
    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for column in ("subscription", "topic", "receptions", "still missing"):
        table.add_column(column, justify="right" if column not in ("subscription", "topic") else "left")
    missing = run.missing()
    for name, behaviour in run.behaviours.items():
        left = missing.get(name, 0)
        table.add_row(
            name, behaviour.subscriber.topic, f"{behaviour.received:,}", f"{left:,}" if left else "-"
        )
    return Group(head, fault, Text(f"{run.acknowledged:,} messages acknowledged"), table)
