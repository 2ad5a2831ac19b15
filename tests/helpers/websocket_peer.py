"""The other end of a ``Connection`` under test: frames of any kind, byte for byte, as a client or as a server."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gevent
from gevent import socket
from gunicorn.workers.base_async import ALREADY_HANDLED

from junctor.server.http_server import HTTPServer
from junctor.server.websocket.codec import Connection
from junctor.server.websocket.handshake import accept_key
from tests.helpers.waiting import eventually

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TIMEOUT = 5.0  # seconds
MAX_SIZE = 1_048_576  # bytes

REQUEST = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Frame(NamedTuple):
    """What is sent in a frame, except for the mask, which only a client's has; ``rsv`` has the three reserved bits."""

    opcode: int
    payload: bytes = b""
    fin: int = 1
    rsv: int = 0

    def built(self, *, mask: bool) -> bytes:
        """The bytes of it."""
        size, flag = len(self.payload), 0x80 if mask else 0
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode])
        if size < 126:
            head += bytes([flag | size])
        elif size < 1 << 16:
            head += bytes([flag | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([flag | 127]) + size.to_bytes(8, "big")
        key = os.urandom(4)
        return head + key + masked(self.payload, key) if mask else head + self.payload


def masked(payload: bytes, key: bytes) -> bytes:
    """A payload with its mask put on, or taken off."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def closing(code: int, reason: bytes = b"") -> Frame:
    """A close frame."""
    return Frame(CLOSE, code.to_bytes(2, "big") + reason)


@dataclass
class Peer:
    """Speaks to the side under test over a socket, after a proper handshake.

    ``connection`` is the side under test, once it has been made.  ``extensions`` is what the two agreed on.
    """

    socket: socket.socket
    is_client: bool
    connections: list[Connection]
    extensions: str = ""
    received: bytes = field(default=b"")

    def __post_init__(self) -> None:
        # Small packets go out at once: otherwise each waits for the last one's acknowledgement, which takes 40 ms.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def connection(self) -> Connection:
        return eventually(lambda: self.connections)[0]

    def bytes_of(self, *frames: Frame | bytes) -> bytes:
        """What is sent for some frames; bytes are sent as they are."""
        return b"".join(
            frame if isinstance(frame, bytes) else frame.built(mask=self.is_client) for frame in frames
        )

    def send(self, *frames: Frame | bytes) -> None:
        self.socket.sendall(self.bytes_of(*frames))

    def read(self) -> Frame:
        """The next frame of the side under test, which must be masked if it is a client."""
        first, second = self._take(2)
        assert bool(second & 0x80) is not self.is_client
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        key = self._take(4) if second & 0x80 else b"\0\0\0\0"
        return Frame(first & 15, masked(self._take(size), key), first >> 7, first >> 4 & 7)

    def read_end(self) -> None:
        """Nothing more comes: the side under test ends the connection once this one has."""
        self.socket.shutdown(socket.SHUT_WR)
        assert self.received == b""
        assert self.socket.recv(1) == b""

    def read_head(self) -> bytes:
        """The head of the HTTP request or response."""
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head + b"\r\n"

    def _take(self, size: int) -> bytes:
        while len(self.received) < size:
            self._receive()
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def _receive(self) -> None:
        data = self.socket.recv(65_536)
        assert data, "the side under test closed"
        self.received += data


def echo(connection: Connection) -> None:
    """Sends back what comes, until the connection is over."""
    while (message := connection.receive()) is not None:
        if connection.is_open:
            connection.send(message)


@contextmanager
def client_of(
    serve: Callable[[Connection], None] = echo, *, extensions: str = "", **options: Any
) -> Iterator[Peer]:
    """A peer that is the client of ``Connection.accept`` with these options; ``serve`` is what that side does."""
    made: list[Connection] = []

    def app(environ: Any, start_response: Any) -> Any:
        made.append(Connection.accept(environ, **({"max_message_size": MAX_SIZE} | options)))
        serve(made[0])
        return ALREADY_HANDLED

    with listening() as listener:
        server = HTTPServer(app, [listener], log=logging.getLogger("tests"))
        server.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=TIMEOUT) as opened:
                peer = Peer(opened, is_client=True, connections=made)
                offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
                opened.sendall(REQUEST + offer.encode() + b"\r\n")
                head = peer.read_head()
                assert b" 101 " in head
                assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, section 1.3
                peer.extensions = _field(head, "Sec-WebSocket-Extensions")
                yield peer
        finally:
            server.kill()


@contextmanager
def server_of(
    serve: Callable[[Connection], None] = echo, *, extensions: str = "", **options: Any
) -> Iterator[Peer]:
    """A peer that is the server of ``Connection.connect`` with these options; ``extensions`` is what it agrees to."""
    made: list[Connection] = []

    def connect() -> None:
        given = {"max_message_size": MAX_SIZE, "timeout": TIMEOUT} | options
        made.append(Connection.connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/echo", **given))
        serve(made[0])

    with listening() as listener:
        client = gevent.spawn(connect)
        opened, _ = listener.accept()
        opened.settimeout(TIMEOUT)
        with opened:
            peer = Peer(opened, is_client=False, connections=made)
            head = peer.read_head()
            peer.extensions = _field(head, "Sec-WebSocket-Extensions")
            answer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
            key = accept_key(_field(head, "Sec-WebSocket-Key"))
            opened.sendall(
                f"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{answer}"
                f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
            )
            yield peer
        client.get(timeout=TIMEOUT)


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A listener on the loopback address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener


def _field(head: bytes, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)\r$", head.decode(), re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""
