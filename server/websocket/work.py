"""What a session has to do beside reading: its requests and hooks, a few at a time, begun in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

import gevent
from gevent.event import Event

from junctor.server.websocket.workers import Workers

TURN: Final = 0.001  # seconds that a session with much to do may keep the others waiting


class Performer(Protocol):
    """Whose work it is."""

    @property
    def concurrency(self) -> int:
        """How much of it may be under way at a time, now."""

    def perform(self, job: Any) -> None:
        """Does one thing.  Never raises, but for what ends the greenlet."""

    def rests(self) -> None:
        """Nothing is left to be done.  Never blocks, never raises."""


class Busy:
    """How many greenlets work for the sessions of a channel, those that are over included: ``count``."""

    __slots__ = ("_workers", "count")

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.count = 0

    def begin(self, job: Callable[[Any], None], argument: Any) -> None:
        """Has something done in a greenlet, which must call ``end``.  Never blocks."""
        self.count += 1
        self._workers.begin(job, argument)

    def end(self) -> None:
        """The greenlet is done."""
        self.count -= 1


class Work:
    """A queue and the greenlets that work on it, which exist for as long as there is something to do.

    ``running`` is how many of them there are, ``waiting`` and ``size`` how many jobs wait for one, and their bytes.
    """

    __slots__ = ("_busy", "_changed", "_jobs", "_performer", "running", "size")

    def __init__(self, performer: Performer, busy: Busy) -> None:
        self._performer, self._busy = performer, busy
        self._jobs: deque[tuple[Any, int]] | None = None  # most connections never need one
        self._changed: Event | None = None
        self.running = self.size = 0

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs) if self._jobs else 0

    def add(self, job: Any, size: int = 0, *, is_urgent: bool = False) -> None:
        """Begins a job of so many bytes, or has it wait for its turn, unless it is urgent.  Never blocks."""
        if is_urgent or (not self._jobs and self.running < self._performer.concurrency):
            self._begin(job)
            return
        if self._jobs is None:
            self._jobs = deque()
        self._jobs.append((job, size))
        self.size += size

    def drop(self, unwanted: type) -> None:
        """Forgets the waiting jobs of a type."""
        if self._jobs:
            kept = [(job, size) for job, size in self._jobs if not isinstance(job, unwanted)]
            self._jobs = deque(kept)
            self.size = sum(size for _, size in kept)

    def wait(self) -> None:
        """Returns when a waiting job has been begun, or when ``wake`` is called."""
        if self._changed is None:
            self._changed = Event()
        self._changed.clear()
        self._changed.wait()

    def wake(self) -> None:
        """Ends ``wait``."""
        if self._changed is not None:
            self._changed.set()

    def _begin(self, job: Any) -> None:
        self.running += 1
        self._busy.begin(self._work, job)

    def _take(self) -> Any:
        assert self._jobs
        job, size = self._jobs.popleft()
        self.size -= size
        self.wake()
        return job

    def _work(self, job: Any) -> None:
        performer = self._performer
        turn = monotonic()
        try:
            while True:
                performer.perform(job)
                if not self._jobs or self.running > performer.concurrency:
                    return
                job = self._take()
                while self._jobs and self.running < performer.concurrency:
                    self._begin(self._take())
                if monotonic() - turn > TURN:
                    gevent.sleep(0)
                    turn = monotonic()
        finally:
            self.running -= 1
            self._busy.end()
            self.wake()
            if not self.running and not self._jobs:
                performer.rests()
