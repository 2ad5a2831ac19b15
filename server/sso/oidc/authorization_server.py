"""The OAuth 2 authorization server, by Authlib, on the database: codes and refresh tokens for tokens, introspection, revocation.

All of a request happens in one transaction, which is committed with the answer: a code that comes again ends its grant, although
the answer is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer as AuthlibServer
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from junctor.server.sso.oidc import clients
from junctor.server.sso.oidc.exchange import NO_STORE, Answer
from junctor.server.sso.oidc.grants import Grant, Grants

if TYPE_CHECKING:
    from junctor.server.sso.oidc.provider import Provider
    from junctor.server.sso.oidc.requests import ProviderRequest
    from junctor.server.sso.records import User
    from junctor.server.sso.single_sign_on import SingleSignOn

S256: Final = "S256"
BEARER: Final = "Bearer"
TokenResponse = tuple[int, dict[str, Any], list[tuple[str, str]]]

# It writes tokens and codes to its log for debugging; ours must never have any.
logging.getLogger("authlib").setLevel(logging.WARNING)


class Server(AuthlibServer):  # type: ignore[misc]  # Authlib ships no types
    """What answers at the endpoints for applications."""

    def __init__(self, sso: SingleSignOn) -> None:
        super().__init__()
        self.sso = sso
        self.register_client_auth_method(clients.BASIC, clients.by_basic)
        self.register_client_auth_method(clients.POST, clients.by_post)
        self.register_client_auth_method(clients.NONE, clients.by_name)
        self.register_grant(CodeGrant, [Pkce()])
        self.register_grant(RefreshGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    def query_client(self, client_id: str) -> clients.Client | None:
        """The client of this name, if it is active and may use OpenID Connect, or introspect."""
        application = self.sso.applications.get(client_id)
        if application is None or not (application.is_oidc_client or application.introspection_allowed):
            return None
        return clients.Client(application)

    def authenticate_client(
        self, request: ProviderRequest, methods: Iterable[str], endpoint: str = "token"
    ) -> clients.Client:
        """The client that the request proves; raises the same error in all other cases."""
        try:
            client: clients.Client = super().authenticate_client(request, list(methods), endpoint)
        except OAuth2Error:
            raise clients.refused() from None
        request.event.extra["client"] = client.get_client_id()
        return client

    def create_oauth2_request(self, request: ProviderRequest) -> ProviderRequest:
        """The request, which is one already."""
        return request

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> Answer:
        """What Authlib answers, as an answer of ours."""
        given = {name: value for name, value in headers if name.lower() != "content-type"}
        return Answer(status, body if isinstance(body, dict) else dict(body or {}), {**given, **NO_STORE})

    def handle_error_response(self, request: ProviderRequest, error: OAuth2Error) -> Answer:
        """What an error answers."""
        request.event.extra["error"] = error.error
        answer: Answer = super().handle_error_response(request, error)
        return answer

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nothing: nobody listens."""

    def save_token(self, token: dict[str, Any], request: ProviderRequest) -> None:
        """Nothing: the grants have stored what there is to store."""


class Pkce(CodeChallenge):  # type: ignore[misc]  # Authlib ships no types
    """Proof Key for Code Exchange, S256 and nothing else, for all applications."""

    SUPPORTED_CODE_CHALLENGE_METHOD: ClassVar = [S256]

    def get_authorization_code_challenge_method(self, authorization_code: Grant) -> str:
        """S256."""
        del authorization_code
        return S256


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib ships no types
    """A code for tokens."""

    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = list(clients.AUTH_METHODS)
    server: Server
    request: ProviderRequest

    @classmethod
    def check_authorization_endpoint(cls, request: Any) -> bool:
        """No: what browsers ask for is looked at elsewhere, step by step."""
        del request
        return False

    def query_authorization_code(self, code: str, client: clients.Client) -> Grant | None:
        """The grant of a code, which is used up from now on."""
        grant = self.server.sso.oidc.grants.use_code(self.request.connection, code, client.get_client_id())
        if grant is not None:
            self.request.event.extra["grant"] = grant.public_id
        return grant

    def authenticate_user(self, authorization_code: Grant) -> User | None:
        """Whose code it is, as long as it is valid."""
        return self.server.sso.oidc.grants.user_of(self.request.connection, authorization_code)

    def delete_authorization_code(self, authorization_code: Grant) -> None:
        """Nothing: it stays until it expires, so that it is noticed when it comes again."""

    def create_token_response(self) -> TokenResponse:
        """The tokens."""
        grant: Grant = self.request.authorization_code
        oidc = self.server.sso.oidc
        user = _user(oidc.grants, self.request, grant)
        lifetime = oidc.refresh_lifetime if grant.is_offline else oidc.access_lifetime
        expires = oidc.grants.extend(self.request.connection, grant, lifetime)
        grant = replace(grant, expiration_time=expires)
        return 200, _tokens(oidc, self.request, grant, user, nonce=grant.nonce), []


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]  # Authlib ships no types
    """A refresh token for other tokens, and another refresh token."""

    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = list(clients.AUTH_METHODS)
    server: Server
    request: ProviderRequest

    def authenticate_refresh_token(self, refresh_token: str) -> Grant | None:
        """The grant whose newest refresh token this is; one of before ends the grant."""
        grant = self.server.sso.oidc.grants.use_refresh_token(self.request.connection, refresh_token)
        if grant is not None:
            self.request.event.extra["grant"] = grant.public_id
        return grant

    def create_token_response(self) -> TokenResponse:
        """The tokens; fewer scopes may be asked for than there were at first."""
        grant: Grant = self.request.refresh_token
        oidc = self.server.sso.oidc
        user = _user(oidc.grants, self.request, grant)
        asked = (self.request.payload.scope or "").split()
        scope = " ".join(one for one in grant.scope.split() if not asked or one in asked)
        return 200, _tokens(oidc, self.request, grant, user, scope=scope), []


class Revocation(RevocationEndpoint):  # type: ignore[misc]  # Authlib ships no types
    """The end of tokens that an application does not need any more (RFC 7009); with one of them, its whole grant ends."""

    CLIENT_AUTH_METHODS: ClassVar = list(clients.AUTH_METHODS)
    server: Server

    def check_params(self, request: ProviderRequest, client: clients.Client) -> None:
        """There must be a token; the hint may be anything, since nobody needs it."""
        del client
        _require_token(request)

    def query_token(self, token_string: str, token_type_hint: str | None) -> Grant | None:
        """Is never called: ``authenticate_token``, which would call it, looks for the grant in the transaction of the request."""
        raise NotImplementedError

    def authenticate_token(self, request: ProviderRequest, client: clients.Client) -> Grant | None:
        """The grant of a token, if it is this application's: others are none for it."""
        self.check_params(request, client)
        grant = _grant_of(self.server.sso.oidc, request)
        return grant if grant is not None and grant.check_client(client) else None

    def revoke_token(self, token: Grant, request: ProviderRequest) -> None:
        """Ends a grant."""
        request.event.extra["grant"] = token.public_id
        self.server.sso.oidc.grants.revoke(request.connection, token)


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]  # Authlib ships no types
    """What a token is worth now (RFC 7662), for applications that may know: those with a secret that may introspect."""

    CLIENT_AUTH_METHODS: ClassVar = [clients.BASIC, clients.POST]
    server: Server

    def authenticate_token(self, request: ProviderRequest, client: clients.Client) -> dict[str, Any] | None:
        """What there is to say of a token, of any application; None for one that is not valid."""
        del client
        _require_token(request)
        oidc = self.server.sso.oidc
        grant = _grant_of(oidc, request)
        user = oidc.grants.user_of(request.connection, grant) if grant is not None else None
        if grant is None or user is None:
            return None
        request.event.target = user.user_id
        request.event.extra["grant"] = grant.public_id
        access = oidc.tokens.read_access(request.form["token"])
        if access is not None:
            return {"active": True, "token_type": BEARER, "username": user.username, **access.claims}
        return {
            "active": True,
            "client_id": grant.app,
            "username": user.username,
            "scope": grant.scope,
            "sub": user.user_id,
            "iss": oidc.issuer,
            "iat": int(grant.creation_time.timestamp()),
            "exp": int(grant.expiration_time.timestamp()),
        }

    def create_introspection_payload(self, token: dict[str, Any] | None) -> dict[str, Any]:
        """That, or that there is nothing to say."""
        return token or {"active": False}


def _require_token(request: ProviderRequest) -> None:
    if not request.form.get("token"):
        raise InvalidRequestError("The token is missing.")


def _grant_of(oidc: Provider, request: ProviderRequest) -> Grant | None:
    """The grant that the token of a request came of: an access token that has not expired, or the newest refresh token."""
    token = request.form["token"]
    access = oidc.tokens.read_access(token)
    if access is not None:
        return oidc.grants.find(request.connection, access.grant_id)
    return oidc.grants.of_refresh_token(request.connection, token)


def _user(grants: Grants, request: ProviderRequest, grant: Grant) -> User:
    user = grants.user_of(request.connection, grant)
    if user is None:
        raise InvalidGrantError("The grant has ended.")
    request.event.target = user.user_id
    request.event.actor = user.user_id
    return user


def _tokens(
    oidc: Provider, request: ProviderRequest, grant: Grant, user: User, *, nonce: str = "", scope: str = ""
) -> dict[str, Any]:
    scope = scope or grant.scope
    access_token, seconds = oidc.tokens.access(grant, user, scope)
    made: dict[str, Any] = {
        "access_token": access_token,
        "token_type": BEARER,
        "expires_in": seconds,
        "scope": scope,
        "id_token": oidc.tokens.id_token(grant, user, access_token, nonce=nonce),
    }
    if grant.is_offline:
        made["refresh_token"] = oidc.grants.new_refresh_token(request.connection, grant)
    return made
