"""Logging out, as applications ask for it (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from junctor.server.audit.trail import OK
from junctor.server.sso.audited import Audited
from junctor.server.sso.oidc.exchange import Answer, Exchange, redirect

if TYPE_CHECKING:
    from junctor.server.sso.records import Session
    from junctor.server.sso.single_sign_on import SingleSignOn

FORM: Final = "log-out"
KEPT: Final = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")
EXPIRED: Final = "This page has expired. Go back to the application and log out again."


class LogOut:
    """Ends the session of a browser.

    The user is asked first, unless the application proves by an ID token that it is this user whom it wants to log out: a link on any
    page must not be enough.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def answer(self, exchange: Exchange) -> Answer:
        """Logs out and sends the browser back, or shows a page."""
        oidc = self._sso.oidc
        if exchange.problem:
            return oidc.pages.error(exchange.problem)
        hint = exchange.get("id_token_hint")
        claims = oidc.tokens.read_hint(hint) if hint else None
        app, problem = self._application(exchange, claims)
        if problem:
            return oidc.pages.error(problem)
        exchange = replace(exchange, caller=replace(exchange.caller, current_app=app))
        ust = oidc.cookies.session(exchange.cookies)
        session = self._sso.sessions.find(ust) if ust else None
        if session is not None and not self._is_certain(exchange, claims, session):
            return self._question(exchange)
        answer = self._next(exchange)
        if session is not None:
            self._sso.sessions.log_out(replace(exchange.caller, current_ust=ust))
            event = Audited(self._sso, exchange.caller, "oidc.logout", session.user.user_id)
            event.by(session)
            self._sso.audit.note(event.event(OK))
        if ust:
            answer.headers |= oidc.cookies.end_session()
        return answer

    def _application(self, exchange: Exchange, claims: dict[str, Any] | None) -> tuple[str, str]:
        """The name of the application, '' = unknown, and what is wrong with what it asks for."""
        app = exchange.get("client_id") or (claims["aud"] if claims else "")
        if claims and claims["aud"] != app:
            return "", "The ID token is one of another application."
        uri = exchange.get("post_logout_redirect_uri")
        client = self._sso.oidc.server.query_client(app)
        if uri and (client is None or uri not in client.application.post_logout_redirect_uris):
            return "", "The address to return to is not one of those of the application."
        return (app if client is not None else ""), ""

    def _is_certain(self, exchange: Exchange, claims: dict[str, Any] | None, session: Session) -> bool:
        """Whether the session is the one that is meant, or the user has said so."""
        if claims is not None and claims.get("sub") == session.user.user_id:
            return True
        oidc = self._sso.oidc
        browser = oidc.cookies.browser(exchange.cookies)
        return (
            exchange.method == "POST"
            and bool(browser)
            and oidc.continuations.is_csrf_token(exchange.get("csrf"), browser, FORM)
        )

    def _question(self, exchange: Exchange) -> Answer:
        oidc = self._sso.oidc
        browser = oidc.cookies.browser(exchange.cookies)
        headers = {}
        if not browser:
            browser = oidc.cookies.new_browser()
            headers = oidc.cookies.set_browser(browser)
        kept = {name: exchange.get(name) for name in KEPT if exchange.get(name)}
        answer = oidc.pages.log_out(
            kept,
            oidc.continuations.csrf_token(browser, FORM),
            app=exchange.caller.current_app,
            redirect_uri=exchange.get("post_logout_redirect_uri"),
        )
        answer.headers |= headers
        return answer

    def _next(self, exchange: Exchange) -> Answer:
        """Back to the application, or a page if it did not say where to."""
        uri = exchange.get("post_logout_redirect_uri")
        if uri:
            return redirect(uri, {"state": exchange.get("state")})
        return self._sso.oidc.pages.logged_out()
