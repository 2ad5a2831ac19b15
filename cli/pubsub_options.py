"""What the commands of ``junctor pubsub`` have in common: options, times as people write them, work in steps."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from junctor.cli import output
from junctor.cli.session import Session
from junctor.sql.errors import InvalidInput

KEY_PREFIX = "zpsk."
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_LIMIT = 100_000
PAGE = 200  # items that are asked for at a time
STEP_WAIT = 30.0  # seconds that one step of long work may take, beyond what any call may


class Moment(click.ParamType[str]):
    """A time: how long ago, e.g. 10m, or ISO 8601, which is local time without a zone; ISO 8601 in UTC for the server."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time as text; a usage error if it is none."""
        try:
            if re.fullmatch(r"[0-9.]+[smhd]", value):
                return (datetime.now(UTC) - timedelta(seconds=seconds(value, "time"))).isoformat()
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC).isoformat()
        except (ValueError, OverflowError, InvalidInput):
            self.fail(f"{value!r} is no time; write 10m, 2h or 2026-11-24T10:00:00.", param, ctx)


TOPIC = click.Option(["--topic"], metavar="NAME", help="The topic.")
SUBSCRIPTION = click.Option(
    ["--subscription"], metavar="NAME|KEY", help="The subscription: its name, or its key, zpsk.…"
)
TIMES = (
    click.Option(
        ["--since"], type=Moment(), metavar="TIME", help="From then on: 10m, 2h, 7d ago, or ISO 8601."
    ),
    click.Option(["--until"], type=Moment(), metavar="TIME", help="Before then."),
)
SEARCH = (
    click.Option(
        ["--query"], metavar="TEXT", help="Only those that have this in their data, in upper or lower case."
    ),
    click.Option(["--msg-id"], metavar="ID", help="Only the message of this id."),
    click.Option(["--correl-id"], metavar="ID", help="Only those with this correlation id."),
    *TIMES,
)
LIMIT = click.Option(
    ["--limit"],
    type=click.IntRange(1, MAX_LIMIT),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="At most so many.",
)
YES = click.Option(["--yes", "-y"], is_flag=True, help="Do not ask.")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def seconds(text: str, name: str) -> float:
    """A span of time as people write it, e.g. 90s, 10m, 2h, 7d, or a number of seconds.  Raises ``InvalidInput``."""
    found = re.fullmatch(r"(\d{1,10}(?:\.\d{1,6})?)([smhd]?)", text.strip())
    if found is None:
        raise InvalidInput.one(name, "must be a time such as 90s, 10m, 2h or 7d.")
    return float(found[1]) * UNITS[found[2] or "s"]


def counted(count: int, what: str) -> str:
    """A number of something, e.g. 1 message or 2 messages."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def span(value: float) -> str:
    """A span of time as people read it; one decimal for what is short."""
    return f"{value:.1f} s" if value < 10 else output.duration(value)


def subscription_of(session: Session, options: Mapping[str, Any]) -> str:
    """The key of the subscription that ``--subscription`` says.  Raises ``InvalidInput``, ``RemoteError``."""
    wanted: str | None = options.get("subscription")
    if not wanted:
        raise InvalidInput.one("subscription", "is required; 'junctor list-pubsub-subscription' lists them.")
    if wanted.startswith(KEY_PREFIX):
        return wanted
    found: str = session.invoke("zato.pubsub.subscription.get", {"name": wanted})["sub_key"]
    return found


def pages(session: Session, service: str, request: dict[str, Any], limit: int) -> tuple[list[Any], bool]:
    """Up to ``limit`` items of a list that comes in pages, and whether there may be more."""
    items: list[Any] = []
    cursor = ""
    while True:
        asked = request | {"limit": min(PAGE, limit - len(items)), "cursor": cursor}
        answer = session.invoke(service, asked)
        items += answer["items"]
        cursor = answer["cursor"]
        if not cursor or len(items) >= limit:
            return items, bool(cursor)


def in_steps(session: Session, service: str, request: dict[str, Any], what: str) -> dict[str, Any]:
    """The answer to work that is done in several calls, with the sum of its counts; says on standard error how far it has come."""
    count = 0
    while True:
        answer: dict[str, Any] = session.invoke(service, request, wait=STEP_WAIT)
        count += answer["count"]
        if answer["is_complete"]:
            return answer | {"count": count}
        request = request | {name: answer[name] for name in ("after", "last") if name in answer}
        click.echo(f"{count} {what} so far", err=True)
        sys.stderr.flush()
