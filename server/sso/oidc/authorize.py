"""The authorization endpoint: a browser comes with what an application asks for, and goes back with a code (RFC 6749, section 4.1)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from junctor.server.audit.trail import REFUSED
from junctor.server.sso.audited import Audited
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.oidc.clients import Client
from junctor.server.sso.oidc.continuations import AuthorizeRequest
from junctor.server.sso.oidc.exchange import Answer, Exchange, redirect
from junctor.server.sso.oidc.grants import Wanted
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.records import Session
    from junctor.server.sso.single_sign_on import SingleSignOn

CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # SHA-256 in base64url
MAX_NONCE: Final = 500  # characters
MAX_STATE: Final = 2000  # characters
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
NOT_SUPPORTED: Final = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}
PER_MINUTE: Final = 1200  # requests from one address
_DENIED: Final = frozenset({status_code.app_list.invalid, status_code.auth.second_factor_required})


class BadRequest(Exception):
    """A request that must not be answered with a redirect, since nobody knows where to; the user is told."""


class Refused(Exception):
    """A request that is answered with an error to the application."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code, self.description = code, description


class Authorization:
    """Codes for browsers whose users are logged in, and the log-in page for others."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def authorize(self, exchange: Exchange) -> Answer:
        """Sends the browser back to the application with a code or an error, or shows the log-in page."""
        oidc = self._sso.oidc
        self._sso.throttle.take("oidc.authorize", exchange.caller.remote_addr, PER_MINUTE, 60)
        try:
            client = self._client(exchange)
        except BadRequest as problem:
            return oidc.pages.error(str(problem))
        exchange = replace(exchange, caller=replace(exchange.caller, current_app=client.get_client_id()))
        event = Audited(self._sso, exchange.caller, "oidc.authorize", "")
        try:
            wanted = _checked(exchange, client)
            session = self._session(exchange)
            if session is None or _must_log_in(exchange, session) or self._is_another_user(exchange, session):
                if "none" in exchange.get("prompt").split():
                    raise Refused("login_required", "The user must log in.")
                return oidc.log_in.begin(exchange, wanted)
            answer = self.grant(wanted, session, event)
            return answer if answer is not None else oidc.log_in.begin(exchange, wanted)
        except Refused as refusal:
            self._sso.audit.note(event.event(REFUSED, refusal.code))
            return self.refuse(exchange.get("redirect_uri"), exchange.get("state"), refusal)

    def grant(
        self, wanted: AuthorizeRequest, session: Session, event: Audited, **headers: str
    ) -> Answer | None:
        """Sends the browser back with a code; None when the session has ended meanwhile."""
        event.by(session)
        event.target = session.user.user_id
        asked = Wanted(
            app=wanted.app,
            scope=wanted.scope,
            redirect_uri=wanted.redirect_uri,
            code_challenge=wanted.code_challenge,
            nonce=wanted.nonce,
        )
        with database_errors(), self._sso.store.engine.begin() as connection:
            code = self._sso.oidc.grants.issue(connection, session, asked)
            if not code:
                return None
            event.extra["scope"] = wanted.scope
            event.record(connection)
        return redirect(
            wanted.redirect_uri,
            {"code": code, "state": wanted.state, "iss": self._sso.oidc.issuer},
            **headers,
        )

    def refuse(self, redirect_uri: str, state: str, refusal: Refused) -> Answer:
        """Sends the browser back with an error."""
        return redirect(
            redirect_uri,
            {
                "error": refusal.code,
                "error_description": refusal.description,
                "state": state,
                "iss": self._sso.oidc.issuer,
            },
        )

    def _client(self, exchange: Exchange) -> Client:
        """The application, once it is certain where the browser can be sent back to."""
        if exchange.problem:
            raise BadRequest(exchange.problem)
        client = self._sso.oidc.server.query_client(exchange.get("client_id"))
        if client is None or not client.application.is_oidc_client:
            raise BadRequest("The application is not known here.")
        if not client.check_redirect_uri(exchange.get("redirect_uri")):
            raise BadRequest("The address to return to is not one of those of the application.")
        return client

    def _session(self, exchange: Exchange) -> Session | None:
        """The session of the browser, if it may be used for the application.  Raises ``Refused`` if its user may not use that."""
        ust = self._sso.oidc.cookies.session(exchange.cookies)
        if not ust:
            return None
        try:
            return self._sso.gate.session(replace(exchange.caller, current_ust=ust))
        except ValidationError as refusal:
            if _DENIED.intersection(refusal.sub_status):
                raise Refused("access_denied", "The user may not use this application now.") from None
            return None

    def _is_another_user(self, exchange: Exchange, session: Session) -> bool:
        """Whether the application expects somebody else."""
        hint = exchange.get("id_token_hint")
        if not hint:
            return False
        claims = self._sso.oidc.tokens.read_hint(hint)
        return claims is None or claims.get("sub") != session.user.user_id


def _checked(exchange: Exchange, client: Client) -> AuthorizeRequest:
    """What the application asks for.  Raises ``Refused``."""
    for name, code in NOT_SUPPORTED.items():
        if exchange.get(name):
            raise Refused(code, f"The parameter {name} is not supported.")
    if not client.check_response_type(exchange.get("response_type")):
        raise Refused("unsupported_response_type", "The response_type must be code.")
    if exchange.get("response_mode") not in ("", "query"):
        raise Refused("invalid_request", "The response_mode must be query.")
    if exchange.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(
        exchange.get("code_challenge")
    ):
        raise Refused(
            "invalid_request", "A code_challenge with the method S256 is required (PKCE, RFC 7636)."
        )
    _check_prompt(exchange)
    if len(exchange.get("nonce")) > MAX_NONCE or len(exchange.get("state")) > MAX_STATE:
        raise Refused("invalid_request", "The nonce or the state is too long.")
    scope = client.get_allowed_scope(exchange.get("scope"))
    if "openid" not in scope.split():
        raise Refused("invalid_scope", "The scope openid is required.")
    if not client.application.login_allowed:
        raise Refused("unauthorized_client", "Nobody can log in through this application.")
    return AuthorizeRequest(
        app=client.get_client_id(),
        redirect_uri=exchange.get("redirect_uri"),
        scope=scope,
        code_challenge=exchange.get("code_challenge"),
        state=exchange.get("state"),
        nonce=exchange.get("nonce"),
        login_hint=exchange.get("login_hint")[:200],
    )


def _check_prompt(exchange: Exchange) -> None:
    prompts = exchange.get("prompt").split()
    if not PROMPTS.issuperset(prompts) or ("none" in prompts and len(prompts) > 1):
        raise Refused("invalid_request", "The prompt must be none, or of login, consent and select_account.")
    max_age = exchange.get("max_age")
    if max_age and not (max_age.isascii() and max_age.isdigit() and len(max_age) < 10):
        raise Refused("invalid_request", "The max_age must be a number of seconds.")


def _must_log_in(exchange: Exchange, session: Session) -> bool:
    """Whether the application wants the user to log in again."""
    if {"login", "select_account"}.intersection(exchange.get("prompt").split()):
        return True
    max_age = exchange.get("max_age")
    return bool(max_age) and datetime.now(UTC) - session.auth_time > timedelta(seconds=int(max_age))
