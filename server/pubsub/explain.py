"""'Why is this message not delivered?': one sentence for each subscription of its topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from junctor.server.pubsub import browse_sql
from junctor.server.pubsub.filled import limited
from junctor.server.pubsub.ownership import LEASE_PREFIX
from junctor.sql.engine import database_errors
from junctor.sql.errors import NotFound
from junctor.sql.objects.pubsub import NOTIFY, PULL, WEB_SOCKET
from junctor.sql.shape import can_exist
from junctor.sql.store import Store

MAX_STORED: Final = 10  # messages of one id that are told about, the newest
MAX_SUBSCRIPTIONS: Final = 1000  # of a topic
MAX_AHEAD: Final = 10_000  # messages in front of one that are counted
TIMEOUT: Final = 15.0  # seconds
RECEIVING, DELIVERING = ("pub-sub", "pub-only"), ("pub-sub", "sub-only")

_STORED: Final = text("""
    SELECT m.id, m.msg_id, m.topic_id, t.name AS topic_name, t.on_no_subs_pub, m.pub_time, m.expires_at, m.keep_until,
           m.expires_at <= statement_timestamp() AS is_expired, m.deliver_to_sk, statement_timestamp() AS now
    FROM pubsub_message m LEFT JOIN pubsub_topic t ON t.id = m.topic_id
    WHERE m.cluster_id = :cluster_id AND m.msg_id = :msg_id AND (:topic_id = 0 OR m.topic_id = :topic_id)
    ORDER BY m.id DESC LIMIT :most
""")
_SUBSCRIPTIONS: Final = text("""
    SELECT s.id, s.name, s.sub_key, s.created, s.active_status, s.delivery_method, s.ack_mode, s.delivery_err_should_block, s.ext_client_id,
           e.name AS endpoint_name, e.is_active, e.role, st.worker_id, st.in_flight, st.last_interaction, st.last_interaction_type,
           w.server, w.pid, coalesce(l.expires > clock_timestamp() AND w.id IS NOT NULL, false) AS is_owned
    FROM pubsub_subscription s JOIN pubsub_endpoint e ON e.id = s.endpoint_id
    LEFT JOIN pubsub_state st ON st.sub_id = s.id
    LEFT JOIN worker w ON w.id = st.worker_id
    LEFT JOIN lease l ON l.cluster_id = s.cluster_id AND l.name = :prefix || st.worker_id AND l.worker_id = st.worker_id
    WHERE s.topic_id = :topic_id ORDER BY s.id LIMIT :most
""")
_DEAD: Final = text("""
    SELECT d.sub_id, d.topic_id, t.name AS topic_name, d.message_id, d.died_at, d.reason, d.attempts, d.id
    FROM pubsub_dead_letter d LEFT JOIN pubsub_topic t ON t.id = d.topic_id
    WHERE d.cluster_id = :cluster_id AND d.msg_id = :msg_id ORDER BY d.id DESC LIMIT :most
""")
_SEEN: Final = text("SELECT seen_at FROM pubsub_dedupe WHERE cluster_id = :cluster_id AND msg_id = :msg_id")
# What is in front of a message: how many, and the first of them that has failed.
_AHEAD: Final = text("""
    WITH ahead AS MATERIALIZED (
        SELECT found.* FROM generate_series(9, CAST(:priority AS int), -1) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT q.priority, q.message_id, q.attempts, q.not_before, q.last_error FROM pubsub_queue q
            WHERE q.sub_id = :sub_id AND q.priority = level.priority AND (q.priority > :priority OR q.message_id < :message_id)
              AND (q.expires_at IS NULL OR q.expires_at > statement_timestamp())
            ORDER BY q.message_id LIMIT :most
        ) found
        LIMIT :most
    )
    SELECT (SELECT count(*) FROM ahead) AS others, failed.attempts, failed.last_error, failed.not_before
    FROM (SELECT 1) one LEFT JOIN (
        SELECT * FROM ahead WHERE last_error IS NOT NULL ORDER BY priority DESC, message_id LIMIT 1
    ) failed ON true
""")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is the matter with a message in one subscription: a word for programs, and a sentence."""

    status: str
    sentence: str


def explain(store: Store, msg_id: str, *, topic_id: int = 0, sub_key: str = "") -> dict[str, Any]:
    """Everything that is known of a message: ``messages``, and for each the ``subscriptions`` with ``status`` and ``sentence``.

    A publisher may have used an id several times; then there are as many messages.  Raises ``NotFound`` if nothing is known of it,
    ``StoreUnavailable``.
    """
    given = {"cluster_id": store.cluster_id, "msg_id": msg_id, "topic_id": topic_id, "most": MAX_STORED}
    if not msg_id or not can_exist(msg_id):
        raise NotFound("message", msg_id)
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        dead = connection.execute(_DEAD, given | {"most": MAX_SUBSCRIPTIONS}).all()
        stored = connection.execute(_STORED, given).all()
        messages = [_explained(connection, row, dead, sub_key) for row in stored]
        if not messages:
            messages = list(_gone(connection, dead, topic_id, sub_key))
        seen = None if messages else connection.scalar(_SEEN, given)
    if not messages and seen is None:
        raise NotFound("message that is stored, or was delivered or deleted less than an hour ago,", msg_id)
    sentence = (
        ""
        if messages
        else f"It was published {_at(seen)}, was delivered or deleted since, and is not stored any more."
    )
    return {"msg_id": msg_id, "sentence": sentence, "messages": messages}


def _explained(
    connection: Connection, message: Row[Any], dead: Sequence[Row[Any]], sub_key: str
) -> dict[str, Any]:
    given = {"topic_id": message.topic_id, "prefix": LEASE_PREFIX, "most": MAX_SUBSCRIPTIONS}
    subscriptions = connection.execute(_SUBSCRIPTIONS, given).all()
    queues = [subscription.id for subscription in subscriptions]
    rows = connection.execute(
        browse_sql.ROWS, {"subs": [*queues, -message.topic_id], "ids": [message.id]}
    ).all()
    queued = {row.sub_id: row for row in rows}
    buried = {row.sub_id: row for row in dead if row.message_id == message.id}
    found = [
        _told(subscription, _verdict(connection, message, subscription, queued.get(subscription.id), buried))
        for subscription in subscriptions
        if sub_key in ("", subscription.sub_key)
    ]
    return {
        "topic_name": message.topic_name or "",
        "pub_time_iso": _iso(message.pub_time),
        "sentence": _of_topic(message, subscriptions, queued),
        "subscriptions": found,
    }


def _gone(
    connection: Connection, dead: Sequence[Row[Any]], topic_id: int, sub_key: str
) -> Iterator[dict[str, Any]]:
    """What dead letters tell of a message that is not stored any more."""
    for topic in {row.topic_id: row.topic_name for row in dead if topic_id in (0, row.topic_id)}.items():
        given = {"topic_id": topic[0], "prefix": LEASE_PREFIX, "most": MAX_SUBSCRIPTIONS}
        known = {row.id: row for row in connection.execute(_SUBSCRIPTIONS, given)}
        letters = [row for row in dead if row.topic_id == topic[0] and row.sub_id in known]
        yield {
            "topic_name": topic[1] or "",
            "pub_time_iso": None,
            "sentence": "It is in no queue any more.",
            "subscriptions": [
                _told(known[row.sub_id], _dead(row))
                for row in letters
                if sub_key in ("", known[row.sub_id].sub_key)
            ],
        }


def _of_topic(message: Row[Any], subscriptions: Sequence[Row[Any]], queued: Mapping[int, Row[Any]]) -> str:
    if message.topic_name is None:
        return "Its topic was deleted."
    if -message.topic_id in queued:
        if message.is_expired:
            return f"Nobody had subscribed to the topic until it expired, {_at(message.expires_at)}."
        return "It waits in the topic: nobody had subscribed when it was published, and the first subscription takes it."
    if not subscriptions:
        return "Nobody subscribes to the topic."
    if message.keep_until is not None and message.keep_until > message.now:
        return f"It can be replayed until {_iso(message.keep_until)}."
    return ""


def _verdict(
    connection: Connection,
    message: Row[Any],
    subscription: Row[Any],
    row: Row[Any] | None,
    buried: Mapping[int, Row[Any]],
) -> Verdict:
    if row is None:
        return _not_queued(message, subscription, buried)
    if row.expires_at is not None and row.expires_at <= message.now:
        return Verdict(
            "expired", f"It expired {_at(row.expires_at)} before it was delivered, and will be removed."
        )
    if blocked := _switched_off(subscription):
        return Verdict("inactive", blocked)
    return _waiting(connection, message, subscription, row)


def _not_queued(message: Row[Any], subscription: Row[Any], buried: Mapping[int, Row[Any]]) -> Verdict:
    if subscription.id in buried:
        return _dead(buried[subscription.id])
    if message.deliver_to_sk and subscription.sub_key not in message.deliver_to_sk:
        return Verdict("not-addressed", "It was published for other subscriptions only.")
    if subscription.created > message.pub_time:
        return Verdict(
            "younger", f"It was published before this subscription was made, {_at(subscription.created)}."
        )
    if subscription.active_status not in RECEIVING:
        return Verdict(
            "inactive",
            f"The subscription's status is {subscription.active_status}: it does not queue messages.",
        )
    if message.is_expired:
        return Verdict("expired", f"It was delivered, or it expired, {_at(message.expires_at)}.")
    return Verdict("delivered", "It was delivered, or an administrator deleted it from the queue.")


def _switched_off(subscription: Row[Any]) -> str:
    """Why nothing at all is delivered to a subscription; '' if that is not so."""
    if subscription.active_status not in DELIVERING:
        return f"The subscription's status is {subscription.active_status}: it queues messages and does not deliver them."
    if not subscription.is_active:
        return f"Endpoint {subscription.endpoint_name!r} is not active."
    if subscription.role == "pub-only":
        return f"Endpoint {subscription.endpoint_name!r} has the role pub-only."
    return ""


def _waiting(connection: Connection, message: Row[Any], subscription: Row[Any], row: Row[Any]) -> Verdict:
    is_pull = subscription.delivery_method == PULL
    if message.id in (subscription.in_flight or ()) and subscription.is_owned:
        where = f"server {subscription.server}, process {subscription.pid}"
        return Verdict("in-flight", f"It is being delivered, or is about to be, by {where}.{_failures(row)}")
    if row.not_before is not None and row.not_before > message.now:
        return _later(row, is_lent=is_pull and subscription.ack_mode == "explicit" and row.last_error is None)
    if not is_pull and not subscription.is_owned:
        return Verdict("no-owner", _no_owner(subscription) + _failures(row))
    ahead = connection.execute(
        _AHEAD,
        {
            "sub_id": subscription.id,
            "priority": row.priority,
            "message_id": row.message_id,
            "most": MAX_AHEAD,
        },
    ).one()
    behind = _behind(ahead, subscription)
    if is_pull:
        used = (
            f"{subscription.last_interaction_type or 'used'} {_at(subscription.last_interaction)}"
            if subscription.last_interaction
            else "never"
        )
        return Verdict(
            "waiting",
            f"It waits to be pulled{behind}; the subscriber's last contact: {used}.{_failures(row)}",
        )
    if not behind:
        return Verdict("next", f"It is the next to be delivered, at once.{_failures(row)}")
    return Verdict("behind", f"It waits{behind}.{_failures(row)}")


def _behind(ahead: Row[Any], subscription: Row[Any]) -> str:
    if not ahead.others:
        return ""
    count = f"more than {MAX_AHEAD - 1}" if ahead.others >= MAX_AHEAD else str(ahead.others)
    strict = (
        " in strict order"
        if subscription.delivery_err_should_block and subscription.delivery_method != PULL
        else ""
    )
    text = f" behind {count} {'other' if ahead.others == 1 else 'others'}{strict}"
    if ahead.last_error and strict:
        next_time = f", and is due again {_iso(ahead.not_before)}" if ahead.not_before else ""
        text += f", the first of which failed {_times(ahead.attempts)} ({ahead.last_error}){next_time}"
    return text


def _later(row: Row[Any], *, is_lent: bool) -> Verdict:
    due = _iso(row.not_before)
    if row.last_error:
        return Verdict(
            "retrying",
            f"Its delivery failed {_times(row.attempts)} ({row.last_error}); the next attempt is at {due}.",
        )
    if is_lent and row.attempts:
        return Verdict(
            "handed-over", f"It was handed over, and is so again at {due} if it is not acknowledged before."
        )
    return Verdict("delayed", f"Its publisher wants it delivered at {due} and not before.")


def _no_owner(subscription: Row[Any]) -> str:
    since = f" since {_iso(subscription.last_interaction)}" if subscription.last_interaction else ""
    if subscription.delivery_method == WEB_SOCKET:
        client = f"Client {subscription.ext_client_id!r}" if subscription.ext_client_id else "The client"
        return f"{client} is not connected{since}."
    assert subscription.delivery_method == NOTIFY
    if subscription.worker_id is not None:
        return "The worker that delivered it is gone; another one takes over within 15 seconds."
    return (
        "No worker delivers for the subscription just now; one takes over within seconds, if a server runs."
    )


def _dead(row: Row[Any]) -> Verdict:
    return Verdict(
        "dead-letter",
        f"It became dead letter {row.id} {_at(row.died_at)} after {_times(row.attempts)}: {row.reason}",
    )


def _failures(row: Row[Any]) -> str:
    return f" Its delivery failed {_times(row.attempts)} before ({row.last_error})." if row.last_error else ""


def _times(attempts: int) -> str:
    return "once" if attempts == 1 else f"{attempts} times"


def _told(subscription: Row[Any], verdict: Verdict) -> dict[str, Any]:
    return {
        "subscription": subscription.name,
        "sub_key": subscription.sub_key,
        "endpoint_name": subscription.endpoint_name,
        "delivery_method": subscription.delivery_method,
        "status": verdict.status,
        "sentence": verdict.sentence,
    }


def _at(moment: datetime | None) -> str:
    return f"at {_iso(moment)}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
