"""When a worker begins to accept connections.

The workers of a server share its listeners, so whatever one of them accepts, no other can serve any more.  A new worker therefore
accepts only once it has loaded the configuration; until then clients are served by the workers that it replaces or joins, or
wait for an instant in the kernel's queue.  When it cannot load, because the database is away, and no worker of the server has
loaded, it accepts all the same: somebody must say why.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import gevent
from gevent.event import Event

ATTEMPT_PAUSE = 0.01  # seconds
log = logging.getLogger(__name__)


class Accepting:
    """Whether this worker may accept.  ``event`` is for the HTTP worker to wait for; it is never cleared.

    Each worker that has loaded holds a shared lock on ``path``, which ends with its process however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.event = Event()
        self._path = path
        self._lock = -1

    def loaded(self) -> None:
        """The worker can serve: it accepts from now on, and those that cannot need not."""
        try:
            while not self._try(fcntl.LOCK_SH):
                gevent.sleep(ATTEMPT_PAUSE)  # another worker is just looking whether it is alone
        except OSError as error:
            log.warning("Other workers will not know that this one has loaded: %s", error)
        self.event.set()

    def failed(self) -> None:
        """The worker cannot serve now: it accepts, to say so, if no other worker of the server can."""
        try:
            is_alone = self._try(fcntl.LOCK_EX)
            if is_alone:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        except OSError as error:
            log.warning("Whether another worker has loaded cannot be found out: %s", error)
            is_alone = True
        if is_alone:
            self.event.set()

    def _try(self, kind: int) -> bool:
        if self._lock < 0:
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
