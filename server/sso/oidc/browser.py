"""The cookies by which a browser is known to the OpenID provider: its session, and itself while somebody logs in."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from junctor.server.sso.protection import MAX_TOKEN

SESSION, BROWSER = "junctor_sso", "junctor_sso_browser"
_VALUE: Final = re.compile(r"[A-Za-z0-9_.=-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cookies:
    """The cookies of an issuer: for its paths only, out of reach of scripts, and over HTTPS alone if it is there."""

    issuer: str

    @property
    def _is_secure(self) -> bool:
        return self.issuer.startswith("https://")

    def _name(self, name: str) -> str:
        return f"__Secure-{name}" if self._is_secure else name

    def session(self, cookies: Mapping[str, str]) -> str:
        """The token of the browser's session, '' = none."""
        return _checked(cookies.get(self._name(SESSION), ""))

    def browser(self, cookies: Mapping[str, str]) -> str:
        """What the browser is known by, '' = nothing yet."""
        return _checked(cookies.get(self._name(BROWSER), ""))

    def new_browser(self) -> str:
        """What a browser can be known by: 256 random bits."""
        return secrets.token_urlsafe(32)

    def set_session(self, ust: str) -> dict[str, str]:
        """The header that gives the browser a session; it forgets it when it is closed."""
        return self._header(SESSION, ust)

    def set_browser(self, value: str) -> dict[str, str]:
        """The header that makes the browser known."""
        return self._header(BROWSER, value)

    def end_session(self) -> dict[str, str]:
        """The header that takes the session away."""
        return self._header(SESSION, "", "Max-Age=0")

    def _header(self, name: str, value: str, *more: str) -> dict[str, str]:
        parts = [f"{self._name(name)}={value}", f"Path={self._path}", "HttpOnly", "SameSite=Lax", *more]
        return {"Set-Cookie": "; ".join([*parts, "Secure"] if self._is_secure else parts)}

    @property
    def _path(self) -> str:
        return urlsplit(self.issuer).path or "/"


def _checked(value: str) -> str:
    return value if len(value) <= MAX_TOKEN and _VALUE.fullmatch(value) else ""
