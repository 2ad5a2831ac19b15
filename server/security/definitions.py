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

    def given(self, environ: Mapping[str, Any]) -> bytes:
        """The credentials in a request, b'' when there are none."""
        raise NotImplementedError(f"{type(self).__name__}.given")

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
        header: str = environ.get("HTTP_AUTHORIZATION", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "basic" or len(token) > MAX_CREDENTIALS:
            return b""
        try:
            return b64decode(token.strip(), validate=True)
        except (Base64Error, ValueError):
            return b""


class ApiKey(Definition):
    """A key in a header of its own."""

    kind = "security_api_key"
    type = "apikey"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.header: str = config["header"]
        self.key: str = config["key"].reveal()
        self.challenge = "zato-apikey"
        self._name = f"HTTP_{self.header.upper().replace('-', '_')}"
        if self._name in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
            self._name = self._name.removeprefix("HTTP_")
        self._expect(self.key, self.key, self.header)

    def given(self, environ: Mapping[str, Any]) -> bytes:
        """The value of the header, as bytes."""
        value: str = environ.get(self._name, "")
        return b"" if len(value) > MAX_CREDENTIALS else value.encode("latin-1", "replace")
