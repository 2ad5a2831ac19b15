"""Deadlines of calls: one timer for all of them, where a timer for each would cost a call as much as finding its service.

A call that is past its deadline gets a ``gevent.Timeout`` thrown into its greenlet wherever it waits, as from a timer of its own, at most
``RESOLUTION`` seconds late.
"""

from __future__ import annotations

import time
from typing import Any

import gevent

RESOLUTION = 0.05  # seconds
LEAST = 1.0  # seconds; shorter time-outs are too short to be late


class Deadlines:
    """The deadlines of the calls that are under way in this process."""

    def __init__(self) -> None:
        self._waiting: dict[gevent.Timeout, tuple[float, Any]] = {}
        self._timer: Any = None

    def start(self, seconds: float) -> gevent.Timeout:
        """A time-out that is thrown into this greenlet after ``seconds``; ``end`` must be called for it."""
        if seconds < LEAST:
            return gevent.Timeout.start_new(seconds)
        timeout = gevent.Timeout(seconds)
        self._waiting[timeout] = (time.monotonic() + seconds, gevent.getcurrent())
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(RESOLUTION, RESOLUTION)
            self._timer.start(self._look)
        return timeout

    def is_pending(self, timeout: gevent.Timeout) -> bool:
        """Whether a time-out has not been thrown."""
        return timeout in self._waiting or bool(timeout.pending)

    def end(self, timeout: gevent.Timeout) -> None:
        """The time-out is not thrown any more."""
        if self._waiting.pop(timeout, None) is None:
            timeout.close()

    def _look(self) -> None:
        """Runs in the hub: throws what is due; stops the timer when nothing waits."""
        now = time.monotonic()
        for timeout, (due, greenlet) in list(self._waiting.items()):
            if due <= now and self._waiting.pop(timeout, None) is not None:
                greenlet.throw(timeout)
        if not self._waiting and self._timer is not None:
            self._timer.close()
            self._timer = None
