"""Calls to one Junctor server or cluster."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from junctor_client import retry
from junctor_client.payload import encode
from junctor_client.pubsub import PubSub
from junctor_client.response import Response, read
from junctor_client.transport import Request, Transport

INVOKE_PATH = "/zato/api/invoke/"

_JSON = {"Content-Type": "application/json"}


class Client:
    """Calls REST channels and services, with the credentials that it was made with.

    One client is for a whole process: threads and greenlets may share it, and it keeps its connections for later
    calls.  A process that forks may go on using it on both sides.

    ``timeout`` is in seconds, for connecting and for each wait for the server.  ``verify`` is whether the
    server's certificate is checked, or the path of a file with the certificates of those to trust.

    ``retries`` is how often a call is repeated, if that is safe: if no connection was made; and, for methods that
    do no harm if repeated, also if the connection was closed, or if the server answered 429 or 503 with a
    Retry-After of at most 10 seconds.  POST and PATCH are repeated so only by calls that say ``idempotent=True``.

    Raises ``ValueError`` if the address is not one, or has credentials in it.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and all but the first are named
        self,
        address: str,
        *,
        username: str = "",
        password: str = "",
        api_key: str = "",
        api_key_header: str = "X-API-Key",
        timeout: float = 30,
        verify: bool | str = True,
        retries: int = 2,
    ) -> None:
        if username and api_key:
            raise ValueError("Give a user name and password, or an API key, but not both.")
        _check_address(address)
        self.address, self.timeout = address.rstrip("/"), timeout
        self._username = username
        auth = _Auth(username, password) if username else _ApiKey(api_key_header, api_key)
        self._transport = Transport(self.address, auth, verify=verify, retries=retries)

    def __repr__(self) -> str:
        return f"<Client {self.address}{f' as {self._username}' if self._username else ''}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pubsub(self) -> PubSub:
        """Publish/subscribe with the credentials of this client."""
        return PubSub(self)

    def close(self) -> None:
        """Close the connections; a later call makes new ones."""
        self._transport.close()

    def invoke(
        self, service: str, payload: Any = None, *, timeout: float | None = None, idempotent: bool = False
    ) -> Response:
        """The response of a service, called by its name.

        ``payload`` is its input, sent as JSON; None is no input.  Other arguments and errors are those of ``call``.
        """
        path = INVOKE_PATH + quote(service, safe="")
        body = {} if payload is None else payload
        return self.call(path, encode(body).encode(), headers=_JSON, timeout=timeout, idempotent=idempotent)

    def call(  # noqa: PLR0913 - what an HTTP request consists of; all but the first two are named
        self,
        path: str,
        data: Any = None,
        *,
        method: str = "POST",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> Response:
        """The response of a REST channel.

        ``path`` starts with '/'.  ``data`` that is text or bytes is sent as it is, anything else as JSON, and None
        not at all.  ``params`` go to the query string.  ``timeout`` replaces the client's.  ``idempotent`` says
        whether the call may be sent twice; without it the method decides.

        Raises ``ConnectionFailed`` or ``Timeout`` if there is no response, ``HTTPError`` for one with a status of
        300 and above, ``InvalidResponse`` for one that cannot be read, ``ValueError`` for a path without '/' and
        for headers that cannot be sent, and ``TypeError`` or ``ValueError`` for data that JSON cannot express.
        """
        if not path.startswith("/"):
            raise ValueError("A path starts with '/'.")
        body, own_headers = _body(data)
        request = Request(
            method.upper(),
            path,
            body,
            params or {},
            own_headers | dict(headers or {}),
            self.timeout if timeout is None else timeout,
            retry.is_idempotent(method) if idempotent is None else idempotent,
        )
        return read(self._transport.send(request))


class _Auth(requests.auth.AuthBase):
    """Basic Auth in UTF-8 (RFC 7617)."""

    def __init__(self, username: str, password: str) -> None:
        self._value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


class _ApiKey(requests.auth.AuthBase):
    """An API key in a header, or nothing; either way, requests takes nothing from a .netrc file."""

    def __init__(self, header: str, key: str) -> None:
        self._header, self._key = header, key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers[self._header] = self._key
        return request


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if "@" in parts.netloc:
        raise ValueError("Give credentials as username and password, not in the address.")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("The address is a URL such as https://junctor.example.com, without a query string.")


def _body(data: Any) -> tuple[bytes | None, dict[str, str]]:
    """What to send, and the headers that say what it is."""
    if data is None or isinstance(data, bytes):
        return data, {}
    if isinstance(data, str):
        return data.encode(), {}
    return encode(data).encode(), dict(_JSON)
