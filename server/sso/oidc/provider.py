"""The OpenID provider: what its endpoints have in common, and the endpoints for applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from junctor.server.access_log import ClientAddress
from junctor.server.audit.trail import OK, REFUSED
from junctor.server.http_settings import TrustedPeers
from junctor.server.sso.audited import Audited
from junctor.server.sso.oidc import discovery
from junctor.server.sso.oidc.authorization_server import Server
from junctor.server.sso.oidc.authorize import Authorization
from junctor.server.sso.oidc.browser import Cookies
from junctor.server.sso.oidc.continuations import Continuations
from junctor.server.sso.oidc.exchange import Answer, Exchange, error
from junctor.server.sso.oidc.grants import Grants
from junctor.server.sso.oidc.keys import SigningKeys
from junctor.server.sso.oidc.log_in import LogIn
from junctor.server.sso.oidc.log_out import LogOut
from junctor.server.sso.oidc.requests import ProviderRequest
from junctor.server.sso.oidc.tokens import Tokens
from junctor.server.sso.oidc.userinfo import UserInfoEndpoint
from junctor.server.sso.pages.pages import Pages
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

PER_MINUTE: Final = 1200  # requests of applications from one address
REFRESH: Final = "refresh_token"

Respond = Callable[[ProviderRequest], Answer]


class Provider:
    """What OpenID Connect clients talk to; there is none while the settings name no issuer."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self.keys = SigningKeys(sso)
        self.tokens = Tokens(sso)
        self.grants = Grants(sso)
        self.server = Server(sso)
        self.continuations = Continuations(sso)
        self.pages = Pages(sso)
        self.authorization = Authorization(sso)
        self.log_in = LogIn(sso)
        self.log_out = LogOut(sso)
        self.userinfo = UserInfoEndpoint(sso)

    @cached_property
    def client_address(self) -> ClientAddress:
        """What finds out where a request comes from, as the access log does."""
        return ClientAddress(TrustedPeers.parse(self._sso.context.settings.trusted_proxies))

    @property
    def issuer(self) -> str:
        """The URL that everything begins with; '' = there is no provider."""
        return str(self._sso.settings["oidc_issuer"]).rstrip("/") if self._sso.is_active else ""

    @property
    def cookies(self) -> Cookies:
        """The cookies of the issuer."""
        return Cookies(self.issuer)

    @property
    def access_lifetime(self) -> timedelta:
        """How long an access token lives."""
        return timedelta(seconds=self._sso.settings["oidc_access_token_ttl"])

    @property
    def refresh_lifetime(self) -> timedelta:
        """How long a family of refresh tokens lives."""
        return timedelta(hours=self._sso.settings["oidc_refresh_token_ttl"])

    def configuration(self) -> Answer:
        """What clients need to know, under ``.well-known``."""
        return Answer(200, discovery.document(self.issuer), {"Cache-Control": "public, max-age=3600"})

    def jwks(self) -> Answer:
        """The public keys."""
        return Answer(200, {"keys": self.keys.public()}, {"Cache-Control": "public, max-age=300"})

    def token(self, exchange: Exchange) -> Answer:
        """Tokens for a code or for a refresh token."""
        op = "oidc.refresh" if exchange.get("grant_type") == REFRESH else "oidc.token"
        return self._answer(exchange, op, self.server.create_token_response)

    def introspect(self, exchange: Exchange) -> Answer:
        """What a token is worth now."""
        return self._answer(
            exchange, "oidc.introspect", lambda request: self._endpoint("introspection", request)
        )

    def revoke(self, exchange: Exchange) -> Answer:
        """The end of a token, which need not be one."""
        return self._answer(exchange, "oidc.revoke", lambda request: self._endpoint("revocation", request))

    def _endpoint(self, name: str, request: ProviderRequest) -> Answer:
        answer: Answer = self.server.create_endpoint_response(name, request)
        return answer

    def _answer(self, exchange: Exchange, op: str, respond: Respond) -> Answer:
        """The answer to an application, in one transaction with its audit event."""
        sso = self._sso
        sso.throttle.take("oidc.application", exchange.caller.remote_addr, PER_MINUTE, 60)
        if exchange.problem:
            return error(400, "invalid_request", exchange.problem)
        event = Audited(sso, exchange.caller, op, "")
        with database_errors(), sso.store.engine.begin() as connection:
            answer = respond(self._request(exchange, connection, event))
            self._record(connection, exchange, event, answer)
        return answer

    def _request(self, exchange: Exchange, connection: Connection, event: Audited) -> ProviderRequest:
        return ProviderRequest(f"{self.issuer}/", exchange, connection, event)

    def _record(self, connection: Connection, exchange: Exchange, event: Audited, answer: Answer) -> None:
        """Audits an answer; the application is the one that has proved who it is."""
        client = event.extra.pop("client", "")
        event.actor = event.actor or client
        made = replace(
            event.event(OK if answer.status == 200 else REFUSED, event.extra.pop("error", "")),
            app=client or exchange.caller.current_app,
        )
        self._sso.audit.record(connection, made)
