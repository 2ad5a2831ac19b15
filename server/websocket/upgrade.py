"""From an HTTP request to a WebSocket: whether a client may connect at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from gunicorn.workers.base_async import ALREADY_HANDLED

from junctor.server import http_errors
from junctor.server.service.call import new_cid
from junctor.server.websocket.codec import Connection
from junctor.sql.errors import (
    BadRequest,
    ClientGone,
    Forbidden,
    RequestRefused,
    ServiceUnavailable,
    UpgradeRequired,
)

if TYPE_CHECKING:
    from junctor.server.websocket.sessions import Sessions

StartResponse = Callable[..., Any]
UNAVAILABLE: Final = 503
MAX_LOGIN: Final = 65_536  # bytes of a message of somebody who has not logged in: more is not for strangers
STATUS_LINES: Final = {426: "426 Upgrade Required"}
ASKED: Final = (
    "junctor.buffered"  # in the environment of a request that asks for a WebSocket: see http_environ.py
)
NOT_FOUND: Final = orjson.dumps({"error": "Not found"})
log = logging.getLogger(__name__)


def asks_for_websocket(environ: Mapping[str, Any]) -> bool:
    """Whether the HTTP worker hands the connection over, if it is wanted."""
    return ASKED in environ


def serve(sessions: Sessions, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Serves a WebSocket until it is closed, in this greenlet; or answers over HTTP why not."""
    try:
        connection = _accept(sessions, environ)
    except RequestRefused as refused:
        return _refuse(sessions, refused, environ, start_response)
    except OSError as gone:
        raise ClientGone from gone
    environ["junctor.upgraded"]()
    sessions.serve(connection, environ)
    return ALREADY_HANDLED  # type: ignore[no-any-return]  # gunicorn has no types


def not_found(start_response: StartResponse) -> Iterable[bytes]:
    """The answer to a path that no channel has (facts sheet, section 1.1)."""
    start_response("404 Not Found", _headers(new_cid(), NOT_FOUND))
    return [NOT_FOUND]


def _accept(sessions: Sessions, environ: Mapping[str, Any]) -> Connection:
    """The WebSocket.  Raises ``RequestRefused``, OSError."""
    channel = sessions.channel
    context = sessions.context
    if context.not_ready or context.websockets.is_draining:
        raise ServiceUnavailable(msg=context.not_ready or "The server is stopping.")
    if len(sessions) >= channel.max_connections:
        raise ServiceUnavailable(msg="The channel has all the connections that it may have.")
    if not channel.admits_origin(environ.get("HTTP_ORIGIN")):
        raise Forbidden(msg="Pages of this origin may not connect.")
    if not asks_for_websocket(environ):
        raise UpgradeRequired(msg="This is a WebSocket, not a page.")
    if environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        raise BadRequest(msg="A request for a WebSocket has no body.")
    return Connection.accept(
        environ,
        max_message_size=min(channel.max_message_size, MAX_LOGIN),
        max_pending=channel.max_pending,
        compression=channel.compression,
    )


def _refuse(
    sessions: Sessions, refused: RequestRefused, environ: Mapping[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    cid = new_cid()
    answer = http_errors.answer(refused)
    sessions.refused(type(refused).__name__)
    log.info(
        "WebSocket channel %r refuses a client at %s: %s",
        sessions.channel.name,
        sessions.context.websockets.address_of(environ),
        refused,
        extra={"cid": cid},
    )
    body, _ = answer.body(cid)
    headers = [*_headers(cid, body), *answer.headers.items()]
    if answer.status == UNAVAILABLE:
        headers.append(("Retry-After", "1"))
    if answer.status in STATUS_LINES:
        headers += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    reason = http_errors.REASONS.get(answer.status, "")
    start_response(STATUS_LINES.get(answer.status, f"{answer.status} {reason}"), headers)
    return [body]


def _headers(cid: str, body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("X-Zato-CID", cid)]
