"""Encryption of secrets at rest, with keys that are never in the database.

A stored secret is ``junctor.1.KEY_ID.TEXT``: AES-256-GCM under the key KEY_ID, bound to the field that it belongs to, so that a value
cannot be moved to another field.  Keys come from a file of lines ``KEY_ID:BASE64``, the first one being used for new values.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets as random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from junctor.sql.errors import SecretUnreadable

PREFIX = "junctor.1."
KEY_ID = re.compile(r"[A-Za-z0-9_-]+")
KEY_SIZE = 32
NONCE_SIZE = 12
ENVIRONMENT_VARIABLE = "JUNCTOR_SECRET_KEYS"


class Secret:
    """A secret in memory: it shows itself to nobody who does not ask for ``reveal()``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def matches(self, value: str) -> bool:
        """Whether this is the secret."""
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass")
        )

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(******)"


class UnreadableSecret(Secret):
    """A secret whose key is not here: what needs it does not work, and says so; everything else does."""

    __slots__ = ("_reason",)

    def __init__(self, reason: str) -> None:
        super().__init__("")
        self._reason = reason

    def reveal(self) -> str:
        """Raises ``SecretUnreadable``."""
        raise SecretUnreadable(self._reason)

    def matches(self, value: str) -> bool:
        """Nobody can say, so no."""
        del value
        return False

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return other is self

    def __hash__(self) -> int:
        return id(self)


def new_key_line() -> str:
    """A fresh line for a key file."""
    return f"{random.token_hex(4)}:{urlsafe_b64encode(random.token_bytes(KEY_SIZE)).decode()}\n"


def parse_keys(text: str) -> dict[str, bytes]:
    """The keys of a key file by their ids, the active one first; raises ``SecretUnreadable``."""
    keys = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.strip().partition(":")
        try:
            key = urlsafe_b64decode(encoded)
        except (Base64Error, ValueError):
            key = b""
        if not KEY_ID.fullmatch(key_id) or len(key) != KEY_SIZE:
            raise SecretUnreadable(
                f"Line {number} of the secret keys is not of the form KEY_ID:BASE64 with 32 bytes."
            )
        if key_id in keys:
            raise SecretUnreadable(f"Line {number} of the secret keys has the key {key_id} twice.")
        keys[key_id] = key
    if not keys:
        raise SecretUnreadable("There are no secret keys: the key file is empty.")
    return keys


class Keyring:
    """Encrypts and decrypts secrets; reads its file again when it meets a key that it does not know."""

    def __init__(self, keys: Mapping[str, bytes], path: Path | None = None) -> None:
        self._path = path
        self._read_at = _state(path)
        self._use(keys)

    def _use(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self.active = next(iter(self._keys))
        self._ciphers = {key_id: AESGCM(_derive(key, b"encrypt")) for key_id, key in self._keys.items()}
        self._fingerprint_key = _derive(self._keys[self.active], b"fingerprint")

    @classmethod
    def load(cls, path: Path, *, given: str = "") -> Keyring:
        """The keys in ``given`` or ``$JUNCTOR_SECRET_KEYS`` (lines, or the path of a file) or else of the file ``path``."""
        given = given or os.environ.get(ENVIRONMENT_VARIABLE, "")
        if given and ":" in given and not given.startswith("/"):
            return cls(parse_keys(given))
        path = Path(given) if given else path
        return cls(_read(path), path)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, the active one first."""
        return tuple(self._keys)

    def encrypt(self, value: str, field: str) -> str:
        """The form in which ``value`` is stored for ``field`` ('kind.name'); '' stays ''."""
        if not value:
            return ""
        nonce = random.token_bytes(NONCE_SIZE)
        text = self._ciphers[self.active].encrypt(nonce, value.encode(), field.encode())
        return f"{PREFIX}{self.active}.{urlsafe_b64encode(nonce + text).decode()}"

    def decrypt(self, stored: str, field: str) -> Secret:
        """The secret behind a stored value; raises ``SecretUnreadable`` when its key is not here or it was tampered with."""
        if not stored:
            return Secret("")
        key_id, _, encoded = stored.removeprefix(PREFIX).partition(".")
        if not stored.startswith(PREFIX) or not encoded:
            raise SecretUnreadable(f"The stored value of {field} is not an encrypted secret.")
        cipher = self._cipher(key_id, field)
        try:
            raw = urlsafe_b64decode(encoded)
            plain = cipher.decrypt(raw[:NONCE_SIZE], raw[NONCE_SIZE:], field.encode())
        except (InvalidTag, ValueError):  # ValueError: no base64, or too short
            raise SecretUnreadable(
                f"The stored value of {field} does not fit its key {key_id}: it was changed."
            ) from None
        return Secret(plain.decode())

    def _cipher(self, key_id: str, field: str) -> AESGCM:
        if key_id not in self._ciphers and self._path is not None:
            self._use(_read(self._path))
        if key_id not in self._ciphers:
            known = ", ".join(self._keys)
            raise SecretUnreadable(
                f"{field} was encrypted with the key {key_id}; this environment has {known}."
            )
        return self._ciphers[key_id]

    def is_current(self, stored: str) -> bool:
        """Whether a stored value is encrypted with the active key."""
        return not stored or stored.startswith(f"{PREFIX}{self.active}.")

    def derive(self, purpose: str) -> list[bytes]:
        """A key of 32 bytes for ``purpose`` from each key of the ring, the newest first.

        They are the same in all processes that have the keys, for the same purpose.  What is signed with the first is verified with
        any of them, so that a key that came in front ends nothing; removing a key from the file does.
        """
        return [_derive(key, b"derive." + purpose.encode()) for key in self._keys.values()]

    def reload(self) -> bool:
        """Reads the key file again if it is another one than before; whether it was.  Raises ``SecretUnreadable``.

        While the file is as it was, this costs a look at its time, so that whoever sends what no key fits cannot make it cost more.
        """
        state = _state(self._path)
        if self._path is None or state == self._read_at:
            return False
        self._read_at = state
        self._use(_read(self._path))
        return True

    def fingerprint(self, value: str) -> str:
        """16 hex digits that are equal for equal secrets under one key, and tell nothing else; '' for ''."""
        if not value:
            return ""
        return hmac.new(self._fingerprint_key, value.encode(), hashlib.sha256).hexdigest()[:16]


def _read(path: Path) -> dict[str, bytes]:
    try:
        return parse_keys(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnreadable(f"The secret keys cannot be read from {path}: {error}.") from error


def _state(path: Path | None) -> tuple[int, int, int] | None:
    """What is different once a file was written again; None when it cannot be told."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if found else None


def _derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose, so that no key serves two (HKDF's expand step, RFC 5869, for a single block)."""
    return hmac.new(key, b"junctor." + purpose + b"\x01", hashlib.sha256).digest()
