"""The head of a request: from its bytes to WSGI environment variables, or a refusal.

Two parsers must agree.  A regular expression holds the grammar of RFC 9112 sections 3 to 5 in its strict reading: it
ends every line with CRLF and knows no folding, no space before a colon, no control character and no version but 1.0
and 1.1.  llhttp, in its strict mode, then splits the headers.  So a request that another program on the way could
read in a second way is never read here at all.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from junctor.server.http_settings import HTTPLimits, HTTPSettings
from junctor.sql.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    PayloadTooLarge,
    RequestRefused,
    UriTooLong,
)

Environ = dict[str, Any]

END_OF_HEAD: Final = b"\r\n\r\n"
CHUNKED: Final = -1

# No possessive quantifiers: Python 3.11.2, which Debian 12 has, gets them wrong around groups.  Nothing here can be divided in
# two ways, so matching is linear without them.
_HEAD: Final = re.compile(
    rb"([A-Z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n"
)
_TRAILERS: Final = re.compile(rb"(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")
_TRAILER_NAME: Final = re.compile(rb"([^:\r\n]+):")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
_LENGTH: Final = re.compile(r"[0-9]{1,18}")

# A second one of these makes a message ambiguous: RFC 9110 section 5.3, RFC 9112 sections 3.2 and 6.3.
_SINGLE: Final = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"})

# RFC 9110 section 6.5.1: fields that change routing, framing or authentication have no place in trailers.
_NOT_IN_TRAILERS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te"}
)

# Header names and methods repeat, so their translations are kept; strangers do not make the table grow for ever.
_MAX_KNOWN_NAMES: Final = 1024
_names: dict[bytes, str] = {}


def _environ_key(name: bytes) -> str:
    """The WSGI name of a header, ``''`` for one that is dropped.

    A name with an underscore is: ``X_Forwarded_For`` and ``X-Forwarded-For`` would become one variable.
    """
    text = name.decode("ascii")
    key = "" if "_" in text else text.upper().replace("-", "_")
    if key and key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    if len(_names) < _MAX_KNOWN_NAMES:
        _names[name] = key
    return key


def check_trailers(trailers: bytes) -> None:
    """Does nothing for an acceptable trailer section, its empty last line included; BadRequest otherwise."""
    if _TRAILERS.fullmatch(trailers) is None:
        raise BadRequest(msg="malformed trailers")
    if any(name.lower() in _NOT_IN_TRAILERS for name in _TRAILER_NAME.findall(trailers)):
        raise BadRequest(msg="a trailer that may not be one")


class RequestHead:
    """Reads the heads of one connection's requests, one after the other.

    After ``parse`` the attributes describe the request: ``content_length`` is CHUNKED for a chunked body,
    ``keep_alive`` is what the client asked for, ``expects_continue`` says that it waits for '100 Continue',
    ``upgrades`` that it asks for a WebSocket.
    """

    __slots__ = (
        "_host",
        "_limits",
        "_secure_headers",
        "content_length",
        "expects_continue",
        "http_1_1",
        "is_head",
        "keep_alive",
        "upgrades",
    )

    def __init__(self, settings: HTTPSettings, *, trusted: bool) -> None:
        self._limits: HTTPLimits = settings.limits
        self._secure_headers = settings.secure_headers if trusted else ()
        self._host = ""
        self.content_length = 0
        self.expects_continue = self.is_head = self.keep_alive = self.upgrades = False
        self.http_1_1 = True

    def parse(self, head: bytes, environ: Environ) -> None:
        """Puts the request that ``head`` holds, its last empty line included, into ``environ``.

        Raises the RequestRefused that the client is to be answered with; the connection is then no longer in step.
        """
        match = _HEAD.fullmatch(head)
        if match is None or len(head) > self._limits.head_size:
            raise malformed(head, self._limits)
        method, target, minor = match.groups()
        if match.end(3) > self._limits.request_line:
            raise UriTooLong
        problem = _split_headers(head, environ, self._limits)
        if problem is not None:
            raise problem

        if method == b"CONNECT":
            raise BadRequest(msg="this is not a proxy")
        environ["REQUEST_METHOD"] = name = method.decode("ascii")
        self.is_head = name == "HEAD"
        self.http_1_1 = minor == b"1"
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if self.http_1_1 else "HTTP/1.0"
        self._check_host(environ)
        self._set_target(name, target.decode("ascii"), environ)
        self._set_framing(environ)
        self._set_options(environ)

    def _check_host(self, environ: Environ) -> None:
        """RFC 9112 section 3.2: HTTP/1.1 has exactly one Host; that it is one only, the header loop has seen to."""
        host = environ.get("HTTP_HOST")
        if host is None:
            if self.http_1_1:
                raise BadRequest(msg="no Host header")
        elif host != self._host:
            if _HOST.fullmatch(host) is None:
                raise BadRequest(msg="invalid Host header")
            self._host = host

    def _set_target(self, method: str, target: str, environ: Environ) -> None:
        """Origin form, absolute form and, for OPTIONS, the asterisk: RFC 9112 section 3.2."""
        environ["RAW_URI"] = environ["REQUEST_URI"] = target
        if target[0] != "/":
            target = _origin_form(method, target, environ)
        path, _, query = target.partition("?")
        if "#" in target:
            raise BadRequest(msg="a fragment in the request target")
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query

    def _set_framing(self, environ: Environ) -> None:
        """How long the body is: RFC 9112 section 6, without anything that two readers could take differently."""
        length = environ.get("CONTENT_LENGTH")
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None:
            if length is not None:
                raise BadRequest(msg="both Content-Length and Transfer-Encoding")
            if not self.http_1_1 or coding.lower() != "chunked":
                raise BadRequest(msg="unsupported transfer coding")
            self.content_length = CHUNKED
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise BadRequest(msg="invalid Content-Length")
            self.content_length = int(length)
            if self.content_length > self._limits.body_size:
                raise PayloadTooLarge
        else:
            self.content_length = 0

    def _set_options(self, environ: Environ) -> None:
        """Connection, Expect, Upgrade, and the scheme as a trusted proxy tells it."""
        connection = environ.get("HTTP_CONNECTION")
        self.upgrades = False
        if connection is None:
            self.keep_alive = self.http_1_1
        else:
            options = {option.strip() for option in connection.lower().split(",")}
            self.keep_alive = "close" not in options and (self.http_1_1 or "keep-alive" in options)
            if "upgrade" in options and self.http_1_1:
                self.upgrades = environ.get("HTTP_UPGRADE", "").lower() == "websocket"

        expectation = environ.get("HTTP_EXPECT")
        self.expects_continue = False
        if expectation is not None:
            if {member.strip() for member in expectation.lower().split(",")} != {"100-continue"}:
                raise ExpectationFailed
            self.expects_continue = self.http_1_1
        if self._secure_headers:
            self._set_scheme(environ)

    def _set_scheme(self, environ: Environ) -> None:
        schemes = {
            "https" if environ[name] == value else "http"
            for name, value in self._secure_headers
            if name in environ
        }
        if len(schemes) > 1:
            raise BadRequest(msg="headers that contradict each other about the scheme")
        if schemes:
            environ["wsgi.url_scheme"] = schemes.pop()


class _Headers:
    """What llhttp calls back with each header."""

    __slots__ = ("_environ", "_limits", "count", "problem")

    def __init__(self, environ: Environ, limits: HTTPLimits) -> None:
        self._environ = environ
        self._limits = limits
        self.count = 0
        self.problem: RequestRefused | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header to the environment; what is wrong with it is kept, since llhttp would wrap an error."""
        self.count += 1
        if len(name) + len(value) > self._limits.header_size:
            self.problem = HeadersTooLarge(msg="a header is too large")
            return
        key = _names.get(name)
        if key is None:
            key = _environ_key(name)
        text = value.decode("latin-1").rstrip(" \t")
        if key in self._environ:
            self._repeated(key, text)
        elif key:
            self._environ[key] = text

    def _repeated(self, key: str, text: str) -> None:
        if key in _SINGLE:
            self.problem = BadRequest(
                msg=f"more than one {key.removeprefix('HTTP_').replace('_', '-').title()}"
            )
        else:
            separator = "; " if key == "HTTP_COOKIE" else ","
            self._environ[key] += separator + text


def _split_headers(head: bytes, environ: Environ, limits: HTTPLimits) -> RequestRefused | None:
    """Puts the headers of ``head`` into ``environ``; what is wrong with them, None if nothing is."""
    headers = _Headers(environ, limits)
    try:
        HttpRequestParser(headers).feed_data(head)
    except HttpParserUpgrade:
        pass  # a request like any other: whether it is upgraded is for the application to say
    except HttpParserError as error:
        return headers.problem or BadRequest(msg=str(error))
    if headers.count > limits.header_count:
        return HeadersTooLarge(msg="too many headers")
    return headers.problem


def _origin_form(method: str, target: str, environ: Environ) -> str:
    """The path and query of a target that does not start with a slash."""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest(msg="unsupported request target")
    authority, rest = absolute.groups()
    if authority.lower() != str(environ.get("HTTP_HOST", authority)).lower():
        raise BadRequest(msg="the request target and the Host header name different hosts")
    return rest if rest.startswith("/") else "/" + rest


def malformed(head: bytes, limits: HTTPLimits) -> RequestRefused:
    """The refusal of a head, complete or not, that breaks the grammar or a limit."""
    line = head.find(b"\r\n")
    if (len(head) if line < 0 else line) > limits.request_line:
        return UriTooLong()
    if len(head) > limits.head_size:
        return HeadersTooLarge(msg="the headers are too large")
    return BadRequest(msg="malformed request line or header")


def check_start(head: bytes, limits: HTTPLimits) -> None:
    """Does nothing for bytes that may become a head; raises RequestRefused for those that cannot.

    So that a client which speaks TLS, or ends its lines with LF alone, hears so now instead of waiting for a time-out.
    """
    line = head.find(b"\r\n")
    if (
        (len(head) if line < 0 else line) > limits.request_line
        or len(head) > limits.head_size
        or not b"A" <= head[:1] <= b"Z"
        or head.count(b"\n") != head.count(b"\r\n")
    ):
        raise malformed(head, limits)
