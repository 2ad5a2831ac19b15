"""Dead letters: messages that could not be delivered to a subscription; looked at, corrected, delivered after all, or deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import Row, text

from junctor.server.pubsub.browse import EDITABLE, Page, Wanted, decode_cursor, encode_cursor
from junctor.server.pubsub.browse_sql import PREFIX, SCANNED
from junctor.server.pubsub.filled import limited, pairs
from junctor.server.pubsub.message import JSON, MILLISECONDS, new_message
from junctor.sql.engine import database_errors
from junctor.sql.errors import InvalidInput, NotFound
from junctor.sql.store import Store
from junctor.sql.tables.pubsub import PubSubMessage

BATCH: Final = 500  # dead letters that one call redrives or deletes; who wants more gone calls again
TIMEOUT: Final = 15.0  # seconds
DEAD_LETTER: Final = "dead letter"
ANY: Final = Wanted()

_FILTER: Final = """
    d.cluster_id = :cluster_id AND (:topic_id = 0 OR d.topic_id = :topic_id) AND (:sub_id = 0 OR d.sub_id = :sub_id)
    AND (:after = 0 OR d.id < :after) AND (CAST(:ids AS bigint[]) IS NULL OR d.id = ANY (CAST(:ids AS bigint[])))
    AND (:msg_id = '' OR d.msg_id = :msg_id)
    AND (CAST(:since AS timestamptz) IS NULL OR d.died_at >= :since) AND (CAST(:until AS timestamptz) IS NULL OR d.died_at < :until)
"""
_SEARCH: Final = """
    (:query = '' OR d.message ->> 'data' ILIKE :query) AND (:correl_id = '' OR d.message ->> 'correl_id' = :correl_id)
"""
_SHOWN: Final = """
    d.id, d.msg_id, d.topic_id, t.name AS topic_name, s.sub_key, s.name AS subscription, e.name AS endpoint_name, d.priority, d.attempts,
    d.reason, d.first_failed_at, d.died_at, d.is_edited
"""
_JOINED: Final = """
    JOIN pubsub_subscription s ON s.id = d.sub_id JOIN pubsub_endpoint e ON e.id = s.endpoint_id
    LEFT JOIN pubsub_topic t ON t.id = d.topic_id
"""
_LIST: Final = text(f"""
    WITH scanned AS MATERIALIZED (
        SELECT d.id FROM pubsub_dead_letter d WHERE {_FILTER} ORDER BY d.id DESC LIMIT :scanned
    )
    SELECT {_SHOWN}, left(d.message ->> 'data', {PREFIX}) AS data, length(d.message ->> 'data') > {PREFIX} AS is_cut,
           d.message - 'data' AS message, (SELECT min(id) FROM scanned) AS last_scanned, (SELECT count(*) FROM scanned) AS scanned
    FROM (SELECT 1) one LEFT JOIN (
        SELECT d.* FROM scanned JOIN pubsub_dead_letter d ON d.id = scanned.id WHERE {_SEARCH} ORDER BY d.id DESC LIMIT :limit
    ) d ON true LEFT JOIN pubsub_subscription s ON s.id = d.sub_id LEFT JOIN pubsub_endpoint e ON e.id = s.endpoint_id
    LEFT JOIN pubsub_topic t ON t.id = d.topic_id
    ORDER BY d.id DESC
""")  # noqa: S608 - constants
_GET: Final = text(f"""
    SELECT {_SHOWN}, d.message ->> 'data' AS data, false AS is_cut, d.message - 'data' AS message
    FROM pubsub_dead_letter d {_JOINED} WHERE d.cluster_id = :cluster_id AND d.id = :id
""")  # noqa: S608 - constants
_EDIT: Final = text("""
    UPDATE pubsub_dead_letter
    SET message = message || CAST(:message AS jsonb), priority = :priority, is_edited = true
    WHERE cluster_id = :cluster_id AND id = :id
""")
_CHOSEN: Final = text(f"""
    SELECT d.id FROM pubsub_dead_letter d WHERE {_FILTER} AND {_SEARCH} ORDER BY d.id LIMIT :batch FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - constants
_DELETE: Final = text("DELETE FROM pubsub_dead_letter WHERE id = ANY (CAST(:ids AS bigint[]))")

# The message is stored anew, under its own msg_id, at the end of the queue: the row that it had may be gone.  It may have been seen, so
# the next delivery says so (attempts), unless that alone made a dead letter of it: who pulls may have no retry at all.  One that has
# expired does not expire any more.
_OWN: Final = ("id", "cluster_id", "topic_id", "priority", "expires_at", "keep_until")
_COPIED: Final = [column.name for column in PubSubMessage.__table__.columns if column.name not in _OWN]
_REDRIVE: Final = text(f"""
    WITH chosen AS MATERIALIZED (
        SELECT d.*, nextval('pubsub_message_id_seq') AS new_id
        FROM (SELECT * FROM pubsub_dead_letter WHERE id = ANY (CAST(:ids AS bigint[])) ORDER BY id) d
    ), target AS (
        SELECT chosen.id, s.id AS sub_id, s.topic_id, s.delivery_max_retry, s.delivery_method
        FROM chosen JOIN pubsub_subscription s ON s.id = CASE WHEN :target = 0 THEN chosen.sub_id ELSE :target END
    ), stored AS (
        INSERT INTO pubsub_message (id, cluster_id, topic_id, priority, expires_at, {", ".join(_COPIED)})
        SELECT chosen.new_id, chosen.cluster_id, target.topic_id, chosen.priority,
               CASE WHEN m.expires_at > statement_timestamp() THEN m.expires_at END, {", ".join(f"m.{name}" for name in _COPIED)}
        FROM chosen JOIN target USING (id) CROSS JOIN LATERAL jsonb_populate_record(NULL::pubsub_message, chosen.message) m
        RETURNING id, expires_at
    ), queued AS (
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id, expires_at, attempts)
        SELECT target.sub_id, chosen.priority, stored.id, target.topic_id, stored.expires_at,
               CASE target.delivery_method WHEN 'pull' THEN least(1, target.delivery_max_retry) ELSE 1 END
        FROM stored JOIN chosen ON chosen.new_id = stored.id JOIN target ON target.id = chosen.id
        RETURNING sub_id
    ), gone AS (
        DELETE FROM pubsub_dead_letter d USING target WHERE d.id = target.id
    )
    SELECT sub_id, count(*) FROM queued GROUP BY sub_id
""")  # noqa: S608 - names of columns


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which dead letters: those with these ids, or those of a topic or a subscription (0 = any), that ``search`` matches.

    The times of ``search`` are those at which they became dead letters.
    """

    ids: Sequence[int] | None = None
    topic_id: int = 0
    sub_id: int = 0
    search: Wanted = ANY

    def conditions(self, cluster_id: int) -> dict[str, Any]:
        """The parameters of the statements."""
        return self.search.conditions() | {
            "cluster_id": cluster_id,
            "topic_id": self.topic_id,
            "sub_id": self.sub_id,
            "ids": None if self.ids is None else list(self.ids),
            "after": 0,
            "scanned": SCANNED,
            "batch": BATCH,
        }


def dead_letters(store: Store, chosen: Chosen) -> Page:
    """Dead letters, newest first.  Raises ``InvalidInput`` for a wrong cursor, ``StoreUnavailable``."""
    (after,) = decode_cursor("dead", chosen.search.cursor, 1)
    if not chosen.search.can_match:
        return Page([])
    given = chosen.conditions(store.cluster_id) | {"after": after}
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        rows = connection.execute(_LIST, given).all()
    found = [row for row in rows if row.id is not None]
    end = None
    if len(found) >= given["limit"]:
        end = (found[-1].id,)
    elif rows[0].scanned >= SCANNED:
        end = (rows[0].last_scanned,)
    return Page([_shown(row) for row in found], encode_cursor("dead", end))


def dead_letter(store: Store, letter_id: int) -> dict[str, Any]:
    """A dead letter with all of its data.  Raises ``NotFound``, ``StoreUnavailable``."""
    row = _get(store, letter_id)
    shown = _shown(row)
    if row.message.get("data_type") == JSON:
        shown["data"] = orjson.loads(row.data)
    return shown


def edit(store: Store, letter_id: int, changes: Mapping[str, Any]) -> None:
    """Changes a dead letter before it is delivered again: ``data``, ``mime_type``, ``priority``, ``correl_id``, ``in_reply_to``.

    Raises ``InvalidInput``, ``NotFound``, ``StoreUnavailable``.
    """
    allowed = [name for name in EDITABLE if name != "expiration"]
    if unknown := sorted(changes.keys() - set(allowed)):
        raise InvalidInput.one(unknown[0], f"cannot be changed; these can: {', '.join(allowed)}.")
    row = _get(store, letter_id)
    before = {name: row.message.get(name) for name in allowed if name != "data"} | {"priority": row.priority}
    data = orjson.loads(row.data) if row.message.get("data_type") == JSON else row.data
    made = new_message("", before | {"data": data} | dict(changes), expiration_unit=MILLISECONDS)
    message = {name: getattr(made, name) for name in (*allowed, "data_type", "size")}
    given = {"message": orjson.dumps(message).decode(), "priority": made.priority, "id": letter_id}
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        if not connection.execute(_EDIT, given | {"cluster_id": store.cluster_id}).rowcount:
            raise NotFound(DEAD_LETTER, letter_id)


def redrive(store: Store, chosen: Chosen, target: int = 0) -> dict[int, int]:
    """Puts up to ``BATCH`` dead letters back into their queues, or into the one of the subscription ``target``, the oldest first.

    Returns how many, by subscription; nothing if there are none left.  The next delivery has a ``delivery_count`` of 1 at least.
    Raises ``StoreUnavailable``.
    """
    if not chosen.search.can_match:
        return {}
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        ids = list(connection.execute(_CHOSEN, chosen.conditions(store.cluster_id)).scalars())
        return pairs(connection.execute(_REDRIVE, {"ids": ids, "target": target})) if ids else {}


def delete(store: Store, chosen: Chosen) -> int:
    """Deletes up to ``BATCH`` dead letters, the oldest first; returns how many.  Raises ``StoreUnavailable``."""
    if not chosen.search.can_match:
        return 0
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        ids = list(connection.execute(_CHOSEN, chosen.conditions(store.cluster_id)).scalars())
        return connection.execute(_DELETE, {"ids": ids}).rowcount


def _get(store: Store, letter_id: int) -> Row[Any]:
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        row = connection.execute(_GET, {"cluster_id": store.cluster_id, "id": letter_id}).first()
    if row is None:
        raise NotFound(DEAD_LETTER, letter_id)
    return row


def _shown(row: Row[Any]) -> dict[str, Any]:
    message = row.message
    return {
        "id": row.id,
        "msg_id": row.msg_id,
        "topic_name": row.topic_name,
        "sub_key": row.sub_key,
        "subscription": row.subscription,
        "endpoint_name": row.endpoint_name,
        "priority": row.priority,
        "delivery_count": row.attempts,
        "reason": row.reason,
        "first_failed_iso": _iso(row.first_failed_at),
        "died_at_iso": _iso(row.died_at),
        "is_edited": row.is_edited,
        "data": row.data,
        "is_cut": row.is_cut,
        "data_type": message.get("data_type"),
        "size": message.get("size"),
        "mime_type": message.get("mime_type"),
        "correl_id": message.get("correl_id"),
        "in_reply_to": message.get("in_reply_to"),
        "publisher": message.get("endpoint_name"),
        "pub_time_iso": message.get("pub_time"),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
