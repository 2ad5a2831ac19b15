"""The access log: a line of JSON for each request, or for one in so many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from junctor.server.http_settings import TrustedPeers

if TYPE_CHECKING:
    import falcon

    from junctor.server.context import Context

MAX_TEXT = 256  # characters of a path or a user agent
MAX_FORWARDED = 512  # characters of a chain of addresses; the last ones count
_ENCODER = msgspec.json.Encoder()
CALLER, ERROR = (
    "junctor.caller",
    "junctor.error",
)  # what channels and errors leave in the WSGI environment for the log


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What is known of a request; ``ms`` is how long it took, ``error`` the class of what was answered instead."""

    time: str
    cid: str
    client: str
    channel: str
    caller: str | None
    method: str
    path: str
    status: int
    size: int
    ms: float
    agent: str
    error: str = ""


class AccessLog:
    """Writes the lines; a line costs some microseconds, and no disk is waited for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = ClientAddress(TrustedPeers.parse(context.settings.trusted_proxies))
        self._requests = 0
        self._millisecond = 0
        self._time = ""

    def add(
        self,
        request: falcon.Request,
        response: falcon.Response,
        channel: str,
        cid: str,
        *,
        status: int,
        seconds: float,
    ) -> None:
        """Adds the line of a request that took ``seconds``, unless it is one that the cluster's settings leave out."""
        context = self._context
        self._requests += 1
        if not context.settings.access_log or (
            context.is_loaded and self._requests % context.cluster.access_log_sample
        ):
            return
        environ = request.env
        get = environ.get
        line = Line(
            self._now(),
            cid,
            self._client(environ),
            channel,
            get(CALLER),
            request.method,
            request.path[:MAX_TEXT],
            status,
            len(response.data or b""),
            round(seconds * 1000, 3),
            get("HTTP_USER_AGENT", "")[:MAX_TEXT],
            get(ERROR, ""),
        )
        context.logs.access.add(_ENCODER.encode(line) + b"\n")

    def _now(self) -> str:
        """The time in ISO 8601, UTC, with milliseconds."""
        millisecond = int(time.time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            self._time = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{rest:03d}Z"
        return self._time


class ClientAddress:
    """Where a request comes from: the peer, or what a trusted proxy says in X-Zato-Forwarded-For or X-Forwarded-For.

    Of several addresses the last one counts that is not a trusted proxy's: those before it may have been made up by the client.
    """

    def __init__(self, trusted: TrustedPeers) -> None:
        self._trusted = trusted
        self._find = lru_cache(1024)(self._address)

    def __call__(self, environ: Mapping[str, Any]) -> str:
        """The client's address; '' on a Unix socket whose client does not say."""
        said = environ.get("HTTP_X_ZATO_FORWARDED_FOR") or environ.get("HTTP_X_FORWARDED_FOR") or ""
        return self._find(environ.get("REMOTE_ADDR", ""), said[-MAX_FORWARDED:])

    def _address(self, peer: str, said: str) -> str:
        if peer not in self._trusted:
            return peer
        for address in reversed(said.split(",")):
            found = address.strip()[:64]
            if found and found not in self._trusted:
                return found
        return peer
