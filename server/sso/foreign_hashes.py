"""Hashes of passwords that other systems made: bcrypt, Argon2, scrypt, and the forms that Django stores them in.

Each has an upper bound on what it costs to compare, so that a hash that was imported cannot keep a worker busy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Final, Protocol

import argon2
import bcrypt

from junctor.server.sso import pbkdf2

MAX_TEXT: Final = 4000  # characters
MAX_BCRYPT_COST: Final = 15
MAX_MEMORY: Final = 256 * 2**20  # bytes, of Argon2 and scrypt
MAX_WORK: Final = 2**30  # bytes of memory gone through, of Argon2 and scrypt
MAX_PARALLELISM: Final = 16
BCRYPT_LENGTH: Final = 72  # bytes of a password that bcrypt looks at

_BCRYPT: Final = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,4}),p=([0-9]{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)", re.ASCII
)


class Hash(Protocol):
    """A hash of a password."""

    def matches(self, password: bytes) -> bool:
        """Whether it is of this password."""


class _Bcrypt:
    def __init__(self, text: str, *, is_digested: bool = False) -> None:
        self._hash = text.encode()
        self._is_digested = is_digested

    def matches(self, password: bytes) -> bool:
        if self._is_digested:
            password = hashlib.sha256(password).hexdigest().encode()
        try:
            # Who made the hash looked at no more than this; the next hash will be of the whole password.
            return bcrypt.checkpw(password[:BCRYPT_LENGTH], self._hash)
        except ValueError:  # the salt or the password is none that bcrypt could have
            return False


class _Argon2:
    def __init__(self, text: str) -> None:
        self._hash = text

    def matches(self, password: bytes) -> bool:
        try:
            return argon2.PasswordHasher().verify(self._hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


class _Scrypt:
    def __init__(self, found: re.Match[str]) -> None:
        self._n, self._r, self._p = 2 ** int(found[1]), int(found[2]), int(found[3])
        self._salt, self._checksum = _decoded(found[4]), _decoded(found[5])

    @property
    def is_bounded(self) -> bool:
        memory = 128 * self._n * self._r
        return (
            self._n > 1
            and 0 < self._p <= MAX_PARALLELISM
            and 0 < memory <= MAX_MEMORY
            and memory * self._p <= MAX_WORK
            and 16 <= len(self._checksum) <= 128
        )

    def matches(self, password: bytes) -> bool:
        memory = 128 * self._r * (self._n + self._p + 2) + 2**20
        try:
            made = hashlib.scrypt(
                password,
                salt=self._salt,
                n=self._n,
                r=self._r,
                p=self._p,
                maxmem=memory,
                dklen=len(self._checksum),
            )
        except ValueError:  # parameters that scrypt cannot have
            return False
        return hmac.compare_digest(made, self._checksum)


def parsed(text: str) -> Hash | None:
    """The hash in any of the formats, PBKDF2's included; None for what is in none, or would cost too much to compare."""
    if len(text) > MAX_TEXT or not text.isascii():
        return None
    for prefix, parse in _FORMATS.items():
        if text.startswith(prefix):
            return parse(text)
    return None


def _bcrypt(text: str) -> Hash | None:
    prefix, _, rest = text.partition("$") if not text.startswith("$") else ("", "", text)
    found = _BCRYPT.fullmatch(rest)
    if found is None or not 4 <= int(found[1]) <= MAX_BCRYPT_COST:
        return None
    return _Bcrypt(rest, is_digested=prefix == "bcrypt_sha256")


def _argon2(text: str) -> Hash | None:
    text = text.removeprefix("argon2") if text.startswith("argon2$") else text
    try:
        cost = argon2.extract_parameters(text)
    except (argon2.exceptions.InvalidHashError, ValueError):
        return None
    memory = cost.memory_cost * 1024
    is_bounded = (
        0 < memory <= MAX_MEMORY and cost.time_cost > 0 and memory * cost.time_cost <= MAX_WORK
    ) and 0 < cost.parallelism <= MAX_PARALLELISM
    return _Argon2(text) if is_bounded else None


def _scrypt(text: str) -> Hash | None:
    found = _SCRYPT.fullmatch(text)
    if found is None or int(found[1]) > 24:
        return None
    made = _Scrypt(found)
    return made if made.is_bounded else None


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return b""


_FORMATS: Final[dict[str, Callable[[str], Hash | None]]] = {
    "$pbkdf2": pbkdf2.parsed,
    "pbkdf2_": pbkdf2.parsed,
    "$2": _bcrypt,
    "bcrypt$": _bcrypt,
    "bcrypt_sha256$": _bcrypt,
    "$argon2": _argon2,
    "argon2$": _argon2,
    "$scrypt$": _scrypt,
}
