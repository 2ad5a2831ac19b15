"""HTTP requests to one address: connections, credentials, time limits and repetitions."""

from __future__ import annotations

import io
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from junctor_client import retry
from junctor_client.errors import ConnectionFailed, InvalidResponse, Timeout

MAX_RESPONSE_SIZE = 100 * 1024 * 1024

_CHUNK = 64 * 1024
_POOL_SIZE = 50  # connections that are kept; more are made when needed


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``timeout`` is in seconds, and ``idempotent`` says whether it may be sent twice."""

    method: str
    path: str
    body: bytes | None
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    timeout: float
    idempotent: bool


class Transport:
    """Connections to one address, for any number of threads."""

    def __init__(
        self, address: str, auth: requests.auth.AuthBase, *, verify: bool | str, retries: int
    ) -> None:
        self._address, self._auth, self._verify, self._retries = address, auth, verify, retries
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._process = 0

    def close(self) -> None:
        """Close the connections; the next request makes new ones."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None and self._process == os.getpid():
            session.close()

    def send(self, request: Request) -> requests.Response:
        """The response, whatever its status, read to its end."""
        for attempt in range(self._retries):
            try:
                response = self._send_once(request)
                wait = retry.wait_after_response(response, idempotent=request.idempotent)
                if wait is None:
                    return response
            except requests.RequestException as error:
                wait = retry.wait_after_failure(error, attempt, idempotent=request.idempotent)
                if wait is None:
                    raise self._failure(request, error) from None
            time.sleep(wait)
        try:
            return self._send_once(request)
        except requests.RequestException as error:
            raise self._failure(request, error) from None

    def _send_once(self, request: Request) -> requests.Response:
        response = self._connections().request(
            request.method,
            self._address + request.path,
            params=request.params,
            data=request.body,
            headers=request.headers,
            auth=self._auth,
            timeout=request.timeout,
            verify=self._verify,
            allow_redirects=False,
            stream=True,
        )
        return _read(response)

    def _connections(self) -> requests.Session:
        """The session of this process: after a fork, parent and child must not share sockets."""
        with self._lock:
            if self._session is None or self._process != os.getpid():
                self._session = _session()
                self._process = os.getpid()
            return self._session

    def _failure(self, request: Request, error: requests.RequestException) -> ConnectionFailed:
        """The error to raise; it does not repeat parameters or headers, which may be confidential.

        Raises ``ValueError`` itself if it was the caller's mistake.
        """
        what = f"{request.method} {self._address}{request.path}"
        if isinstance(error, requests.exceptions.InvalidHeader):
            raise ValueError(f"{what}: a header has a value that cannot be sent.") from None
        if isinstance(error, requests.ConnectTimeout):
            return Timeout(what, details=f"no connection within {request.timeout:g} s")
        if isinstance(error, requests.Timeout):
            return Timeout(what, details=f"no answer within {request.timeout:g} s")
        return ConnectionFailed(what, details=_reason(error))


def _session() -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # calls are unrelated to each other
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_POOL_SIZE))
    return session


def _read(response: requests.Response) -> requests.Response:
    """The response with its body, of bounded size."""
    parts, size = [], 0
    try:
        for part in response.iter_content(_CHUNK):
            size += len(part)
            if size > MAX_RESPONSE_SIZE:
                cid = response.headers.get("X-Zato-CID", "")
                what = f"The response has more than {MAX_RESPONSE_SIZE} bytes"
                raise InvalidResponse(what, status=response.status_code, cid=cid)
            parts.append(part)
    except requests.ConnectionError as error:
        if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in retry.causes(error)):
            raise requests.ReadTimeout from error
        raise
    finally:
        response.close()
    whole = requests.Response()
    whole.status_code, whole.reason, whole.headers = response.status_code, response.reason, response.headers
    whole.encoding, whole.raw = response.encoding, io.BytesIO(b"".join(parts))
    return whole


def _reason(error: requests.RequestException) -> str:
    """Why there is no response, in a few words."""
    causes = list(retry.causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid: {cause.verify_message}"
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return "the host name cannot be resolved"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if any(isinstance(cause, ConnectionResetError | urllib3.exceptions.IncompleteRead) for cause in causes):
        return "the server closed the connection"
    return type(error).__name__
