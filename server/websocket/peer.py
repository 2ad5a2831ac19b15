"""Where a WebSocket client is: what its handshake says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Peer:
    """The other end of a connection, ``client`` being its address as trusted proxies tell it.

    ``environ`` is the WSGI environment of the handshake, without what belongs to the HTTP server.
    """

    __slots__ = ("client", "environ")

    def __init__(self, environ: Mapping[str, Any], client: str) -> None:
        self.client = client
        self.environ = {
            name: value for name, value in environ.items() if name.isupper() or name == "wsgi.url_scheme"
        }

    @property
    def host(self) -> str:
        """The address of whoever connected, a proxy's if there is one."""
        return str(self.environ.get("REMOTE_ADDR", ""))

    @property
    def address(self) -> str:
        """``host`` with its port; '' on a Unix socket."""
        return _joined(self.host, self.environ.get("REMOTE_PORT", ""))

    @property
    def local_address(self) -> str:
        """The address and port that it connected to."""
        return _joined(str(self.environ.get("SERVER_NAME", "")), self.environ.get("SERVER_PORT", ""))

    @property
    def forwarded_for(self) -> str:
        """Where a trusted proxy says that the client is; '' if it is the peer itself."""
        return self.client if self.client != self.host else ""

    @property
    def path(self) -> str:
        """The path that it asked for."""
        return str(self.environ.get("PATH_INFO", ""))


def _joined(host: str, port: object) -> str:
    if not host:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
