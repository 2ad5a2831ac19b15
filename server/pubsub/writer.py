"""Group commit: what many greenlets publish at the same time is stored in one transaction, since each takes a wait for the disk.

While one group is being committed, the next one gathers; a single message that comes alone is committed at once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from junctor.server.pubsub.commit import AGAIN, Committer, Outcome
from junctor.server.pubsub.message import NewMessage
from junctor.server.pubsub.unit import Unit, unit_of
from junctor.sql.errors import JunctorError, ServiceUnavailable

if TYPE_CHECKING:
    from junctor.server.context import Context

MAX_GROUP: Final = 200  # messages of a transaction, unless one call has more
MAX_GROUP_BYTES: Final = 4 * 2**20
MAX_WAITING: Final = 50_000  # messages that wait for their transaction
MAX_WAITING_BYTES: Final = 64 * 2**20
CALLER_TIMEOUT: Final = 30.0  # seconds
STOP_TIMEOUT: Final = 5.0  # seconds in which what waits is stored when the worker stops
log = logging.getLogger(__name__)


class _Waiting:
    """A unit whose caller waits; ``error`` is what the caller gets."""

    __slots__ = ("done", "error", "is_taken", "is_withdrawn", "unit")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.done = Event()
        self.error: JunctorError | None = None
        self.is_taken = self.is_withdrawn = False


class Writer:
    """Stores messages, in the order in which they come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queue: deque[_Waiting] = deque()
        self._count = self._bytes = 0
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._is_stopping = False
        self._waiting = context.metrics.gauge("junctor_pubsub_writer_queue")
        self._seconds = context.metrics.histogram("junctor_pubsub_commit_seconds")

    def start(self) -> None:
        """Begins to store."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stores what waits, for a few seconds at the most, and takes nothing more.  Never raises."""
        self._is_stopping = True
        self._wake.set()
        if self._greenlet is not None:
            self._greenlet.join(timeout=STOP_TIMEOUT)
            self._greenlet.kill()
        while self._queue:
            self._finish(
                self._queue.popleft(), ServiceUnavailable(msg="Nothing was stored: the server is stopping.")
            )

    def write(self, messages: Sequence[NewMessage], *, is_relaxed: bool = False) -> None:
        """Stores messages, all of them or none, and returns once they are committed: they survive whatever happens then.

        Whoever owns the queues that they are in has been told.  ``is_relaxed`` is for messages all of whose topics are: then it is not
        waited for the disk.  Raises ``DuplicateMessage`` if a message has an id that its publisher gave and that is stored already,
        ``InvalidInput``, ``PayloadTooLarge``, ``ResourceNotFound`` for a topic that was deleted just now, and ``ServiceUnavailable``, which
        says whether nothing was stored or nobody knows.
        """
        if not messages:
            return
        waiting = _Waiting(unit_of(messages, is_relaxed=is_relaxed))
        self._add(waiting)
        try:
            is_done = waiting.done.wait(CALLER_TIMEOUT)
        except BaseException:  # the caller's own deadline, or its end
            self._withdraw(waiting)
            raise
        if not is_done:
            raise self._withdraw(waiting)
        if waiting.error is not None:
            raise waiting.error.with_traceback(None)  # others may get the same one

    def _add(self, waiting: _Waiting) -> None:
        unit = waiting.unit
        if self._is_stopping:
            raise ServiceUnavailable(msg="Nothing was stored: the server is stopping.")
        is_full = (
            self._count + unit.count > MAX_WAITING or self._bytes + unit.size > MAX_WAITING_BYTES
        ) and self._count > 0
        if is_full:
            raise ServiceUnavailable(
                msg=f"Nothing was stored: {self._count} messages wait for the database already; publish again later."
            )
        self._count += unit.count
        self._bytes += unit.size
        self._queue.append(waiting)
        self._wake.set()

    def _withdraw(self, waiting: _Waiting) -> ServiceUnavailable:
        """The caller waits no more; returns what it may be told."""
        waiting.is_withdrawn = True
        if waiting.is_taken:
            return ServiceUnavailable(
                msg=f"The database did not answer in time: the messages may have been stored; {AGAIN}."
            )
        return ServiceUnavailable(msg="Nothing was stored: the database did not answer in time.")

    def _run(self) -> None:
        # What is made here is known when there are callers, which is after the worker has connected to its database.
        committer = Committer(self._context.pubsub.engine, self._context.store.cluster_id)
        try:
            while not (self._is_stopping and not self._queue):
                self._wake.clear()
                gevent.sleep(0)  # those who are ready to run may publish, too
                if group := self._take():
                    self._store(committer, group)
                elif not self._is_stopping:
                    self._wake.wait()
        finally:
            committer.close()

    def _take(self) -> list[_Waiting]:
        """The next group, in order; those whose callers have gone are dropped."""
        group: list[_Waiting] = []
        count = size = 0
        while self._queue:
            unit = self._queue[0].unit
            if group and (count + unit.count > MAX_GROUP or size + unit.size > MAX_GROUP_BYTES):
                break
            waiting = self._queue.popleft()
            if waiting.is_withdrawn:
                self._forget(waiting)
                continue
            waiting.is_taken = True
            group.append(waiting)
            count, size = count + unit.count, size + unit.size
        return group

    def _store(self, committer: Committer, group: Sequence[_Waiting]) -> None:
        started = monotonic()
        self._waiting.set(self._count)
        outcome = Outcome()
        failed: JunctorError | None = ServiceUnavailable(msg=f"The messages may have been stored; {AGAIN}.")
        try:
            outcome = committer.commit([waiting.unit for waiting in group])
            failed = None
        except Exception:  # boundary: without this greenlet, nobody could publish any more
            log.exception("Messages could not be stored.")
        finally:  # killed in the middle, too
            for waiting in group:
                self._finish(waiting, failed or outcome.refused.get(waiting.unit))
            self._waiting.set(self._count)
            self._seconds.observe(monotonic() - started)
        if outcome.owners:
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        try:
            self._context.pubsub.hints.due({sub: owner for sub, owner in outcome.owners.items() if sub > 0})
        except Exception:  # boundary: what is stored is delivered without hints, too, a second later
            log.exception("Owners of subscriptions could not be told of new messages.")

    def _finish(self, waiting: _Waiting, error: JunctorError | None) -> None:
        self._forget(waiting)
        waiting.error = error
        waiting.done.set()

    def _forget(self, waiting: _Waiting) -> None:
        self._count -= waiting.unit.count
        self._bytes -= waiting.unit.size
