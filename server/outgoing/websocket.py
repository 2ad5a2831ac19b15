"""Calls over WebSockets: what ``self.out.wsx['name']`` of a service is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from junctor.server.outgoing.connections import Connections
from junctor.server.websocket import envelope
from junctor.sql.errors import CallFailed

if TYPE_CHECKING:
    from types import TracebackType

    from junctor.server.outgoing.websocket_link import Link


class Response(dict[str, Any]):
    """What a remote service answered: a dictionary, with the attributes that Zato's response object has.

    A call that failed has raised, so ``is_ok`` is always true and ``status`` always 200.
    """

    __slots__ = ()
    is_ok = True
    status = envelope.OK

    @property
    def data(self) -> Self:
        """The response itself."""
        return self


class WebSocketConnection:
    """An outgoing WebSocket connection of this worker: one socket, over which many calls go at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __repr__(self) -> str:
        return f"<WebSocketConnection {self.name!r} {self._link.settings.shown_address}>"

    @property
    def name(self) -> str:
        """The name of the connection."""
        return self._link.settings.name

    @property
    def is_active(self) -> bool:
        """Whether it is connected at all."""
        return self._link.settings.is_active

    @property
    def is_connected(self) -> bool:
        """Whether it is connected now."""
        return bool(self._link.shown()["state"] == "connected")

    @property
    def conn(self) -> WebSocketConnection:
        """The connection itself, where services look for it."""
        return self

    def client(self) -> WebSocketConnection:
        """What calls are made with, in a ``with`` block: the connection itself, which any number of services may use at a time."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing ends here: the socket is everybody's."""

    def invoke(self, msg: Any, *, timeout: float | None = None) -> Any:
        """The response of the remote service: a dictionary, or whatever else it answers; an empty dictionary if that is nothing.

        ``msg`` is what the remote channel's service gets, ``{'service': name, 'request': data}`` for a gateway; ``timeout`` is
        in seconds.  Raises ``ConnectionInactive``; ``ConnectionFailed``, as when it is not connected now; ``ConnectionTimeout``;
        ``RemoteCallFailed`` with the status, the message and the CID of the remote end's error; ``InvalidOutput`` if ``msg`` is no JSON;
        ``CallFailed`` if the remote end is no Zato, which has no responses, or if clusters call each other in a circle.
        """
        if not self._link.settings.is_zato:
            raise CallFailed(
                f"The remote end of outgoing WebSocket connection {self.name!r} is no Zato, and gives no responses; use send()."
            )
        data = self._link.call(msg, timeout).data
        return Response(data) if isinstance(data, dict) or data in ("", None) else data

    def send(self, msg: Any, *, timeout: float | None = None) -> Any:
        """The same as ``invoke``; if the remote end is no Zato, sends ``msg`` without waiting for anything, and returns None.

        Then text and bytes are sent as they are, and all else as JSON.
        """
        if self._link.settings.is_zato:
            return self.invoke(msg, timeout=timeout)
        return self._link.send(msg)


class WebSocketConnections(Connections[WebSocketConnection]):
    """The outgoing WebSocket connections by name, as ``self.out.wsx`` has them."""

    what = "outgoing WebSocket connection"
