"""Greenlets that do one job after another: to make one for each request costs as much as all else that is done for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent import Greenlet

MAX_IDLE: Final = 100  # greenlets that wait for a job; more than that end with theirs

Job = Callable[[Any], None]
log = logging.getLogger(__name__)


class Workers:
    """The greenlets of a worker process that work for its WebSocket clients.  There are as many as there are jobs under way.

    What a service leaves in its greenlet is found there by the next one, as it is by the next request on a kept connection.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def begin(self, job: Job, argument: Any) -> None:
        """Has ``job(argument)`` done soon, in a greenlet.  Never blocks."""
        while self._idle:
            worker = self._idle.pop()
            if not worker.dead:  # somebody may have killed it
                worker.resume(job, argument)
                return
        _Worker(self._idle, job, argument).start()

    def stop(self) -> None:
        """Ends the greenlets that have nothing to do.  Never blocks."""
        gevent.killall(self._idle, block=False)
        self._idle.clear()


class _Worker(Greenlet):  # type: ignore[misc]  # gevent has no types
    """One of them; while it is idle it is in the list of those."""

    def __init__(self, idle: list[_Worker], job: Job, argument: Any) -> None:
        super().__init__()
        self._idle = idle
        self._job: Job | None = job
        self._argument = argument
        self._hub = gevent.get_hub()

    def resume(self, job: Job, argument: Any) -> None:
        """Gives it something to do; it is idle, and in no list any more."""
        self._job, self._argument = job, argument
        self._hub.loop.run_callback(self.switch)

    def _run(self) -> None:
        while True:
            self._do()
            if len(self._idle) >= MAX_IDLE:
                return
            self._idle.append(self)
            if not self._waits():
                return

    def _do(self) -> None:
        """Does the job, and keeps nothing of it."""
        job, argument = self._job, self._argument
        self._job = self._argument = None
        assert job is not None
        job(argument)

    def _waits(self) -> bool:
        """Whether there is a job now.  What wakes it otherwise was meant for what it did before, not for what it would do next."""
        try:
            while self._job is None:
                self._hub.switch()
        except (Exception, gevent.Timeout) as stray:  # noqa: BLE001 - boundary: a greenlet without a job, which nobody waits for
            log.debug("Something reached a greenlet that was done: %r", stray)
            if self._job is not None:
                _Worker(self._idle, self._job, self._argument).start()
                return False
        if self._job is not None:
            return True
        self._idle.remove(self)
        return False
