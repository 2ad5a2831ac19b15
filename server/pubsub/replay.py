"""Replay: delivering once more what was published to a topic, from a time or a message on, to a subscription of the topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text

from junctor.server.pubsub.cleaning import last_id
from junctor.server.pubsub.filled import limited
from junctor.sql.engine import database_errors
from junctor.sql.errors import NotFound
from junctor.sql.shape import can_exist
from junctor.sql.store import Store

BATCH: Final = 5000  # messages
TIMEOUT: Final = 15.0  # seconds

# A message that is in the queue already stays where it is.  Only what is kept is taken, so that it is not deleted at the same moment.
# The next delivery says that the subscriber may have seen the message, unless that alone would make a dead letter of it.
_REPLAY: Final = text("""
    WITH page AS MATERIALIZED (
        SELECT m.id, m.priority, m.expires_at, m.pub_time, m.keep_until, m.deliver_to_sk
        FROM pubsub_message m
        WHERE m.topic_id = :topic_id AND m.cluster_id = :cluster_id AND m.id > :after AND m.id <= :last
        ORDER BY m.id LIMIT :batch
    ), added AS (
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id, expires_at, attempts)
        SELECT s.id, page.priority, page.id, :topic_id, page.expires_at,
               CASE s.delivery_method WHEN 'pull' THEN least(1, s.delivery_max_retry) ELSE 1 END
        FROM page JOIN pubsub_subscription s ON s.id = :sub_id AND s.topic_id = :topic_id
        WHERE page.keep_until > statement_timestamp()
          AND (page.expires_at IS NULL OR page.expires_at > statement_timestamp())
          AND (CAST(:since AS timestamptz) IS NULL OR page.pub_time >= :since)
          AND (CAST(:until AS timestamptz) IS NULL OR page.pub_time < :until)
          AND (page.deliver_to_sk IS NULL OR page.deliver_to_sk = '[]' OR jsonb_exists(page.deliver_to_sk, s.sub_key))
          AND NOT EXISTS (SELECT FROM generate_series(1, 9) AS level (priority) JOIN pubsub_queue q
                          ON q.sub_id = s.id AND q.priority = level.priority AND q.message_id = page.id)
        ON CONFLICT DO NOTHING
        RETURNING message_id
    )
    SELECT (SELECT max(id) FROM page) AS last_id, (SELECT count(*) FROM page) AS scanned, (SELECT count(*) FROM added) AS added
""")
_FIRST: Final = text("""
    SELECT id FROM pubsub_message WHERE cluster_id = :cluster_id AND topic_id = :topic_id AND msg_id = :msg_id ORDER BY id LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Range:
    """Which messages: published from ``since`` on, before ``until``, and from the message ``msg_id`` on; '' or None = all there are."""

    since: datetime | None = None
    until: datetime | None = None
    msg_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did: ``added`` messages; ``after`` is where the next one begins, and ``last`` where the last one ends."""

    added: int
    after: int
    last: int
    is_complete: bool


def start(store: Store, topic_id: int, wanted: Range) -> Step:
    """Where to begin; nothing is done yet.  What is published from now on is not replayed: it is queued anyway.

    Raises ``NotFound`` if there is no message ``msg_id`` in the topic (any more), ``StoreUnavailable``.
    """
    after = 0
    if wanted.msg_id:
        given = {"cluster_id": store.cluster_id, "topic_id": topic_id, "msg_id": wanted.msg_id}
        with database_errors(), limited(store.engine, TIMEOUT) as connection:
            found = connection.scalar(_FIRST, given) if can_exist(wanted.msg_id) else None
        if found is None:
            raise NotFound("kept message", wanted.msg_id)
        after = found - 1
    return Step(0, after, last_id(store.engine), is_complete=False)


def replay(store: Store, topic_id: int, sub_id: int, wanted: Range, begin: Step) -> Iterator[Step]:
    """Queues the messages, in the order of their publication; yields after each step of ``BATCH`` messages that were looked at.

    Whoever stops goes on later from the step that came last.  Raises ``StoreUnavailable``.
    """
    step = begin
    while not step.is_complete:
        given = {
            "cluster_id": store.cluster_id,
            "topic_id": topic_id,
            "sub_id": sub_id,
            "after": step.after,
            "last": step.last,
            "since": wanted.since,
            "until": wanted.until,
            "batch": BATCH,
        }
        with database_errors(), limited(store.engine, TIMEOUT) as connection:
            row = connection.execute(_REPLAY, given).one()
        step = Step(row.added, row.last_id or step.after, step.last, is_complete=row.scanned < BATCH)
        yield step
