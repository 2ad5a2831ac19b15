"""Which queues have messages, found out by a few looks at the index, however many messages there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, text

# From each sub_id straight to the next one: as many looks as there are queues with messages.
FILLED: Final = """
    WITH RECURSIVE filled AS (
        (SELECT sub_id FROM pubsub_queue ORDER BY sub_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.sub_id FROM pubsub_queue q WHERE q.sub_id > filled.sub_id ORDER BY q.sub_id LIMIT 1)
        FROM filled WHERE filled.sub_id IS NOT NULL
    )
"""
_HEADS: Final = text(
    FILLED  # noqa: S608 - a constant
    + """
    SELECT filled.sub_id, priority.priority, head.message_id
    FROM filled
    CROSS JOIN generate_series(1, 9) AS priority
    CROSS JOIN LATERAL (
        SELECT q.message_id FROM pubsub_queue q
        WHERE q.sub_id = filled.sub_id AND q.priority = priority.priority ORDER BY q.message_id LIMIT 1
    ) head
    WHERE filled.sub_id IS NOT NULL
"""
)
_SUBS: Final = text(FILLED + "SELECT sub_id FROM filled WHERE sub_id IS NOT NULL")  # noqa: S608 - a constant


class Head(NamedTuple):
    """The oldest message of a priority in a queue."""

    sub_id: int
    priority: int
    message_id: int


class QueueHeads(NamedTuple):
    """The heads of all queues that have messages."""

    rows: list[Head]

    @property
    def sub_ids(self) -> list[int]:
        """The queues, those of topics below zero."""
        return sorted({head.sub_id for head in self.rows})

    @property
    def oldest(self) -> int | None:
        """The id of the oldest message in any queue: no message before it is in one.  None if all are empty."""
        return min((head.message_id for head in self.rows), default=None)


def queue_heads(connection: Connection) -> QueueHeads:
    """What is at the heads of all queues of the database."""
    return QueueHeads([Head(*row) for row in connection.execute(_HEADS)])


def filled_queues(connection: Connection) -> list[int]:
    """The ``sub_id`` of each queue that has messages, in order."""
    return list(connection.execute(_SUBS).scalars())


def pairs(rows: Iterable[Sequence[Any]]) -> dict[int, int]:
    """Rows of two numbers as a dictionary."""
    return {row[0]: row[1] for row in rows}


@contextmanager
def limited(
    engine: Engine, seconds: float, lock_seconds: float = 1.0, isolation_level: str | None = None
) -> Iterator[Connection]:
    """A transaction whose statements take at most ``seconds`` each, of which at most ``lock_seconds`` are spent waiting for a lock."""
    with engine.connect() as connection, connection.begin():
        if isolation_level:  # of the transaction: a connection that must be made as before cannot be given back once it is broken
            connection.execute(text(f"SET TRANSACTION ISOLATION LEVEL {isolation_level}"))
        limits = f"SET LOCAL statement_timeout = {int(seconds * 1000)}; SET LOCAL lock_timeout = {int(lock_seconds * 1000)}"
        connection.execute(text(limits))
        yield connection
