"""The REST channels of the OpenID provider; without a security definition, since each endpoint finds out who is calling."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.oidc import services
from junctor.server.sso.oidc.discovery import BASE, WELL_KNOWN
from junctor.server.sso.oidc.services import OidcService

MAX_BODY: Final = 65_536  # bytes
TIMEOUT: Final = 60  # seconds


def _channel(path: str, service: type[OidcService], methods: str) -> dict[str, Any]:
    return {
        "url_path": f"{BASE}/{path}",
        "service": service.name,
        "method": methods,
        "data_format": "form",
        "max_body_size": MAX_BODY,
        "timeout": TIMEOUT,
        "merge_url_params_req": False,
    }


CHANNELS: Final[dict[str, dict[str, Any]]] = {
    service.name: _channel(path, service, methods)
    for path, service, methods in (
        (WELL_KNOWN, services.Configuration, "GET,OPTIONS"),
        ("jwks", services.Jwks, "GET,OPTIONS"),
        ("authorize", services.Authorize, "GET,POST"),
        ("login", services.LogInPage, "POST"),
        ("passkey-options", services.PasskeyOptions, "POST"),
        ("token", services.Token, "POST,OPTIONS"),
        ("userinfo", services.UserInfo, "GET,POST,OPTIONS"),
        ("introspect", services.Introspect, "POST"),
        ("revoke", services.Revoke, "POST,OPTIONS"),
        ("logout", services.LogOutPage, "GET,POST"),
        ("static/{name}", services.Static, "GET"),
    )
}
