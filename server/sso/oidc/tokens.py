"""Tokens that are signed: access tokens (RFC 9068) and ID tokens (OpenID Connect Core, section 2)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authlib.oidc.core.util import create_half_hash
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from junctor.server.sso.oidc.grants import remaining
from junctor.server.sso.oidc.keys import ALGORITHM

if TYPE_CHECKING:
    from junctor.server.sso.oidc.grants import Grant
    from junctor.server.sso.records import User
    from junctor.server.sso.single_sign_on import SingleSignOn

ACCESS, ID = "at+jwt", "JWT"
MAX_TOKEN: Final = 4096  # characters
ONE_FACTOR, TWO_FACTORS = "1", "2"
LEEWAY: Final = 5  # seconds that clocks of servers may differ


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What an access token of ours says: which grant it is of, and of which scopes."""

    grant_id: str
    scope: str
    claims: dict[str, Any]


class Tokens:
    """Signs and reads tokens."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def access(self, grant: Grant, user: User, scope: str) -> tuple[str, int]:
        """An access token, and how many seconds it lives."""
        seconds = remaining(grant, self._sso.settings["oidc_access_token_ttl"])
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": user.user_id,
            "client_id": grant.app,
            "iat": now,
            "exp": now + seconds,
            "jti": f"{grant.public_id}.{secrets.token_urlsafe(12)}",
            "scope": scope,
            **self._proof(grant),
        }
        return self._signed(ACCESS, claims), seconds

    def id_token(self, grant: Grant, user: User, access_token: str, *, nonce: str = "") -> str:
        """The ID token that goes with an access token.

        It says who logged in, when and how; names and addresses are given to whoever asks for them (``userinfo``).
        """
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": grant.app,
            "sub": user.user_id,
            "iat": now,
            "exp": now + remaining(grant, self._sso.settings["oidc_access_token_ttl"]),
            "at_hash": _half_hash(access_token),
            **self._proof(grant),
        }
        if nonce:
            claims["nonce"] = nonce
        if grant.sid:
            claims["sid"] = grant.sid
        return self._signed(ID, claims)

    def read_access(self, token: str) -> AccessToken | None:
        """What an access token says; None for what is none of ours or has expired.  Whether its grant is valid is not looked at."""
        claims = self._read(token, ACCESS)
        if claims is None or claims.get("aud") != self._issuer:
            return None
        expires = claims.get("exp")
        if not isinstance(expires, int) or expires + LEEWAY <= time.time():
            return None
        grant_id, scope = str(claims.get("jti", "")).partition(".")[0], claims.get("scope")
        return AccessToken(grant_id, scope, claims) if isinstance(scope, str) else None

    def read_hint(self, token: str) -> dict[str, Any] | None:
        """The claims of an ID token of ours, expired or not; None for what is none."""
        claims = self._read(token, ID)
        return claims if claims is not None and isinstance(claims.get("aud"), str) else None

    @property
    def _issuer(self) -> str:
        return self._sso.oidc.issuer

    def _proof(self, grant: Grant) -> dict[str, Any]:
        return {
            "auth_time": int(grant.auth_time.timestamp()),
            "acr": level_of(grant.auth_factors),
            "amr": list(grant.auth_factors),
        }

    def _signed(self, type_: str, claims: dict[str, Any]) -> str:
        key = self._sso.oidc.keys.signing()
        header = {"alg": ALGORITHM, "typ": type_, "kid": key.kid}
        return jwt.encode(header, claims, key.key, [ALGORITHM])

    def _read(self, token: str, type_: str) -> dict[str, Any] | None:
        if not token or len(token) > MAX_TOKEN or not token.isascii():
            return None
        try:
            header = jws.extract_compact(token.encode()).headers()
            key = self._key(header)
            if key is None or header.get("typ") != type_:
                return None
            found = jwt.decode(token, key, [ALGORITHM])
        except (JoseError, ValueError):
            return None
        claims = dict(found.claims)
        return claims if claims.get("iss") == self._issuer else None

    def _key(self, header: dict[str, Any]) -> RSAKey | None:
        kid = header.get("kid")
        return self._sso.oidc.keys.find(kid) if isinstance(kid, str) else None


def level_of(factors: Collection[str]) -> str:
    """How well the user proved who they are (``acr``): '2' with two factors, or with one that is two by itself, '1' otherwise."""
    kinds = {
        "pwd": "knows",
        "pin": "knows",
        "otp": "has",
        "hwk": "has",
        "swk": "has",
        "sms": "has",
        "pop": "has",
    }
    found = {kinds[factor] for factor in factors if factor in kinds}
    return TWO_FACTORS if "mfa" in factors or "user" in factors or len(found) > 1 else ONE_FACTOR


def _half_hash(token: str) -> str:
    made = create_half_hash(token, ALGORITHM)
    assert made is not None, "the algorithm is a known one"
    return str(made.decode())
