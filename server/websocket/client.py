"""A WebSocket client as the rest of the server, and services, see it: who it is, and what can be asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from junctor.server.service.bunch import Bunch
from junctor.server.service.call import new_cid
from junctor.server.websocket import envelope
from junctor.server.websocket.client_calls import ClientCalls
from junctor.server.websocket.stream import NORMAL
from junctor.sql.errors import WebSocketClosed

if TYPE_CHECKING:
    from junctor.server.websocket.codec import Connection
    from junctor.server.websocket.peer import Peer
    from junctor.server.websocket.sessions import Sessions

DEFAULT_TIMEOUT = 5.0  # seconds
MAX_PUSHED = 8  # frames of a client that does not answer which may wait before it is sent more
PUSH_INTERVAL = 0.01  # seconds
log = logging.getLogger(__name__)


class Client:
    """Whoever is at the other end of a connection to a channel; ``clients.ClientSession`` is what it promises.

    ``received`` and ``sent`` count messages, ``started`` is when it connected, of ``time.monotonic``.  ``answers_deliveries`` tells whether
    it answers when it is sent messages of publish/subscribe; None until that is known.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_farewells",
        "_has_left",
        "_user_data",
        "answers_deliveries",
        "attributes",
        "channels",
        "connected",
        "connection",
        "ext_client_id",
        "ext_client_name",
        "peer",
        "pub_client_id",
        "received",
        "sent",
        "started",
    )

    def __init__(self, channels: Sessions, connection: Connection, peer: Peer) -> None:
        self.channels, self.connection, self.peer = channels, connection, peer
        self.pub_client_id = f"ws.{new_cid()}"
        self.ext_client_id = self.ext_client_name = ""
        self.attributes: dict[str, Any] = {}
        self.connected = datetime.now(UTC)
        self.started = monotonic()
        self.received = self.sent = 0
        self.answers_deliveries: bool | None = None
        self._calls = ClientCalls()
        self._has_left = False
        self._farewells: list[Callable[[Client], None]] = []
        self._user_data: Bunch | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shown}>"

    @property
    def shown(self) -> str:
        """Who it is, in one line."""
        name = (
            f"{self.ext_client_id} ({self.ext_client_name})" if self.ext_client_name else self.ext_client_id
        )
        return f"{name or 'nobody yet'} at {self.peer.client or self.peer.address}, {self.pub_client_id}"

    @property
    def channel_id(self) -> int:
        """The id of its channel."""
        return self.channels.channel.config.id

    @property
    def channel_name(self) -> str:
        """The name that its channel has now."""
        return self.channels.channel.name

    @property
    def local_address(self) -> str:
        """The address and port that it connected to."""
        return self.peer.local_address

    @property
    def peer_address(self) -> str:
        """The address and port that it connected from."""
        return self.peer.address

    @property
    def forwarded_for(self) -> str:
        """Where a trusted proxy says that it is; '' without a proxy."""
        return self.peer.forwarded_for

    @property
    def user_data(self) -> Bunch:
        """Whatever services and hooks want to know about it for as long as it is connected."""
        if self._user_data is None:
            self._user_data = Bunch()
        return self._user_data

    def when_gone(self, farewell: Callable[[Client], None]) -> None:
        """Has ``farewell`` called once the client is nobody's any more, or now if it is so; it may neither block nor raise."""
        if self._has_left:
            farewell(self)
        else:
            self._farewells.append(farewell)

    def invoke(self, data: Any, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """What the client answers to ``data``, within ``timeout`` seconds.

        Raises ``CallTimeout``, ``WebSocketClosed``, ``SlowConsumer``, ``InvalidOutput`` when ``data`` is no JSON, or ``CallFailed``
        when too many requests wait for this client already.
        """
        return self.invoke_client("", data, timeout)

    def invoke_client(self, cid: str, request: Any, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """The same as ``invoke``, as services written for Zato call it; ``cid`` becomes the id of the message."""
        message_id = self._calls.begin(cid)
        try:
            self.send(envelope.request(message_id, request))
            self._expect_answers()
            return self._calls.wait(message_id, timeout)
        finally:
            self._calls.end(message_id)

    def notify(self, data: Any) -> str:
        """Sends ``data`` without waiting for an answer; the id of the message.  Raises what ``send`` does, or ``InvalidOutput``."""
        message_id = new_cid()
        self.send(envelope.request(message_id, data))
        return message_id

    def deliver(self, message_id: str, data: Any, timeout: float) -> Any:
        """What the client answers to messages of publish/subscribe, within ``timeout`` seconds.

        ``message_id`` is the id of what is sent, unless it is on its way to this client already.  Raises what ``invoke`` does.
        """
        message_id = self._calls.begin(message_id, envelope.PUBSUB_ID_PREFIX)
        try:
            self.send(envelope.request(message_id, data, envelope.PUBSUB_REQUEST))
            self._expect_answers()
            return self._calls.wait(message_id, timeout)
        finally:
            self._calls.end(message_id)

    def push(self, message_id: str, data: Any, timeout: float) -> None:
        """Sends messages of publish/subscribe to a client that does not answer; returns once the system has taken most of what waits.

        Raises ``WebSocketClosed``, also when the client has not taken it after ``timeout`` seconds, or ``InvalidOutput``.
        """
        self.send(envelope.request(message_id, data, envelope.PUBSUB_REQUEST))
        deadline = monotonic() + timeout
        while self.connection.pending > MAX_PUSHED:
            if not self.connection.is_open or monotonic() > deadline:
                raise WebSocketClosed("The client does not take its messages.")
            gevent.sleep(PUSH_INTERVAL)

    def disconnect(self, code: int = NORMAL, reason: str = "") -> None:
        """Closes the connection; never raises."""
        self.connection.close(code, reason)

    def send(self, message: bytes) -> None:
        """Sends a message of ``envelope``; never waits.

        Raises ``SlowConsumer`` when too many wait for the client already, which ends the connection, or ``WebSocketClosed``.
        """
        self.connection.send_text(message)
        self.sent += 1
        self.channels.messages_out.inc()

    def _expect_answers(self) -> None:
        """The client's answers must be read from now on, whatever it waits for itself."""
