"""Writing events that belong to no transaction: those of many greenlets in one, and each waits until it is committed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from junctor.server.audit.rows_sql import insert_rows
from junctor.sql.engine import connect, database_errors
from junctor.sql.errors import JunctorError, StoreUnavailable

MAX_WAITING: Final = 5000  # events
MAX_GROUP: Final = 200  # events in a transaction
TIMEOUT: Final = 20.0  # seconds that somebody waits for others to write an event
TRIES: Final = 2  # of a transaction; the second one finds a database that was away for a moment
IS_FULL: Final = "Too many audit events wait for the object database; try again later."
IS_LATE: Final = "The audit event could not be written in time: the object database does not answer."

Row = dict[str, Any]


class _Waiting:
    """An event and who waits for it; ``leads`` once it is this one's turn to write for all."""

    __slots__ = ("error", "is_done", "leads", "row", "wake")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.wake = threading.Event()
        self.is_done = False
        self.leads = False
        self.error: JunctorError | None = None


class Writer:
    """Writes rows in groups.  Whoever comes while nobody writes does it for all who come meanwhile, and hands over to one of them.

    It has one connection of its own, so that it never waits for one that a caller holds.  In a worker, threads are greenlets.
    """

    def __init__(self, engine: Callable[[], Engine], written: Callable[[Sequence[Row]], None]) -> None:
        self._made_from = engine
        self._written = written
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._is_led = False
        self._engine: Engine | None = None

    def write(self, row: Row) -> None:
        """Writes a row; it is committed when this returns.  Raises ``StoreUnavailable`` or ``SchemaOutdated``."""
        waiting = _Waiting(row)
        self._enqueue(waiting)
        try:
            if not waiting.leads and not waiting.wake.wait(TIMEOUT):
                raise StoreUnavailable(IS_LATE)
            if waiting.leads and not waiting.is_done:
                self._lead(waiting)
        except BaseException:
            self._withdraw(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error

    def stop(self) -> None:
        """Waits for a few seconds until what waits is written; then closes the connection."""
        until = monotonic() + 5.0
        while self._queue and monotonic() < until:
            last = self._queue[-1]
            last.wake.wait(0.1)
        if self._engine is not None:
            self._engine.dispose()

    def _enqueue(self, waiting: _Waiting) -> None:
        with self._lock:
            if len(self._queue) >= MAX_WAITING:
                raise StoreUnavailable(IS_FULL)
            self._queue.append(waiting)
            if not self._is_led:
                self._is_led = waiting.leads = True

    def _withdraw(self, waiting: _Waiting) -> None:
        """Waits no more; whose turn it was hands over."""
        with self._lock:
            if waiting in self._queue:
                self._queue.remove(waiting)
            if waiting.leads:
                waiting.leads = False
                self._hand_over()

    def _lead(self, waiting: _Waiting) -> None:
        """Writes groups until this one's own row is in one of them, which is the first: leaders are at the head of the queue."""
        with self._lock:
            group = [self._queue[number] for number in range(min(MAX_GROUP, len(self._queue)))]
        error: JunctorError | None = None
        try:
            self._store([member.row for member in group])
        except JunctorError as problem:
            error = problem
        except DBAPIError:  # what the database does not take stops nobody else
            group = [waiting]
            self._store([waiting.row])
        with (
            self._lock
        ):  # not in a finally: if this one is killed, the others' rows are written by the next leader
            for member in group:
                self._done(member, error)
            waiting.leads = False
            self._hand_over()

    def _done(self, member: _Waiting, error: JunctorError | None) -> None:
        if member in self._queue:
            self._queue.remove(member)
        member.error = error
        member.is_done = True
        member.wake.set()

    def _hand_over(self) -> None:
        self._is_led = bool(self._queue)
        if self._queue:
            self._queue[0].leads = True
            self._queue[0].wake.set()

    def _store(self, rows: Sequence[Row]) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                with database_errors(), self._own_engine().begin() as connection:
                    insert_rows(connection, rows)
                break
            except StoreUnavailable:
                if attempt == TRIES:
                    raise
        self._written(rows)

    def _own_engine(self) -> Engine:
        if self._engine is None:
            url = self._made_from().url.render_as_string(hide_password=False)
            self._engine = connect(url, pool_size=1, application="junctor audit")
        return self._engine
