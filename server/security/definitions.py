"""Live security definitions: whether a request satisfies one, and what an outgoing connection gives."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from junctor.server.runtime.live import Live
from junctor.server.service.channel import ChannelSecurityInfo
from junctor.sql.config import Config

if TYPE_CHECKING:
    from junctor.server.context import Context

# Credentials are compared as digests under a key that only this process has: they are of one length, so comparing them takes the same time
# whatever was given, and the passwords themselves are not kept.
_KEY = secrets.token_bytes(32)
_NOBODY = bytes(32)
MAX_CREDENTIALS = 8192  # characters; longer ones are wrong


def digest(value: bytes) -> bytes:
    """A keyed digest of a credential, 32 bytes."""
    return hashlib.blake2b(value, key=_KEY, digest_size=32).digest()


class Definition(Live):
    """A security definition.  ``info`` is what services see of a caller that it let in; ``challenge`` goes into WWW-Authenticate."""

    type: ClassVar[str]
    challenge: str
    info: ChannelSecurityInfo

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request has the credentials; takes the same time for every wrong one."""
        return hmac.compare_digest(digest(self.given(environ)), self._expected)

    def admits_session(self, username: str, secret: str) -> bool:
        """Whether these are the credentials, given in a message that opens a session, as a WebSocket's do."""
        return hmac.compare_digest(digest(self.given_in_session(username, secret)), self._expected)

    def session_ticket(self, username: str, secret: str) -> object:
        """What is kept of the credentials that opened a session for as long as it is open: enough for ``still_admits``, no more."""
        return digest(self.given_in_session(username, secret))

    def still_admits(self, ticket: object) -> bool:
        """Whether the credentials behind a ticket, which another definition may have made, would open a session now."""
        return isinstance(ticket, bytes) and hmac.compare_digest(ticket, self._expected)

    @property
    def verdict(self) -> object:
        """Another value than before once ``still_admits`` may have another answer than before."""
        return self

    def given(self, environ: Mapping[str, Any]) -> bytes:
        """The credentials in a request, b'' when there are none."""
        raise NotImplementedError(f"{type(self).__name__}.given")

    def given_in_session(self, username: str, secret: str) -> bytes:
        """The credentials in a message that opens a session, b'' when they are none."""
        raise NotImplementedError(f"{type(self).__name__}.given_in_session")

    def outgoing_session(self) -> tuple[str, str]:
        """The user name and the secret that open a session at a remote end.  Raises ``ConnectionFailed``."""
        raise NotImplementedError(f"{type(self).__name__}.outgoing_session")

    def challenge_to(self, environ: Mapping[str, Any]) -> str:
        """What the answer to a refused request has in WWW-Authenticate."""
        del environ
        return self.challenge

    def _expect(self, credentials: str, secret: str, username: str) -> None:
        config = self.config
        # A digest that is no digest of anything: nobody is let in, in the same time.
        usable = bool(secret) and config["is_active"]
        self._expected = digest(credentials.encode()) if usable else _NOBODY
        self.info = ChannelSecurityInfo(config.id, config.name, self.type, username, self)


class BasicAuth(Definition):
    """HTTP Basic Auth (RFC 7617), in UTF-8."""

    kind = "security_basic_auth"
    type = "basic_auth"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.username: str = config["username"]
        self.password: str = config["password"].reveal()
        self._accepted = b""
        self.challenge = f'Basic realm="{config["realm"]}", charset="UTF-8"'
        self._expect(f"{self.username}:{self.password}", self.password, self.username)

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request has the credentials.

        A header that was right before, to the letter, is right again without being taken apart; all others take the same time.
        """
        header = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        if self._accepted and hmac.compare_digest(header, self._accepted):
            return True
        is_right = super().admits(environ)
        if is_right:
            self._accepted = header
        return is_right

    def given(self, environ: Mapping[str, Any]) -> bytes:
        """The decoded 'user:password' of the Authorization header."""
        return basic_credentials(environ)

    def given_in_session(self, username: str, secret: str) -> bytes:
        """'user:password'; a user name with a colon would leave open where the password begins."""
        return b"" if ":" in username else _bytes(f"{username}:{secret}")

    def outgoing_session(self) -> tuple[str, str]:
        """The user name and the password."""
        return self.username, self.password


class ApiKey(Definition):
    """A key in a header of its own, which is ``variable`` in the WSGI environment."""

    kind = "security_api_key"
    type = "apikey"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.header: str = config["header"]
        self.key: str = config["key"].reveal()
        self.challenge = "zato-apikey"
        self.variable = f"HTTP_{self.header.upper().replace('-', '_')}"
        if self.variable in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
            self.variable = self.variable.removeprefix("HTTP_")
        self._expect(self.key, self.key, self.header)

    def given(self, environ: Mapping[str, Any]) -> bytes:
        """The value of the header, as bytes."""
        value: str = environ.get(self.variable, "")
        return b"" if len(value) > MAX_CREDENTIALS else value.encode("latin-1", "replace")

    def given_in_session(self, username: str, secret: str) -> bytes:
        """The secret; whatever the user name is, for a key has none."""
        del username
        return _bytes(secret)

    def outgoing_session(self) -> tuple[str, str]:
        """No user name, and the key."""
        return "", self.key


def basic_credentials(environ: Mapping[str, Any]) -> bytes:
    """The decoded 'user:password' of the Authorization header; b'' if it has no Basic Auth in it."""
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "basic" or len(token) > MAX_CREDENTIALS:
        return b""
    try:
        return b64decode(token.strip(), validate=True)
    except (Base64Error, ValueError):
        return b""


def _bytes(credentials: str) -> bytes:
    """Credentials as bytes, b'' when they are too long; any text has bytes, also what is no proper Unicode."""
    return b"" if len(credentials) > MAX_CREDENTIALS else credentials.encode("utf-8", "surrogatepass")
