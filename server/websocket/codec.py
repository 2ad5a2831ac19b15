"""``Connection``: one WebSocket, of either side, over a gevent socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import gevent
from gevent import socket
from ws4py.framing import OPCODE_BINARY, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT

from junctor.server.websocket import deflate, handshake
from junctor.server.websocket.sender import FrameSender
from junctor.server.websocket.stream import ABNORMAL, MAX_CONTROL, NO_STATUS, NORMAL, FrameReader, Violation
from junctor.sql.errors import WebSocketClosed

RECEIVE_SIZE: Final = 65_536
CLOSE_TIMEOUT: Final = 5.0  # seconds that the peer may take to answer a close frame
MAX_LINGER: Final = 16 * 1024 * 1024  # bytes
MAX_PENDING: Final = 1000  # messages
DEFAULT_MAX_SIZE: Final = 1_048_576  # bytes
TURN: Final = 0.001  # seconds that a busy connection may keep the others waiting


def _ignore(_payload: bytes) -> None:
    """Nobody wants to know."""


class Connection:
    """A WebSocket whose handshake is over.

    One greenlet at a time calls ``receive``; it must go on doing so, since pings are answered, and closing is noticed,
    there.  ``send``, ``ping`` and ``close`` may be called from any greenlet and never wait: what the peer does not take at once waits in
    a queue of at most ``max_pending`` frames, for a greenlet that exists for as long as there are some.  ``on_pong`` is called with the
    payload of each pong.  ``close_code`` and ``close_reason`` say how it ended: 1005 for a close frame without a code, 1006
    without any close frame; 0 while it is open.  ``peer_code`` is the same if it was the peer who closed it, 0 otherwise.  Messages are
    compressed if the peers have agreed on it; ``max_message_size`` is what they may have when they no longer are.
    """

    __slots__ = (
        "__weakref__",
        "_closes_at",
        "_hub_time",
        "_is_broken",
        "_is_over",
        "_loop_now",
        "_reader",
        "_sender",
        "_socket",
        "_turn",
        "_violation",
        "close_code",
        "close_reason",
        "on_pong",
        "peer_code",
    )

    def __init__(
        self,
        opened: socket.socket,
        *,
        is_client: bool,
        max_message_size: int = DEFAULT_MAX_SIZE,
        max_pending: int = MAX_PENDING,
        compression: deflate.Agreement | None = None,
        received: bytes = b"",
    ) -> None:
        self._socket = opened
        self._is_broken = self._is_over = False
        self._violation: Violation | None = None
        self._closes_at: gevent.Greenlet | None = None
        self._loop_now: Callable[[], float] = gevent.get_hub().loop.now
        self._hub_time = self._turn = 0.0
        self.close_code, self.close_reason = 0, ""
        self.peer_code = 0
        self.on_pong: Callable[[bytes], None] = _ignore
        self._sender = FrameSender(
            opened,
            is_client=is_client,
            max_pending=max_pending,
            window_bits=compression.bits if compression else 0,
            on_failure=self.abort,
        )
        self._reader = FrameReader(
            is_client=is_client,
            max_size=max_message_size,
            on_ping=self._answer_ping,
            on_pong=self._take_pong,
            decompress=deflate.decompress if compression else None,
        )
        if received:
            self._feed(received)

    @classmethod
    def accept(
        cls,
        environ: Mapping[str, Any],
        *,
        max_message_size: int = DEFAULT_MAX_SIZE,
        max_pending: int = MAX_PENDING,
        compression: bool = False,
    ) -> Connection:
        """The server's side of a WebSocket that a client asks for; ``environ`` is that of ``server/http_environ.py``.

        ``compression`` is whether the client may have it if it asks for it (permessage-deflate, RFC 7692).

        Raises ``BadRequest`` or ``UpgradeRequired``, after which an HTTP answer may still be given, or OSError.
        """
        agreed = deflate.accept(environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")) if compression else None
        answer = handshake.response(environ, extensions=agreed.header if agreed else "")
        opened = environ["junctor.socket"]
        opened.sendall(answer)
        return cls(
            opened,
            is_client=False,
            max_message_size=max_message_size,
            max_pending=max_pending,
            compression=agreed,
            received=environ.get("junctor.buffered", b""),
        )

    @classmethod
    def connect(  # noqa: PLR0913 - each is a setting of its own, and all but the first are named
        cls,
        address: str,
        *,
        timeout: float,
        tls_verify: bool = True,
        headers: Mapping[str, str] | None = None,
        max_message_size: int = DEFAULT_MAX_SIZE,
        max_pending: int = MAX_PENDING,
        compression: bool = False,
    ) -> Connection:
        """The client's side of a new WebSocket, within ``timeout`` seconds, handshake included.

        ``compression`` is whether the server is asked for it.

        Raises ``ConnectionFailed``, or ``ConnectionTimeout``.
        """
        opened, answer = handshake.connect(
            address, timeout=timeout, tls_verify=tls_verify, headers=headers or {}, compression=compression
        )
        return cls(
            opened,
            is_client=True,
            max_message_size=max_message_size,
            max_pending=max_pending,
            compression=answer.compression,
            received=answer.received,
        )

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return not self._sender.is_closed

    @property
    def pending(self) -> int:
        """How many frames wait for the peer to take them."""
        return self._sender.pending

    def allow(self, max_message_size: int) -> None:
        """Takes messages of up to so many bytes from now on."""
        self._reader.max_size = max_message_size

    def receive(self) -> str | bytes | None:
        """The next message, waiting for it; None once the WebSocket is closed, for whatever reason, and the socket with it."""
        messages = self._reader.messages
        while not messages:
            if self._is_broken or self._is_ended():
                self._end()
                return None
            data = self._receive()
            was_closing = self._sender.is_closed
            if not data:
                self._break(ABNORMAL, "The connection was lost.")
            else:
                self._feed(data)
            if was_closing:
                messages.clear()  # what comes after our own close frame is nobody's any more
        return messages.popleft()

    def send(self, message: str | bytes) -> None:
        """Sends a text or a binary message.

        Raises ``SlowConsumer`` if too much waits for the peer already, which ends the connection, or ``WebSocketClosed``.
        """
        if isinstance(message, str):
            self._sender.send(OPCODE_TEXT, message.encode())
        else:
            self._sender.send(OPCODE_BINARY, message)

    def send_text(self, message: bytes) -> None:
        """Sends a text message that is in UTF-8 already.  Raises what ``send`` does."""
        self._sender.send(OPCODE_TEXT, message)

    def ping(self, payload: bytes = b"") -> None:
        """Sends a ping of up to 125 bytes.  Raises what ``send`` does, or ValueError."""
        if len(payload) > MAX_CONTROL:
            raise ValueError(f"A ping has up to {MAX_CONTROL} bytes, not {len(payload)}")
        self._sender.send(OPCODE_PING, payload)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begins to close: ``receive`` returns None once the peer has answered, or after a few seconds.  Never raises."""
        if self._sender.is_closed:
            return
        self.close_code, self.close_reason = code, reason
        self._sender.send_close(code, reason)
        self._closes_at = gevent.spawn_later(CLOSE_TIMEOUT, self._shut)

    def abort(self, code: int = ABNORMAL, reason: str = "") -> None:
        """Ends it at once, without a word to the peer.  Never raises, never waits."""
        self._break(code, reason)
        self._shut()

    def _receive(self) -> bytes:
        """What has arrived, b'' at the end, however that comes."""
        self._take_turns()
        try:
            received: bytes = self._socket.recv(RECEIVE_SIZE)
        except OSError:
            return b""
        return received

    def _feed(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except Violation as violation:
            self._violation = violation

    def _is_ended(self) -> bool:
        """Whether the peer has closed, or must be told to: not before all that came first was received, so that it can be answered."""
        violation, closing = self._violation, self._reader.closing
        if violation is not None:
            self.close(violation.code, violation.reason)
        elif closing is None:
            return False
        elif self.is_open:
            self.close_code, self.close_reason = closing
            self.peer_code = closing.code
            self._sender.send_close(NORMAL if closing.code == NO_STATUS else closing.code, "")
        return True

    def _answer_ping(self, payload: bytes) -> None:
        try:
            self._sender.send(OPCODE_PONG, payload)
        except WebSocketClosed:
            return  # the reader finds out by itself

    def _take_pong(self, payload: bytes) -> None:
        self.on_pong(payload)

    def _take_turns(self) -> None:
        """Lets the other greenlets run if this one has kept them waiting for long: receiving alone does not, while there is data."""
        hub_time, now = self._loop_now(), monotonic()
        if hub_time != self._hub_time:
            self._hub_time, self._turn = hub_time, now
        elif now - self._turn > TURN:
            gevent.sleep(0)

    def _break(self, code: int, reason: str) -> None:
        if not self.close_code:
            self.close_code, self.close_reason = code, reason
        self._is_broken = True
        self._sender.drop()

    def _shut(self) -> None:
        """Wakes whoever waits on the socket: there is nothing to wait for any more."""
        self._is_broken = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is gone already

    def _end(self) -> None:
        """Closes the socket, after what is still to be sent has been, and after the peer has had the time to read it."""
        if self._is_over:
            return
        self._is_over = True
        self._sender.finish(CLOSE_TIMEOUT)
        if self._reader.closing is None:
            self._linger()
        if self._closes_at is not None:
            self._closes_at.kill(block=False)
            self._closes_at = None
        self._socket.close()

    def _linger(self) -> None:
        """Drops what the peer still sends: closing at once would reset the connection, and our close frame could be lost."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already
        left = MAX_LINGER
        while left > 0 and (data := self._receive()):
            left -= len(data)
