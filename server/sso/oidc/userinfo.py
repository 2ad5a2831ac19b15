"""Who a user is, for the application that has an access token (OpenID Connect Core, section 5.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from authlib.oidc.core import UserInfo

from junctor.server.audit.trail import OK, REFUSED
from junctor.server.sso.audited import Audited
from junctor.server.sso.oidc.exchange import NO_STORE, Answer, Exchange
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.oidc.grants import Grant
    from junctor.server.sso.records import User
    from junctor.server.sso.single_sign_on import SingleSignOn

CLAIMS: Final = (
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "at_hash",
    "sid",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "preferred_username",
    "email",
    "email_verified",
)
REFUSED_PER_MINUTE: Final = 120  # requests from one address whose tokens are not valid
REALM: Final = 'Bearer realm="junctor"'


class UserInfoEndpoint:
    """The data of users, as far as the scopes of a token go; only as long as its grant is valid."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def answer(self, exchange: Exchange) -> Answer:
        """The claims about the user of an access token, which is in the header Authorization or in the form."""
        given, problem = _token(exchange)
        if problem:
            return _refused(400, "invalid_request", problem)
        if not given:
            return Answer(401, "", {"WWW-Authenticate": REALM, **NO_STORE})
        event = Audited(self._sso, exchange.caller, "oidc.userinfo", "")
        access = self._sso.oidc.tokens.read_access(given)
        grant, user = self._of(access.grant_id) if access is not None else (None, None)
        if access is None or grant is None or user is None:
            self._sso.throttle.take("oidc.no-token", exchange.caller.remote_addr, REFUSED_PER_MINUTE, 60)
            self._sso.audit.note(event.event(REFUSED, "invalid_token"))
            return _refused(401, "invalid_token", "The access token is not valid, or not any more.")
        event.actor, event.target = grant.app, user.user_id
        event.extra |= {"grant": grant.public_id, "scope": access.scope}
        self._sso.audit.note(replace(event.event(OK), app=grant.app))
        return Answer(200, self.claims(user, access.scope), dict(NO_STORE))

    def claims(self, user: User, scope: str) -> dict[str, Any]:
        """What scopes tell of a user; claims without a value are left out."""
        email = self._sso.users.email_of(user) if "email" in scope.split() else ""
        known = UserInfo(
            sub=user.user_id,
            preferred_username=user.username,
            name=user.display_name or _joined(user),
            given_name=user.first_name,
            middle_name=user.middle_name,
            family_name=user.last_name,
            email=email,
            email_verified=user.is_email_verified if email else None,
        )
        return {name: value for name, value in known.filter(scope).items() if value not in ("", None)}

    def _of(self, grant_id: str) -> tuple[Grant | None, User | None]:
        grants = self._sso.oidc.grants
        with database_errors(), self._sso.store.engine.connect() as connection:
            grant = grants.find(connection, grant_id)
            return grant, grants.user_of(connection, grant) if grant is not None else None


def _joined(user: User) -> str:
    return " ".join(part for part in (user.first_name, user.middle_name, user.last_name) if part)


def _token(exchange: Exchange) -> tuple[str, str]:
    """The token of a request, and what is wrong with how it is given; never one of a query, which ends up in logs."""
    header = exchange.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    in_header = token.strip() if scheme.lower() == "bearer" else ""
    in_form = exchange.get("access_token") if exchange.method == "POST" else ""
    if in_header and in_form:
        return "", "The access token is given twice."
    if exchange.repeated == "access_token":
        return "", "The access token is given more than once."
    return in_header or in_form, ""


def _refused(status: int, code: str, description: str) -> Answer:
    challenge = f'{REALM}, error="{code}", error_description="{description}"'
    body = {"error": code, "error_description": description}
    return Answer(status, body, {"WWW-Authenticate": challenge, **NO_STORE})
