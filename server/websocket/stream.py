"""Frames in, messages out: what RFC 6455 demands of a peer.

The head of a frame is checked here before anything of it is taken: that frames are masked or are not, also empty ones; that lengths are
written in their shortest form; that control frames are short and whole; that a message is not too large, and has ended when the next one
begins; which close codes there are.  A message of one frame, which most are, is taken from there at once.  ws4py puts the
others together and checks their UTF-8 as it comes, in a stream that there is only for as long as it is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import wsaccel
from ws4py import streaming
from ws4py.framing import (
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_CONTINUATION,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
)
from ws4py.streaming import Stream
from wsaccel.xormask import XorMaskerSimple

wsaccel.patch_ws4py()
# Registered since ws4py's list was written: service restart, try again later, bad gateway (IANA, WebSocket Close Code Number).
streaming.VALID_CLOSING_CODES[:] = sorted({*streaming.VALID_CLOSING_CODES, 1012, 1013, 1014})

NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, ABNORMAL, INVALID_DATA = 1000, 1001, 1002, 1005, 1006, 1007
POLICY, TOO_LARGE, RESTART, TRY_LATER = 1008, 1009, 1012, 1013
MAX_CONTROL: Final = 125  # bytes of payload (RFC 6455, section 5.5)
COMPRESSED: Final = 0x40  # the first reserved bit (RFC 7692, section 6)
_FIN, _RESERVED, _OPCODE, _CONTROL, _MASK, _LENGTH = 0x80, 0x70, 0x0F, 0x08, 0x80, 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_OPCODES: Final = frozenset(
    {OPCODE_CONTINUATION, OPCODE_TEXT, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG}
)
_NOT_UTF8: Final = "Invalid UTF-8 bytes"


class Violation(Exception):
    """What the peer sent is not allowed; ``code`` is the close code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Closing(NamedTuple):
    """A close frame: 1005 when it has no code."""

    code: int
    reason: str


class FrameReader:
    """Takes bytes as they arrive; ``messages`` has what is complete, ``closing`` the peer's close frame.

    ``on_ping`` and ``on_pong`` are called with the payload of each such frame, in their order; they must not block.  ``decompress`` makes
    a message of what a compressed one consists of, and raises ``Violation``; None when compression was not agreed on.
    """

    __slots__ = (
        "_buffer",
        "_decompress",
        "_head",
        "_is_client",
        "_is_compressed",
        "_is_text",
        "_need",
        "_on_ping",
        "_on_pong",
        "_parts",
        "_stream",
        "closing",
        "max_size",
        "messages",
    )

    def __init__(
        self,
        *,
        is_client: bool,
        max_size: int,
        on_ping: Callable[[bytes], None],
        on_pong: Callable[[bytes], None],
        decompress: Callable[[bytes, int], bytes] | None = None,
    ) -> None:
        self._is_client = is_client
        self.max_size = max_size
        self._on_ping, self._on_pong = on_ping, on_pong
        self._decompress = decompress
        self._buffer: bytes | bytearray = b""
        self._need, self._head = 2, 0
        # Of the message whose fragments are coming: ``_stream`` is None when there is none.
        self._stream: Stream | None = None
        self._parts = bytearray()
        self._is_text = self._is_compressed = False
        self.messages: deque[str | bytes] = deque()
        self.closing: Closing | None = None

    def feed(self, data: bytes) -> None:
        """Takes what was received.  Raises ``Violation``; what came before it is in ``messages``."""
        buffer = self._buffer
        if not buffer:
            buffer = data
        elif isinstance(buffer, bytearray):
            buffer += data
        else:
            # The rest of a frame may come in many pieces: a bytearray does not copy what it has for each of them.
            buffer = bytearray(buffer) + data
        start, end = 0, len(buffer)
        while end - start >= self._need and self.closing is None:
            size = self._frame_size(buffer, start)
            self._need = size
            if end - start < size:
                break
            self._take(bytes(buffer[start : start + size]))
            start += size
            self._need = 2
        self._buffer = buffer[start:] if start else buffer

    def _frame_size(self, data: bytes | bytearray, start: int) -> int:
        """How many bytes the frame has, or its head while that is not complete.  Raises ``Violation``."""
        first, second = data[start], data[start + 1]
        self._check_head(first, second)
        head = 6 if second & _MASK else 2
        length = second & _LENGTH
        if length >= _LENGTH_16:
            extended = 2 if length == _LENGTH_16 else 8
            if len(data) - start < 2 + extended:
                return 2 + extended
            length = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
            if length < (_LENGTH_16 if extended == 2 else 1 << 16) or length >> 63:
                raise Violation(PROTOCOL_ERROR, "Length is not in its shortest form")
            head += extended
        if not first & _CONTROL and len(self._parts) + length > self.max_size:
            raise _too_large(self.max_size)
        self._head = head
        return head + length

    def _check_head(self, first: int, second: int) -> None:
        """Raises ``Violation`` for what no frame of this peer may begin with (RFC 6455, sections 5.1, 5.2, 5.4 and 5.5)."""
        opcode, reserved = first & _OPCODE, first & _RESERVED
        if reserved and (
            reserved != COMPRESSED or self._decompress is None or opcode not in (OPCODE_TEXT, OPCODE_BINARY)
        ):
            raise Violation(PROTOCOL_ERROR, "Reserved bit")
        if opcode not in _OPCODES:
            raise Violation(PROTOCOL_ERROR, "Reserved opcode")
        if bool(second & _MASK) is self._is_client:
            raise Violation(PROTOCOL_ERROR, "Masked frame" if self._is_client else "Frame is not masked")
        if opcode & _CONTROL:
            if second & _LENGTH > MAX_CONTROL or not first & _FIN:
                raise Violation(PROTOCOL_ERROR, "Control frame is fragmented or too long")
        elif (opcode == OPCODE_CONTINUATION) is (self._stream is None):
            wrong = "A message begins before the last one has ended" if opcode else "Message not started yet"
            raise Violation(PROTOCOL_ERROR, wrong)

    def _take(self, frame: bytes) -> None:
        """Takes a complete frame whose head is as it should be."""
        first = frame[0]
        opcode = first & _OPCODE
        if opcode == OPCODE_CLOSE:
            self._take_close(frame)
        elif opcode == OPCODE_PING:
            self._on_ping(self._payload(frame))
        elif opcode == OPCODE_PONG:
            self._on_pong(self._payload(frame))
        elif first & _FIN and opcode:
            self._complete(
                self._payload(frame), is_text=opcode == OPCODE_TEXT, is_compressed=bool(first & COMPRESSED)
            )
        else:
            self._take_fragment(frame)

    def _payload(self, frame: bytes) -> bytes:
        head = self._head
        payload = frame[head:]
        if self._is_client:
            return payload
        unmasked: bytes = XorMaskerSimple(frame[head - 4 : head]).process(payload)
        return unmasked

    def _complete(self, data: bytes, *, is_text: bool, is_compressed: bool) -> None:
        if is_compressed and self._decompress is not None:
            data = self._decompress(data, self.max_size)
        try:
            self.messages.append(data.decode() if is_text else data)
        except UnicodeDecodeError as error:
            raise Violation(INVALID_DATA, _NOT_UTF8) from error

    def _take_fragment(self, frame: bytes) -> None:
        first = frame[0]
        stream = self._stream
        if stream is None:
            stream = self._stream = self._new_stream()
            self._is_text = first & _OPCODE == OPCODE_TEXT
            self._is_compressed = bool(first & COMPRESSED)
            if self._is_compressed:
                # What is compressed is no UTF-8 yet, and the bit is not known to ws4py.
                frame = bytes([first & _FIN | OPCODE_BINARY]) + frame[1:]
        _send(stream, frame)
        # All parts are in one array: ws4py adds each to all that came before.
        message = stream.message
        if message.data:
            self._parts += message.data
            message.data = b""
        if message.completed:
            data, self._parts, self._stream = bytes(self._parts), bytearray(), None
            self._complete(data, is_text=self._is_text, is_compressed=self._is_compressed)

    def _take_close(self, frame: bytes) -> None:
        # A stream of its own: in that of a message, the reason would continue the text that has come so far.
        stream = self._new_stream()
        _send(stream, frame)
        closing = stream.closing
        if closing.code == NO_STATUS and frame[1] & _LENGTH:
            raise Violation(PROTOCOL_ERROR, "Invalid close code")
        self.closing = Closing(closing.code, _text(closing.reason))

    def _new_stream(self) -> Stream:
        return Stream(always_mask=self._is_client, expect_masking=not self._is_client)


def _send(stream: Stream, frame: bytes) -> None:
    stream.parser.send(frame)
    if stream.errors:
        error = stream.errors[0]
        raise Violation(error.code, _text(error.reason) or "Protocol error")


def _too_large(limit: int) -> Violation:
    return Violation(TOO_LARGE, f"Message is larger than {limit} bytes")


def _text(reason: bytes | str | None) -> str:
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason or ""
