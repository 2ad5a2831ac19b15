"""The services behind the paths of the OpenID provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from junctor.server.admin.service import AdminService
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.oidc.exchange import Answer, Exchange, error, origin_of
from junctor.server.websocket.relay import NOTHING_HERE
from junctor.sql.errors import ResourceNotFound

if TYPE_CHECKING:
    from junctor.server.sso.oidc.provider import Provider
    from junctor.server.sso.single_sign_on import SingleSignOn

PREFIX: Final = "zato.sso.oidc."
MAX_AGENT: Final = 1000  # characters
TOO_MANY: Final = "There are too many requests. Wait a moment."


class OidcService(AdminService):
    """An endpoint; there is nothing while the settings name no issuer."""

    is_for_scripts = False
    """Whether pages of applications may call it with a script (CORS)."""
    is_page = False

    def handle(self) -> None:
        """Answers the request."""
        sso = self.context.sso
        if not sso.oidc.issuer or not self.request.http.method:
            raise ResourceNotFound(self.cid, NOTHING_HERE)
        exchange = self._exchange(sso)
        sso.oidc.keys.look()
        try:
            answer = self._preflight() if exchange.method == "OPTIONS" else self.answer(sso.oidc, exchange)
        except ValidationError as refusal:
            answer = self._refused(sso.oidc, refusal)
        if self.is_for_scripts:
            _let_scripts_in(sso, exchange, answer)
        self.response.status_code = answer.status
        self.response.content_type = answer.content_type
        self.response.headers.update(answer.headers)
        self.response.payload = answer.payload

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """The answer; for subclasses."""
        raise NotImplementedError

    def _exchange(self, sso: SingleSignOn) -> Exchange:
        http = self.request.http
        given: Mapping[str, Any] = http.POST if http.method == "POST" else http.GET
        caller = Caller(
            cid=self.cid,
            remote_addr=sso.oidc.client_address(http.environ),
            user_agent=http.user_agent[:MAX_AGENT],
        )
        return Exchange.of(http.method, given, http.headers, caller)

    def _preflight(self) -> Answer:
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        }
        return Answer(204, headers=headers if self.is_for_scripts else {})

    def _refused(self, oidc: Provider, refusal: ValidationError) -> Answer:
        page = oidc.pages.error(TOO_MANY, status=429) if self.is_page else None
        answer = page or error(429, "temporarily_unavailable", TOO_MANY)
        answer.headers["Retry-After"] = str(refusal.retry_after or 60)
        return answer


class Configuration(OidcService):
    """What clients need to know of the provider."""

    name = PREFIX + "configuration"
    is_for_scripts = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        del exchange
        return oidc.configuration()


class Jwks(OidcService):
    """The public keys."""

    name = PREFIX + "jwks"
    is_for_scripts = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        del exchange
        return oidc.jwks()


class Authorize(OidcService):
    """Where applications send their users to log in."""

    name = PREFIX + "authorize"
    is_page = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """A page, or the way back with a code."""
        return oidc.authorization.authorize(exchange)


class LogInPage(OidcService):
    """What the pages of a log-in are sent to."""

    name = PREFIX + "login"
    is_page = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """The next page, or the way back with a code."""
        return oidc.log_in.submit(exchange)


class PasskeyOptions(OidcService):
    """What the log-in page asks a browser's passkey."""

    name = PREFIX + "passkey-options"

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        return oidc.log_in.passkey_options(exchange)


class Token(OidcService):
    """Tokens for a code or a refresh token."""

    name = PREFIX + "token"
    is_for_scripts = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        return oidc.token(exchange)


class UserInfo(OidcService):
    """Who the user of an access token is."""

    name = PREFIX + "userinfo"
    is_for_scripts = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        return oidc.userinfo.answer(exchange)


class Introspect(OidcService):
    """What a token is worth now."""

    name = PREFIX + "introspect"

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """JSON."""
        return oidc.introspect(exchange)


class Revoke(OidcService):
    """Ends tokens."""

    name = PREFIX + "revoke"
    is_for_scripts = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """Nothing, or an error in JSON."""
        return oidc.revoke(exchange)


class LogOutPage(OidcService):
    """Logs users out."""

    name = PREFIX + "logout"
    is_page = True

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """A page, or the way back."""
        return oidc.log_out.answer(exchange)


class Static(OidcService):
    """What the pages are made of beside HTML."""

    name = PREFIX + "static"

    def answer(self, oidc: Provider, exchange: Exchange) -> Answer:
        """A style sheet or a script."""
        del exchange
        found = oidc.pages.file(self.request.http.params.get("name", ""))
        if found is None:
            raise ResourceNotFound(self.cid, NOTHING_HERE)
        return found


class ReplaceKeys(AdminService):
    """Ends all keys that sign tokens, and makes a new one: for when somebody may have got hold of one."""

    name = PREFIX + "replace-keys"

    def handle(self) -> None:
        """No input; the answer has the id of the new key as ``kid``."""
        self.response.payload = {"kid": self.context.sso.oidc.keys.replace(self.who, self.cid)}


SERVICES: Final[tuple[type[AdminService], ...]] = (
    Configuration,
    Jwks,
    Authorize,
    LogInPage,
    PasskeyOptions,
    Token,
    UserInfo,
    Introspect,
    Revoke,
    LogOutPage,
    Static,
    ReplaceKeys,
)


def _let_scripts_in(sso: SingleSignOn, exchange: Exchange, answer: Answer) -> None:
    """Lets a page of an application read the answer: those alone that users are sent back to.  No cookie is looked at here."""
    origin = exchange.headers.get("origin", "")
    answer.headers["Vary"] = "Origin"
    if origin and any(
        origin == origin_of(uri)
        for application in sso.applications.values()
        if application.is_oidc_client
        for uri in application.redirect_uris
    ):
        answer.headers["Access-Control-Allow-Origin"] = origin
