"""``junctor pubsub``: publishing, pulling, statistics, clearing and replaying."""

from __future__ import annotations

from typing import Any

import click

from junctor.cli import output
from junctor.cli.command import Group, pass_session
from junctor.cli.pubsub_dead_letters import COMMANDS as DEAD_LETTERS
from junctor.cli.pubsub_messages import COMMANDS as MESSAGES
from junctor.cli.pubsub_options import (
    SUBSCRIPTION,
    TIMES,
    TOPIC,
    YES,
    counted,
    given,
    in_steps,
    seconds,
    span,
    subscription_of,
)
from junctor.cli.services import parse_payload
from junctor.cli.session import Session
from junctor.sql.errors import InvalidInput

MAX_PULL = 15_000  # messages
PULLED = 500  # messages that are asked for at a time
STATS = {
    "Topic": "topic_name",
    "Subscription": "subscription",
    "Endpoint": "endpoint_name",
    "Method": "delivery_method",
    "Status": "active_status",
    "Depth": "depth",
    "Oldest": "oldest_seconds",
    "Dead letters": "dead_letters",
    "In/s": "published_per_second",
    "Out/s": "delivered_per_second",
    "In flight": "in_flight",
    "Server": "owner_server",
    "Pid": "owner_pid",
}


@click.group(cls=Group)
def pubsub() -> None:
    """Messages of publish/subscribe: publish, pull, browse, explain, replay.

    Topics, endpoints and subscriptions are objects: 'junctor create-pubsub-topic --help'.
    """


@pubsub.command()
@click.argument("topic", metavar="TOPIC")
@click.argument("data", metavar="DATA", required=False)
@click.option("--data", "option", metavar="DATA", help="The same, for data that begins with a hyphen.")
@click.option(
    "--priority", type=click.IntRange(1, 9), help="From 1 to 9; 5 by default, 9 is delivered first."
)
@click.option("--expiration", metavar="TIME", help="How long it may be delivered, e.g. 90s, 10m, 2h, 7d.")
@click.option("--delay", metavar="TIME", help="Not before so long from now.")
@click.option("--msg-id", metavar="ID", help="An id of your own: the same one is not stored twice in a day.")
@click.option("--correl-id", metavar="ID", help="What it belongs to.")
@click.option("--in-reply-to", metavar="ID", help="What it is the answer to.")
@click.option("--mime-type", metavar="TYPE", help="text/plain by default.")
@pass_session
def publish(session: Session, /, topic: str, data: str | None, option: str | None, **options: Any) -> None:
    """Publishes a message, as the cluster itself.

    DATA is JSON or text, '@FILE' for a file's content, '-' for standard input.  The message is stored when the command ends.
    """
    text = data if option is None else option
    if text is None or (data is not None and option is not None):
        raise InvalidInput.one("data", "must be given once.")
    for name in ("expiration", "delay"):
        if options[name] is not None:
            options[name] = round(seconds(options[name], name) * 1000)
    request = {"topic_name": topic, "data": parse_payload(text)} | given(options)
    answer = session.invoke("zato.pubsub.publish.publish", request)
    session.answer(answer, lambda: session.say(f"Published {answer['msg_id']}."))


@pubsub.command(params=[SUBSCRIPTION])
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_PULL),
    default=10,
    show_default=True,
    metavar="NUMBER",
    help="At most so many.",
)
@click.option(
    "--no-ack", is_flag=True, help="Leave them in the queue; they are handed out again after a while."
)
@pass_session
def pull(session: Session, /, limit: int, no_ack: bool, **options: Any) -> None:
    """Takes messages out of the queue of a subscription and prints them, oldest first.

    They are acknowledged once they are printed, so none is lost if the command is interrupted.
    """
    key = subscription_of(session, options)
    count = 0
    while count < limit:
        size = min(PULLED, limit - count)
        messages = session.invoke("zato.pubsub.queue.get-messages", {"sub_key": key, "batch_size": size})
        for message in messages:
            _print(session, message)
        count += len(messages)
        if messages and not no_ack:
            ids = [message["msg_id"] for message in messages]
            session.invoke("zato.pubsub.queue.acknowledge-delivery", {"sub_key": key, "msg_id_list": ids})
        if len(messages) < size:
            break
    if not count:
        session.say("There are no messages.")


def _print(session: Session, message: dict[str, Any]) -> None:
    """One message: with --json a line each, so that a pipe can read them as they come."""
    if session.as_json:
        output.print_json_line(message)
        return
    published, count = message["pub_time_iso"][:19], message["delivery_count"]
    click.echo(f"{message['msg_id']}  {published}  priority {message['priority']}  delivered before: {count}")
    output.print_data(message["data"])


@pubsub.command(params=[TOPIC, SUBSCRIPTION])
@click.option("--endpoint", metavar="NAME", help="Only subscriptions of this endpoint.")
@click.option(
    "--sample",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to watch, for the rates; 0 = no rates.",
)
@pass_session
def stats(session: Session, /, endpoint: str | None, sample: float, **options: Any) -> None:
    """Shows what waits in each queue, since when, and who delivers it.

    What waits the longest comes first.  'In/s' are messages published to the topic, 'Out/s' what left the queue.
    """
    request = {"sample": sample} | given({"topic_name": options["topic"], "endpoint_name": endpoint})
    if options["subscription"]:
        request["sub_key"] = subscription_of(session, options)
    answer = session.invoke("zato.pubsub.stats", request, wait=sample)

    def show() -> None:
        items = sorted(answer["items"], key=lambda item: (-item["oldest_seconds"], item["topic_name"]))
        columns = [name for name, field in STATS.items() if sample or not field.endswith("_per_second")]
        rows = [[_cell(item, STATS[column]) for column in columns] for item in items]
        output.print_table(columns, rows)
        for item in answer["unsubscribed"]:
            session.say(
                f"{counted(item['depth'], 'message')} in topic {item['topic_name']}, to which nobody subscribes."
            )

    session.answer(answer, show)


def _cell(item: dict[str, Any], field: str) -> Any:
    if field == "oldest_seconds":
        return span(item[field]) if item["depth"] else ""
    return item.get(field)


@pubsub.command(params=[TOPIC, SUBSCRIPTION, YES])
@pass_session
def clear(session: Session, /, yes: bool, **options: Any) -> None:
    """Deletes all messages of a topic, or of the queue of one subscription.

    Of a topic: from the queues of all subscriptions, and what can be replayed.  What is published meanwhile stays.
    """
    topic, subscription = options["topic"], options["subscription"]
    if bool(topic) is bool(subscription):
        raise InvalidInput.one("topic", "or a subscription must be given, and not both.")
    what = f"topic {topic}" if topic else f"subscription {subscription}"
    if not yes:
        if not session.interactive:
            raise click.UsageError("Messages that were not delivered are lost; say --yes.")
        click.confirm(f"Delete all messages of {what}?", abort=True, err=True)
    if topic:
        service, request = "zato.pubsub.topic.clear", {"topic_name": topic}
    else:
        service = "zato.pubsub.endpoint.clear-endpoint-queue"
        request = {"sub_key": subscription_of(session, options)}
    answer = in_steps(session, service, request, "messages deleted")
    session.answer(answer, lambda: session.say(f"Deleted {counted(answer['count'], 'message')} of {what}."))


@pubsub.command(params=[SUBSCRIPTION, *TIMES])
@click.option("--from-msg-id", metavar="ID", help="From this message on.")
@pass_session
def replay(session: Session, /, from_msg_id: str | None, **options: Any) -> None:
    """Delivers what a topic has kept to one of its subscriptions again.

    In the order of its publication; what is in the queue already stays there.  The topic must have a retention, see
    'junctor edit-pubsub-topic --limit-retention'.
    """
    request = {"sub_key": subscription_of(session, options)}
    request |= given({"since": options["since"], "until": options["until"], "from_msg_id": from_msg_id})
    answer = in_steps(session, "zato.pubsub.topic.replay", request, "messages queued")
    session.answer(answer, lambda: session.say(f"Queued {counted(answer['count'], 'message')}."))


for command in (*MESSAGES, *DEAD_LETTERS):
    pubsub.add_command(command)
