"""Dead letters: ``dead-letters``, ``dead-letter``, ``edit-dead-letter``, ``redrive`` and ``delete-dead-letters`` of ``junctor pubsub``."""

from __future__ import annotations

from typing import Any

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.pubsub_messages import print_message
from junctor.cli.pubsub_options import (
    LIMIT,
    SEARCH,
    SUBSCRIPTION,
    TOPIC,
    YES,
    counted,
    given,
    in_steps,
    pages,
    subscription_of,
)
from junctor.cli.services import parse_payload
from junctor.cli.session import Session
from junctor.sql.errors import InvalidInput

COLUMNS = {
    "Id": "id",
    "Died": "died_at_iso",
    "Topic": "topic_name",
    "Subscription": "subscription",
    "Message": "msg_id",
    "Attempts": "delivery_count",
    "Reason": "reason",
}
ALL = click.Option(["--all", "everything"], is_flag=True, help="All dead letters there are.")
PREFIX = "zato.pubsub.dead-letter"
TIME = 19  # characters of a time, without fractions


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION, *SEARCH, LIMIT])
@pass_session
def dead_letters(session: Session, /, limit: int, **options: Any) -> None:
    """Lists messages that could not be delivered, newest first.

    --since and --until are about when they became dead letters.
    """
    items, has_more = pages(session, f"{PREFIX}.get-list", _request(session, options), limit)

    def show() -> None:
        rows = [
            [item[field][:TIME] if field.endswith("_iso") else item[field] for field in COLUMNS.values()]
            for item in items
        ]
        output.print_table(tuple(COLUMNS), rows)
        if has_more:
            session.say("There are more; see --limit.")

    session.answer({"items": items, "has_more": has_more}, show)


@click.command(cls=ClusterCommand)
@click.argument("letter", metavar="ID", type=click.IntRange(0))
@pass_session
def dead_letter(session: Session, letter: int) -> None:
    """Shows a dead letter with all of its data."""
    answer = session.invoke(f"{PREFIX}.get", {"id": letter})
    session.answer(answer, lambda: print_message(answer))


@click.command(cls=ClusterCommand)
@click.argument("letter", metavar="ID", type=click.IntRange(0))
@click.option(
    "--data", metavar="DATA", help="JSON or text, '@FILE' for a file's content, '-' for standard input."
)
@click.option("--priority", type=click.IntRange(1, 9), help="From 1 to 9; 9 is delivered first.")
@click.option("--mime-type", metavar="TYPE", help="Of the data.")
@click.option("--correl-id", metavar="ID", help="What it belongs to.")
@pass_session
def edit_dead_letter(session: Session, /, letter: int, **options: Any) -> None:
    """Changes a dead letter, before it is delivered after all."""
    changes = given(options)
    if not changes:
        raise InvalidInput.one("data", "is required, or something else to change.")
    if "data" in changes:
        changes["data"] = parse_payload(changes["data"])
    answer = session.invoke(f"{PREFIX}.edit", {"id": letter} | changes)
    session.answer(answer, lambda: session.say(f"Changed dead letter {letter}."))


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION, *SEARCH, ALL])
@click.argument("letters", metavar="[ID]...", nargs=-1, type=click.IntRange(0))
@click.option("--to", metavar="NAME|KEY", help="Another subscription, in place of their own.")
@pass_session
def redrive(
    session: Session, /, letters: tuple[int, ...], everything: bool, to: str | None, **options: Any
) -> None:
    """Puts dead letters back into their queues, at the end.

    Those with the ids, or those that the options choose.
    """
    request = _several(session, letters, everything, options)
    if to:
        request["to_sub_key"] = subscription_of(session, {"subscription": to})
    answer = in_steps(session, f"{PREFIX}.redrive", request, "dead letters queued")
    session.answer(answer, lambda: session.say(f"Queued {counted(answer['count'], 'dead letter')} again."))


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION, *SEARCH, ALL, YES])
@click.argument("letters", metavar="[ID]...", nargs=-1, type=click.IntRange(0))
@pass_session
def delete_dead_letters(
    session: Session, /, letters: tuple[int, ...], everything: bool, yes: bool, **options: Any
) -> None:
    """Deletes dead letters: those with the ids, or those that the options choose."""
    request = _several(session, letters, everything, options)
    if session.interactive and not yes:
        click.confirm("Delete these dead letters?", abort=True, err=True)
    answer = in_steps(session, f"{PREFIX}.delete", request, "dead letters deleted")
    session.answer(answer, lambda: session.say(f"Deleted {counted(answer['count'], 'dead letter')}."))


def _request(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    topic, subscription = options.pop("topic"), options.pop("subscription")
    request = given(options) | given({"topic_name": topic})
    if subscription:
        request["sub_key"] = subscription_of(session, {"subscription": subscription})
    return request


def _several(
    session: Session, letters: tuple[int, ...], everything: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """Which dead letters are meant; all there are, only when that is said."""
    request = _request(session, options)
    if letters:
        request["ids"] = list(letters)
    if not request and not everything:
        raise click.UsageError(
            "Say which: their ids, or --topic, --subscription and the like; --all is all of them."
        )
    return request | ({"all": True} if everything else {})


COMMANDS = (dead_letters, dead_letter, edit_dead_letter, redrive, delete_dead_letters)
