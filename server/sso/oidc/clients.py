"""Applications as OAuth clients."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError

from junctor.sql.objects.sso import SCOPES

if TYPE_CHECKING:
    from junctor.server.sso.live import Application
    from junctor.server.sso.oidc.requests import ProviderRequest

BASIC, POST, NONE = "client_secret_basic", "client_secret_post", "none"
AUTH_METHODS: Final = (BASIC, POST, NONE)
GRANT_TYPES: Final = ("authorization_code", "refresh_token")
INTROSPECTION: Final = "introspection"
MAX_HEADER: Final = 2000  # characters

QueryClient = Callable[[str], "Client | None"]


class Client(ClientMixin):  # type: ignore[misc]  # Authlib ships no types
    """An application that uses OpenID Connect; the methods are what Authlib asks clients for.

    One with a secret must use it; one without is public, and PKCE is what protects its codes.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    def get_client_id(self) -> str:
        """Its name."""
        return self.application.name

    def get_default_redirect_uri(self) -> str:
        """None: it is always asked for."""
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        """What it gets of the scopes that it asks for; unknown ones are left out."""
        asked = set((scope or "").split())
        return " ".join(one for one in SCOPES if one in asked and one in self.application.scopes)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether this is one of its URIs, character by character."""
        return redirect_uri in self.application.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret."""
        return self.application.is_secret(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether it may prove who it is like this; tokens are for applications that may introspect them alone."""
        if endpoint == INTROSPECTION:
            return method != NONE and self.application.introspection_allowed
        return (method == NONE) != self.application.has_secret

    def check_response_type(self, response_type: str) -> bool:
        """Whether it may use a response type; a code is the only one there is."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may use a grant type."""
        return grant_type in GRANT_TYPES and self.application.is_oidc_client


def by_basic(query_client: QueryClient, request: ProviderRequest) -> Client | None:
    """The client that HTTP Basic authentication proves.

    Its name and its secret should be form-encoded (RFC 6749, section 2.3.1), which half of all client libraries do not do: both are taken.
    """
    header = request.headers.get("authorization", "")
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > MAX_HEADER:
        return None
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    if not colon or request.form.get("client_secret"):  # one method at a time
        return None
    for given_name, given in dict.fromkeys(((name, secret), (unquote_plus(name), unquote_plus(secret)))):
        is_one = request.form.get("client_id", given_name) == given_name
        if is_one and (client := _proved(query_client(given_name), given)) is not None:
            return client
    return None


def by_post(query_client: QueryClient, request: ProviderRequest) -> Client | None:
    """The client that the fields ``client_id`` and ``client_secret`` prove."""
    return _proved(query_client(request.form.get("client_id", "")), request.form.get("client_secret", ""))


def by_name(query_client: QueryClient, request: ProviderRequest) -> Client | None:
    """The public client of this name, which proves nothing; none with a secret or an attempt at one."""
    if request.form.get("client_secret") or request.headers.get("authorization"):
        return None
    return query_client(request.form.get("client_id", ""))


def refused() -> InvalidClientError:
    """What an application gets that has not proved who it is: the same in all cases."""
    return InvalidClientError(
        description="The application is unknown, or its secret is not right, or it must be given in another way.",
        status_code=401,
    )


def _proved(client: Client | None, secret: str) -> Client | None:
    return client if client is not None and secret and client.check_client_secret(secret) else None
