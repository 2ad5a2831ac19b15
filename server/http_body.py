"""The body of a request that was not complete when its head was: read from the connection as the application reads."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final, Protocol

from junctor.server.http_request import END_OF_HEAD, check_trailers
from junctor.server.http_settings import HTTPLimits
from junctor.sql.errors import BadRequest, PayloadTooLarge, RequestRefused

Receive = Callable[[int], bytes]

# What the application's reads are buffered by, and the most that is read of a chunked body at a time: a reading of the
# smallest chunks is worth 3 ms of decoding, which is what a client can make the others wait.
BUFFER_SIZE: Final = 65_536
_CHUNKED_READ: Final = 16_384

_MAX_CHUNK_LINE: Final = 1024
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION: Final = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
# RFC 9112 section 7.1; sixteen digits are more than any body may have.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")


class Body(Protocol):
    """A body on its way; ``complete`` once all of it has arrived."""

    complete: bool

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes or fewer, ``b""`` at the end.  Raises RequestRefused if they cannot be had."""
        ...  # pragma: no cover


class LengthBody:
    """A body whose Content-Length is known; ``buffered``, less than all of it, has arrived already."""

    __slots__ = ("_buffered", "_left", "_receive", "complete")

    def __init__(self, length: int, buffered: bytes, receive: Receive) -> None:
        self._left = length - len(buffered)
        self._buffered = buffered
        self._receive = receive
        self.complete = False

    def read(self, size: int) -> bytes:
        """See Body."""
        if self._buffered:
            piece, self._buffered = self._buffered[:size], self._buffered[size:]
            return piece
        if self.complete:
            return b""
        piece = self._receive(min(size, self._left))
        self._left -= len(piece)
        self.complete = not self._left
        return piece


class ChunkedBody:
    """A body in chunks: RFC 9112 section 7.1.

    ``rest`` is what came after the end, for the next request.  Beyond ``limits.body_size`` the error is
    PayloadTooLarge, for what is not the grammar, or has more than ``limits.header_size`` bytes of extensions in all, it
    is BadRequest.  Trailers are checked and dropped.
    """

    __slots__ = (
        "_decoded",
        "_extensions",
        "_left",
        "_limits",
        "_pending",
        "_pieces",
        "_receive",
        "_step",
        "_total",
        "complete",
        "rest",
    )

    def __init__(self, limits: HTTPLimits, receive: Receive) -> None:
        self._limits = limits
        self._receive = receive
        # Each step takes the data and a position, and returns the position it got to, -1 if it needs more data.
        self._step: Callable[[bytes, int], int] = self._chunk_line
        self._pieces: list[bytes] = []
        self._decoded = self._pending = self.rest = b""
        self._left = self._total = self._extensions = 0
        self.complete = False

    def read(self, size: int) -> bytes:
        """See Body."""
        while not self._decoded and not self.complete:
            self.feed(self._receive(_CHUNKED_READ))
        piece, self._decoded = self._decoded[:size], self._decoded[size:]
        return piece

    def feed(self, data: bytes) -> None:
        """Decodes the next bytes of the connection."""
        data = self._pending + data
        position = reached = 0
        while reached >= 0 and not self.complete:
            position = reached
            reached = self._step(data, position)
        if self.complete:
            self.rest, self._pending = data[reached:], b""
        else:
            self._pending = data[position:]
        self._decoded += b"".join(self._pieces)
        self._pieces.clear()

    def _chunk_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position, position + _MAX_CHUNK_LINE)
        if end < 0:
            if len(data) - position >= _MAX_CHUNK_LINE or data.find(b"\n", position) >= 0:
                raise BadRequest(msg="a chunk size line is too long or does not end with CRLF")
            return -1
        line = _CHUNK_LINE.fullmatch(data, position, end)
        if line is None:
            raise BadRequest(msg="malformed chunk size")
        self._left = int(line[1], 16)
        self._total += self._left
        self._extensions += len(line[2])
        if self._total > self._limits.body_size:
            raise PayloadTooLarge
        if self._extensions > self._limits.header_size:
            raise BadRequest(msg="too many chunk extensions")
        self._step = self._chunk if self._left else self._trailers
        return end + 2

    def _chunk(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        if not piece:
            return -1
        self._pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = self._end_of_chunk
        return position + len(piece)

    def _end_of_chunk(self, data: bytes, position: int) -> int:
        end = data[position : position + 2]
        if not b"\r\n".startswith(end):
            raise BadRequest(msg="a chunk does not end where its size says")
        if len(end) < len(b"\r\n"):
            return -1
        self._step = self._chunk_line
        return position + 2

    def _trailers(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self.complete = True
            return position + 2
        end = data.find(END_OF_HEAD, position)
        if end < 0:
            if len(data) - position > self._limits.header_size:
                raise BadRequest(msg="the trailers are too large")
            if data.count(b"\n", position) != data.count(b"\r\n", position):
                raise BadRequest(msg="malformed trailers")
            return -1
        end += len(END_OF_HEAD)
        check_trailers(data[position:end])
        self.complete = True
        return end


class BodyStream(io.RawIOBase):
    """``wsgi.input`` for a body on its way, below an ``io.BufferedReader``.

    ``failure`` is the error that ended it, which every further read raises again.
    """

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body
        self.failure: RequestRefused | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        """The number of bytes put into ``buffer``, 0 at the end.  Raises RequestRefused if they cannot be had."""
        if self.failure is not None:
            raise self.failure
        try:
            piece = self._body.read(len(buffer))
        except RequestRefused as refused:
            self.failure = refused
            raise
        buffer[: len(piece)] = piece
        return len(piece)
