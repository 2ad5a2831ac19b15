"""Which endpoint a request comes from, by its credentials: the channels of publish/subscribe demand none (facts sheet, section 4.9)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from junctor.server.access_log import CALLER
from junctor.server.security.definitions import ApiKey, BasicAuth, Definition, basic_credentials, digest
from junctor.server.security.jwt import Jwt, bearer
from junctor.server.security.jwt_token import TokenRefused, parse
from junctor.sql.errors import CredentialsRefused

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint

CHALLENGE: Final = 'Basic realm="Junctor", charset="UTF-8"'
KIND: Final = "pubsub_endpoint"
_NOBODY: Final = bytes(32)  # the digest of nothing


@dataclass(slots=True)
class _Index:
    """The security definitions of all endpoints, by what a caller gives; ``version`` is that of the configuration that it was made of.

    It has the ids of definitions alone: each is asked itself whether it lets a caller in, so an old index never lets in anybody.
    """

    version: int = -1
    users: dict[bytes, list[int]] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    keys: dict[tuple[str, bytes], list[int]] = field(default_factory=dict)
    key_headers: dict[str, None] = field(default_factory=dict)

    def add(self, definition: Definition, security_id: int) -> None:
        """Finds a definition from now on."""
        if isinstance(definition, BasicAuth):
            self.users.setdefault(definition.username.encode(), []).append(security_id)
        elif isinstance(definition, Jwt):
            self.subjects.setdefault(definition.username, []).append(security_id)
        elif isinstance(definition, ApiKey):
            key = (definition.variable, digest(definition.key.encode()))
            self.keys.setdefault(key, []).append(security_id)
            self.key_headers[definition.variable] = None


class Identities:
    """Finds the endpoint whose security definition a request satisfies: Basic Auth, an API key, or a JSON Web Token."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._index = _Index()

    def endpoint(self, environ: dict[str, Any]) -> Endpoint:
        """The endpoint that a request comes from, which may be inactive; the access log names its security definition.

        Raises ``CredentialsRefused``, which is the same for every reason.  A name that nobody has costs as much time as a wrong password.
        """
        found = self._admitted(environ)
        if found is None and self._index.version != self._context.registry.version:
            self._index = self._made()
            found = self._admitted(environ)
        endpoint = None
        if found is not None:
            endpoint = self._context.pubsub.directory.endpoint_of(security_id=found.config.id)
        if found is None or endpoint is None:
            raise CredentialsRefused(challenge=CHALLENGE)
        environ[CALLER] = found.config.name
        return endpoint

    def _made(self) -> _Index:
        registry = self._context.registry
        index = _Index(registry.version)
        for entry in registry.entries(KIND):
            security_id = entry.config["security_id"]
            definition = None if security_id is None else registry.live("security", security_id)
            if isinstance(definition, Definition):
                index.add(definition, security_id)
        return index

    def _admitted(self, environ: Mapping[str, Any]) -> Definition | None:
        admitted = None
        for definition in self._candidates(environ):
            if definition.admits(environ) and admitted is None:
                admitted = definition
        return admitted

    def _candidates(self, environ: Mapping[str, Any]) -> Iterator[Definition]:
        """The definitions that the request may satisfy, going by what is no secret."""
        yield from self._by_password(environ)
        yield from self._by_token(environ)
        for header in self._index.key_headers:
            if value := environ.get(header, ""):
                mark = digest(value.encode("latin-1", "replace"))
                yield from self._alive(self._index.keys.get((header, mark), ()))

    def _by_password(self, environ: Mapping[str, Any]) -> Iterator[Definition]:
        credentials = basic_credentials(environ)
        if not credentials:
            return
        ids = self._index.users.get(credentials.partition(b":")[0])
        if ids is None:
            hmac.compare_digest(digest(credentials), _NOBODY)  # what a wrong password costs
        yield from self._alive(ids or ())

    def _by_token(self, environ: Mapping[str, Any]) -> Iterator[Definition]:
        if not (token := bearer(environ)):
            return
        try:
            subject = parse(token).claims.get("sub")
        except TokenRefused:
            return
        known = self._index.subjects
        ids = known.get(subject) if isinstance(subject, str) else None
        if ids is None and known:
            ids = next(iter(known.values()))[
                :1
            ]  # refuses it: a signature is checked, whoever the token names
        yield from self._alive(ids or ())

    def _alive(self, ids: Iterable[int]) -> Iterator[Definition]:
        for security_id in ids:
            definition = self._context.registry.live("security", security_id)
            if isinstance(definition, Definition):
                yield definition
