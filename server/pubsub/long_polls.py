"""Requests that wait for messages of a queue: one look at the database for all of them, once a second, and hints in between."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic
from typing import Final

import gevent
from gevent.event import Event
from sqlalchemy import Engine

from junctor.server.pubsub.pull_sql import FILLED
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError, ServiceUnavailable

LOOK_INTERVAL: Final = 1.0  # seconds
MAX_WAITING: Final = 10_000  # requests in one worker
log = logging.getLogger(__name__)


class LongPolls:
    """Who waits for which queue in this worker.  A greenlet looks for them as long as there are any; nobody holds a connection."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[Event, None]] = {}
        self._count = 0
        self._greenlet: gevent.Greenlet | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Nobody waits any more.  Neither blocks nor raises."""
        self._is_stopped = True
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None
        self.due(list(self._waiting))

    def due(self, sub_ids: Iterable[int]) -> None:
        """Wakes those that wait for these queues.  Neither blocks nor raises."""
        if self._waiting:
            for sub_id in sub_ids:
                for event in self._waiting.get(sub_id, ()):
                    event.set()

    def wait(self, engine: Engine, sub_id: int, deadline: float) -> bool:
        """Waits until there may be something in a queue; False if there is no point in looking, after ``deadline`` or before the end.

        ``deadline`` is on the clock of ``time.monotonic``.  Raises ``ServiceUnavailable`` if too many wait already.
        """
        seconds = deadline - monotonic()
        if seconds <= 0 or self._is_stopped:
            return False
        if self._count >= MAX_WAITING:
            raise ServiceUnavailable(msg="Too many requests wait for messages already; try again later.")
        event = Event()
        self._waiting.setdefault(sub_id, {})[event] = None
        self._count += 1
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._look, engine)
        try:
            return event.wait(seconds) and not self._is_stopped
        finally:
            self._count -= 1
            waiting = self._waiting[sub_id]
            del waiting[event]
            if not waiting:
                del self._waiting[sub_id]

    def _look(self, engine: Engine) -> None:
        while self._waiting:
            gevent.sleep(LOOK_INTERVAL)
            try:
                with database_errors(), engine.begin() as connection:
                    found = connection.execute(FILLED, {"sub_ids": list(self._waiting)})
                    self.due(found.scalars())
            except JunctorError as error:  # who waits asks for itself in the end, and is told
                log.debug("Whether there are messages to be pulled is not known: %s", error)
            except Exception:  # boundary: the greenlet that all who wait depend on
                log.exception("Looking for messages to be pulled failed; it goes on.")
        self._greenlet = None
