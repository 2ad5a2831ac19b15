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
    from junctor.server.websocket.session import Session

MAX_TEXT = 256  # characters of a path or a user agent
MAX_FORWARDED = 512  # characters of a chain of addresses; the last ones count
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


class SessionLine(msgspec.Struct, omit_defaults=True, gc=False):
    """What is known of a WebSocket that was closed.

    ``status`` is the close code and ``ms`` how long it was open; ``received`` and ``sent`` are messages.  Who never logged in has
    no ``caller``, the security definition, and no ``client_id``, the name it gave itself.
    """

    time: str
    cid: str
    client: str
    channel: str
    caller: str | None
    client_id: str
    path: str
    status: int
    ms: float
    agent: str
    received: int
    sent: int
    reason: str
    method: str


class AccessLog:
    """Writes the lines; a line costs some microseconds, and no disk is waited for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._is_on = context.settings.access_log
        self._note = context.logs.access.note
        self.client = ClientAddress(TrustedPeers.parse(context.settings.trusted_proxies))
        self._requests = 0
        self._time, self._time_from, self._time_to = "", 0.0, 0.0

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
        self._requests += 1
        if not self._is_on:
            return
        context = self._context
        if (
            context.is_loaded
            and (sample := context.cluster.access_log_sample) > 1
            and self._requests % sample
        ):
            return
        now = time.time()
        if not self._time_from <= now < self._time_to:
            self._begin_millisecond(now)
        environ = request.env
        get = environ.get
        said = "HTTP_X_FORWARDED_FOR" in environ or "HTTP_X_ZATO_FORWARDED_FOR" in environ
        line = Line(
            self._time,
            cid,
            self.client(environ) if said else get("REMOTE_ADDR", ""),
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
        self._note(line)

    def add_session(self, session: Session, seconds: float) -> None:
        """Adds the line of a WebSocket that was open for ``seconds``; its id, by which services know the client, stands for the CID."""
        if not self._is_on:
            return
        now = time.time()
        if not self._time_from <= now < self._time_to:
            self._begin_millisecond(now)
        peer, connection = session.peer, session.connection
        line = SessionLine(
            self._time,
            session.pub_client_id,
            peer.client,
            session.channel_name,
            (session.channels.channel.config["security"] or None) if session.is_logged_in else None,
            session.ext_client_id if session.is_logged_in else "",
            peer.path[:MAX_TEXT],
            connection.close_code,
            round(seconds * 1000, 3),
            peer.environ.get("HTTP_USER_AGENT", "")[:MAX_TEXT],
            session.received,
            session.sent,
            connection.close_reason[:MAX_TEXT],
            "WEBSOCKET",
        )
        self._note(line)

    def _begin_millisecond(self, now: float) -> None:
        """Makes the text of a time in ISO 8601, UTC, which holds for the rest of its millisecond."""
        millisecond = int(now * 1000)
        second, rest = divmod(millisecond, 1000)
        self._time = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{rest:03d}Z"
        self._time_from, self._time_to = millisecond / 1000, (millisecond + 1) / 1000


class ClientAddress:
    """Where a request comes from: the peer, or what a trusted proxy says in X-Zato-Forwarded-For or X-Forwarded-For.

    Of several addresses the last one counts that is not a trusted proxy's: those before it may have been made up by the client.
    """

    def __init__(self, trusted: TrustedPeers) -> None:
        self._trusted = trusted
        self._find = lru_cache(1024)(self._address)

    def __call__(self, environ: Mapping[str, Any]) -> str:
        """The client's address; '' on a Unix socket whose client does not say."""
        get = environ.get
        said = get("HTTP_X_ZATO_FORWARDED_FOR") or get("HTTP_X_FORWARDED_FOR")
        peer: str = get("REMOTE_ADDR", "")
        return self._find(peer, said[-MAX_FORWARDED:]) if said else peer

    def _address(self, peer: str, said: str) -> str:
        if peer not in self._trusted:
            return peer
        for address in reversed(said.split(",")):
            found = address.strip()[:64]
            if found and found not in self._trusted:
                return found
        return peer
