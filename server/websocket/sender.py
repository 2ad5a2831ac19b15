"""Frames out: at once what the system takes, the rest from a bounded queue."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import gevent
from gevent import socket, ssl
from ws4py.framing import OPCODE_CLOSE
from wsaccel.xormask import XorMaskerSimple

from junctor.server.websocket import deflate
from junctor.server.websocket.stream import ABNORMAL, COMPRESSED, MAX_CONTROL, POLICY
from junctor.sql.errors import SlowConsumer, WebSocketClosed

BATCH: Final = 65_536  # bytes that are written at a time
WRITE_TIMEOUT: Final = 60.0  # seconds in which the peer must take some of what waits for it
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
_FIN, _MASK, _LENGTH_16, _LENGTH_64 = 0x80, 0x80, 126, 127


class _ToCompress(NamedTuple):
    """A large message: its compression is for the greenlet that sends it, since nobody else may wait."""

    opcode: int
    payload: bytes


class FrameSender:
    """Sends the frames of one side of a WebSocket; any greenlet may, and none ever waits.

    What the peer does not take at once waits in a queue of at most ``max_pending`` frames, for a greenlet that exists for as long as there
    are some.  ``on_failure`` is called with a close code and a reason when the peer cannot be sent anything any more.  Messages are
    compressed in a window of ``window_bits``, unless it is 0.  After ``is_closed`` was set nothing more is taken.
    """

    __slots__ = (
        "_descriptor",
        "_is_client",
        "_max_pending",
        "_on_failure",
        "_pending",
        "_pending_bytes",
        "_socket",
        "_window_bits",
        "_writer",
        "is_closed",
    )

    def __init__(
        self,
        opened: socket.socket,
        *,
        is_client: bool,
        max_pending: int,
        window_bits: int,
        on_failure: Callable[[int, str], None],
    ) -> None:
        self._socket = opened
        # TLS encrypts what is sent, so only plain sockets can be written to directly.
        self._descriptor = -1 if isinstance(opened, ssl.SSLSocket) else opened.fileno()
        self._is_client = is_client
        self._max_pending = max_pending
        self._window_bits = window_bits
        self._on_failure = on_failure
        self._pending: deque[bytes | memoryview | _ToCompress] = deque()
        self._pending_bytes = 0
        self._writer: gevent.Greenlet | None = None
        self.is_closed = False

    @property
    def pending(self) -> int:
        """How many frames wait for the peer to take them."""
        return len(self._pending)

    def send(self, opcode: int, payload: bytes) -> None:
        """Sends a control frame, or a message in one frame of its own.

        Raises ``SlowConsumer`` if too much waits for the peer already, which ends the connection, or ``WebSocketClosed``.
        """
        if self.is_closed:
            raise WebSocketClosed
        first, size = _FIN | opcode, len(payload)
        if self._window_bits and size > deflate.MIN_SIZE:  # control frames are smaller
            if size > deflate.INLINE:
                self._wait_for_turn(_ToCompress(opcode, payload), size)
                return
            first, payload = self._smaller(opcode, payload, deflate.compress(payload, self._window_bits))
        frame = build_frame(first, payload, mask=self._is_client)
        if not self._pending and self._writer is None and self._descriptor >= 0:
            sent = self._try(frame)
            if sent < len(frame):
                self._wait_for_turn(memoryview(frame)[sent:], len(frame) - sent)
            return
        self._wait_for_turn(frame, len(frame))

    def send_close(self, code: int, reason: str) -> None:
        """Sends a close frame, the last of all, unless there is nobody to tell.  Never raises."""
        text = reason.encode()[: MAX_CONTROL - 2].decode("utf-8", "ignore").encode()
        try:
            self.send(OPCODE_CLOSE, code.to_bytes(2, "big") + text)
        except WebSocketClosed:
            return  # broken already
        finally:
            self.is_closed = True

    def drop(self) -> None:
        """Forgets what waits, and takes nothing more."""
        self.is_closed = True
        self._pending.clear()
        self._pending_bytes = 0

    def finish(self, timeout: float) -> None:
        """Waits until what was taken has been sent, for so many seconds, after which it never will be."""
        self.is_closed = True
        writer = self._writer
        if writer is not None:
            writer.join(timeout)
            writer.kill(block=False)
        self._descriptor = -1

    def _smaller(self, opcode: int, payload: bytes, compressed: bytes) -> tuple[int, bytes]:
        """The first byte and the payload of a message's frame: compressed, if that helps."""
        first = _FIN | opcode
        return (first | COMPRESSED, compressed) if len(compressed) < len(payload) else (first, payload)

    def _wait_for_turn(self, frame: bytes | memoryview | _ToCompress, size: int) -> None:
        if len(self._pending) >= self._max_pending or self._pending_bytes > MAX_PENDING_BYTES:
            self._on_failure(POLICY, "The peer does not take its messages.")
            raise SlowConsumer
        self._pending.append(frame)
        self._pending_bytes += size
        if self._writer is None:
            self._writer = gevent.spawn(self._write)

    def _try(self, frame: bytes) -> int:
        """How much of a frame the system takes without waiting."""
        try:
            return os.write(self._descriptor, frame)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._on_failure(ABNORMAL, "The connection was lost.")
            raise WebSocketClosed from error

    def _write(self) -> None:
        """Sends what is pending, a few frames at a time; the greenlet ends with the last of them."""
        try:
            while self._pending:
                self._write_all(memoryview(self._next_batch()))
        except OSError:
            self._on_failure(ABNORMAL, "The peer did not take its messages.")
        finally:
            self._writer = None

    def _next_batch(self) -> bytes | memoryview:
        pending = self._pending
        first = pending.popleft()
        if isinstance(first, _ToCompress):
            self._pending_bytes -= len(first.payload)
            compressed = deflate.in_thread(deflate.compress, first.payload, self._window_bits)
            head, payload = self._smaller(first.opcode, first.payload, compressed)
            return build_frame(head, payload, mask=self._is_client)
        size, batch = len(first), [first]
        while pending and size < BATCH and not isinstance(frame := pending[0], _ToCompress):
            batch.append(frame)
            size += len(frame)
            pending.popleft()
        self._pending_bytes -= size
        return first if len(batch) == 1 else b"".join(batch)

    def _write_all(self, data: memoryview) -> None:
        while data:
            with gevent.Timeout(WRITE_TIMEOUT, TimeoutError("the peer takes nothing")):
                data = data[self._socket.send(data) :]


def build_frame(first: int, payload: bytes, *, mask: bool) -> bytes:
    """A frame of one byte of flags and opcode, and a payload, masked as the frames of a client are."""
    size, flag = len(payload), _MASK if mask else 0
    if size < _LENGTH_16:
        head = bytes((first, flag | size))
    elif size < 1 << 16:
        head = bytes((first, flag | _LENGTH_16)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, flag | _LENGTH_64)) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    key = os.urandom(4)
    masked: bytes = XorMaskerSimple(key).process(payload)
    return head + key + masked
