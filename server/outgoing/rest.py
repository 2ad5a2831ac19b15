"""Calls to REST APIs: what ``self.out.rest['name'].conn`` of a service is.

Errors say which connection, method and address it was, and why, never what was sent: neither parameters nor
headers nor bodies.
"""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

import msgspec
import requests
from requests.structures import CaseInsensitiveDict

from junctor.server.outgoing.connections import Connections
from junctor.server.outgoing.http_pool import HttpPool, HttpRequest
from junctor.server.outgoing.url_template import UrlTemplate
from junctor.sql.errors import ConnectionFailed, ConnectionInactive

MAX_RESPONSE_SIZE = 100 * 1024 * 1024

_CONTENT_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}
_USER_AGENT = f"Junctor/{version('junctor')}"
_HOST_NAME = socket.gethostname()
_HIDDEN = frozenset({"set-cookie", "authorization"})  # headers of responses that a report leaves out

Params = Mapping[str, Any] | None
Headers = Mapping[str, Any] | None
Seconds = float | None


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A user name and a password."""

    username: str
    password: str = field(repr=False)

    def header(self) -> tuple[str, str]:
        """The header that carries them, in UTF-8 (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Authorization", f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the name of the header that it goes into."""

    name: str
    key: str = field(repr=False)

    def header(self) -> tuple[str, str]:
        """The header and the key."""
        return self.name, self.key


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token (RFC 6750)."""

    token: str = field(repr=False)

    def header(self) -> tuple[str, str]:
        """The header that carries it."""
        return "Authorization", f"Bearer {self.token}"


Security = BasicAuth | ApiKey | Bearer | None


@dataclass(frozen=True, slots=True)
class RestConfig:
    """How to reach a REST API.

    ``data_format`` is ``json``, ``form`` or empty; ``content_type`` replaces what it implies.  ``timeout`` is in
    seconds, for a whole call: waiting for a free connection, connecting, sending, waiting and reading.
    ``pool_size`` is how many calls may be under way at a time.  ``max_response_size`` is in bytes, after
    decompression.
    """

    name: str
    host: str
    url_path: str = "/"
    is_active: bool = True
    data_format: str = "json"
    content_type: str = ""
    timeout: float = 10
    pool_size: int = 20
    ping_method: str = "HEAD"
    tls_verify: bool = True
    max_response_size: int = MAX_RESPONSE_SIZE


class RestResponse(requests.Response):
    """The response of requests, read to its end, with ``data`` beside all else."""

    data_format = ""

    @cached_property
    def data(self) -> Any:
        """The body: parsed if the connection's data format is JSON, as text otherwise; None if JSON is empty.

        Raises ``ValueError`` when asked for if what came is not JSON, such as a proxy's error page.
        """
        if self.data_format != "json":
            return self.text
        return msgspec.json.decode(self.content) if self.content.strip() else None


class RestConnection:
    """A pool of connections to one REST API.

    ``security`` is asked at each call, so that a changed password takes effect with the next one.  Calls raise
    ``ConnectionInactive``, ``ConnectionTimeout`` or ``ConnectionFailed``.  A response is returned whatever its
    status.  Redirects are followed for GET, HEAD and OPTIONS; for other methods the redirect is the response.
    """

    def __init__(self, config: RestConfig, security: Callable[[], Security] = lambda: None) -> None:
        self.config = config
        self._security = security
        self._template = UrlTemplate(config.host, config.url_path)
        self._pool = HttpPool(
            config.pool_size, tls_verify=config.tls_verify, max_response_size=config.max_response_size
        )

    def __repr__(self) -> str:
        return f"<RestConnection {self.name!r} {self._template.shown}>"

    @property
    def name(self) -> str:
        """The name of the connection."""
        return self.config.name

    @property
    def is_active(self) -> bool:
        """Whether calls are made at all."""
        return self.config.is_active

    @property
    def conn(self) -> RestConnection:
        """The connection itself, where services look for it."""
        return self

    def get(
        self, cid: str = "", params: Params = None, headers: Headers = None, *, timeout: Seconds = None
    ) -> RestResponse:
        """The response to GET.

        ``params`` are for the placeholders of the address; those left over go to the query string, lists as
        repeated ones, without those that are None.  ``timeout`` is for this call.  Raises ``ValueError`` if
        parameters of the address are missing.
        """
        return self._call("GET", cid, b"", params, headers, timeout)

    def delete(
        self, cid: str = "", params: Params = None, headers: Headers = None, *, timeout: Seconds = None
    ) -> RestResponse:
        """The response to DELETE; arguments are those of ``get``."""
        return self._call("DELETE", cid, b"", params, headers, timeout)

    def options(
        self, cid: str = "", params: Params = None, headers: Headers = None, *, timeout: Seconds = None
    ) -> RestResponse:
        """The response to OPTIONS; arguments are those of ``get``."""
        return self._call("OPTIONS", cid, b"", params, headers, timeout)

    def post(
        self,
        cid: str = "",
        data: Any = "",
        params: Params = None,
        headers: Headers = None,
        *,
        timeout: Seconds = None,
    ) -> RestResponse:
        """The response to POST.

        ``data`` that is text or bytes is sent as it is; anything else is written as JSON or, without that data
        format, as a form.  Other arguments are those of ``get``.  Raises ``TypeError`` if the data cannot be
        written so.
        """
        return self._call("POST", cid, self._body(data), params, headers, timeout)

    send = post

    def put(
        self,
        cid: str = "",
        data: Any = "",
        params: Params = None,
        headers: Headers = None,
        *,
        timeout: Seconds = None,
    ) -> RestResponse:
        """The response to PUT; arguments are those of ``post``."""
        return self._call("PUT", cid, self._body(data), params, headers, timeout)

    def patch(
        self,
        cid: str = "",
        data: Any = "",
        params: Params = None,
        headers: Headers = None,
        *,
        timeout: Seconds = None,
    ) -> RestResponse:
        """The response to PATCH; arguments are those of ``post``."""
        return self._call("PATCH", cid, self._body(data), params, headers, timeout)

    def ping(self, cid: str = "") -> str:
        """A report on whether the API can be reached: method, address, status, time in seconds, headers.

        The address is taken up to its first placeholder.  Any response will do, whatever its status.
        """
        method, url = self.config.ping_method, self._template.for_ping()
        started = time.monotonic()
        response = self._send(
            cid, HttpRequest(method, url, self._headers(cid, {}), timeout=self.config.timeout)
        )
        elapsed = time.monotonic() - started
        lines = [
            f"{method} {url.partition('?')[0]}",
            f"{response.status_code} {response.reason or ''}".rstrip(),
            f"{elapsed:.3f} s",
        ]
        lines += [
            f"{name}: {value}" for name, value in response.headers.items() if name.lower() not in _HIDDEN
        ]
        return "\n".join(lines)

    def close(self) -> None:
        """Close what is idle; calls under way finish."""
        self._pool.close()

    def _call(
        self, method: str, cid: str, body: bytes, params: Params, headers: Headers, timeout: Seconds
    ) -> RestResponse:
        url, rest = self._template.fill(params)
        if query := urlencode({key: value for key, value in rest.items() if value is not None}, doseq=True):
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        seconds = self.config.timeout if timeout is None else timeout
        return self._send(cid, HttpRequest(method, url, self._headers(cid, headers or {}), body, seconds))

    def _send(self, cid: str, request: HttpRequest) -> RestResponse:
        if not self.config.is_active:
            raise ConnectionInactive(cid, f"Outgoing REST connection {self.name!r} is not active.")
        if (security := self._security()) is not None:
            name, value = security.header()
            request.headers[name] = value
            request = replace(request, secrets=(name,))
        started = time.monotonic()
        try:
            return self._response(self._pool.send(request))
        except ConnectionFailed as error:
            elapsed = time.monotonic() - started
            what = f"{request.method} {self._template.shown} failed after {elapsed:.3f} s: {error}."
            raise type(error)(cid, f"Outgoing REST connection {self.name!r}: {what}") from None

    def _response(self, response: requests.Response) -> RestResponse:
        own = RestResponse()
        own.__dict__.update(response.__dict__)
        own.data_format = self.config.data_format
        return own

    def _headers(self, cid: str, given: Mapping[str, Any]) -> CaseInsensitiveDict[str]:
        """The headers of a request; what the service gives replaces the usual ones."""
        thread = threading.current_thread().name
        headers = CaseInsensitiveDict(
            {
                "User-Agent": _USER_AGENT,
                "X-Zato-CID": cid,
                "X-Zato-Component": f"parallel/{_HOST_NAME}/{os.getpid()}/{thread}",
                "X-Zato-Msg-TS": datetime.now(UTC).isoformat(),
            }
        )
        if content_type := self.config.content_type or _CONTENT_TYPES.get(self.config.data_format):
            headers["Content-Type"] = content_type
        headers.update({name: str(value) for name, value in given.items() if value is not None})
        return headers

    def _body(self, data: Any) -> bytes:
        if data is None:
            return b""
        if isinstance(data, str):
            return data.encode()
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        if self.config.data_format == "json":
            return msgspec.json.encode(data)
        return urlencode(data, doseq=True).encode()


class RestConnections(Connections[RestConnection]):
    """The outgoing REST connections by name, as ``self.out.rest`` has them."""

    what = "outgoing REST connection"
