"""The valid sessions that a worker remembers for a moment, so that a call with one of them does not ask the database."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

import gevent

from junctor.server.sso.protection import MAX_TOKEN
from junctor.server.sso.records import Session
from junctor.sql.errors import JunctorError

MAX_SESSIONS: Final = 10_000  # some 5 kB each
HELD: Final = 1.0  # seconds for which a session is believed to be as it was
ASKED_AFTER: Final = 0.6  # seconds after which it is looked at again, while calls go on
WRITE_INTERVAL: Final = (
    60.0  # seconds between two writes that a session was used; less for those that end soon
)
WRITE_PART: Final = 10  # of the idle time
log = logging.getLogger(__name__)


_KEYED: Final = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)


def _mark(ust: str) -> bytes:
    """What a token is remembered by: a digest under a key that only this process has."""
    keyed = _KEYED.copy()  # takes half the time of a new one
    keyed.update(ust.encode("utf-8", "surrogatepass"))
    return keyed.digest()


def rests_until(session: Session) -> float:
    """Until when it need not be written that a session is used, in seconds since 1970."""
    return session.last_used.timestamp() + min(WRITE_INTERVAL, session.idle_minutes * 60 / WRITE_PART)


@dataclass(slots=True)
class _Entry:
    session: Session
    seen: float
    ends: float
    is_being_asked: bool = False


class SessionCache:
    """Sessions by a digest of their tokens, under a key that only this process has; those unused for longest make room.

    ``read`` finds a session in the database.
    """

    def __init__(self, read: Callable[[str], Session | None]) -> None:
        self._read = read
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._marks: dict[int, set[bytes]] = {}
        self._rests: dict[int, float] = {}
        self._forgotten = 0

    def find(self, ust: str) -> Session | None:
        """The session of a token, as it was a second ago at the earliest.  Raises ``StoreUnavailable``."""
        if not 0 < len(ust) <= MAX_TOKEN:
            return None
        mark = _mark(ust)
        entry = self._entries.get(mark)
        now = monotonic()
        if entry is None or now - entry.seen >= HELD:
            return self._ask(ust, mark, entry, now)
        if now - entry.seen >= ASKED_AFTER and not entry.is_being_asked:
            entry.is_being_asked = True
            gevent.spawn(self._refresh, ust, mark, entry)
        self._entries.move_to_end(mark)
        return entry.session if entry.ends > time() else None

    def peek(self, ust: str) -> Session | None:
        """The session of a token if it is remembered, valid or not; never asks the database."""
        if not self._entries or not 0 < len(ust) <= MAX_TOKEN:
            return None
        entry = self._entries.get(_mark(ust))
        return entry.session if entry is not None else None

    def is_resting(self, session: Session) -> bool:
        """Whether it is remembered that a session was used so short a while ago that it need not be written again."""
        return time() < self._rests.get(session.id, 0.0)

    def replace(self, session: Session) -> None:
        """Remembers that a session is different now, if it is remembered."""
        for mark in self._marks.get(session.user_id, ()):
            entry = self._entries[mark]
            if entry.session.id == session.id:
                entry.session, entry.ends = session, session.expiration_time.timestamp()
                self._rests[session.id] = rests_until(session)

    def forget(self, users: Iterable[int] | None = None) -> None:
        """Has the next call look at the sessions of these users (``SsoUser.id``) anew, or at all sessions."""
        self._forgotten += 1
        if users is None:
            self._entries.clear()
            self._marks.clear()
            self._rests.clear()
            return
        for user in users:
            for mark in list(self._marks.get(user, ())):
                self._drop(mark)

    def _refresh(self, ust: str, mark: bytes, entry: _Entry) -> None:
        try:
            self._ask(ust, mark, entry, monotonic())
        except JunctorError as error:
            log.debug("A session cannot be looked at now: %s", error)  # the next call will, and say so

    def _ask(self, ust: str, mark: bytes, entry: _Entry | None, now: float) -> Session | None:
        forgotten = self._forgotten
        if entry is not None:
            entry.is_being_asked = True
        try:
            found = self._read(ust)
        finally:
            if entry is not None:
                entry.is_being_asked = False
        if found is None:
            self._drop(mark)
        elif forgotten == self._forgotten:  # otherwise, what was read may be from before
            self._remember(mark, _Entry(found, now, found.expiration_time.timestamp()))
        return found

    def _remember(self, mark: bytes, entry: _Entry) -> None:
        self._drop(mark)
        if len(self._entries) >= MAX_SESSIONS:
            self._drop(next(iter(self._entries)))
        self._entries[mark] = entry
        self._marks.setdefault(entry.session.user_id, set()).add(mark)
        self._rests[entry.session.id] = rests_until(entry.session)

    def _drop(self, mark: bytes) -> None:
        entry = self._entries.pop(mark, None)
        if entry is not None:
            self._rests.pop(entry.session.id, None)
            marks = self._marks[entry.session.user_id]
            marks.discard(mark)
            if not marks:
                del self._marks[entry.session.user_id]
