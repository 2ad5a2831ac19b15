"""A look at the queues once a second, for what hints have not told: those that were lost, takeovers, and retries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

import gevent
from gevent.event import Event

from junctor.server.pubsub.ownership import Look, Ownership
from junctor.sql.errors import JunctorError

INTERVAL: Final = 1.0  # seconds
LAG: Final = 35.0  # seconds for which a message may have its id already and not be seen: the longest transaction, and a few more
FULL_INTERVAL: Final = 30.0  # seconds between two looks although nothing was published
TIMEOUT: Final = 10.0  # seconds for one look
log = logging.getLogger(__name__)


class Sweep:
    """Looks: at the newest message and the living workers each time, at queues only for a while after something was published.

    So an idle worker costs one small query a second, however many subscriptions it owns.  ``considers`` is told of each look, and may
    block; ``idle`` names the subscriptions whose queues are worth a look, and ``due`` is told which have something.
    """

    def __init__(
        self,
        ownership: Ownership,
        *,
        considers: Callable[[Look], None],
        idle: Callable[[], list[int]],
        due: Callable[[list[int]], None],
    ) -> None:
        self._ownership = ownership
        self._considers = considers
        self._idle = idle
        self._due = due
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._last_id = -1
        self._changed = self._looked = -FULL_INTERVAL
        self._is_down = False

    def start(self) -> None:
        """Begins."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends.  Never blocks."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def now(self, *, at_queues: bool = False) -> None:
        """Looks at once; at all queues, too, if ``at_queues``."""
        if at_queues:
            self._looked = -FULL_INTERVAL
        self._wake.set()

    def look(self) -> None:
        """One look.  Raises ``StoreUnavailable``."""
        found = self._ownership.look()
        now = monotonic()
        if found.last_id != self._last_id:
            self._last_id, self._changed = found.last_id, now
        self._considers(found)
        if now - self._changed < LAG or now - self._looked >= FULL_INTERVAL:
            due = self._ownership.due(self._idle())
            self._looked = now
            if due:
                self._due(due)

    def _run(self) -> None:
        while True:
            limit = gevent.Timeout(TIMEOUT)
            try:
                with limit:
                    self.look()
                self._is_down = False
            except gevent.Timeout as expired:
                if expired is not limit:
                    raise
                log.debug("The queues could not be looked at within %g s.", TIMEOUT)
            except JunctorError as error:
                if not self._is_down:
                    log.info("The queues cannot be looked at: %s", error)
                self._is_down = True
            except Exception:  # boundary: without this greenlet, lost hints would delay messages for ever
                log.exception("The queues could not be looked at.")
            self._wake.wait(INTERVAL)
            self._wake.clear()
