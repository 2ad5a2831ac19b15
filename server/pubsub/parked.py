"""Messages that were published while nobody had subscribed, in the queue of their topic, until the first subscription takes them.

A publisher that finds no subscription, and somebody who subscribes meanwhile, do not see each other's rows before both have
committed.  So the publisher, having parked its messages, takes the topic's lock, shared with other publishers, and looks once more; and who
subscribes commits the subscription first, and then takes the lock alone and moves what is parked.  Whoever comes second sees the
other's rows.  Both hold the lock for milliseconds.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine

from junctor.server.pubsub.writer_sql import RECEIVING
from junctor.sql.engine import database_errors

BATCH: Final = 10_000  # messages that are moved in one transaction
_KEY: Final = "hashtextextended('junctor.pubsub.parked.' || topic, 0)"
_LOCK: Final = "SELECT pg_advisory_xact_lock{}({}) FROM (SELECT topic FROM unnest(%(topics)s::bigint[]) AS topic ORDER BY topic) topics"

# For a publisher that has parked messages in these topics: what is parked there goes to the oldest subscription of each that there is by
# now.  Returns those, with their owners.
LOOK_AGAIN: Final = f"""
{_LOCK.format("_shared", _KEY)};
WITH receivers AS (
    SELECT DISTINCT ON (topic_id) topic_id, id FROM pubsub_subscription
    WHERE topic_id = ANY (%(topics)s) AND {RECEIVING} ORDER BY topic_id, id
), moved AS (
    UPDATE pubsub_queue SET sub_id = receivers.id FROM receivers WHERE pubsub_queue.sub_id = -receivers.topic_id
    RETURNING pubsub_queue.sub_id
)
SELECT DISTINCT moved.sub_id, pubsub_state.worker_id FROM moved LEFT JOIN pubsub_state ON pubsub_state.sub_id = moved.sub_id
"""  # noqa: S608 - made of constants

# For somebody who has subscribed: some of what is parked, what would be delivered first.  Nothing if the subscription takes no messages.
_TAKE: Final = f"""
{_LOCK.format("", _KEY)};
UPDATE pubsub_queue SET sub_id = %(sub)s
WHERE sub_id = -%(topic)s
  AND (priority, message_id) IN (
      SELECT priority, message_id FROM pubsub_queue WHERE sub_id = -%(topic)s ORDER BY priority DESC, message_id LIMIT {BATCH}
  )
  AND EXISTS (SELECT FROM pubsub_subscription WHERE id = %(sub)s AND {RECEIVING})
"""  # noqa: S608 - made of constants


def take_parked(engine: Engine, topic_id: int, sub_id: int) -> int:
    """Gives a subscription what is parked in its topic; to be called once it is committed.

    Returns how many messages that was, 0 when another one was faster.  Raises ``StoreUnavailable``, and may be called again then.
    """
    given = {"topics": [topic_id], "topic": topic_id, "sub": sub_id}
    moved, count = 0, BATCH
    while count == BATCH:
        with database_errors(), engine.begin() as connection:
            count = connection.exec_driver_sql(_TAKE, given).rowcount
        moved += count
    return moved
