"""Looking at messages of topics and queues without consuming them, and changing or deleting them there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, Row

from junctor.server.pubsub import browse_sql as sql
from junctor.server.pubsub.cleaning import BATCH, clear, last_id
from junctor.server.pubsub.filled import limited
from junctor.server.pubsub.message import JSON, MILLISECONDS, NEVER, new_message
from junctor.sql.engine import database_errors
from junctor.sql.errors import Conflict, InvalidInput, NotFound
from junctor.sql.shape import can_exist
from junctor.sql.store import Store

MAX_PAGE: Final = 1000  # messages
MAX_IDS: Final = 1000  # messages of one id that are found by an index; of more, each is looked at
MAX_CURSOR: Final = 200  # characters
TIMEOUT: Final = 15.0  # seconds
CLEAR_SECONDS: Final = 10.0  # that one call may take; who wants more gone calls again
SHORT: Final = 64  # characters of ``data_prefix_short``
EDITABLE: Final[tuple[str, ...]] = ("data", "mime_type", "priority", "expiration", "correl_id", "in_reply_to")
MESSAGE, SUBSCRIPTION = "message", "subscription"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for; what is '' or None does not matter.

    ``query`` is a part of the data, in upper or lower case.  Times are those of publication.  ``cursor`` is that of the page before, and
    ``limit`` at most ``MAX_PAGE``.
    """

    msg_id: str = ""
    correl_id: str = ""
    query: str = ""
    since: datetime | None = None
    until: datetime | None = None
    cursor: str = ""
    limit: int = 50

    def conditions(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            "msg_id": self.msg_id,
            "correl_id": self.correl_id,
            "query": pattern(self.query),
            "since": self.since,
            "until": self.until,
            "limit": max(1, min(self.limit, MAX_PAGE)),
            "scanned": sql.SCANNED,
        }

    @property
    def can_match(self) -> bool:
        """Whether there may be such a message at all: no text in the database has a NUL or half a surrogate pair."""
        return all(map(can_exist, (self.msg_id, self.correl_id, self.query)))


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the messages; there may be more if there is a ``cursor``, which a search gives even with a page that is not full."""

    items: list[dict[str, Any]]
    cursor: str = ""


def topic_messages(store: Store, topic_id: int, wanted: Wanted) -> Page:
    """The stored messages of a topic, newest first: those that somebody has not received yet, are kept, or are not deleted yet.

    ``queues`` is in how many queues a message is.  Raises ``InvalidInput`` for a wrong cursor, ``StoreUnavailable``.
    """
    (after,) = decode_cursor("topic", wanted.cursor, 1)
    if not wanted.can_match:
        return Page([])
    statement = sql.TOPIC_BY_CORREL_ID if wanted.correl_id else sql.TOPIC
    statement = sql.TOPIC_BY_MSG_ID if wanted.msg_id else statement
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        given = wanted.conditions() | {"cluster_id": store.cluster_id, "topic_id": topic_id, "after": after}
        rows = connection.execute(statement, given | {"subs": _queues_of(connection, topic_id)}).all()
    found = [row for row in rows if row.id is not None]
    end = _end(found, rows[0], given["limit"], lambda row: (row.id,), lambda row: (row.last_scanned,))
    return Page([shown(row) | {"queues": row.queues} for row in found], encode_cursor("topic", end))


def queue_messages(store: Store, sub_id: int, topic_id: int, wanted: Wanted) -> Page:
    """The messages in the queue of a subscription, or of a topic, whose ``sub_id`` is below zero, in the order of their delivery.

    Raises ``InvalidInput`` for a wrong cursor, ``StoreUnavailable``.
    """
    priority, after = decode_cursor("queue", wanted.cursor, 2)
    if not wanted.can_match:
        return Page([])
    given = wanted.conditions() | {"sub_id": sub_id, "priority": priority or 9, "after": after}
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        ids = _ids(connection, store, topic_id, wanted)
        statement = sql.QUEUE if ids is None else sql.QUEUE_BY_IDS
        rows = connection.execute(statement, given | {"ids": ids}).all()
    found = [row for row in rows if row.id is not None]
    end = _end(
        found,
        rows[0],
        given["limit"],
        lambda row: (row.priority, row.id),
        lambda row: (row.last_priority, row.last_scanned),
    )
    return Page([shown(row) | shown_queued(row) for row in found], encode_cursor("queue", end))


def message(store: Store, msg_id: str, *, topic_id: int = 0) -> dict[str, Any]:
    """A stored message with all of its data, of any topic or of one.

    If several were stored under this id, the newest.  Raises ``NotFound``, ``StoreUnavailable``.
    """
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        return shown(_message(connection, store, msg_id, topic_id), is_whole=True)


def queued_message(store: Store, sub_id: int, topic_id: int, msg_id: str) -> dict[str, Any]:
    """The same for a message in a queue, with what the queue knows of it.  Raises ``NotFound`` if it is not there."""
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        found = _message(connection, store, msg_id, topic_id)
        rows = connection.execute(sql.ROWS, {"subs": [sub_id], "ids": [found.id]}).all()
    if not rows:
        raise NotFound("queued message", msg_id)
    return shown(found, is_whole=True) | shown_queued(rows[0]) | {"priority": rows[0].priority}


def edit(store: Store, topic_id: int, msg_id: str, changes: Mapping[str, Any]) -> list[int]:
    """Changes a message that is in a queue, in all of its queues; returns these, for whoever must know.

    ``changes`` are among ``EDITABLE``; ``expiration`` is in milliseconds since the publication, 0 = never.
    Raises ``InvalidInput``, ``NotFound``, ``StoreUnavailable``, and ``Conflict`` while somebody is being sent the message: what
    that subscriber has then would not be what we say.
    """
    if unknown := sorted(changes.keys() - set(EDITABLE)):
        raise InvalidInput.one(unknown[0], f"cannot be changed; these can: {', '.join(EDITABLE)}.")
    with database_errors(), limited(store.engine, TIMEOUT, lock_seconds=5.0) as connection:
        found = _message(connection, store, msg_id, topic_id)
        queues = _queues_of(connection, topic_id)
        held = connection.execute(sql.HOLD, {"subs": queues, "message_id": found.id}).all()
        if any(row.is_in_flight for row in held):
            raise Conflict(
                msg=f"Message {msg_id!r} is being delivered just now. Try again when it was, or has failed."
            )
        rows = connection.execute(sql.ROWS, {"subs": queues, "ids": [found.id]}).all()
        if not rows:
            raise Conflict(msg=f"Message {msg_id!r} is in no queue any more.")
        connection.execute(sql.UPDATE_MESSAGE, _changed(found, changes))
        given = _changed(found, changes) | {"subs": queues}
        connection.execute(sql.UPDATE_ROWS, given | {"has_priority": "priority" in changes})
    return [row.sub_id for row in rows]


def delete(store: Store, sub_ids: Sequence[int], topic_id: int, msg_id: str) -> int:
    """Deletes a message from some queues of a topic; returns from how many.

    A subscriber that is being sent it gets it all the same.  Raises ``NotFound``, ``StoreUnavailable``.
    """
    with database_errors(), limited(store.engine, TIMEOUT, lock_seconds=5.0) as connection:
        ids = _all_ids(connection, store, topic_id, msg_id)
        return connection.execute(sql.DELETE_ROWS, {"subs": list(sub_ids), "ids": ids}).rowcount


def delete_everywhere(store: Store, topic_id: int, msg_id: str) -> int:
    """Deletes a message from all queues of a topic, and from what can be replayed; returns from how many queues.

    Raises ``NotFound``, ``StoreUnavailable``.
    """
    with database_errors(), limited(store.engine, TIMEOUT, lock_seconds=5.0) as connection:
        ids = _all_ids(connection, store, topic_id, msg_id)
        connection.execute(sql.FORGET, {"ids": ids})
        return connection.execute(
            sql.DELETE_ROWS, {"subs": _queues_of(connection, topic_id), "ids": ids}
        ).rowcount


class Queue(NamedTuple):
    """The queue of a subscription, and the topic whose messages are in it."""

    sub_id: int
    topic_id: int
    name: str
    sub_key: str


def find_queue(store: Store, *, sub_key: str = "", name: str = "") -> Queue:
    """The queue of the subscription with this key, or else of this name.  Raises ``NotFound``, ``StoreUnavailable``."""
    given = {"cluster_id": store.cluster_id, "sub_key": sub_key, "name": name}
    if not can_exist(sub_key) or not can_exist(name):
        raise NotFound(SUBSCRIPTION, sub_key or name)
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        row = connection.execute(sql.FIND_QUEUE, given).first()
    if row is None:
        raise NotFound(SUBSCRIPTION, sub_key or name)
    return Queue(*row)


@dataclass(frozen=True, slots=True)
class Cleared:
    """How many messages went.  If that is not all (``is_complete``), whoever wants the rest gone calls again, with the same ``last``."""

    count: int
    last: int
    is_complete: bool


def clear_queue(store: Store, sub_id: int, last: int | None = None) -> Cleared:
    """Deletes the messages of a queue that were published before ``last``, an id; by default, until now.

    Takes a few seconds at the most, whatever there is to do.  Raises ``StoreUnavailable``.
    """
    until = last_id(store.engine) if last is None else last
    return _bounded(clear(store.engine, sub_id, until), until)


def clear_topic(store: Store, topic_id: int, last: int | None = None) -> Cleared:
    """The same for all queues of a topic, and for what can be replayed.  The count is that of queued messages."""
    until = last_id(store.engine) if last is None else last
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        queues = _queues_of(connection, topic_id)

    def steps() -> Iterator[int]:
        for sub_id in queues:
            yield from clear(store.engine, sub_id, until)
        count = BATCH
        while count == BATCH:
            with database_errors(), limited(store.engine, TIMEOUT) as connection:
                given = {"topic_id": topic_id, "last": until, "batch": BATCH}
                count = connection.execute(sql.FORGET_BATCH, given).rowcount
            yield 0

    return _bounded(steps(), until)


def _bounded(steps: Iterator[int], last: int) -> Cleared:
    deadline, total = monotonic() + CLEAR_SECONDS, 0
    for count in steps:
        total += count
        if monotonic() > deadline:
            return Cleared(total, last, is_complete=False)
    return Cleared(total, last, is_complete=True)


def pattern(query: str) -> str:
    """What ILIKE takes for texts that have ``query`` in them; '' for ''."""
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%" if query else ""


def encode_cursor(kind: str, position: Sequence[int] | None) -> str:
    """A cursor as callers get it, '' for the end."""
    if position is None:
        return ""
    return base64.urlsafe_b64encode(orjson.dumps([kind, *position])).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str, length: int) -> list[int]:
    """The position that a cursor stands for, zeros for ''.  Raises ``InvalidInput``."""
    if not cursor:
        return [0] * length
    try:
        if len(cursor) > MAX_CURSOR or not cursor.isascii():
            raise ValueError
        found = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(found, list) or len(found) != length + 1 or found[0] != kind:
            raise ValueError
        if not all(type(number) is int and 0 <= number < 2**63 for number in found[1:]):
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidInput.one(
            "cursor", "must be the cursor that came with the page before, of the same list."
        ) from None
    return list(found[1:])


def shown(row: Row[Any], *, is_whole: bool = False) -> dict[str, Any]:
    """A message as administrators see it: ``data`` is the beginning of its text, or all of it as it was published."""
    data: Any = row.data
    if is_whole and row.data_type == JSON:
        data = orjson.loads(row.data)
    return {
        "msg_id": row.msg_id,
        "data": data,
        "data_type": row.data_type,
        "is_cut": False if is_whole else row.is_cut,
        "data_prefix_short": row.data[:SHORT],
        "size": row.size,
        "mime_type": row.mime_type,
        "priority": row.priority,
        "has_gd": True,
        "pub_time_iso": _iso(row.pub_time),
        "ext_pub_time_iso": _iso(row.ext_pub_time),
        "expiration": row.expiration or NEVER,
        "expiration_time_iso": _iso(row.expires_at),
        "keep_until_iso": _iso(row.keep_until),
        "endpoint_name": row.endpoint_name,
        "pub_pattern_matched": row.pub_pattern,
        "correl_id": row.correl_id,
        "in_reply_to": row.in_reply_to,
        "ext_client_id": row.ext_client_id,
        "group_id": row.group_id,
        "position_in_group": row.position_in_group,
        "reply_to_sk": row.reply_to_sk or [],
        "deliver_to_sk": row.deliver_to_sk or [],
    }


def shown_queued(row: Row[Any]) -> dict[str, Any]:
    """What a queue knows of a message."""
    return {
        "delivery_count": row.attempts,
        "not_before_iso": _iso(row.not_before),
        "last_error": row.last_error or "",
        "first_failed_iso": _iso(row.first_failed_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _end(
    found: Sequence[Row[Any]],
    first: Row[Any],
    limit: int,
    of_row: Callable[[Row[Any]], tuple[int, ...]],
    of_scan: Callable[[Row[Any]], tuple[int, ...]],
) -> tuple[int, ...] | None:
    """Where the next page begins; None if there is none."""
    if len(found) >= limit:
        return of_row(found[-1])
    return of_scan(first) if first.scanned >= sql.SCANNED else None


def _queues_of(connection: Connection, topic_id: int) -> list[int]:
    """The queues that messages of a topic can be in, with the topic's own."""
    return [*connection.execute(sql.SUBSCRIPTIONS_OF, {"topic_id": topic_id}).scalars(), -topic_id]


def _ids(connection: Connection, store: Store, topic_id: int, wanted: Wanted) -> list[int] | None:
    """The ids of the messages in question, if an index tells; None if each must be looked at."""
    if not (wanted.msg_id or wanted.correl_id):
        return None
    given = {
        "cluster_id": store.cluster_id,
        "topic_id": topic_id,
        "msg_id": wanted.msg_id,
        "correl_id": wanted.correl_id,
        "most": MAX_IDS,
    }
    found = list(connection.execute(sql.IDS, given).scalars())
    return found if len(found) < MAX_IDS else None


def _all_ids(connection: Connection, store: Store, topic_id: int, msg_id: str) -> list[int]:
    found = _ids(connection, store, topic_id, Wanted(msg_id=msg_id)) if can_exist(msg_id) and msg_id else []
    if not found:
        raise NotFound(MESSAGE, msg_id)
    return found


def _message(connection: Connection, store: Store, msg_id: str, topic_id: int) -> Row[Any]:
    given = {"cluster_id": store.cluster_id, "msg_id": msg_id, "topic_id": topic_id}
    row = connection.execute(sql.MESSAGE, given).first() if can_exist(msg_id) else None
    if row is None:
        raise NotFound(MESSAGE, msg_id)
    return row


def _changed(found: Row[Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a message after a change, which is checked as what publishers give is.  Raises ``InvalidInput``."""
    before = {name: getattr(found, name) for name in EDITABLE if name != "data"}
    data = orjson.loads(found.data) if found.data_type == JSON else found.data
    made = new_message("", before | {"data": data} | dict(changes), expiration_unit=MILLISECONDS)
    never = made.expiration in (0, NEVER)
    return {
        "id": found.id,
        "data": made.data,
        "data_type": made.data_type,
        "size": made.size,
        "mime_type": made.mime_type,
        "priority": made.priority,
        "expiration": made.expiration,
        "correl_id": made.correl_id,
        "in_reply_to": made.in_reply_to,
        "has_expiration": "expiration" in changes,
        "expires_at": None if never else found.pub_time + timedelta(milliseconds=made.expiration),
    }
