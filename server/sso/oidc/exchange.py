"""Requests of browsers and of applications as the OpenID provider sees them, and its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson

from junctor.server.sso.caller import Caller

MAX_PARAMETER: Final = 4096  # characters
MAX_COOKIES: Final = 8192
NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

# What an error description may repeat (RFC 6749, section 5.2); all that applications send must be made of it, but for what users type in.
_PLAIN = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*", re.ASCII)
_FREE: Final = frozenset({"state", "nonce", "login_hint", "client_id", "client_secret"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request: its parameters, of the query for GET and of the form for POST, and whose it is.

    ``parameters`` have the values of all that were given once; ``repeated`` names one that was given more than once, '' = none.
    """

    method: str
    parameters: Mapping[str, str]
    repeated: str
    headers: Mapping[str, str]
    caller: Caller
    cookies: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        method: str,
        given: Mapping[str, Any],
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Exchange:
        """The request with these parameters, each of which may be text or a list of texts."""
        repeated = next((name for name, value in given.items() if not isinstance(value, str)), "")
        single = {name: value for name, value in given.items() if isinstance(value, str)}
        return cls(method, single, repeated, headers, caller, parse_cookies(headers.get("cookie", "")))

    def get(self, name: str) -> str:
        """A parameter, '' if it is not there."""
        return self.parameters.get(name, "")

    @property
    def problem(self) -> str:
        """What is wrong with the parameters as such, '' = nothing."""
        if self.repeated:
            return "A parameter is given more than once."
        for name, value in self.parameters.items():
            if len(value) > MAX_PARAMETER:
                return "A parameter is too long."
            if not (value.isprintable() if name in _FREE else _PLAIN.fullmatch(value)):
                return "A parameter has characters that are not allowed in it."
        return ""


@dataclass(slots=True)
class Answer:
    """What goes back; a body that is a dictionary is JSON.  There is at most one cookie in an answer."""

    status: int
    body: dict[str, Any] | str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON

    @property
    def payload(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, dict):
            return orjson.dumps(self.body)
        return self.body if isinstance(self.body, bytes) else self.body.encode()


def parse_cookies(header: str) -> dict[str, str]:
    """The cookies of a header; none of one that cannot be read."""
    if not header or len(header) > MAX_COOKIES:
        return {}
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in cookies.items()}


def redirect(uri: str, parameters: Mapping[str, str], **headers: str) -> Answer:
    """Sends the browser to ``uri``, with more parameters in its query."""
    parts = urlsplit(uri)
    query = parse_qsl(parts.query, keep_blank_values=True) + [
        (name, value) for name, value in parameters.items() if value
    ]
    location = urlunsplit(parts._replace(query=urlencode(query)))
    return Answer(
        303,
        headers={"Location": location, "Referrer-Policy": "no-referrer", **NO_STORE, **headers},
        content_type="text/plain; charset=utf-8",
    )


def error(status: int, code: str, description: str, **headers: str) -> Answer:
    """An error as RFC 6749, section 5.2, has it."""
    return Answer(status, {"error": code, "error_description": description}, {**NO_STORE, **headers})


def origin_of(uri: str) -> str:
    """The origin of a URI: scheme, host and port."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
