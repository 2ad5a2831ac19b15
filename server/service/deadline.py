"""Deadlines of calls: one timer for all of them, where a timer for each would cost a call as much as finding its service.

A call that is past its deadline gets a ``gevent.Timeout`` thrown into its greenlet wherever it waits, as from a timer of its own, at most
``RESOLUTION`` seconds late.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import gevent
import msgspec

RESOLUTION = 0.05  # seconds
LEAST = 1.0  # seconds; shorter time-outs are too short to be late


class Deadline(msgspec.Struct, eq=False):
    """Until when, on the clock of ``time.monotonic``, a greenlet may go on; ``thrown`` is the time-out that it got."""

    due: float
    greenlet: Any
    seconds: float
    thrown: gevent.Timeout | None = None
    timer: Any = None


class Deadlines:
    """The deadlines of the calls that are under way in this process."""

    def __init__(self) -> None:
        self._waiting: set[Deadline] = set()
        self._timer: Any = None

    def start(self, seconds: float) -> Deadline:
        """The deadline of this greenlet in ``seconds``; ``end`` must be called for it."""
        deadline = Deadline(monotonic() + seconds, gevent.getcurrent(), seconds)
        if seconds < LEAST:
            deadline.timer = gevent.get_hub().loop.timer(seconds)
            deadline.timer.start(_throw, deadline)
            return deadline
        self._waiting.add(deadline)
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(RESOLUTION, RESOLUTION)
            self._timer.start(self._look)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Nothing is thrown any more."""
        if deadline.timer is None:
            self._waiting.discard(deadline)
        else:
            deadline.timer.close()

    def _look(self) -> None:
        """Runs in the hub: throws what is due; stops the timer when nothing waits."""
        now = monotonic()
        for deadline in [waiting for waiting in self._waiting if waiting.due <= now]:
            if deadline in self._waiting:  # not ended by what the others have been thrown into
                self._waiting.discard(deadline)
                _throw(deadline)
        if not self._waiting and self._timer is not None:
            self._timer.close()
            self._timer = None


def _throw(deadline: Deadline) -> None:
    deadline.thrown = gevent.Timeout(deadline.seconds)
    deadline.greenlet.throw(deadline.thrown)
