"""What clients find out by themselves (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.oidc.clients import AUTH_METHODS, BASIC, GRANT_TYPES, POST
from junctor.server.sso.oidc.keys import ALGORITHM
from junctor.server.sso.oidc.tokens import ONE_FACTOR, TWO_FACTORS
from junctor.server.sso.oidc.userinfo import CLAIMS
from junctor.sql.objects.sso import SCOPES

BASE: Final = "/zato/sso/oidc"
WELL_KNOWN: Final = ".well-known/openid-configuration"


def document(issuer: str) -> dict[str, Any]:
    """The configuration of the provider under a URL."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "introspection_endpoint": f"{issuer}/introspect",
        "revocation_endpoint": f"{issuer}/revoke",
        "end_session_endpoint": f"{issuer}/logout",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint_auth_methods_supported": [BASIC, POST],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "acr_values_supported": [ONE_FACTOR, TWO_FACTORS],
        "claims_supported": list(CLAIMS),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
    }
