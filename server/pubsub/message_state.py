"""What a publisher may know of a message of its own: that it is stored, and in how many queues it still is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from junctor.server.pubsub.message import MAX_ID, NEVER, iso
from junctor.sql.engine import database_errors
from junctor.sql.errors import ResourceNotFound

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint

NO_SUCH_MESSAGE: Final = "No such message"

# A message of an endpoint, or of anybody if that is NULL; and, by a few looks at the index, the queues of its topic that it is in.
_STATE: Final = text(
    """
    SELECT m.msg_id, m.topic_id, m.size, m.mime_type, m.priority, m.expiration, m.correl_id, m.in_reply_to,
           extract(epoch FROM m.pub_time)::float8 AS pub_time, extract(epoch FROM m.expires_at)::float8 AS expires_at,
           m.expires_at IS NOT NULL AND m.expires_at <= statement_timestamp() AS is_expired,
           (SELECT count(*)
            FROM (SELECT id FROM pubsub_subscription WHERE topic_id = m.topic_id UNION ALL SELECT -m.topic_id) AS sub (id)
            CROSS JOIN LATERAL (
                SELECT FROM pubsub_queue q
                WHERE q.sub_id = sub.id AND q.message_id = m.id
                  AND q.priority = ANY (ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9]::smallint[])
                OFFSET 0
            ) queued) AS waiting,
           (SELECT count(*) FROM pubsub_dead_letter d WHERE d.msg_id = m.msg_id AND d.message_id = m.id) AS dead
    FROM pubsub_message m
    WHERE m.msg_id = :msg_id AND m.cluster_id = :cluster_id
      AND (CAST(:endpoint_id AS bigint) IS NULL OR m.endpoint_id = :endpoint_id)
    ORDER BY m.id DESC
    LIMIT 1
    """
)


def message_state(context: Context, msg_id: str, publisher: Endpoint | None) -> dict[str, Any]:
    """The message of this id, without its data, and how many queues and dead letters it is in.

    Raises ``ResourceNotFound`` if there is none, or not any more, or if it is another publisher's; None is whoever's.
    """
    values = {
        "msg_id": msg_id[:MAX_ID],
        "cluster_id": context.store.cluster_id,
        "endpoint_id": publisher.id if publisher is not None else None,
    }
    with database_errors(), context.pubsub.engine.begin() as connection:
        row = connection.execute(_STATE, values).first() if "\0" not in msg_id else None
    if row is None:
        raise ResourceNotFound(msg=NO_SUCH_MESSAGE)
    topic = context.pubsub.directory.topic_by_id(row.topic_id)
    state = {
        "msg_id": row.msg_id,
        "topic_name": topic.name if topic is not None else "",
        "size": row.size,
        "mime_type": row.mime_type,
        "priority": row.priority,
        "expiration": row.expiration or NEVER,
        "pub_time_iso": iso(row.pub_time),
        "expiration_time_iso": iso(row.expires_at or row.pub_time + NEVER / 1000),
        "is_expired": row.is_expired,
        "queues": row.waiting,
        "dead_letters": row.dead,
    }
    return state | {name: getattr(row, name) for name in ("correl_id", "in_reply_to") if getattr(row, name)}
