"""Messages between workers: encrypted, for one worker alone, and opened once.

A sealed message is a head of VERSION SENDER COUNTER TIME LENGTH TAG, of 1, 16, 12, 8, 4 and 16 bytes, and a TEXT.  The TEXT is encrypted
with AES-256-GCM under a key that only the servers of the cluster can derive, from their secret keys and the SENDER, which is random for
each process.  COUNTER, which a sender never uses twice, is the nonce.  TAG is the HMAC of the head, so that a stranger is known before the
TEXT is read.  The answer is encrypted under another key of the same sender, with the same nonce.
"""

from __future__ import annotations

import hmac
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from junctor.sql.errors import JunctorError
from junctor.sql.secrets import Keyring

PURPOSE: Final = "websocket.relay"
WINDOW: Final = 60.0  # seconds that the clocks of two servers may differ, travel included
REMEMBERED: Final = (
    65_536  # messages of a sender, of which none is opened twice; what is older than all of them is refused
)
MAX_SENDERS: Final = 10_000
_FIELDS: Final = struct.Struct(">c16s12sQI")
_TAG_SIZE: Final = 16
_VERSION: Final = b"\x01"
_HEAD, _REQUEST, _ANSWER = b"head", b"request", b"answer"
HEAD_SIZE: Final = _FIELDS.size + _TAG_SIZE
OVERHEAD: Final = HEAD_SIZE + 16  # bytes that sealing adds


class NotGenuine(JunctorError):
    """The message is not from a server of this cluster, not for this worker, or not in time."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A message, and what seals the answer to it."""

    body: bytes
    sender: bytes
    number: int
    seal_answer: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed message, and what opens the answer to it, raising ``NotGenuine``."""

    message: bytes
    open_answer: Callable[[bytes], bytes]


class Seals:
    """Seals and opens with the keys of a keyring; those of one process.

    ``target`` names the worker that a message is for: no other one opens it.
    """

    def __init__(self, keyring: Keyring, *, now: Callable[[], float] = time.time) -> None:
        self._keyring = keyring
        self._now = now
        self._sender = os.urandom(16)
        self._numbers = count(1)

    def seal(self, target: str, body: bytes) -> Sealed:
        """``body``, for ``target`` alone."""
        key, sender = self._keyring.derive(PURPOSE)[0], self._sender
        nonce = next(self._numbers).to_bytes(12)
        fields = _FIELDS.pack(_VERSION, sender, nonce, int(self._now() * 1000), len(body))
        head = fields + _tag(key, fields, target)
        text = _cipher(key, _REQUEST, sender).encrypt(nonce, body, head)

        def open_answer(answer: bytes) -> bytes:
            try:
                return _cipher(key, _ANSWER, sender).decrypt(nonce, answer, head)
            except (InvalidTag, ValueError):
                raise NotGenuine("The answer is not from the worker that was asked.") from None

        return Sealed(head + text, open_answer)

    def length(self, target: str, head: bytes) -> int:
        """How many bytes the whole message has that begins with this head.  Raises ``NotGenuine``."""
        self._key(target, head)
        length: int = _FIELDS.unpack_from(head)[-1]
        return OVERHEAD + length

    def open(self, target: str, message: bytes) -> Opened:
        """A message for ``target``.  Raises ``NotGenuine``; whether it was opened before, only ``Replays`` tells."""
        head = message[:HEAD_SIZE]
        key = self._key(target, head)
        _, sender, nonce, _, _ = _FIELDS.unpack_from(head)
        try:
            body = _cipher(key, _REQUEST, sender).decrypt(nonce, message[HEAD_SIZE:], head)
        except (InvalidTag, ValueError):
            raise NotGenuine("It was changed on its way.") from None

        def seal_answer(answer: bytes) -> bytes:
            return _cipher(key, _ANSWER, sender).encrypt(nonce, answer, head)

        return Opened(body, sender, int.from_bytes(nonce), seal_answer)

    def _key(self, target: str, head: bytes) -> bytes:
        """The key that a head was made with.  Raises ``NotGenuine`` if it is no head for ``target``, or not from now."""
        if len(head) != HEAD_SIZE or head[:1] != _VERSION:
            raise NotGenuine("It is no message between workers of this version.")
        key = self._fitting(target, head)
        if key is None and self._keyring.reload():
            key = self._fitting(target, head)
        if key is None:
            raise NotGenuine("It does not fit the secret keys of this server, or is for another worker.")
        late = self._now() - _FIELDS.unpack_from(head)[3] / 1000
        if abs(late) > WINDOW:
            raise NotGenuine(
                f"By the sender's clock, it was sent {late:.0f} s ago: the servers' clocks must agree."
            )
        return key

    def _fitting(self, target: str, head: bytes) -> bytes | None:
        fields, tag = head[: _FIELDS.size], head[_FIELDS.size :]
        keys = self._keyring.derive(PURPOSE)
        fitting = [key for key in keys if hmac.compare_digest(_tag(key, fields, target), tag)]
        return fitting[0] if fitting else None


class Replays:
    """Which messages of which senders were opened already: the last ``REMEMBERED`` of each, a bit for each."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._senders: dict[bytes, tuple[int, int, float]] = {}  # the highest number, bits below it, when

    def __len__(self) -> int:
        return len(self._senders)

    def is_new(self, sender: bytes, number: int) -> bool:
        """Whether this is the first time; to be asked only of messages that are genuine."""
        now = self._now()
        highest, seen, _ = self._senders.get(sender) or (0, 0, 0.0)
        if number > highest:
            shift = number - highest
            seen = (seen << shift if shift < REMEMBERED else 0) & _ALL | 1
            highest = number
        else:
            bit = 1 << (highest - number)
            if highest - number >= REMEMBERED or seen & bit:
                return False
            seen |= bit
        if sender not in self._senders and len(self._senders) >= MAX_SENDERS and not self._forget(now):
            return False
        self._senders[sender] = (highest, seen, now)
        return True

    def _forget(self, now: float) -> bool:
        """Forgets senders whose messages are all too old to be opened by now; whether there were any."""
        old = [sender for sender, (_, _, last) in self._senders.items() if now - last > 2 * WINDOW + 1]
        for sender in old:
            del self._senders[sender]
        return bool(old)


_ALL: Final = (1 << REMEMBERED) - 1


def _cipher(key: bytes, purpose: bytes, sender: bytes) -> AESGCM:
    """A cipher of one sender for one direction, so that its nonces need be unique there alone."""
    return AESGCM(hmac.digest(key, purpose + sender, "sha256"))


def _tag(key: bytes, fields: bytes, target: str) -> bytes:
    return hmac.digest(key, _HEAD + fields + target.encode(), "sha256")[:_TAG_SIZE]
