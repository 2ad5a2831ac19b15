"""Work that keeps a processor busy, done in a thread of its own, so that the worker goes on with its requests."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import gevent
from gevent.threadpool import ThreadPool

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError

MOST_WAITING: Final = 200
RETRY_AFTER: Final = 10  # seconds
Result = TypeVar("Result")


class CpuThread:
    """One thread in each worker, which does one thing at a time, in the order in which it was asked to.

    Its ``niceness`` is for work that lets go of the interpreter's lock: then the worker's requests come first, even on a single core.
    Work in Python must not be nice, since everybody would wait for the lock while others have the processor.
    """

    def __init__(self, niceness: int = 0, most_waiting: int = MOST_WAITING) -> None:
        self._niceness = niceness
        self._most_waiting = most_waiting
        self._waiting = 0
        self._pools: dict[int, Any] = {}

    def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns or raises; others run meanwhile.

        Raises ``ValidationError`` (E005009, with ``retry_after``) when too many wait already.
        """
        if self._waiting >= self._most_waiting:
            raise ValidationError(
                status_code.auth.too_many_attempts,
                True,
                reason="Too many wait for a password to be hashed.",
                retry_after=RETRY_AFTER,
            )
        self._waiting += 1
        try:
            done: Result = self._pool().apply(self._niced, (work,))
            return done
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Ends the thread after what it does now."""
        pool = self._pools.pop(gevent.get_hub().thread_ident, None)
        if pool is not None:
            pool.kill()

    def _pool(self) -> Any:
        """The pool of this hub: a worker has one, and so has every thread of a program that is not a worker.

        The hub knows its thread; ``threading`` would say which greenlet this is, in a worker.
        """
        hub = gevent.get_hub()
        pool = self._pools.get(hub.thread_ident)
        if pool is None or pool.hub is not hub:
            pool = self._pools[hub.thread_ident] = ThreadPool(1, hub)
        return pool

    def _niced(self, work: Callable[[], Result]) -> Result:
        if self._niceness and sys.platform == "linux":  # elsewhere, this would be about the process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        return work()
