"""Requests as Authlib sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import OAuth2Payload, OAuth2Request

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from junctor.server.sso.audited import Audited
    from junctor.server.sso.oidc.exchange import Exchange


class Payload(OAuth2Payload):  # type: ignore[misc]  # Authlib ships no types
    """The parameters of a request, each of them given once."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)

    @property
    def data(self) -> dict[str, str]:
        """The parameters."""
        return self._parameters

    @property
    def datalist(self) -> Any:
        """The same, as lists."""
        return {name: [value] for name, value in self._parameters.items()}


class ProviderRequest(OAuth2Request):  # type: ignore[misc]  # Authlib ships no types
    """A request, within one transaction of the database, and what is going to be audited of it."""

    def __init__(self, uri: str, exchange: Exchange, connection: Connection, event: Audited) -> None:
        super().__init__(exchange.method, uri, headers=exchange.headers)
        self.payload = Payload(exchange.parameters)
        self.connection = connection
        self.event = event

    @property
    def args(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(self.payload.data) if self.method == "GET" else {}

    @property
    def form(self) -> dict[str, str]:
        """The fields of the form."""
        return dict(self.payload.data) if self.method == "POST" else {}
