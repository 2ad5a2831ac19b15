"""Stored messages: ``browse``, ``show``, ``explain``, ``edit`` and ``delete`` of ``junctor pubsub``."""

from __future__ import annotations

from typing import Any

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.pubsub_options import (
    LIMIT,
    SEARCH,
    SUBSCRIPTION,
    TOPIC,
    YES,
    counted,
    given,
    pages,
    seconds,
    subscription_of,
)
from junctor.cli.services import parse_payload
from junctor.cli.session import Session
from junctor.sql.errors import InvalidInput

SHOWN = 60  # characters of data in a table
OF_TOPIC = {
    "Message": "msg_id",
    "Published": "pub_time_iso",
    "Priority": "priority",
    "Bytes": "size",
    "Queues": "queues",
}
OF_QUEUE = {
    "Message": "msg_id",
    "Published": "pub_time_iso",
    "Priority": "priority",
    "Bytes": "size",
    "Delivered": "delivery_count",
    "Not before": "not_before_iso",
    "Last error": "last_error",
}
TIME = 19  # characters of a time, without fractions


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION, *SEARCH, LIMIT])
@click.option("--unsubscribed", is_flag=True, help="Of --topic: those that wait for a first subscription.")
@pass_session
def browse(session: Session, /, limit: int, unsubscribed: bool, **options: Any) -> None:
    """Lists messages of a topic, newest first, or of a queue, in the order of their delivery.

    Nothing is consumed.  A topic has its messages until everybody has received them, an hour at least, and as long as its
    retention says.
    """
    topic, subscription = options.pop("topic"), options.pop("subscription")
    if bool(topic) is bool(subscription):
        raise InvalidInput.one("topic", "or a subscription must be given, and not both.")
    is_queue = bool(subscription) or unsubscribed
    request = given(options)
    if subscription:
        request["sub_key"] = subscription_of(session, {"subscription": subscription})
    else:
        request["topic_name"] = topic
    service = "endpoint.get-endpoint-queue-messages-gd" if is_queue else "topic.get-gd-message-list"
    items, has_more = pages(session, f"zato.pubsub.{service}", request, limit)

    def show() -> None:
        columns = OF_QUEUE if is_queue else OF_TOPIC
        rows = [[*(_cell(item, field) for field in columns.values()), _data(item)] for item in items]
        output.print_table((*columns, "Data"), rows)
        if has_more:
            session.say("There are more; see --limit.")

    session.answer({"items": items, "has_more": has_more}, show)


def _cell(item: dict[str, Any], field: str) -> Any:
    value = item.get(field)
    return str(value)[:TIME] if field.endswith("_iso") and value else value


def _data(item: dict[str, Any]) -> str:
    text = str(item["data"]).replace("\n", " ")
    return f"{text[:SHOWN]}…" if len(text) > SHOWN else text


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION])
@click.argument("msg_id", metavar="MSG_ID")
@pass_session
def show(session: Session, /, msg_id: str, **options: Any) -> None:
    """Shows one message with all of its data.

    With --subscription, also what its queue knows of it.
    """
    request = {"msg_id": msg_id} | given({"topic_name": options["topic"]})
    service = "zato.pubsub.message.get-from-topic-gd"
    if options["subscription"]:
        service = "zato.pubsub.message.get-from-queue-gd"
        request["sub_key"] = subscription_of(session, options)
    answer = session.invoke(service, request)
    session.answer(answer, lambda: print_message(answer))


def print_message(message: dict[str, Any]) -> None:
    """What is known of a message, a line each, and its data behind an empty line."""
    hidden = ("data", "data_prefix_short", "is_cut")
    shown = {
        name: value
        for name, value in message.items()
        if name not in hidden and value not in (None, "", [], 0)
    }
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {output.shown(value)}")
    click.echo()
    output.print_data(message["data"])


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION])
@click.argument("msg_id", metavar="MSG_ID")
@pass_session
def explain(session: Session, /, msg_id: str, **options: Any) -> None:
    """Says why a message was not delivered, for each subscription of its topic."""
    request = {"msg_id": msg_id} | given({"topic_name": options["topic"]})
    if options["subscription"]:
        request["sub_key"] = subscription_of(session, options)
    answer = session.invoke("zato.pubsub.message.explain", request)

    def tell() -> None:
        if answer["sentence"]:
            session.say(answer["sentence"])
        for message in answer["messages"]:
            published = f", published {message['pub_time_iso']}" if message["pub_time_iso"] else ""
            session.say(f"Topic {message['topic_name']}{published}. {message['sentence']}".rstrip())
            for item in message["subscriptions"]:
                session.say(f"  {item['subscription']} ({item['endpoint_name']}): {item['sentence']}")

    session.answer(answer, tell)


@click.command(cls=ClusterCommand)
@click.argument("msg_id", metavar="MSG_ID")
@click.option("--topic", metavar="NAME", required=True, help="The topic.")
@click.option(
    "--data", metavar="DATA", help="JSON or text, '@FILE' for a file's content, '-' for standard input."
)
@click.option("--priority", type=click.IntRange(1, 9), help="From 1 to 9; 9 is delivered first.")
@click.option("--expiration", metavar="TIME", help="From its publication on, e.g. 2h; 0 = never.")
@click.option("--mime-type", metavar="TYPE", help="Of the data.")
@click.option("--correl-id", metavar="ID", help="What it belongs to.")
@pass_session
def edit(session: Session, /, msg_id: str, topic: str, **options: Any) -> None:
    """Changes a message that is in a queue, for every subscription that has not received it."""
    changes = given(options)
    if not changes:
        raise InvalidInput.one("data", "is required, or something else to change.")
    if "data" in changes:
        changes["data"] = parse_payload(changes["data"])
    if "expiration" in changes:
        changes["expiration"] = round(seconds(changes["expiration"], "expiration") * 1000)
    answer = session.invoke(
        "zato.pubsub.message.update-gd", {"msg_id": msg_id, "topic_name": topic} | changes
    )
    session.answer(answer, lambda: session.say(f"Changed {msg_id}."))


@click.command(cls=ClusterCommand, params=[TOPIC, SUBSCRIPTION, YES])
@click.argument("msg_id", metavar="MSG_ID")
@pass_session
def delete(session: Session, /, msg_id: str, yes: bool, **options: Any) -> None:
    """Deletes a message: from the queue of one subscription, or from all queues of its topic."""
    topic, subscription = options["topic"], options["subscription"]
    if bool(topic) is bool(subscription):
        raise InvalidInput.one("topic", "or a subscription must be given, and not both.")
    if session.interactive and not yes:
        click.confirm(f"Delete message {msg_id}?", abort=True, err=True)
    if topic:
        service, request = "zato.pubsub.message.topic-delete-gd", {"topic_name": topic}
    else:
        service = "zato.pubsub.message.queue-delete-gd"
        request = {"sub_key": subscription_of(session, options)}
    answer = session.invoke(service, request | {"msg_id": msg_id})
    session.answer(answer, lambda: session.say(f"Deleted {msg_id} from {counted(answer['count'], 'queue')}."))


COMMANDS = (browse, show, explain, edit, delete)
