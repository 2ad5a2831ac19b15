"""Logging in and out with JSON Web Tokens: who may, over all definitions of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from junctor.server.security.definitions import digest
from junctor.server.security.jwt_token import TokenRefused, parse
from junctor.server.security.revoked import RevokedTokens
from junctor.sql.errors import Unauthorized
from junctor.sql.store import Store

if TYPE_CHECKING:
    from junctor.server.security.jwt import Jwt

CHALLENGE = "JWT"  # Zato's own


class Tokens:
    """The JWT definitions of a worker by user name; several may have one, and then the password decides."""

    def __init__(self, store: Store, announce: Callable[[], None]) -> None:
        self.revoked = RevokedTokens(store, announce)
        self._definitions: dict[str, dict[int, Jwt]] = {}

    def add(self, definition: Jwt) -> None:
        """People may log in at a definition."""
        self._definitions.setdefault(definition.username, {})[definition.config.id] = definition

    def remove(self, definition: Jwt) -> None:
        """People may not log in there any more."""
        found = self._definitions.get(definition.username, {})
        found.pop(definition.config.id, None)
        if not found:
            self._definitions.pop(definition.username, None)

    def log_in(self, username: str, password: str) -> str:
        """A new token.  Raises ``Unauthorized``, which is the same for every reason, as is the time that it takes."""
        right = [definition for definition in self._of(username) if definition.knows(password)]
        if not right:
            digest(
                password.encode("utf-8", "surrogatepass")
            )  # what a comparison costs, also where there is none
            raise Unauthorized(challenge=CHALLENGE)
        return right[0].issue()

    def log_out(self, token: str) -> None:
        """The token is not valid any more, on no worker.

        Raises ``Unauthorized`` when it was not valid before, ``StoreUnavailable`` and ``TooManyRequests`` when it still is.
        """
        try:
            subject = parse(token).claims.get("sub")
        except TokenRefused:
            raise Unauthorized(challenge=CHALLENGE) from None
        of = self._of(subject) if isinstance(subject, str) else ()
        found = [(one.config.id, verified) for one in of if (verified := one.verified(token)) is not None]
        if not found:
            raise Unauthorized(challenge=CHALLENGE)
        for security_id, verified in found:
            self.revoked.revoke(security_id, verified.digest, verified.claims.expires)

    def _of(self, username: str) -> Sequence[Jwt]:
        """The definitions of a user name, by id."""
        return [definition for _, definition in sorted(self._definitions.get(username, {}).items())]
