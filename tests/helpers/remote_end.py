"""The remote end of an outgoing WebSocket connection: a small server on the real HTTP server and the real protocol, in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gevent import socket
from gunicorn.workers.base_async import ALREADY_HANDLED

from junctor.server.http_server import HTTPServer
from junctor.server.outgoing.websocket_subscriptions import UNSUBSCRIBE
from junctor.server.service.call import new_cid
from junctor.server.websocket import envelope
from junctor.server.websocket.codec import Connection
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import eventually


@dataclass
class Peer:
    """One connection, seen from the remote end."""

    connection: Connection
    client_id: str = ""
    client_name: str = ""
    token: str = ""
    responses: list[envelope.ClientMessage] = field(default_factory=list)
    raw: list[str | bytes] = field(default_factory=list)
    is_over: bool = False

    def request(self, data: Any, message_id: str = "", msg_type: str = envelope.REQUEST, **ctx: Any) -> str:
        """Sends something of its own accord; the id of the message."""
        message_id = message_id or new_cid()
        self.connection.send_text(envelope.request(message_id, data, msg_type, ctx))
        return message_id


Answer = Callable[["RemoteEnd", Peer, envelope.ClientMessage], None]


def echo(remote: RemoteEnd, peer: Peer, message: envelope.ClientMessage) -> None:
    """Answers with what was sent."""
    del remote
    peer.connection.send_text(envelope.response(message.id, message.data))


def keys_of_topics(remote: RemoteEnd, peer: Peer, message: envelope.ClientMessage) -> None:
    """Answers as publish/subscribe: each topic has a key."""
    del remote
    key = f"key of {message.data['request'].get('topic_name')}"
    peer.connection.send_text(envelope.response(message.id, {"sub_key": key}))


@dataclass
class RemoteEnd:
    """A WebSocket server: one of Zato, which wants a log-in, or with ``is_zato`` off one that only notes what it is sent.

    ``answer`` is called for each invocation, in the greenlet of its connection.
    """

    is_zato: bool = True
    username: str = "link"
    secret: str = "right"
    answer: Answer = echo
    is_silent: bool = False
    port: int = field(default_factory=free_port)
    peers: list[Peer] = field(default_factory=list)
    invocations: list[envelope.ClientMessage] = field(default_factory=list)
    refused: int = 0
    _server: HTTPServer | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"ws://{LOOPBACK}:{self.port}/ws"

    @property
    def open(self) -> list[Peer]:
        """The connections that are logged in and not over."""
        return [peer for peer in self.peers if peer.token and not peer.is_over]

    @property
    def ended(self) -> list[str]:
        """The keys of the subscriptions that it was told to end."""
        calls = [call.data for call in self.invocations]
        return [call["request"]["sub_key"] for call in calls if call["service"] == UNSUBSCRIBE]

    def start(self) -> None:
        """Listens, on the same port each time."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, self.port))
        listener.listen(50)
        self._server = HTTPServer(self._app, [listener], log=logging.getLogger("tests"))
        self._server.start()

    def stop(self) -> None:
        """Nobody can connect, and nobody stays connected."""
        if self._server is not None:
            self._server.kill()
            self._server = None
        for peer in self.peers:
            peer.connection.abort()

    def peer(self) -> Peer:
        """The one connection that is open, waiting for it."""
        return eventually(lambda: self.open)[-1]

    def _app(self, environ: dict[str, Any], start_response: Any) -> object:
        del start_response
        peer = Peer(Connection.accept(environ))
        self.peers.append(peer)
        if not self.is_zato:
            peer.token = "none is needed"
        while (message := peer.connection.receive()) is not None:
            self._take(peer, message)
        peer.is_over = True
        return ALREADY_HANDLED

    def _take(self, peer: Peer, message: str | bytes) -> None:
        if not self.is_zato:
            peer.raw.append(message)
            return
        parsed = envelope.parse(message)
        if parsed.credentials is not None:
            self._log_in(peer, parsed)
        elif parsed.action == envelope.CLIENT_RESPONSE:
            assert parsed.token == peer.token
            peer.responses.append(parsed)
        else:
            assert parsed.token == peer.token
            self.invocations.append(parsed)
            self.answer(self, peer, parsed)

    def _log_in(self, peer: Peer, message: envelope.ClientMessage) -> None:
        given = message.credentials
        assert given is not None
        if self.is_silent:
            return
        if (given.username, given.secret) != (self.username, self.secret):
            self.refused += 1
            peer.connection.send_text(envelope.refusal())
            peer.connection.close(1008)
            return
        peer.client_id, peer.client_name, peer.token = (
            given.client_id,
            given.client_name,
            f"ws.token.{new_cid()}",
        )
        peer.connection.send_text(envelope.session_created(message.id, peer.token))
