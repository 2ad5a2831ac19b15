"""What is stored together or not at all: the messages of one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from junctor.server.pubsub.message import NewMessage
from junctor.server.pubsub.writer_sql import COLUMNS
from junctor.sql.errors import DuplicateMessage, InvalidInput, PayloadTooLarge

MAX_BYTES: Final = 32 * 2**20  # of all messages of a call
_NUL: Final = b"\\u0000"  # as JSON has it


def _defaults() -> dict[str, Any]:
    """The columns with their defaults, which are not written."""
    declared = {field.name: field for field in msgspec.structs.fields(NewMessage)}
    return {
        name: None
        if declared[name].required
        else declared[name].default
        if declared[name].default is not msgspec.NODEFAULT
        else []
        for name in COLUMNS
    }


_DEFAULTS: Final = tuple(_defaults().items())


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Messages that are stored together or not at all.

    ``document`` has them as JSON objects with commas between them.  ``own_ids`` are those of their ids that the publisher gave.
    ``is_relaxed`` says that it need not wait for the disk.
    """

    document: bytes
    count: int
    own_ids: tuple[str, ...]
    topic_ids: frozenset[int]
    is_relaxed: bool

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.document)


def unit_of(messages: Sequence[NewMessage], *, is_relaxed: bool = False) -> Unit:
    """The unit of some messages, of which there must be at least one.

    Raises ``InvalidInput`` for what PostgreSQL does not store, ``PayloadTooLarge``, and ``DuplicateMessage`` if two have the same id.
    """
    rows = [
        {name: value for name, default in _DEFAULTS if (value := getattr(message, name)) != default}
        for message in messages
    ]
    try:
        document = orjson.dumps(rows)[1:-1]
    except orjson.JSONEncodeError as error:
        raise InvalidInput.one("", f"Messages must be text that UTF-8 can express: {error}.") from None
    if len(document) > MAX_BYTES:
        raise PayloadTooLarge(
            msg=f"The messages have {len(document)} bytes together, more than the {MAX_BYTES} that one call may publish."
        )
    if _NUL in document:
        _refuse_nul(rows)
    own_ids = tuple(message.msg_id for message in messages if message.is_own_id)
    if len(set(own_ids)) < len(own_ids):
        raise DuplicateMessage(msg="Duplicate msg_id: two of the messages have the same.")
    topics = frozenset(message.topic_id for message in messages)
    return Unit(document, len(messages), own_ids, topics, is_relaxed)


def _refuse_nul(rows: Sequence[dict[str, Any]]) -> None:
    """Raises ``InvalidInput`` if there is a NUL character; what looks like one may be a backslash with a few characters behind it."""
    for row in rows:
        for name, value in row.items():
            for text in value if isinstance(value, list) else (value,):
                if isinstance(text, str) and "\0" in text:
                    raise InvalidInput.one(name, "has a NUL character, which cannot be stored.")
