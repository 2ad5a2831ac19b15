"""What proves that a row of the audit trail is as it was written: its seal, and its link in the chain.

The content of a row is one line of JSON, the same whoever makes it: the fields of ``FIELDS``, sorted, without spaces, in UTF-8.
A seal is a keyed digest of it; a link is a plain SHA-256 of the link before, the position and the content, so that somebody without the
keys can check an exported trail as well.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from junctor.sql.secrets import Keyring

FIELDS: Final = (
    "cluster_id",
    "at",
    "cid",
    "op",
    "outcome",
    "actor",
    "target",
    "app",
    "remote_addr",
    "user_agent",
    "reason",
    "extra",
)
SALT_SIZE: Final = 8  # bytes; so that no two seals are equal, and a copy of a row is refused as one
START: Final = bytes(32)
"""What comes before the first link of a chain."""


def content(row: Mapping[str, Any]) -> bytes:
    """The content of a row of ``AuditEvent``; ``at`` in ISO 8601, UTC, with microseconds."""
    values = {name: row[name] for name in FIELDS}
    values["at"] = timestamp(row["at"])
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def timestamp(at: datetime) -> str:
    """A time as content has it: '2026-11-24T20:15:01.000042+00:00'."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def link(previous: bytes, position: int, of: bytes) -> bytes:
    """The chain value of the content ``of`` at ``position``: 32 bytes."""
    return hashlib.sha256(previous + position.to_bytes(8, "big") + of).digest()


class Seals:
    """Makes and checks seals for one ``purpose``, under the keys of a cluster: the newest makes, all of them check."""

    def __init__(self, keyring: Keyring, purpose: str) -> None:
        self._keyring = keyring
        self._purpose = purpose
        self._ids: tuple[str, ...] = ()
        self._keys: dict[str, bytes] = {}

    def make(self, of: bytes) -> tuple[str, bytes]:
        """The id of the key and the seal of a content: salt and digest."""
        keys = self._current()
        key_id = self._ids[0]
        salt = secrets.token_bytes(SALT_SIZE)
        return key_id, salt + hmac.digest(keys[key_id], salt + of, "sha256")

    def check(self, of: bytes, key_id: str, seal: bytes) -> bool | None:
        """Whether the seal is this content's; None if its key is not in the ring any more, or not yet."""
        key = self._current().get(key_id)
        if key is None and self._keyring.reload():
            key = self._current().get(key_id)
        if key is None:
            return None
        salt, digest = seal[:SALT_SIZE], seal[SALT_SIZE:]
        return hmac.compare_digest(hmac.digest(key, salt + of, "sha256"), digest)

    @property
    def active(self) -> str:
        """The id of the key that makes seals now."""
        return self._keyring.active

    def _current(self) -> dict[str, bytes]:
        ids = self._keyring.ids
        if ids != self._ids:
            self._keys, self._ids = dict(zip(ids, self._keyring.derive(self._purpose), strict=True)), ids
        return self._keys
