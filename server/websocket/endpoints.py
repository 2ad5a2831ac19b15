"""Where this worker's WebSocket channels are reached: on the server's HTTP port by their paths, and on addresses of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent

from junctor.server.access_log import AccessLog
from junctor.server.websocket.listener import Listener, path_of
from junctor.server.websocket.workers import Workers
from junctor.sql.errors import AddressUnavailable

if TYPE_CHECKING:
    from gevent import ssl

    from junctor.server.context import Context
    from junctor.server.websocket.address import Address
    from junctor.server.websocket.session import Session
    from junctor.server.websocket.sessions import Sessions

SPREAD: Final = 2.0  # seconds over which a stopping worker disconnects its clients
MARGIN: Final = 1.5  # seconds that a stopping worker needs afterwards
CLOSE_TIMEOUT: Final = 10.0  # seconds that clients may take to leave an address which no channel has any more
PAUSE: Final = 0.02  # seconds between two looks at what is still there
Key = tuple[str, int, bool]
log = logging.getLogger(__name__)


class Endpoints:
    """The addresses of a worker's channels.  ``groups`` are the channels that have sessions, ``workers`` work for them.

    Listeners are bound when a channel is about to need them, but accept only once the worker has loaded, which ``open`` says.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._log = AccessLog(context)
        self._paths: dict[str, Sessions] = {}
        self._listeners: dict[Key, Listener] = {}
        self._is_open = False
        self._draining: gevent.Greenlet | None = None
        self.groups: set[Sessions] = set()
        self.workers = Workers()

    @property
    def is_draining(self) -> bool:
        """Whether the worker is about to stop."""
        return self._draining is not None

    def find(self, environ: dict[str, Any]) -> Sessions | None:
        """The channel on the HTTP port that has the path of a request."""
        return self._paths.get(path_of(environ)) if self._paths else None

    def address_of(self, environ: Mapping[str, Any]) -> str:
        """The address of a request's client, as trusted proxies tell it."""
        return self._log.client(environ)

    def log_session(self, session: Session) -> None:
        """Adds the line of a session that is over to the access log."""
        self._log.add_session(session, monotonic() - session.started)

    def bind(self, address: Address, channel_id: int) -> None:
        """Reserves an address for ``attach``, which must follow.  May block; raises ``AddressUnavailable``."""
        if not address.is_own:
            return
        other = self._listeners.get((address.host, address.port, not address.is_secure))
        for sessions in other.paths.values() if other else ():
            if sessions.channel.config.id != channel_id:
                raise AddressUnavailable(
                    f"{address} cannot be listened on: WebSocket channel {sessions.channel.name!r} has this port "
                    f"{'without' if address.is_secure else 'with'} TLS. Give one of them another port."
                )
        key = _key(address)
        if key not in self._listeners:
            self._listeners[key] = Listener(address, self._context.settings)
        self._listeners[key].reserved += 1

    def attach(self, address: Address, sessions: Sessions, tls: ssl.SSLContext | None) -> None:
        """The clients of an address are these sessions' from now on.  Neither blocks nor raises."""
        if not address.is_own:
            self._paths[address.path] = sessions
            return
        listener = self._listeners[_key(address)]
        listener.reserved -= 1
        listener.paths[address.path] = sessions
        listener.tls = tls or listener.tls
        if self._is_open:
            self._open(listener)

    def detach(self, address: Address, sessions: Sessions) -> None:
        """The address is not these sessions' any more, if it was.  Neither blocks nor raises."""
        listener = self._listeners.get(_key(address)) if address.is_own else None
        paths = listener.paths if listener is not None else {} if address.is_own else self._paths
        if paths.get(address.path) is sessions:
            del paths[address.path]
        if listener is not None and not (listener.paths or listener.reserved):
            del self._listeners[_key(address)]
            gevent.spawn(self._close, listener, CLOSE_TIMEOUT)

    def open(self) -> None:
        """Begins to accept clients: the worker has loaded."""
        self._is_open = True
        for listener in list(self._listeners.values()):
            self._open(listener)

    def drain(self) -> None:
        """Begins to disconnect everybody, because the worker is about to stop.  Returns at once; may be called again."""
        if self._draining is None:
            self._draining = gevent.spawn(self._drain)

    def stop(self) -> None:
        """Returns once everybody is disconnected and has been served, at the latest when the worker's graceful time is over."""
        self.drain()
        assert self._draining is not None
        self._draining.join()
        self.workers.stop()

    def abandon(self) -> None:
        """Gives the addresses back: what was loaded could not be used, and is loaded anew."""
        for listener in self._listeners.values():
            listener.close(0)
        self._listeners.clear()
        self._paths.clear()

    def _open(self, listener: Listener) -> None:
        try:
            listener.open()
        except OSError as error:
            log.error("%s cannot be listened on: %s", listener.address, error)

    def _close(self, listener: Listener, timeout: float) -> None:
        try:
            listener.close(timeout)
        except Exception:  # boundary: a greenlet of its own
            log.exception("The listener of %s did not close cleanly.", listener.address)

    def _drain(self) -> None:
        graceful = self._context.settings.graceful_timeout
        end = monotonic() + max(graceful - MARGIN, graceful / 2)
        groups = list(self.groups)
        closing = [
            gevent.spawn(self._close, listener, end - monotonic()) for listener in self._listeners.values()
        ]
        closing += [gevent.spawn(group.drain, min(SPREAD, graceful / 4)) for group in groups]
        while any(len(group) or group.busy.count for group in groups) and monotonic() < end:
            gevent.sleep(PAUSE)
        for group in groups:
            if len(group):
                log.warning(
                    "%d clients of WebSocket channel %r were cut off.", len(group), group.channel.name
                )
                group.abort()
        gevent.joinall(closing, timeout=max(end - monotonic(), PAUSE))


def _key(address: Address) -> Key:
    return address.host, address.port, address.is_secure
