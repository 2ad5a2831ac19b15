"""The body of a message: says who published it, and proves that it arrived whole."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from typing import Any

from junctor.cli.chaos.history import Received, Sent
from junctor.cli.chaos.plan import Draft

ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789 äßЖ中🙂\\"\n'


def sent_of(run: str, publisher: str, draft: Draft) -> Sent:
    """What is published, by its own message id, which no other run has."""
    return Sent(f"{run}-{publisher}-{draft.number}", draft.number, draft.priority, draft.expiration)


def body_of(sent: Sent, size: int) -> str:
    """The text of a message with ``size`` characters of filler, the same each time."""
    filler = "".join(random.Random(sent.id).choices(ALPHABET, k=size))  # noqa: S311 - filler, not secret
    return f"{sent.id}|{checksum(sent.id, filler):08x}|{filler}"


def received_of(message: Mapping[str, Any]) -> Received:
    """A message as a subscriber got it, in the form in which every subscriber gets it."""
    identifier, _, rest = str(message.get("data")).partition("|")
    given, _, filler = rest.partition("|")
    claimed = str(message.get("msg_id") or "")
    is_intact = identifier == claimed and given == f"{checksum(identifier, filler):08x}"
    return Received(claimed or identifier, int(message.get("delivery_count") or 0), is_intact)


def checksum(identifier: str, filler: str) -> int:
    """A number that another identifier or filler does not have."""
    return zlib.crc32(f"{identifier}|{filler}".encode())
