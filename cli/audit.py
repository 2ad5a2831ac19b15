"""``junctor audit``: the audit trail, listed, exported and verified."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from junctor.cli import output
from junctor.cli.command import Group, pass_session
from junctor.cli.exit_codes import ExitCode
from junctor.cli.pubsub_options import LIMIT, TIMES, given, pages
from junctor.cli.session import Session
from junctor.cli.sso_options import YES, confirmed, print_fields
from junctor.sql.errors import InvalidInput

PAGE: Final = 500
COLUMNS: Final = {
    "Id": "id",
    "Time": "at",
    "Operation": "op",
    "Outcome": "outcome",
    "Actor": "actor",
    "Target": "target",
    "Application": "app",
    "From": "remote_addr",
    "CID": "cid",
}
TIME: Final = 19  # characters of a time, without fractions
FILTERS: Final = (
    click.Option(["--actor"], metavar="ID", help="Who did it: a user id, or the name of an administrator."),
    click.Option(["--target"], metavar="ID", help="Whom it was done to."),
    click.Option(
        ["--op"],
        metavar="OPERATION",
        help="What was done, e.g. user.login; with * at its end, what begins so.",
    ),
    click.Option(["--outcome"], type=click.Choice(["ok", "refused", "error"]), help="How it went."),
    click.Option(["--cid"], metavar="CID", help="In this call."),
    click.Option(["--app"], metavar="NAME", help="Through this application."),
    click.Option(["--remote-addr"], metavar="ADDRESS", help="From this address."),
    *TIMES,
)
CONTENT: Final = (
    "cluster_id",
    "at",
    "cid",
    "op",
    "outcome",
    "actor",
    "target",
    "app",
    "remote_addr",
    "user_agent",
    "reason",
    "extra",
)
"""The fields that a chain value is a digest of; see ``docs/audit.md``."""


@click.group(cls=Group)
def audit() -> None:
    """The audit trail: who did what to whom, and whether anybody has changed it since."""


@audit.command("list", params=[*FILTERS, LIMIT])
@pass_session
def list_(session: Session, /, limit: int, **options: Any) -> None:
    """Lists events, newest first."""
    items, has_more = pages(session, "zato.audit.get-list", given(options), limit)

    def show_() -> None:
        rows = [[_cell(item, field) for field in COLUMNS.values()] for item in items]
        output.print_table(list(COLUMNS), rows)
        if has_more:
            session.say("There are more; see --limit.")

    session.answer({"items": items, "has_more": has_more}, show_)


def _cell(item: dict[str, Any], field: str) -> Any:
    return item[field][:TIME] if field == "at" else item.get(field)


@audit.command()
@click.argument("event_id", metavar="ID", type=click.IntRange(0))
@pass_session
def show(session: Session, /, event_id: int) -> None:
    """Shows one event with all that is known of it."""
    answer = session.invoke("zato.audit.get", {"id": event_id})
    shown = answer | {"extra": json.dumps(answer["extra"], ensure_ascii=False) if answer["extra"] else ""}
    session.answer(answer, lambda: print_fields(shown))


@audit.command(params=[*FILTERS])
@pass_session
def export(session: Session, /, **options: Any) -> None:
    """Writes events as JSON, a line each, oldest first, with what is needed to verify them elsewhere."""
    request = given(options) | {"oldest_first": True, "limit": PAGE}
    cursor = ""
    while True:
        answer = session.invoke("zato.audit.get-list", request | {"cursor": cursor})
        for item in answer["items"]:
            output.print_json_line(item)
        cursor = answer["cursor"]
        if not cursor:
            break


@audit.command()
@click.option("--file", metavar="FILE", help="Of an exported file, without a cluster; '-' is standard input.")
@pass_session
def verify(session: Session, /, file: str | None) -> int:
    """Verifies that no event was changed, taken away, put in or moved; the exit code is 1 if one was.

    Of a file, which must have been exported without filters, it verifies that its events follow each other; compare the last
    position and chain value with those in audit-pii.log.
    """
    found = _of_file(file) if file else _of_cluster(session)

    def show_() -> None:
        for problem in found["problems"]:
            at = "" if problem["position"] is None else f"Position {problem['position']}: "
            session.say(f"{at}{problem['text']} [{problem['kind']}]")
        _summary(session, found)

    session.answer(found, show_)
    return ExitCode.NO if found["problem_count"] else ExitCode.OK


def _summary(session: Session, found: dict[str, Any]) -> None:
    count, positions = found["checked"], f"{found['first_position']} to {found['last_position']}"
    more = ""
    if found.get("unchained"):
        more = f" {found['unchained']} newer ones wait for their place in the chain."
    if found.get("unknown_keys"):
        more += f" The keys of {found['unknown_keys']} have been retired; the chain vouches for them."
    if found["problem_count"]:
        session.say(f"{found['problem_count']} problems in {count} events, positions {positions}.{more}")
    else:
        session.say(f"{count} events, positions {positions}, are as they were written.{more}")
    if found.get("last_chain"):
        session.say(f"The chain value at position {found['last_position']} is {found['last_chain']}.")


def _of_cluster(session: Session) -> dict[str, Any]:
    """The findings of a walk along the chain in many calls; progress is on standard error."""
    total: dict[str, Any] = {"checked": 0, "unknown_keys": 0, "problem_count": 0, "problems": []}
    cursor: Any = None
    while True:
        step = session.invoke("zato.audit.verify", {"cursor": cursor})
        for name in ("checked", "unknown_keys", "problem_count", "problems"):
            total[name] += step[name]
        total |= {name: step[name] for name in ("first_position", "last_position", "unchained")}
        total["problems"] = total["problems"][:100]
        cursor = step["cursor"]
        if cursor is None:
            return total
        if sys.stderr.isatty():
            click.echo(f"\r{total['checked']} events so far", err=True, nl=False)


def _of_file(name: str) -> dict[str, Any]:
    """The findings in an exported file: each chain value must be that of the event and of the chain value before."""
    total: dict[str, Any] = {"checked": 0, "first_position": 0, "last_position": 0, "last_chain": ""}
    problems: list[dict[str, Any]] = []
    previous: dict[str, Any] | None = None
    for event in sorted(_events(name), key=lambda item: item["position"]):
        position = event["position"]
        if previous is None:
            total["first_position"] = position
        elif position != previous["position"] + 1:
            words = f"{position - previous['position'] - 1} events are missing before it."
            problems.append({"kind": "missing", "position": position, "text": words})
        elif _link(previous["chain"], event) != event["chain"]:
            problems.append(
                {"kind": "changed", "position": position, "text": "It is not what was linked here."}
            )
        total["checked"] += 1
        total |= {"last_position": position, "last_chain": event["chain"]}
        previous = event
    return total | {"problem_count": len(problems), "problems": problems[:100]}


def _events(name: str) -> Iterator[dict[str, Any]]:
    """The events of an exported file that have their place in the chain.  Raises ``InvalidInput``."""
    number = 0
    try:
        with click.open_file(name, encoding="utf-8") as opened:
            for number, line in enumerate(opened, start=1):  # noqa: B007 - the message below has it
                event = json.loads(line)
                if event["position"] is not None:
                    yield {
                        **{field: event[field] for field in CONTENT},
                        "position": int(event["position"]),
                        "chain": event["chain"],
                    }
    except OSError as error:
        raise InvalidInput.one("file", f"{name} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise InvalidInput.one("file", f"Line {number} of {name} is no exported event.") from None


def _link(previous: str, event: dict[str, Any]) -> str:
    content = json.dumps(
        {name: event[name] for name in CONTENT}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    linked = bytes.fromhex(previous) + event["position"].to_bytes(8, "big") + content.encode()
    return hashlib.sha256(linked).hexdigest()


@audit.command("begin-chain", params=[YES])
@pass_session
def begin_chain(session: Session, /, yes: bool) -> None:
    """Begins a new chain behind one that is broken beyond repair.

    Events before it stay, and 'verify' goes on saying that they are there.  This is audited.
    """
    confirmed(session, yes, "Begin a new chain, so that the old one can be verified no more?")
    session.invoke("zato.audit.begin-chain")
    session.answer({}, lambda: session.say("A new chain has begun."))
