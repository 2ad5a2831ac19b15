"""An address that WebSocket channels listen on by themselves, in this worker."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gevent import socket, ssl

from junctor.server.http_server import HTTPServer
from junctor.server.http_settings import HTTPLimits, HTTPSettings, TrustedPeers
from junctor.server.websocket import upgrade
from junctor.server.websocket.address import Address
from junctor.sql.errors import AddressUnavailable

if TYPE_CHECKING:
    from junctor.server.settings import Settings
    from junctor.server.websocket.sessions import Sessions

BACKLOG: Final = 2048
LIMITS: Final = HTTPLimits(drain_idle=0.5)
REASONS: Final = {
    errno.EADDRINUSE: "another program, or the server's own HTTP port, has it already",
    errno.EACCES: "this account may not listen on it; ports below 1024 are the administrator's",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
}
log = logging.getLogger(__name__)


class Listener:
    """Each worker of each server has a listener of its own on the address, and the kernel spreads the clients over them.

    Channels that differ only in their paths share it: ``paths`` says which channel has which, and ``reserved`` how many are about to
    have one.  ``tls`` is what their clients speak TLS with, the same for all, that of the channel which was configured last.
    """

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.paths: dict[str, Sessions] = {}
        self.reserved = 0
        self.tls: ssl.SSLContext | None = None
        self._socket = _bound(address)
        trusted = TrustedPeers.parse(settings.trusted_proxies)
        self._server = HTTPServer(
            self,
            [self._socket],
            HTTPSettings(limits=LIMITS, max_connections=settings.max_connections, forwarders=trusted),
            log=log,
            tls=self._context if address.is_secure else None,
        )
        self._is_open = False

    def __call__(self, environ: dict[str, Any], start_response: upgrade.StartResponse) -> Iterable[bytes]:
        """Serves a request: the listener is a WSGI application that knows WebSockets only."""
        sessions = self.paths.get(path_of(environ))
        if sessions is None:
            return upgrade.not_found(start_response)
        return upgrade.serve(sessions, environ, start_response)

    def open(self) -> None:
        """Begins to accept; until then, other workers have all the clients.  Raises OSError."""
        if not self._is_open:
            self._is_open = True
            self._socket.listen(BACKLOG)
            self._server.start()

    def close(self, timeout: float) -> None:
        """Accepts no more, and waits for up to ``timeout`` seconds until its connections are over."""
        if not self._is_open:
            self._socket.close()
        elif unfinished := self._server.drain(timeout):
            log.warning("%d connections to %s were cut off.", unfinished, self.address)

    def _context(self) -> ssl.SSLContext:
        assert self.tls is not None
        return self.tls


def path_of(environ: dict[str, Any]) -> str:
    """The path of a request as text; WSGI has it as bytes in the disguise of Latin-1."""
    path: str = environ["PATH_INFO"]
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def _bound(address: Address) -> socket.socket:
    """A socket that has the address, but does not listen.  Raises ``AddressUnavailable``."""
    bound = None
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(name)
    except OSError as error:
        if bound is not None:
            bound.close()
        reason = REASONS.get(error.errno or 0) or str(error.strerror or error)
        raise AddressUnavailable(
            f"{address} cannot be listened on: {reason}. Give the channel another address, "
            f"or only the path {address.path} to serve it on the server's own port."
        ) from error
    return bound
