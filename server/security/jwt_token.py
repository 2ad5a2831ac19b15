"""JSON Web Tokens (RFC 7519) as callers give them: taken apart with nothing left open, and not believed yet.

Stricter than it must be, where leniency would let two readers of one token see different things: base64 has one spelling, no
object has a member twice, and only the headers that matter here may matter anywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

from junctor.sql.errors import JunctorError

MAX_TOKEN: Final = 8192  # characters
LEEWAY: Final = 30  # seconds that an issuer's clock may be ahead of ours
FOREVER: Final = (
    253_402_300_799.0  # the end of the year 9999, in seconds since 1970; later expiry is as good as this
)
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES: Final = frozenset(
    {"jwt", "at+jwt", "application/at+jwt"}
)  # RFC 7519, section 5.1; RFC 9068, section 2.1
_UNKNOWN: Final = frozenset({"crit", "b64"})  # what would change how the rest is to be read


class TokenRefused(JunctorError):
    """The token is not valid.  The message is for tests: no caller is told why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose parts are well-formed; whether it is genuine, its signature tells.

    ``digest`` is the SHA-256 of what is signed; no other spelling of the same token has another one.
    """

    text: str
    algorithm: str
    key_id: str
    claims: dict[str, Any]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token that count here; ``expires`` is in seconds since 1970."""

    subject: str
    issuer: str
    audience: tuple[str, ...]
    expires: float


def parse(text: str) -> Token:
    """The token in ``text``.  Raises ``TokenRefused``."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused("It is too long.")
    found = _COMPACT.fullmatch(text)
    if found is None:
        raise TokenRefused("It does not have three parts in base64url.")
    header, claims = _object(_decoded(found[1])), _object(_decoded(found[2]))
    _decoded(found[3])
    algorithm, key_id, type_ = header.get("alg"), header.get("kid", ""), header.get("typ", "JWT")
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(type_, str)):
        raise TokenRefused("Its header has a member of the wrong type.")
    if type_.lower() not in _TYPES:
        raise TokenRefused("It is a token for another purpose.")
    if not _UNKNOWN.isdisjoint(header):
        raise TokenRefused("It demands what is not supported.")
    return Token(text, algorithm, key_id, claims, hashlib.sha256(text[: found.end(2)].encode()).digest())


def read(claims: dict[str, Any], now: float) -> Claims:
    """The claims, which must be of their types and hold at ``now``.  Raises ``TokenRefused``."""
    subject, issuer = claims.get("sub"), claims.get("iss", "")
    audience = claims.get("aud", [])
    audience = [audience] if isinstance(audience, str) else audience
    if not (isinstance(subject, str) and isinstance(issuer, str) and isinstance(audience, list)):
        raise TokenRefused("A claim is missing, or of the wrong type.")
    if not all(isinstance(name, str) for name in audience):
        raise TokenRefused("The audience is not made of texts.")
    expires = min(_moment(claims, "exp"), FOREVER)
    if expires <= now:
        raise TokenRefused("It has expired.")
    for name in ("iat", "nbf"):
        if name in claims and _moment(claims, name) > now + LEEWAY:
            raise TokenRefused("It is from the future.")
    return Claims(subject, issuer, tuple(audience), float(expires))


def _moment(claims: dict[str, Any], name: str) -> float:
    """A time among the claims: a number, not the text of one.  Raises ``TokenRefused``."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(f"{name} is missing, or no number.")
    return value


def _decoded(part: str) -> bytes:
    """The bytes of a part, which must be in the one spelling that they have: without padding, and without bits left over."""
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenRefused("A part is not base64url.") from None
    if urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise TokenRefused("A part is not base64url in its one spelling.")
    return raw


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise TokenRefused("A part is not JSON.") from None
    if not isinstance(found, dict):
        raise TokenRefused("A part is no JSON object.")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("A member is there twice.")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON.")
