"""A bounded pool of HTTP connections: one request in, one complete response out, within a time limit.

The layer under outgoing REST connections.  It knows nothing of their names and settings, and what it raises says
why a request failed without saying what was sent.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import gevent
import gevent.monkey
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection

from junctor.sql.errors import ConnectionFailed, ConnectionTimeout

MAX_REDIRECTS = 5

_FOLLOW = frozenset({"GET", "HEAD", "OPTIONS"})  # repeating anything else at another address may do it twice
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 9.2.2
_CREDENTIALS = ("Authorization", "Proxy-Authorization", "Cookie")
_CHUNK = 64 * 1024
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, http.client.HTTPException)
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_CLOSED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)  # RemoteDisconnected is one, too
# Firewalls forget idle connections without telling either end, and the next request would wait in vain.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send, and in how many seconds the whole response has to be there.

    ``secrets`` are the names of headers with credentials, beside the usual ones: another origin does not get them.
    """

    method: str
    url: str
    headers: CaseInsensitiveDict[str]
    body: bytes = b""
    timeout: float = 10
    secrets: tuple[str, ...] = ()

    def redirected(self, location: str) -> HttpRequest:
        """The request for the address that a redirect names."""
        url = urljoin(self.url, location)
        headers = self.headers.copy()
        if _origin(url) != _origin(self.url):
            for name in (*_CREDENTIALS, *self.secrets):
                headers.pop(name, None)
        return replace(self, url=url, headers=headers)


class HttpPool:
    """At most ``size`` requests at a time, each on a connection that is kept for the next.

    ``max_response_size`` is in bytes, after decompression.  Cookies are not kept: callers are unrelated.  With ``use_proxies``, those of
    the environment are used.
    """

    def __init__(
        self, size: int, *, tls_verify: bool = True, max_response_size: int, use_proxies: bool = True
    ) -> None:
        self._size, self._max_response_size = size, max_response_size
        self._tls_verify = tls_verify
        self._slots = threading.BoundedSemaphore(size)
        self._session = requests.Session()
        self._session.trust_env = use_proxies
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=size))
        if not tls_verify:
            urllib3.disable_warnings(
                urllib3.exceptions.InsecureRequestWarning
            )  # it is configured; once will do

    def close(self) -> None:
        """Close what is idle; requests under way finish."""
        self._session.close()

    def send(self, request: HttpRequest) -> requests.Response:
        """The response, read to its end.

        Redirects are followed for GET, HEAD and OPTIONS only.  A request is sent once more if no connection could
        be made, or if the remote end closed the one it was sent on and sending it twice does no harm.

        Raises ``ConnectionTimeout`` or ``ConnectionFailed``, whose message is the reason alone; ``ValueError`` if
        a header cannot be sent.
        """
        deadline = time.monotonic() + request.timeout
        try:
            with _time_limit(request.timeout), self._slot(request.timeout):
                return self._follow(request, deadline)
        except requests.exceptions.InvalidHeader:
            raise ValueError(
                "A header has a value that cannot be sent, e.g. one with a line break."
            ) from None
        except requests.ConnectTimeout:
            raise ConnectionTimeout(f"no connection within {request.timeout:g} s") from None
        except _TIMEOUTS:
            raise ConnectionTimeout(f"no complete response within {request.timeout:g} s") from None
        except _FAILURES as error:
            # Texts and traces of these have whole addresses in them, with whatever is in the query string.
            raise ConnectionFailed(_reason(error)) from None

    @contextlib.contextmanager
    def _slot(self, timeout: float) -> Iterator[None]:
        """One of the connections, waiting for it if need be."""
        if not self._slots.acquire(timeout=timeout):
            raise ConnectionTimeout(f"all {self._size} connections were in use for {timeout:g} s")
        try:
            yield
        finally:
            self._slots.release()

    def _follow(self, request: HttpRequest, deadline: float) -> requests.Response:
        history: list[requests.Response] = []
        while len(history) <= MAX_REDIRECTS:
            response = self._read(self._start(request, deadline), deadline)
            if not response.is_redirect or request.method not in _FOLLOW:
                response.history = history
                return response
            history.append(response)
            request = request.redirected(response.headers["location"])
        raise ConnectionFailed(f"more than {MAX_REDIRECTS} redirects")

    def _start(self, request: HttpRequest, deadline: float) -> requests.Response:
        """The response as far as its headers."""
        try:
            return self._start_once(request, deadline)
        except requests.ConnectionError as error:
            if not _may_repeat(request.method, error):
                raise
        return self._start_once(request, deadline)

    def _start_once(self, request: HttpRequest, deadline: float) -> requests.Response:
        return self._session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body or None,
            auth=_no_other_credentials,
            timeout=_remaining(deadline),
            verify=self._tls_verify,
            allow_redirects=False,
            stream=True,
        )

    def _read(self, response: requests.Response, deadline: float) -> requests.Response:
        """The response with its body, of bounded size."""
        parts, size = [], 0
        try:
            while part := response.raw.read1(_CHUNK, decode_content=True):
                size += len(part)
                if size > self._max_response_size:
                    raise ConnectionFailed(f"the response has more than {self._max_response_size} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
                parts.append(part)
        except BaseException:  # the end of this greenlet included: the rest of the response is still to come
            response.close()
            raise
        response.raw = io.BytesIO(b"".join(parts))
        response.content  # noqa: B018 - takes the body over
        return response


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        options["socket_options"] = [*HTTPConnection.default_socket_options, *_KEEP_ALIVE]
        super().init_poolmanager(*args, **options)


def _no_other_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from taking credentials out of a .netrc file."""
    return request


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds, if it runs in a greenlet.

    Limits on single socket operations do not help against a remote end that sends a byte now and then.
    """
    if not gevent.monkey.is_module_patched("socket"):
        yield
        return
    limit = gevent.Timeout(seconds)
    try:
        with limit:
            yield
    except gevent.Timeout as expired:
        if expired is not limit:
            raise
        raise TimeoutError from None


def _remaining(deadline: float) -> float:
    """The seconds that are left; raises ``TimeoutError`` if there are none."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return seconds


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from, however they were wrapped, the outermost first."""
    queue, seen = [error], set()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner: Iterable[Any] = (
            *current.args,
            getattr(current, "reason", None),
            current.__cause__,
            current.__context__,
        )
        queue.extend(item for item in inner if isinstance(item, BaseException))


def _may_repeat(method: str, error: requests.ConnectionError) -> bool:
    """Whether sending the request again does no harm, and may help."""
    if isinstance(error, requests.Timeout | requests.exceptions.SSLError):
        return False
    causes = list(_causes(error))
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
        return True  # nothing was sent
    return method in _IDEMPOTENT and any(isinstance(cause, _CLOSED) for cause in causes)


def _reason(error: BaseException) -> str:
    """Why a request failed, without anything of the request."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {cause.verify_message}"
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NameResolutionError | socket.gaierror):
            return "the host name cannot be resolved"
        if isinstance(cause, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return "the remote end closed the connection"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return type(causes[-1]).__name__
