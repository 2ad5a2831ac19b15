"""The partitions of the messages' table: made before messages need them, and dropped when all of their messages are dead.

Dropping a partition costs milliseconds however many messages it has, which is how a busy cluster gets rid of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Final

from sqlalchemy import Connection, Engine, text

from junctor.server.pubsub.filled import QueueHeads, limited, queue_heads
from junctor.sql.engine import database_errors
from junctor.sql.errors import StoreUnavailable
from junctor.sql.tables.pubsub import MESSAGES_PER_PARTITION

TABLE: Final = "pubsub_message"
AHEAD: Final = 2  # partitions that there are behind the one that is written to
LOCK_TIMEOUT: Final = 1.0  # seconds for which one statement may wait, and others behind it
DDL_TIMEOUT: Final = 10.0  # seconds
DETACH_TIMEOUT: Final = 20.0  # seconds; detaching waits for every transaction that may see the partition
SCAN_TIMEOUT: Final = 25.0  # seconds for one look at a whole partition
SCANNED: Final = 2**16  # ids that one statement looks at
SETTLED_AFTER: Final = 60.0  # seconds after the last id of a partition was given away
MARGIN: Final = (
    "2 minutes"  # for which messages are kept longer than they need, for whoever replays them just now
)
LOCK_ID: Final = 0x70737061  # 'pspa': any constant that all processes share
STORAGE: Final = "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1"
log = logging.getLogger(__name__)

# The last id that was given away, and which partitions there are; one that was being detached when its worker died is pending.
_STATE: Final = text("""
    SELECT (SELECT last_value FROM pubsub_message_id_seq) AS last_id, child.relname AS name, link.inhdetachpending AS is_pending,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_transaction
    FROM pg_inherits link JOIN pg_class child ON child.oid = link.inhrelid
    WHERE link.inhparent = CAST(:table AS regclass)
""")
# Tables that were detached, but not dropped before their worker died.
_LEFT_OVER: Final = text("""
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relname ~ :pattern AND NOT relispartition
      AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST(:table AS regclass))
""")
# Whether a partition is being detached; no row if it is none.
_IS_PENDING: Final = text(
    "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(:name) AND inhparent = CAST('pubsub_message' AS regclass)"
)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:id)")


class Partitions:
    """The partitions, which all clusters of a database share; any number of workers may do this at a time.

    Every method may raise ``StoreUnavailable``, and then nothing was done by halves that the next call does not finish.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settling: dict[int, tuple[float, int]] = {}
        self._kept_until: dict[int, datetime | None] = {}

    def prepare(self) -> None:
        """Makes what is missing before a worker publishes for the first time.

        A partition that nobody needs yet, and that cannot be made just now, is left to ``ensure``.
        """
        try:
            self.ensure()
        except StoreUnavailable:
            last_id, found, _ = self._look()
            if number_of(last_id + 1) not in found:
                raise
            log.info("Partitions for future messages cannot be made just now; it is tried again.")

    def ensure(self) -> list[int]:
        """Makes the partitions that messages will need next, ``AHEAD`` of them, one more from the middle of a partition on.

        Returns the numbers of those that it made.  Publishers go on meanwhile.
        """
        last_id, found, _ = self._look()
        needed = _needed(last_id)
        if found.issuperset(needed):
            return []
        made = []
        with database_errors(), limited(self._engine, DDL_TIMEOUT, LOCK_TIMEOUT) as connection:
            connection.execute(_LOCK, {"id": LOCK_ID})
            last_id, found, _ = _state(connection)
            for number in sorted(set(_needed(last_id)) - found):
                _create(connection, number)
                made.append(number)
        if made:
            log.info("Partitions for messages were made: %s.", ", ".join(map(name_of, made)))
        return made

    def drop_dead(self) -> list[int]:
        """Drops the partitions all of whose messages are in no queue and need not be kept; returns their numbers.

        A partition counts only when every id of it was given away, and everybody who got one has committed or failed.
        """
        last_id, found, pending = self._look()
        with database_errors(), limited(self._engine, DDL_TIMEOUT, LOCK_TIMEOUT) as connection:
            left = (
                connection.execute(_LEFT_OVER, {"pattern": f"^{TABLE}_p[0-9]+$", "table": TABLE})
                .scalars()
                .all()
            )
        for number in sorted(pending | set(map(_number, left))):
            self._remove(number)
        dead = [number for number in self._settled(last_id, found - pending) if self._is_dead(number)]
        for number in dead:
            self._remove(number)
            self._kept_until.pop(number, None)
            self._settling.pop(number, None)
        if dead:
            log.info("Partitions of dead messages were dropped: %s.", ", ".join(map(name_of, dead)))
        return dead

    def count(self) -> int:
        """How many partitions there are."""
        return len(self._look()[1])

    def _look(self) -> tuple[int, set[int], set[int]]:
        with database_errors(), limited(self._engine, DDL_TIMEOUT, LOCK_TIMEOUT) as connection:
            return _state(connection)

    def _settled(self, last_id: int, found: set[int]) -> list[int]:
        """Those whose ids have all been given away, to transactions that have all ended.

        Two things say so: a minute, for statements that have an id and have written nothing, and the ids of transactions, for the others,
        even if their client was suspended in the middle.
        """
        with database_errors(), limited(self._engine, DDL_TIMEOUT, LOCK_TIMEOUT) as connection:
            row = connection.execute(_STATE, {"table": TABLE}).first()
        oldest, following = (row.oldest_running, row.next_transaction) if row is not None else (0, 0)
        now, settled = monotonic(), []
        for number in sorted(found):
            if last_id < (number + 1) * MESSAGES_PER_PARTITION - 1:
                continue
            since, transaction = self._settling.setdefault(number, (now, following))
            if now - since < SETTLED_AFTER:
                continue
            if transaction < 0 or oldest >= transaction:
                self._settling[number] = (since, -1)
                settled.append(number)
        return settled

    def _is_dead(self, number: int) -> bool:
        low, high = number * MESSAGES_PER_PARTITION, (number + 1) * MESSAGES_PER_PARTITION
        with database_errors(), limited(self._engine, SCAN_TIMEOUT, LOCK_TIMEOUT) as connection:
            return not _is_queued(connection, queue_heads(connection), low, high) and not self._is_kept(
                connection, number
            )

    def _is_kept(self, connection: Connection, number: int) -> bool:
        """Whether a message of it must be kept for replay.  That is read once: nothing is added to it any more, and times only pass."""
        if number not in self._kept_until:
            self._kept_until[number] = _latest_keep_until(connection, number)
        kept_until = self._kept_until[number]
        if kept_until is None:
            return False
        statement = text("SELECT :kept_until > clock_timestamp() - CAST(:margin AS interval)")
        return bool(connection.scalar(statement, {"kept_until": kept_until, "margin": MARGIN}))

    def _remove(self, number: int) -> None:
        """Takes a partition out of the table and drops it; who reads or writes goes on meanwhile, and is waited for."""
        name = name_of(number)
        with _outside_transaction(self._engine) as connection:
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:id)"), {"id": LOCK_ID + 1}):
                return  # a worker of another cluster does it
            pending = connection.scalar(_IS_PENDING, {"name": name})
            if pending is not None:
                how = "FINALIZE" if pending else "CONCURRENTLY"
                connection.execute(text(f"ALTER TABLE {TABLE} DETACH PARTITION {name} {how}"))
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


def name_of(number: int) -> str:
    """The name of a partition."""
    return f"{TABLE}_p{number}"


def _number(name: str) -> int:
    return int(name.rpartition("_p")[2])


def number_of(message_id: int) -> int:
    """The number of the partition that has a message."""
    return message_id // MESSAGES_PER_PARTITION


def _needed(last_id: int) -> range:
    return range(number_of(last_id + 1), number_of(last_id + MESSAGES_PER_PARTITION // 2) + AHEAD + 1)


def _state(connection: Connection) -> tuple[int, set[int], set[int]]:
    """The last id that was given away, the numbers of the partitions, and of those among them that are being detached."""
    rows = connection.execute(_STATE, {"table": TABLE}).all()
    last_id = (
        rows[0].last_id if rows else connection.scalar(text("SELECT last_value FROM pubsub_message_id_seq"))
    )
    numbers = {_number(row.name): row.is_pending for row in rows}
    return int(last_id or 0), set(numbers), {number for number, is_pending in numbers.items() if is_pending}


def _create(connection: Connection, number: int) -> None:
    """Made as a table of its own and then attached, since publishers need not wait for that; 'PARTITION OF' would lock them out."""
    name, low = name_of(number), number * MESSAGES_PER_PARTITION
    connection.execute(text(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL) WITH ({STORAGE})"))
    bounds = f"FROM ({low}) TO ({low + MESSAGES_PER_PARTITION})"
    connection.execute(text(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES {bounds}"))


def _latest_keep_until(connection: Connection, number: int) -> datetime | None:
    """Until when messages of a partition must be kept; None if none need.  Read in parts, none of which takes long."""
    low = number * MESSAGES_PER_PARTITION
    statement = text(f"SELECT max(keep_until) FROM {name_of(number)} WHERE id >= :low AND id < :high")  # noqa: S608 - a number
    found: list[datetime] = []
    for start in range(low, low + MESSAGES_PER_PARTITION, SCANNED):
        latest = connection.scalar(statement, {"low": start, "high": start + SCANNED})
        found += [] if latest is None else [latest]
    return max(found, default=None)


def _is_queued(connection: Connection, heads: QueueHeads, low: int, high: int) -> bool:
    """Whether a queue has a message of these ids."""
    behind = [(head.sub_id, head.priority) for head in heads.rows if head.message_id < high]
    if any(head.message_id >= low for head in heads.rows if head.message_id < high):
        return True
    statement = text("""
        SELECT EXISTS (
            SELECT FROM unnest(CAST(:subs AS bigint[]), CAST(:priorities AS smallint[])) AS head (sub_id, priority)
            CROSS JOIN LATERAL (
                SELECT FROM pubsub_queue q
                WHERE q.sub_id = head.sub_id AND q.priority = head.priority AND q.message_id >= :low AND q.message_id < :high
                LIMIT 1
            ) found
        )
    """)
    given = {"subs": [sub for sub, _ in behind], "priorities": [priority for _, priority in behind]}
    return bool(connection.execute(statement, given | {"low": low, "high": high}).scalar_one())


@contextmanager
def _outside_transaction(engine: Engine) -> Iterator[Connection]:
    """A connection for what cannot be done in a transaction, with limits that end with it."""
    with database_errors(), engine.connect() as pooled:
        connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(f"SET statement_timeout = '{DETACH_TIMEOUT:g}s'"))
        connection.execute(text(f"SET lock_timeout = '{DETACH_TIMEOUT:g}s'"))
        try:
            yield connection
        finally:
            connection.invalidate()  # its limits are not those of the pool
