"""What commands write to standard output: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from junctor.cli.visible import visible

WIDE = 10_000  # columns of what is not a terminal: nothing is ever cut or folded there


def print_json(data: Any) -> None:
    """Writes ``data`` as indented JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_json_line(data: Any) -> None:
    """Writes ``data`` as JSON on one line: one of many that a program reads as they come."""
    click.echo(json.dumps(data, ensure_ascii=False, default=str))


def print_data(data: Any) -> None:
    """Writes what somebody else has sent: text without what could command a terminal, anything else as JSON."""
    if isinstance(data, str):
        click.echo(visible(data))
    else:
        print_json(data)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes an aligned table; on a terminal it fits the window, elsewhere each row is one line."""
    from rich import box  # 40 ms, which only tables pay
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if is_terminal else None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=not is_terminal)
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console = Console(file=sys.stdout, width=None if is_terminal else WIDE, highlight=False, emoji=False)
    if is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def shown(value: Any) -> str:
    """A value as a table shows it: yes and no, lists with commas, nothing for nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return visible(value).replace("\n", " ")


def size(count: float) -> str:
    """A number of bytes as people read it, e.g. 12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """A span of time as people read it, e.g. 3 d 4 h or 12 s."""
    left = max(0, int(seconds))
    days, left = divmod(left, 86_400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    parts = [f"{n} {u}" for n, u in ((days, "d"), (hours, "h"), (minutes, "min"), (left, "s")) if n]
    return " ".join(parts[:2]) or "0 s"
