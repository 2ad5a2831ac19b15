"""permessage-deflate (RFC 7692), without context takeover: nothing of a message is kept for the next one.

So a connection that compresses needs no more memory than one that does not, as long as no message is on its way.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import gevent

from junctor.server.websocket.stream import INVALID_DATA, TOO_LARGE, Violation

NAME: Final = "permessage-deflate"
OFFER: Final = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
MIN_SIZE: Final = 1024  # bytes: smaller messages are hardly ever worth it
INLINE: Final = 65_536  # bytes: more of them would keep the other greenlets waiting, and are a thread's work
MAX_BITS, MIN_BITS = 15, 9  # of the window; zlib cannot keep to the 8 that the RFC allows as well
LEVEL: Final = 1
_TAIL: Final = b"\x00\x00\xff\xff"  # every message ends with it, and is sent without it
_LAST_BLOCK_TAILS: Final = (
    b"",
    _TAIL,
    b"\x00" + _TAIL,
)  # what may follow a last block (RFC 7692, section 7.2.3.5)
_SWITCHES: Final = frozenset({"server_no_context_takeover", "client_no_context_takeover"})
_BITS: Final = frozenset({"server_max_window_bits", "client_max_window_bits"})


class Agreement(NamedTuple):
    """What was agreed on: how many bits the window of our own messages has, and the header of the server that says so."""

    bits: int
    header: str


def accept(offers: str) -> Agreement | None:
    """What the server agrees to of what a client offers in Sec-WebSocket-Extensions; None when it is none of it."""
    for offer in offers.split(","):
        parameters = _parameters(offer)
        if parameters is None:
            continue
        bits = _bits(parameters.get("server_max_window_bits", str(MAX_BITS)))
        if not bits:
            continue
        limit = f"; server_max_window_bits={bits}" if "server_max_window_bits" in parameters else ""
        return Agreement(bits, OFFER + limit)
    return None


def accepted(answer: str) -> Agreement | None:
    """What a server agreed to, of the offer ``OFFER``; None when that is not what was offered."""
    parameters = _parameters(answer)
    if (
        parameters is None
        or "server_no_context_takeover" not in parameters
        or "client_max_window_bits" in parameters
    ):
        return None
    return Agreement(MAX_BITS, answer)


def compress(message: bytes, bits: int) -> bytes:
    """A message as it is sent, in a window of so many bits."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -bits)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


def decompress(data: bytes, limit: int) -> bytes:
    """A message of at most ``limit`` bytes from what was sent.  Waits for a thread if there is much of it.

    Raises ``Violation`` when there is more, or when it is something else.
    """
    decompressor = zlib.decompressobj(-MAX_BITS)
    rest, message = data + _TAIL, b""
    try:
        if len(data) <= INLINE:
            message = decompressor.decompress(rest, min(INLINE, limit + 1))
            rest = decompressor.unconsumed_tail
        if rest and len(message) <= limit:
            message += in_thread(decompressor.decompress, rest, limit + 1 - len(message))
    except zlib.error as error:
        raise Violation(INVALID_DATA, "Message is not compressed with deflate") from error
    if len(message) > limit:
        raise Violation(TOO_LARGE, f"Message is larger than {limit} bytes")
    if decompressor.eof and decompressor.unused_data not in _LAST_BLOCK_TAILS:
        raise Violation(INVALID_DATA, "Compressed message goes on after its end")
    return message


def in_thread(work: Callable[..., bytes], *arguments: Any) -> bytes:
    """What ``work`` returns or raises, while the other greenlets run."""
    done: bytes = gevent.get_hub().threadpool.apply(work, arguments)
    return done


def _parameters(offer: str) -> dict[str, str] | None:
    """The parameters of one extension; None when it is another one, or one that says what nobody knows."""
    name, *rest = (item.strip() for item in offer.split(";"))
    if name.lower() != NAME:
        return None
    found: dict[str, str] = {}
    for item in rest:
        key, is_given, value = (part.strip() for part in item.partition("="))
        key, value = key.lower(), value.strip('"')
        if key in found or not _is_parameter(key, value, is_given=bool(is_given)):
            return None
        found[key] = value
    return found


def _is_parameter(key: str, value: str, *, is_given: bool) -> bool:
    if key in _SWITCHES:
        return not is_given
    may_be_bare = key == "client_max_window_bits" and not is_given
    return may_be_bare or (key in _BITS and 8 <= _number(value) <= MAX_BITS)


def _bits(value: str) -> int:
    """The bits of a window; 0 when zlib has none of that size."""
    return bits if (bits := _number(value)) >= MIN_BITS else 0


def _number(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() and value[0] != "0" and len(value) < 3 else 0
