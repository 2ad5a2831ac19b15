"""``junctor history``: the change feed, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from junctor.cli import manifest, output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.session import Session

MAX_LIMIT = 1000
SHOWN_LENGTH = 60  # of a value
SET_BY_SERVER = frozenset({"id", "is_internal", "owner", "version"})
MARKS = {"create": ("+", "green"), "edit": ("~", "yellow"), "delete": ("-", "red")}


@click.command(cls=ClusterCommand)
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=20, show_default=True, metavar="NUMBER")
@click.option("--before", type=click.IntRange(1), metavar="VERSION", help="Only versions below this one.")
@pass_session
def history(session: Session, limit: int, before: int | None) -> None:
    """Shows who changed what, newest first.

    Secrets are shown as fingerprints: equal ones have equal fingerprints, and nothing else follows from them.
    """
    request = {"limit": limit} | ({} if before is None else {"before": before})
    answer = session.invoke("junctor.config.history", request)

    def show() -> None:
        for item in answer["items"]:
            when = str(item.get("at") or "")[:19]
            click.echo(output.shown(f"Version {item['version']}  {when}  {item.get('who') or ''}"))
            for line in change_lines(item):
                click.echo(f"  {line}")

    session.answer(answer, show)


def change_lines(change: Mapping[str, Any]) -> Iterator[str]:
    """A change as lines: the object, then each field that differs, coloured."""
    mark, color = MARKS.get(change["verb"], ("?", "white"))
    yield click.style(output.shown(f"{mark} {change['kind']} {change['name']}"), fg=color)
    if change["verb"] == "delete":
        return
    for field, (before, after) in sorted(_fields(change).items()):
        old = f"{_value(before)} -> " if change["verb"] == "edit" else ""
        yield f"    {output.shown(field)}: {old}{_value(after)}"


def _fields(change: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differences, each secret as a field of its own; what only the server sets is left out of new objects."""
    found: dict[str, tuple[Any, Any]] = {}
    for field, (before, after) in (change.get("differences") or {}).items():
        if field == "secrets":
            names = {**(before or {}), **(after or {})}
            found |= {
                name: (_fingerprint(before, name), _fingerprint(after, name))
                for name in names
                if (before or {}).get(name) != (after or {}).get(name)
            }
        elif change["verb"] != "create" or not _goes_without_saying(change["kind"], field, after):
            found[field] = (before, after)
    return found


def _goes_without_saying(kind: str, field: str, value: Any) -> bool:
    """Whether the value of a new object's field is what it is by default, or what only the server sets."""
    info = manifest.find(kind)
    found = info.field(field) if info else None
    if found is None:
        return field in SET_BY_SERVER
    return field == "name" or value == found.default


def _fingerprint(secrets: Mapping[str, str] | None, name: str) -> str:
    found = (secrets or {}).get(name)
    return f"secret {found}" if found else "no secret"


def _value(value: Any) -> str:
    text = output.shown(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."
