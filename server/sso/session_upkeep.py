"""What goes on with sessions behind the calls: news for other workers, and what can be written a little later."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from junctor.server.sso import session_rows as rows
from junctor.server.sso.verifications import Verifications
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

TURN: Final = 1.0  # seconds
MAX_USED: Final = 10_000  # sessions
MAX_NAMED: Final = 100  # users in one message; of more, all are meant
EVERYBODY: Final = "*"
LINKS: Final = "links"
"""What a message says: the users whose sessions are not what they were, by the ids of their rows with commas between, or one of these."""
log = logging.getLogger(__name__)


class SessionUpkeep:
    """Collects what is to be told and written, and does it in a greenlet; at once before ``start`` and after ``stop``."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self.verifications = Verifications(sso)
        self._used: dict[int, datetime] = {}
        self._changed: set[int] = set()
        self._everybody = False
        self._links = False
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._is_failing = False

    def start(self) -> None:
        """Begins."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends, once everything is told and written, or cannot be."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        self._tell()
        self._write()
        self.verifications.flush()

    def used(self, session_id: int, now: datetime) -> None:
        """A session was used, which moves its end on."""
        if len(self._used) < MAX_USED:
            self._used[session_id] = now
        if self._greenlet is None:
            self._write()

    def changed(self, users: Iterable[int] | None, *, with_links: bool = False) -> None:
        """Sessions of these users have ended or the users have changed; None = anybody's.  The other workers are told."""
        self._links = self._links or with_links
        if users is None:
            self._everybody = True
        else:
            self._changed.update(users)
        if self._greenlet is None:
            self._tell()
        else:
            self._wake.set()

    def _run(self) -> None:
        while True:
            is_news = self._wake.wait(TURN)
            self._wake.clear()
            try:
                self._tell()
                if not is_news:
                    self._write()
                    self.verifications.flush_if_due()
            except Exception:  # boundary: without this greenlet, other workers would hear of nothing
                log.exception("Sessions cannot be kept up; trying again.")
                gevent.sleep(TURN)

    def _tell(self) -> None:
        if self._links:
            self._links = False
            self._sso.context.publisher.publish_sessions(LINKS)
        if not self._everybody and not self._changed:
            return
        everybody, users = self._everybody, sorted(self._changed)
        self._everybody, self._changed = False, set()
        if everybody or len(users) > MAX_NAMED:
            self._sso.context.publisher.publish_sessions(EVERYBODY)
        else:
            self._sso.context.publisher.publish_sessions(",".join(map(str, users)))

    def _write(self) -> None:
        """Has the database know which sessions were used.  What cannot be written is dropped: the next call will say it again."""
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            with database_errors(), self._sso.store.engine.begin() as connection:
                rows.touch(connection, used)
            self._is_failing = False
        except JunctorError as error:
            if not self._is_failing:
                log.warning("It cannot be written which sessions are in use: %s", error)
            self._is_failing = True


def users_in(message: str) -> list[int] | None:
    """The users that a message of another worker names; None = everybody, and for what cannot be understood."""
    named = message.split(",")
    return [int(user) for user in named] if all(user.isdecimal() for user in named) else None
