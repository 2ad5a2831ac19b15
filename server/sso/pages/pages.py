"""The pages of the OpenID provider: HTML that works without scripts, and lets nothing foreign in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from junctor.server.sso.codes import status_code
from junctor.server.sso.oidc.continuations import CODE, NEW_PASSWORD, PASSWORD, Continuation
from junctor.server.sso.oidc.exchange import HTML, NO_STORE, Answer, origin_of
from junctor.server.sso.pages.messages import message_of

if TYPE_CHECKING:
    from junctor.server.sso.errors import ValidationError
    from junctor.server.sso.single_sign_on import SingleSignOn

HERE: Final = Path(__file__).parent
FILES: Final = {"style.css": "text/css; charset=utf-8", "pages.js": "text/javascript; charset=utf-8"}
TEMPLATES: Final = {PASSWORD: "log_in.html", CODE: "code.html", NEW_PASSWORD: "new_password.html"}
SITE: Final = "Junctor"
_SECURITY: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    **NO_STORE,
}


class Pages:
    """Everything that users see."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def step(
        self,
        continuation: Continuation,
        csrf: str,
        refusal: ValidationError | None,
        *,
        username: str = "",
    ) -> Answer:
        """The page of a step of a log-in, with why what was sent before was refused."""
        settings, request = self._sso.settings, continuation.request
        answer = self._page(
            TEMPLATES[continuation.step],
            form_origin=origin_of(request.redirect_uri),
            app=request.app,
            request=continuation.key,
            csrf=csrf,
            username=username,
            message=message_of(refusal) if refusal else "",
            has_code=not settings["login_inform_if_totp_missing"],
            has_passkeys=bool(settings["webauthn_rp_id"]),
            min_length=settings["password_min_length"],
        )
        if refusal is not None:
            is_wait = status_code.auth.too_many_attempts in refusal.sub_status
            answer.status = 429 if is_wait else 400
            if refusal.retry_after:
                answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer

    def log_out(self, kept: Mapping[str, str], csrf: str, *, app: str, redirect_uri: str) -> Answer:
        """Asks whether to log out; ``kept`` are the parameters that come back with the answer."""
        origin = origin_of(redirect_uri) if redirect_uri else ""
        return self._page("log_out.html", form_origin=origin, kept=kept, csrf=csrf, app=app)

    def logged_out(self) -> Answer:
        """Says that the user is logged out."""
        return self._page("logged_out.html")

    def error(self, message: str, *, status: int = 400) -> Answer:
        """Says what is wrong, when nobody else can be told."""
        answer = self._page("error.html", message=message)
        answer.status = status
        return answer

    def file(self, name: str) -> Answer | None:
        """A style sheet or a script, if there is one of this name; it may be kept, since another version has another URL."""
        if name not in FILES:
            return None
        headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return Answer(200, _content(name), headers, FILES[name])

    def _page(self, template: str, *, form_origin: str = "", **values: Any) -> Answer:
        issuer = self._sso.oidc.issuer
        html = _environment().get_template(template)
        body = html.render(
            site=self._sso.settings["site_name"] or SITE,
            base=issuer,
            versions={name: _version(name) for name in FILES},
            **values,
        )
        return Answer(200, body, {**_SECURITY, "Content-Security-Policy": _policy(form_origin)}, HTML)


def _policy(form_origin: str) -> str:
    """What a page may load and do; browsers apply form-action to where an answer to a form redirects, too."""
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        f"form-action 'self' {form_origin}".rstrip()
        + "; frame-ancestors 'none'; base-uri 'none'"
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _content(name: str) -> bytes:
    return (HERE / name).read_bytes()


@cache
def _version(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:12]
