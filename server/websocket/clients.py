"""The WebSocket clients of a worker: those with a session, by their ids; and which of them its rows do not tell of yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol

from gevent.event import Event

MAX_GONE: Final = (
    100_000  # clients that are gone and whose rows are to be deleted; beyond, all rows are written anew
)


class ClientSession(Protocol):
    """A client that has a session.

    ``connected`` has a time zone.  ``forwarded_for`` is '' without a proxy.  ``attributes`` are those that the client gave, as JSON.
    """

    @property
    def pub_client_id(self) -> str:
        """Unique, of this connection."""

    @property
    def ext_client_id(self) -> str:
        """What the client calls itself; several may share one."""

    @property
    def ext_client_name(self) -> str:
        """For people; '' if it gave none."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What else the client said about itself: texts, numbers and flags."""

    @property
    def channel_id(self) -> int:
        """The channel it came through."""

    @property
    def channel_name(self) -> str:
        """The channel's current name."""

    @property
    def local_address(self) -> str:
        """HOST:PORT that it connected to."""

    @property
    def peer_address(self) -> str:
        """HOST:PORT that it connected from."""

    @property
    def forwarded_for(self) -> str:
        """Whom a proxy connected for."""

    @property
    def connected(self) -> datetime:
        """Since when."""

    def invoke(self, data: Any, *, timeout: float) -> Any:
        """What the client answers to ``data``, within ``timeout`` seconds.

        Raises ``CallTimeout``, ``WebSocketClosed`` or ``SlowConsumer``; ``InvalidOutput`` when ``data`` is no JSON.
        """

    def notify(self, data: Any) -> str:
        """Sends ``data`` without waiting for an answer; the id of the message.  Raises what ``invoke`` does, but for the time-out."""

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """Closes the connection; never raises."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the rows lack: clients that have come, or are another by now, and the ids of those that have gone.

    If ``is_anew``, no row that is there may stay.
    """

    come: Sequence[ClientSession]
    gone: Sequence[str]
    is_anew: bool = False

    def __bool__(self) -> bool:
        return bool(self.come or self.gone or self.is_anew)


class ConnectedClients:
    """The clients with a session that are connected to this worker.

    ``changed`` is set while there are changes that nobody has taken.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, ClientSession] = {}
        self._come: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._is_anew = False
        self.changed = Event()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: ClientSession) -> None:
        """It has a session now, or its ids or attributes are others.  Never blocks, never raises."""
        self._sessions[session.pub_client_id] = session
        self._come[session.pub_client_id] = None
        self._gone.pop(session.pub_client_id, None)
        self.changed.set()

    def remove(self, session: ClientSession) -> None:
        """It has none any more.  Never blocks, never raises, whether it was added or not."""
        key = session.pub_client_id
        if self._sessions.get(key) is not session:
            return
        del self._sessions[key]
        self._come.pop(key, None)
        self._forget_rows([key])
        self.changed.set()

    def get(self, pub_client_id: str) -> ClientSession | None:
        """The client of this id; None if it is not connected to this worker."""
        return self._sessions.get(pub_client_id)

    def sessions(self, channel_id: int | None = None) -> list[ClientSession]:
        """The clients of a channel, or all of them, in the order in which they came."""
        return [
            session
            for session in self._sessions.values()
            if channel_id is None or session.channel_id == channel_id
        ]

    def take(self, limit: int) -> Changes:
        """The next changes for the rows, up to ``limit`` of each kind; they count as written, unless they are put back."""
        come = list(islice(self._come, limit))
        gone = list(islice(self._gone, limit))
        changes = Changes([self._sessions[key] for key in come], gone, self._is_anew)
        for key in come:
            del self._come[key]
        for key in gone:
            del self._gone[key]
        self._is_anew = False
        if not (self._come or self._gone):
            self.changed.clear()
        return changes

    def put_back(self, changes: Changes) -> None:
        """They could not be written."""
        for session in changes.come:
            if self._sessions.get(session.pub_client_id) is session:
                self._come[session.pub_client_id] = None
        if changes.is_anew:
            self._is_anew = True
        self._forget_rows([key for key in changes.gone if key not in self._sessions])
        self.changed.set()

    def rewrite(self) -> None:
        """There are no rows at all, or nobody knows which."""
        self._come = dict.fromkeys(self._sessions)
        self._gone = {}
        self._is_anew = True
        self.changed.set()

    def _forget_rows(self, keys: Sequence[str]) -> None:
        if self._is_anew:
            return
        self._gone |= dict.fromkeys(keys)
        if len(self._gone) > MAX_GONE:
            self.rewrite()
