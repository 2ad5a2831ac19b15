"""The log-in in a browser, step by step: the password, the second factor, a new password if there must be one, and back with a code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from junctor.server.audit.trail import REFUSED
from junctor.server.sso.audited import Audited, audited
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, not_allowed
from junctor.server.sso.gate import ENROL
from junctor.server.sso.login import Credentials, SessionInfo
from junctor.server.sso.oidc.authorize import Refused
from junctor.server.sso.oidc.continuations import CODE, NEW_PASSWORD, PASSWORD, AuthorizeRequest, Continuation
from junctor.server.sso.oidc.exchange import NO_STORE, Answer, Exchange, error
from junctor.server.sso.pages.messages import DIFFERENT
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.records import Session, User
    from junctor.server.sso.single_sign_on import SingleSignOn

EXPIRED: Final = "This page has expired. Go back to the application and log in again."
OTP: Final = "otp"
NEW_NEEDED: Final = frozenset({status_code.password.must_send_new, status_code.password.expired})
MAX_USERNAME, MAX_PASSWORD, MAX_CODE = 200, 4096, 64  # characters


class LogIn:
    """The pages that users log in with.

    Between two pages, the server keeps how far a browser is; no page has a password in it.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def begin(self, exchange: Exchange, wanted: AuthorizeRequest) -> Answer:
        """The first page; a browser that is not known yet gets a cookie."""
        cookies = self._sso.oidc.cookies
        browser = cookies.browser(exchange.cookies)
        headers = {}
        if not browser:
            browser = cookies.new_browser()
            headers = cookies.set_browser(browser)
        continuation = self._sso.oidc.continuations.begin(wanted, browser)
        answer = self._page(continuation, browser, username=wanted.login_hint)
        answer.headers |= headers
        return answer

    def submit(self, exchange: Exchange) -> Answer:
        """The next page after one that was sent, or the way back to the application."""
        oidc = self._sso.oidc
        continuation = self._own(exchange)
        if continuation is None:
            return oidc.pages.error(EXPIRED, status=403)
        browser = oidc.cookies.browser(exchange.cookies)
        caller = replace(exchange.caller, current_app=continuation.request.app, current_ust="")
        exchange = replace(exchange, caller=caller)
        try:
            if continuation.step == CODE:
                done = self._second_factor(exchange, continuation)
            elif continuation.step == NEW_PASSWORD:
                done = self._new_password(exchange, continuation)
            else:
                done = self._first(exchange, continuation)
        except ValidationError as refusal:
            return self._page(continuation, browser, refusal, username=exchange.get("username"))
        if isinstance(done, Continuation):
            oidc.continuations.save(done)
            return self._page(done, browser)
        return self._back(exchange, continuation, done)

    def passkey_options(self, exchange: Exchange) -> Answer:
        """What the script of the first page asks the browser's passkeys."""
        continuation = self._own(exchange)
        if continuation is None or continuation.step != PASSWORD:
            return error(403, "access_denied", EXPIRED)
        caller = replace(exchange.caller, current_app=continuation.request.app)
        try:
            return Answer(200, self._sso.passkeys.authentication_options(caller), dict(NO_STORE))
        except ValidationError as refusal:
            if refusal.retry_after:
                raise
            return error(403, "access_denied", "There are no passkeys here.")

    def _own(self, exchange: Exchange) -> Continuation | None:
        """The log-in that a form is about, if the form was given to this very browser and comes from our own page."""
        oidc = self._sso.oidc
        browser, key = oidc.cookies.browser(exchange.cookies), exchange.get("request")
        site = exchange.headers.get("sec-fetch-site", "same-origin")
        if not browser or site not in ("same-origin", "none"):
            return None
        if not oidc.continuations.is_csrf_token(exchange.get("csrf"), browser, key):
            return None
        return oidc.continuations.find(key, browser)

    def _first(self, exchange: Exchange, continuation: Continuation) -> SessionInfo | Continuation:
        """What the first page proves, by a passkey or by a password."""
        if not (credential := exchange.get("credential")):
            return self._password(exchange, continuation)
        try:
            given = orjson.loads(credential)
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            raise ValidationError(reason="The passkey's answer is no JSON object.")
        return self._sso.passkeys.log_in(exchange.caller, given)

    def _password(self, exchange: Exchange, continuation: Continuation) -> SessionInfo | Continuation:
        credentials = Credentials(
            username=exchange.get("username")[: MAX_USERNAME + 1],
            password=exchange.get("password")[: MAX_PASSWORD + 1],
            totp_code=exchange.get("code").strip()[:MAX_CODE],
        )
        try:
            return self._sso.login.log_in(exchange.caller, credentials)
        except ValidationError as refusal:
            codes = set(refusal.sub_status)
            user = self._sso.users.by_username(credentials.username)
            # These come after the password was right; whether a remote caller may see them does not matter to whoever knows it.
            if user is None or not refusal.return_status:
                raise
            if status_code.auth.totp_missing in codes:
                return continuation.at(CODE, user, ("pwd",))
            if NEW_NEEDED.intersection(codes):
                factors = ("pwd", OTP) if user.is_totp_enabled else ("pwd",)
                return continuation.at(NEW_PASSWORD, user, factors)
            raise

    def _second_factor(self, exchange: Exchange, continuation: Continuation) -> SessionInfo | Continuation:
        user = self._user(continuation)
        self._sso.totp.validate_code_for_user(exchange.caller, exchange.get("code").strip()[:MAX_CODE], user)
        factors = (*continuation.factors, OTP)
        try:
            return self._sso.login.log_in_as(exchange.caller, user.username, factors)
        except ValidationError as refusal:
            if NEW_NEEDED.intersection(refusal.sub_status):
                return continuation.at(NEW_PASSWORD, user, factors)
            raise

    def _new_password(self, exchange: Exchange, continuation: Continuation) -> SessionInfo:
        sso, user, password = self._sso, self._user(continuation), exchange.get("new_password")
        if password != exchange.get("new_password_again"):
            raise ValidationError(
                status_code.password.invalid, True, field=DIFFERENT, reason="The passwords differ."
            )
        with audited(sso, exchange.caller, "user.change_password", target=user.user_id) as event:
            event.actor = user.user_id
            if sso.passwords.verify(user, password).is_right:
                raise ValidationError(
                    status_code.password.invalid, True, reason="The new password is the one of before."
                )
            stored = sso.change_password.prepared(user, password)
            with database_errors(), sso.store.engine.begin() as connection:
                now = sso.users.rows.locked(connection, user.id)
                if now is None or now.generation != user.generation:
                    raise not_allowed("The user has changed meanwhile.")
                sso.change_password.store(connection, user, stored)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(exchange.caller, user, "password")
        return sso.login.log_in_as(exchange.caller, user.username, continuation.factors)

    def _back(self, exchange: Exchange, continuation: Continuation, info: SessionInfo) -> Answer:
        """Sends the browser back to the application with a code, and gives it the session; the one that it had before ends."""
        oidc = self._sso.oidc
        session = self._sso.sessions.find(info.ust)
        with database_errors(), self._sso.store.engine.begin() as connection:
            is_first = oidc.continuations.end(connection, continuation)
        answer = None
        if session is not None and is_first:
            answer = self._answer(exchange, continuation.request, session)
        if answer is None:
            self._sso.sessions.log_out(replace(exchange.caller, current_ust=info.ust))
            return oidc.pages.error(EXPIRED)
        before = oidc.cookies.session(exchange.cookies)
        if before:
            self._sso.sessions.log_out(replace(exchange.caller, current_ust=before))
        answer.headers |= oidc.cookies.set_session(info.ust)
        return answer

    def _answer(self, exchange: Exchange, wanted: AuthorizeRequest, session: Session) -> Answer | None:
        """A code for the session, unless its user must set a second factor up before anything else; None when it has ended."""
        event = Audited(self._sso, exchange.caller, "oidc.authorize", "")
        if ENROL in session.auth_factors:
            event.by(session)
            self._sso.audit.note(event.event(REFUSED, ENROL))
            refusal = Refused("access_denied", "The user must set a second factor up first.")
            return self._sso.oidc.authorization.refuse(wanted.redirect_uri, wanted.state, refusal)
        return self._sso.oidc.authorization.grant(wanted, session, event)

    def _user(self, continuation: Continuation) -> User:
        """Whose password was right in a step before.  Raises ``ValidationError`` if it may not be right any more."""
        user = self._sso.users.by_user_id(continuation.user_id)
        if user is None or user.generation != continuation.generation:
            raise not_allowed("The user has changed since the password was given.")
        return user

    def _page(
        self,
        continuation: Continuation,
        browser: str,
        refusal: ValidationError | None = None,
        *,
        username: str = "",
    ) -> Answer:
        csrf = self._sso.oidc.continuations.csrf_token(browser, continuation.key)
        return self._sso.oidc.pages.step(continuation, csrf, refusal, username=username)
