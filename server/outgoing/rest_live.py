"""The live counterpart of an outgoing REST connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junctor.server.outgoing.facade import OutgoingLive
from junctor.server.outgoing.rest import (
    ApiKey,
    BasicAuth,
    Bearer,
    RestConfig,
    RestConnection,
    RestConnections,
    Security,
)
from junctor.server.security import definitions
from junctor.server.security.jwt import Jwt
from junctor.sql.config import Config
from junctor.sql.errors import ConnectionFailed

if TYPE_CHECKING:
    from junctor.server.context import Context


class OutgoingRest(OutgoingLive):
    """An outgoing REST connection that works."""

    kind = "outgoing_rest"
    names = ("rest", "plain_http")
    view = RestConnections

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        fields = ("name", "host", "url_path", "is_active", "data_format", "content_type")
        more = ("timeout", "pool_size", "ping_method", "tls_verify")
        self._security_id: int | None = config["security_id"]
        self.connection = RestConnection(
            RestConfig(**{field: config[field] for field in fields + more}), self._credentials
        )

    def stop(self) -> None:
        """Closes the connections that are idle; calls under way finish."""
        self.connection.close()

    def _credentials(self) -> Security:
        """What its security definition gives now; raises ``ConnectionFailed`` when that does not work."""
        if self._security_id is None:
            return None
        definition = self.context.registry.live("security", self._security_id)
        if isinstance(definition, definitions.BasicAuth) and definition.config["is_active"]:
            return BasicAuth(definition.username, definition.password)
        if isinstance(definition, definitions.ApiKey) and definition.config["is_active"]:
            return ApiKey(definition.header, definition.key)
        if isinstance(definition, Jwt) and definition.config["is_active"]:
            return Bearer(definition.outgoing_token())
        raise ConnectionFailed(
            f"The security definition of outgoing REST connection {self.config.name!r} is not active."
        )
