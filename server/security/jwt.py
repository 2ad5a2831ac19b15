"""JSON Web Tokens: a live definition that verifies them, and issues them."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jwt import InvalidSignatureError, PyJWS, PyJWTError
from jwt import encode as sign

from junctor.server.runtime.live import Live
from junctor.server.security.definitions import Definition, digest
from junctor.server.security.jwt_keys import ClusterKeys, Key, keys_of
from junctor.server.security.jwt_token import MAX_TOKEN, Claims, Token, TokenRefused, parse, read
from junctor.server.service.channel import ChannelSecurityInfo
from junctor.sql.config import Config
from junctor.sql.errors import ConnectionFailed

if TYPE_CHECKING:
    from junctor.server.context import Context

REALM: Final = 'Bearer realm="Junctor"'
MAX_KNOWN: Final = 2000  # verified tokens that are remembered, some 500 bytes each


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that was verified, and the key that verified it; the token itself is not kept."""

    key_id: str
    claims: Claims
    digest: bytes = field(repr=False)


class Jwt(Definition):
    """Tokens with ``username`` as their subject, in the header Authorization (RFC 6750) or as the secret of a session.

    A token that was verified is remembered until it expires, so that requests do not verify it again.
    """

    kind = "security_jwt"
    type = "jwt"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.username: str = config["username"]
        self.challenge = REALM
        self.info = ChannelSecurityInfo(config.id, config.name, self.type, self.username, self)
        self._is_active: bool = config["is_active"]
        self._ttl: int = config["ttl"]
        self._issuer: str = config["issuer"]
        self._audience: str = config["audience"]
        password: str = config["password"].reveal()
        self._password = digest(password.encode()) if password else b""
        self._keys = keys_of(
            config["algorithm"],
            config["signing_key"].reveal(),
            config["public_keys"],
            cluster=ClusterKeys(context.store.keyring, config.id, password),
        )
        self._verifier = PyJWS(algorithms=[self._keys.algorithm])
        self._known: dict[bytes, Verified] = {}
        self._revoked = context.tokens.revoked
        self._outgoing: tuple[str, float] = ("", 0.0)

    def start(self) -> None:
        """Makes sure that it is known which tokens were logged out.  Raises ``StoreUnavailable``."""
        self._revoked.load()

    def take_over(self, previous: Live | None) -> None:
        """Is the one that people log in at."""
        if isinstance(previous, Jwt):
            self.context.tokens.remove(previous)
        self.context.tokens.add(self)

    def leave(self) -> None:
        """Nobody logs in here any more."""
        self.context.tokens.remove(self)

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request has a valid token."""
        return self.verified(bearer(environ)) is not None

    def admits_session(self, username: str, secret: str) -> bool:
        """Whether ``secret`` is a valid token; ``username`` may be anything, for the token says who it is."""
        del username
        return self.verified(secret) is not None

    def session_ticket(self, username: str, secret: str) -> object:
        """What is known of the token that opened a session."""
        del username
        return self.verified(secret)

    def still_admits(self, ticket: object) -> bool:
        """Whether the token behind a ticket is good but for its expiry: what it has opened lives as long as that itself does."""
        return (
            isinstance(ticket, Verified)
            and self._is_active
            and ticket.digest not in self._revoked
            and self._has_key(ticket.key_id)
            and self._is_for_us(ticket.claims)
        )

    @property
    def verdict(self) -> object:
        """This definition, as long as no token of it is logged out."""
        return self, self._revoked.generation(self.config.id)

    def challenge_to(self, environ: Mapping[str, Any]) -> str:
        """What is missing is a token, or a better one (RFC 6750, section 3); what is wrong with it is not told."""
        return f'{self.challenge}, error="invalid_token"' if bearer(environ) else self.challenge

    def verified(self, text: str) -> Verified | None:
        """What is known of a token, None when it is not valid (any more)."""
        if not self._is_active or not 0 < len(text) <= MAX_TOKEN:
            return None
        mark = digest(text.encode("utf-8", "surrogatepass"))
        now = time.time()
        found = self._known.get(mark)
        if found is None:
            try:
                found = self._verify(text, now)
            except TokenRefused:
                return None
            self._remember(mark, found)
        elif found.claims.expires <= now or not self._has_key(found.key_id):
            del self._known[mark]
            return None
        return None if found.digest in self._revoked else found

    def knows(self, password: str) -> bool:
        """Whether this is the password that tokens are issued for."""
        given = digest(password.encode("utf-8", "surrogatepass"))
        is_right = hmac.compare_digest(given, self._password or given[::-1])
        return (
            is_right and bool(password and self._password) and self._is_active and self._signer() is not None
        )

    def issue(self) -> str:
        """A new token, unlike all others.  Raises ``ConnectionFailed`` when there is no key to sign it with."""
        key = self._signer()
        if key is None or key.signer is None:
            raise ConnectionFailed(
                f"JWT {self.config.name!r} cannot issue tokens: it has public keys alone, and no signing key."
            )
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": self.username,
            "iat": now,
            "exp": now + self._ttl,
            "jti": secrets.token_urlsafe(16),
        }
        claims |= {"iss": self._issuer} if self._issuer else {}
        claims |= {"aud": self._audience} if self._audience else {}
        return sign(claims, key.signer, self._keys.algorithm, headers={"kid": key.id})

    def outgoing_session(self) -> tuple[str, str]:
        """The user name and a new token.  Raises ``ConnectionFailed``."""
        return self.username, self.issue()

    def outgoing_token(self) -> str:
        """A token that holds for half of its lifetime at least, the same one for many calls.  Raises ``ConnectionFailed``."""
        token, until = self._outgoing
        if time.monotonic() >= until:
            token = self.issue()
            self._outgoing = (token, time.monotonic() + self._ttl / 2)
        return token

    def _has_key(self, key_id: str) -> bool:
        """Whether a key is still one of these: the cluster's end with the secret keys that they are made of."""
        return any(key.id == key_id for key in self._keys.all())

    def _signer(self) -> Key | None:
        """The key that signs; only the first one may."""
        keys = self._keys.all()
        return keys[0] if keys and keys[0].signer is not None else None

    def _verify(self, text: str, now: float) -> Verified:
        token = parse(text)
        if token.algorithm != self._keys.algorithm:
            raise TokenRefused("It is signed with another algorithm.")
        claims = read(token.claims, now)
        key = self._key_of(token)
        if key is None and self._keys.reload():
            key = self._key_of(token)
        if key is None:
            raise TokenRefused("No key fits its signature.")
        if not self._is_for_us(claims):
            raise TokenRefused("It is somebody else's, or for somebody else.")
        return Verified(key.id, claims, token.digest)

    def _key_of(self, token: Token) -> Key | None:
        """The key that a token was signed with: the one that it names, or else any; an issuer may name its keys as it likes."""
        keys = self._keys.all()
        named = [key for key in keys if key.id == token.key_id]
        return next((key for key in named or keys if self._fits(token, key)), None)

    def _fits(self, token: Token, key: Key) -> bool:
        try:
            self._verifier.decode(token.text, key.verifier, algorithms=[self._keys.algorithm])
        except InvalidSignatureError:
            return False
        except (PyJWTError, ValueError, RecursionError):
            raise TokenRefused("It cannot be verified.") from None
        return True

    def _is_for_us(self, claims: Claims) -> bool:
        return (
            claims.subject == self.username
            and (not self._issuer or claims.issuer == self._issuer)
            and (not self._audience or self._audience in claims.audience)
        )

    def _remember(self, mark: bytes, found: Verified) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[mark] = found


def bearer(environ: Mapping[str, Any]) -> str:
    """The token in the header Authorization, '' if there is none."""
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
