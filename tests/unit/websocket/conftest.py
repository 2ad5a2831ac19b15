"""An echo server on the real HTTP server, and raw sockets that speak to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import gevent
import pytest
from gevent import socket
from gunicorn.workers.base_async import ALREADY_HANDLED
from ws4py.framing import Frame

from junctor.server.http_server import HTTPServer
from junctor.server.websocket.codec import Connection

MAX_SIZE = 65_536
TIMEOUT = 5.0


@dataclass
class Raw:
    """A client that sends whatever bytes it likes, after a proper handshake."""

    socket: socket.socket
    received: bytes = field(default=b"")

    def frame(
        self, opcode: int, payload: bytes = b"", *, fin: int = 1, mask: bool = True, rsv1: int = 0
    ) -> None:
        """Sends a frame, of whatever kind: ws4py would not build them all."""
        key = os.urandom(4) if mask else None
        built = Frame(2, payload, masking_key=key, fin=1).build()
        self.socket.sendall(bytes([fin << 7 | rsv1 << 6 | opcode]) + built[1:])

    def read(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame of the server, which are short ones here."""
        head = self._take(2)
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(self._take(2), "big")
        return head[0] & 0x0F, self._take(length)

    def close_code(self) -> int:
        """The code of the close frame that comes next, after which the server ends the connection."""
        opcode, payload = self.read()
        assert opcode == 8
        self.socket.shutdown(socket.SHUT_WR)
        assert self.socket.recv(1) == b""
        return int.from_bytes(payload[:2], "big")

    def _take(self, size: int) -> bytes:
        while len(self.received) < size:
            data = self.socket.recv(65_536)
            assert data, "the server closed"
            self.received += data
        taken, self.received = self.received[:size], self.received[size:]
        return taken


@dataclass
class Echo:
    port: int
    ended: list[tuple[int, str]] = field(default_factory=list)
    messages: list[str | bytes] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    clients: list[socket.socket | Connection] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/echo"

    def how_it_ended(self) -> tuple[int, str]:
        """The close code and reason of the first connection that has ended."""
        while not self.ended:
            gevent.sleep(0.005)
        return self.ended[0]

    def connect(self) -> Connection:
        """A client that keeps to the protocol."""
        self.clients.append(Connection.connect(self.address, timeout=TIMEOUT))
        return self.clients[-1]

    def raw(self) -> Raw:
        """A client that need not."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)
        self.clients.append(made)
        made.sendall(
            b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        client = Raw(made)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client._take(1)
        assert b" 101 " in head
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, section 1.3
        return client


@pytest.fixture
def echo() -> Iterator[Echo]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    made = Echo(listener.getsockname()[1])

    def app(environ, start_response):
        connection = Connection.accept(environ, max_message_size=MAX_SIZE, max_pending=10)
        made.connections.append(connection)
        while (message := connection.receive()) is not None:
            made.messages.append(message)
            if connection.is_open:
                connection.send(message)
        made.ended.append((connection.close_code, connection.close_reason))
        return ALREADY_HANDLED

    server = HTTPServer(app, [listener], log=logging.getLogger("tests"))
    server.start()
    with gevent.Timeout(30):
        yield made
        for client in made.clients:
            if isinstance(client, Connection):
                client.abort()
                client.receive()
            else:
                client.close()
    server.kill()
