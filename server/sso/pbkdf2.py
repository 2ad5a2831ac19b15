"""Passwords hashed with PBKDF2 (RFC 8018, section 5.2), in the formats of passlib and of Django."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

MAX_ROUNDS: Final = 10_000_000
MAX_SALT: Final = 1024  # bytes
OWN: Final = "sha512"

_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha512": hashes.SHA512(),
    "sha256": hashes.SHA256(),
    "sha1": hashes.SHA1(),  # noqa: S303 - within HMAC, of hashes that others made; replaced when the user logs in
}
_PASSLIB: Final = re.compile(
    r"\$pbkdf2(?:-(sha512|sha256))?\$([1-9][0-9]{0,8})\$([A-Za-z0-9./]+)\$([A-Za-z0-9./]+)", re.ASCII
)
_DJANGO: Final = re.compile(
    r"pbkdf2_(sha512|sha256|sha1)\$([1-9][0-9]{0,8})\$([^$\0]+)\$([A-Za-z0-9+/]+={0,2})"
)


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """A hash: what it was made of but the password, and what came out."""

    digest: str
    rounds: int
    salt: bytes
    checksum: bytes = field(repr=False)
    is_passlib: bool = True

    def matches(self, password: bytes) -> bool:
        """Whether it is of this password; takes as long as there are rounds."""
        return hmac.compare_digest(derive(password, self.salt, self.rounds, self.digest), self.checksum)

    def __str__(self) -> str:
        """The hash as passlib writes it."""
        name = "" if self.digest == "sha1" else f"-{self.digest}"
        return f"$pbkdf2{name}${self.rounds}${_encoded(self.salt)}${_encoded(self.checksum)}"


def derive(password: bytes, salt: bytes, rounds: int, digest: str = OWN) -> bytes:
    """The checksum of a password; the interpreter's lock is free meanwhile."""
    algorithm = _DIGESTS[digest]
    return PBKDF2HMAC(algorithm, algorithm.digest_size, salt, rounds).derive(password)


def made(password: bytes, rounds: int, salt_size: int) -> Pbkdf2:
    """A new hash, with HMAC-SHA512."""
    salt = secrets.token_bytes(salt_size)
    return Pbkdf2(OWN, rounds, salt, derive(password, salt, rounds))


def unmatched(rounds: int, salt_size: int) -> Pbkdf2:
    """A hash that is of no password, and takes as long to compare as any."""
    return Pbkdf2(OWN, rounds, secrets.token_bytes(salt_size), secrets.token_bytes(64))


def parsed(text: str) -> Pbkdf2 | None:
    """The hash in one of the formats; None for what is in none, or would take too long to compare."""
    if found := _PASSLIB.fullmatch(text):
        hash_ = _of(found[1] or "sha1", found[2], _decoded(found[3]), _decoded(found[4]), is_passlib=True)
    elif found := _DJANGO.fullmatch(text):
        hash_ = _of(found[1], found[2], found[3].encode(), _decoded(found[4]), is_passlib=False)
    else:
        hash_ = None
    return hash_


def _of(digest: str, rounds: str, salt: bytes, checksum: bytes, *, is_passlib: bool) -> Pbkdf2 | None:
    fits = len(checksum) == _DIGESTS[digest].digest_size and 0 < len(salt) <= MAX_SALT
    if not fits or int(rounds) > MAX_ROUNDS:
        return None
    return Pbkdf2(digest, int(rounds), salt, checksum, is_passlib)


def _encoded(data: bytes) -> str:
    return b64encode(data, b"./").decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Base 64 with or without padding, '.' being another '+'; b'' for what is none."""
    text = text.rstrip("=").replace(".", "+")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        return b""
