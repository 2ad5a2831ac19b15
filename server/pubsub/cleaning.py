"""Removing what nobody needs any more: in small steps, each of which is a short transaction, so that nobody waits for it.

Each method goes through everything once, and yields after each step how many rows that concerned.  All may raise ``StoreUnavailable``; what
was done until then is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from junctor.server.pubsub.filled import FILLED, filled_queues, limited, pairs, queue_heads
from junctor.server.pubsub.partitions import MARGIN
from junctor.sql.engine import database_errors
from junctor.sql.tables.pubsub import QUEUE_PARTITIONS

BATCH: Final = 5000  # rows
PAGES: Final = 1000  # of a table that one step looks at, 8 MB
PAGES_OF_ROWS: Final = 10  # batches of messages that one step looks at
TIMEOUT: Final = 10.0  # seconds that a statement may take
DEAD_AFTER: Final = (
    "1 hour"  # since publication; until then 'why is it not delivered?' has an answer for a message that was
)
DEDUPE_WINDOW: Final = "1 day"
DEAD_LETTERS_KEPT: Final = "30 days"

_SIZE: Final = text("SELECT pg_relation_size(CAST(:table AS regclass)) / current_setting('block_size')::int")
# Locked rows are being handed out just now; they are looked at again next time.
_EXPIRED: Final = """
    WITH gone AS (
        DELETE FROM {table} q USING (
            SELECT ctid AS place FROM {table}
            WHERE ctid >= CAST(:low AS tid) AND ctid < CAST(:high AS tid) AND expires_at <= statement_timestamp()
            LIMIT :batch FOR UPDATE SKIP LOCKED
        ) old WHERE q.ctid = old.place RETURNING q.topic_id
    )
    SELECT topic_id, count(*) FROM gone GROUP BY topic_id
"""
_PAGE: Final = text("""
    SELECT min(id) AS low, max(id) AS high
    FROM (SELECT id FROM pubsub_message WHERE id > :after AND id <= :last ORDER BY id LIMIT :batch) page
""")
# Messages of a page that are in no queue; of all queues, only those are looked at that have messages, and only between two ids.
_DEAD: Final = text("""
    DELETE FROM pubsub_message m
    WHERE m.id BETWEEN :low AND :high
      AND m.pub_time < statement_timestamp() - CAST(:dead_after AS interval)
      AND (m.keep_until IS NULL OR m.keep_until < statement_timestamp() - CAST(:margin AS interval))
      AND m.id NOT IN (
          SELECT found.message_id
          FROM unnest(CAST(:subs AS bigint[])) AS sub_id CROSS JOIN generate_series(1, 9) AS priority
          CROSS JOIN LATERAL (
              SELECT q.message_id FROM pubsub_queue q
              WHERE q.sub_id = sub_id.sub_id AND q.priority = priority.priority AND q.message_id BETWEEN :low AND :high
          ) found
      )
""")
_LAST: Final = text("SELECT last_value FROM pubsub_message_id_seq")
_ORPHANED: Final = text(
    FILLED  # noqa: S608 - a constant
    + """
    SELECT sub_id FROM filled
    WHERE (sub_id > 0 AND NOT EXISTS (SELECT FROM pubsub_subscription s WHERE s.id = sub_id))
       OR (sub_id < 0 AND NOT EXISTS (SELECT FROM pubsub_topic t WHERE t.id = -sub_id))
"""
)
CLEAR: Final = text("""
    DELETE FROM pubsub_queue q USING (
        SELECT priority, message_id FROM pubsub_queue
        WHERE sub_id = :sub_id AND message_id <= :last ORDER BY priority DESC, message_id
        LIMIT :batch FOR UPDATE SKIP LOCKED
    ) old
    WHERE q.sub_id = :sub_id AND q.priority = old.priority AND q.message_id = old.message_id
""")
# Messages that nobody had subscribed to go to the oldest subscription, or to the oldest of those that they are meant for.
_ADOPT: Final = text("""
    WITH chosen AS (
        SELECT q.priority, q.message_id, target.id AS target
        FROM pubsub_queue q JOIN pubsub_message m ON m.id = q.message_id
        CROSS JOIN LATERAL (
            SELECT s.id FROM pubsub_subscription s
            WHERE s.topic_id = -q.sub_id AND s.active_status IN ('pub-sub', 'pub-only')
              AND (m.deliver_to_sk IS NULL OR m.deliver_to_sk = '[]' OR jsonb_exists(m.deliver_to_sk, s.sub_key))
            ORDER BY s.id LIMIT 1
        ) target
        WHERE q.sub_id = :sub_id
        ORDER BY q.priority DESC, q.message_id LIMIT :batch FOR UPDATE OF q SKIP LOCKED
    ), taken AS (
        DELETE FROM pubsub_queue q USING chosen c
        WHERE q.sub_id = :sub_id AND q.priority = c.priority AND q.message_id = c.message_id
        RETURNING c.target, q.priority, q.message_id, q.topic_id, q.expires_at, q.not_before, q.attempts
    ), given AS (
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id, expires_at, not_before, attempts)
        SELECT * FROM taken ON CONFLICT DO NOTHING
    )
    SELECT target, count(*) FROM taken GROUP BY target
""")
_OLD: Final = {
    "pubsub_dedupe": f"seen_at < statement_timestamp() - interval '{DEDUPE_WINDOW}' ORDER BY seen_at",
    "pubsub_dead_letter": f"died_at < statement_timestamp() - interval '{DEAD_LETTERS_KEPT}' ORDER BY died_at",
}


class Cleaning:
    """The rows of all clusters that share a database; any number of workers may do this at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cursor = 0

    def expired(self) -> Iterator[Mapping[int, int]]:
        """Takes expired messages out of the queues; yields how many, by the ids of their topics.

        There is no index for that, which each publish would pay for: the tables are read through, 8 MB at a time.
        """
        for number in range(QUEUE_PARTITIONS):
            table = f"pubsub_queue_p{number}"
            statement = text(_EXPIRED.format(table=table))
            low, pages = 0, self._pages(table)
            while low < pages:
                given = {"low": f"({low},0)", "high": f"({low + PAGES},0)", "batch": BATCH}
                with database_errors(), limited(self._engine, TIMEOUT) as connection:
                    gone = pairs(connection.execute(statement, given))
                if sum(gone.values()) < BATCH:
                    low += PAGES
                yield gone

    def _pages(self, table: str) -> int:
        with database_errors(), limited(self._engine, TIMEOUT) as connection:
            return int(connection.execute(_SIZE, {"table": table}).scalar_one())

    def dead_messages(self) -> Iterator[int]:
        """Deletes messages that are in no queue, need not be kept, and were published more than an hour ago."""
        self._cursor = 0
        while self._cursor >= 0:
            with (
                database_errors(),
                limited(self._engine, TIMEOUT, isolation_level="REPEATABLE READ") as connection,
            ):
                deleted = self._delete_dead(connection)
            yield deleted

    def _delete_dead(self, connection: Connection) -> int:
        """One step.  It sees one state of the database throughout: a message and its rows in queues come and move together."""
        subs, deleted = queue_heads(connection).sub_ids, 0
        last = connection.execute(_LAST).scalar_one()
        for _ in range(PAGES_OF_ROWS):
            page = connection.execute(_PAGE, {"after": self._cursor, "last": last, "batch": BATCH}).one()
            if page.high is None:
                self._cursor = -1
                return deleted
            given = {
                "low": page.low,
                "high": page.high,
                "subs": subs,
                "dead_after": DEAD_AFTER,
                "margin": MARGIN,
            }
            deleted += connection.execute(_DEAD, given).rowcount
            self._cursor = page.high
        return deleted

    def orphans(self) -> Iterator[int]:
        """Empties the queues of subscriptions and topics that were deleted."""
        with database_errors(), limited(self._engine, TIMEOUT) as connection:
            orphaned = list(connection.execute(_ORPHANED).scalars())
            last = connection.execute(_LAST).scalar_one()
        for sub_id in orphaned:
            yield from clear(self._engine, sub_id, last)

    def parked(self) -> Iterator[Mapping[int, int]]:
        """Gives messages that were published when nobody had subscribed to who has by now; yields how many, by subscription."""
        with database_errors(), limited(self._engine, TIMEOUT) as connection:
            parked = [sub_id for sub_id in filled_queues(connection) if sub_id < 0]
        for sub_id in parked:
            while True:
                with database_errors(), limited(self._engine, TIMEOUT) as connection:
                    rows = connection.execute(_ADOPT, {"sub_id": sub_id, "batch": BATCH})
                    moved = pairs(rows)
                yield moved
                if sum(moved.values()) < BATCH:
                    break

    def dedupe(self) -> Iterator[int]:
        """Forgets ids that publishers gave more than a day ago."""
        yield from self._old("pubsub_dedupe")

    def dead_letters(self) -> Iterator[int]:
        """Deletes dead letters of more than 30 days."""
        yield from self._old("pubsub_dead_letter")

    def _old(self, table: str) -> Iterator[int]:
        statement = text(
            f"DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE {_OLD[table]} LIMIT :batch))"  # noqa: S608 - constants
        )
        count = BATCH
        while count == BATCH:
            with database_errors(), limited(self._engine, TIMEOUT) as connection:
                count = connection.execute(statement, {"batch": BATCH}).rowcount
            yield count


def clear(engine: Engine, sub_id: int, last: int) -> Iterator[int]:
    """Empties a queue of messages up to the id ``last``; yields after each step how many went.  Raises ``StoreUnavailable``."""
    given: dict[str, Any] = {"sub_id": sub_id, "last": last, "batch": BATCH}
    count = BATCH
    while count == BATCH:
        with database_errors(), limited(engine, TIMEOUT) as connection:
            count = connection.execute(CLEAR, given).rowcount
        yield count


def last_id(engine: Engine) -> int:
    """The last id that a message was given.  Raises ``StoreUnavailable``."""
    with database_errors(), limited(engine, TIMEOUT) as connection:
        return int(connection.execute(_LAST).scalar_one())
