"""The WSGI application of a worker: every request comes in here and every answer goes out here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import falcon
import gevent
import orjson

from junctor.server import http_errors, metrics_total
from junctor.server.access_log import ERROR, AccessLog
from junctor.server.channels.rest import REQUESTS, read_body
from junctor.server.channels.router import NotAllowed
from junctor.server.service.call import new_cid
from junctor.server.websocket import relay, upgrade
from junctor.sql.errors import (
    CredentialsRefused,
    Forbidden,
    MethodNotAllowed,
    ResourceNotFound,
    ServiceUnavailable,
    Unauthorized,
)

if TYPE_CHECKING:
    from gevent.event import Event

    from junctor.server.channels.rest import RestChannel
    from junctor.server.context import Context

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
FORWARDED = frozenset({"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_ZATO_FORWARDED_FOR", "HTTP_VIA"})
log = logging.getLogger(__name__)
_serve_http = falcon.App.__call__  # called so, it costs a third of what super() does


class _OneRoute:
    """What Falcon takes for its router: all paths lead to ``Responder``, which has a router that can be changed while it works."""

    def __init__(self, responder: Callable[..., None]) -> None:
        self._found: tuple[Any, Any, dict[str, Any], None] = (
            responder,
            dict.fromkeys(METHODS, responder),
            {},
            None,
        )

    def find(self, uri: str, req: falcon.Request | None = None) -> tuple[Any, Any, dict[str, Any], None]:
        """The one route."""
        del uri, req
        return self._found

    def add_route(self, uri_template: str, resource: object, **_: Any) -> None:
        """Falcon's way to add routes, which is not used here."""
        raise NotImplementedError(f"{uri_template} {resource}: routes are REST channels.")


class App(falcon.App):  # type: ignore[type-arg]  # its parameters are the default ones
    """The application.

    ``on_drain`` is for the HTTP worker to call when it is about to stop, and ``may_accept`` for it to wait for when it starts.
    """

    def __init__(self, context: Context, on_drain: Callable[[], None], may_accept: Event) -> None:
        super().__init__(router=_OneRoute(Responder(context)))  # type: ignore[call-overload]  # a router by its methods
        self._context = context
        self.on_drain, self.may_accept = on_drain, may_accept
        self.req_options.auto_parse_form_urlencoded = False
        self.resp_options.secure_cookies_by_default = True

    def __call__(self, env: dict[str, Any], start_response: upgrade.StartResponse) -> Iterable[bytes]:
        """Serves a request: a WebSocket if it asks for one, and if a channel has its path."""
        if upgrade.ASKED in env and (sessions := self._context.websockets.find(env)) is not None:
            return upgrade.serve(sessions, env, start_response)
        answer: Iterable[bytes] = _serve_http(self, env, start_response)
        return answer


class Responder:
    """Answers each request: from the channel that it belongs to, or for the server itself."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._system = {LIVE: self._live, READY: self._ready, METRICS: self._metrics}
        self._log = AccessLog(context)

    def __call__(self, request: falcon.Request, response: falcon.Response) -> None:
        """Fills ``response``; never raises, but for what ends the greenlet."""
        started = time.perf_counter()
        cid = new_cid()
        response.set_header("X-Zato-CID", cid)
        channel: RestChannel | None = None
        try:
            path = request.path
            system = self._relay if path.startswith(relay.PREFIX) else self._system.get(path)
            if system is not None:
                system(request, response)
                return
            channel, params = self._find(request)
            status = channel.respond(request, response, params, cid)
        except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - boundary: a request; everything becomes an answer
            status = self._refuse(error, request, response, channel, cid)
        seconds = time.perf_counter() - started
        if channel is None:
            name = ""
            self._context.metrics.counter(REQUESTS, channel="", status=str(status)).inc()
        else:
            name = channel.name
            channel.answered(status, seconds)
        self._log.add(request, response, name, cid, status=status, seconds=seconds)

    def _find(self, request: falcon.Request) -> tuple[RestChannel, dict[str, str]]:
        context = self._context
        if not context.is_loaded:
            raise ServiceUnavailable(msg=context.not_ready)
        found = context.router.find(request.method, request.path)
        if found is None:
            raise ResourceNotFound(msg=relay.NOTHING_HERE)
        if isinstance(found, NotAllowed):
            raise MethodNotAllowed(allowed=found.allowed)
        return found.target, found.params

    def _refuse(
        self,
        error: BaseException,
        request: falcon.Request,
        response: falcon.Response,
        channel: RestChannel | None,
        cid: str,
    ) -> int:
        """The status of the answer that an error makes."""
        context = self._context
        answer = http_errors.answer(error)
        if http_errors.is_fault(error):
            log.error(
                "A request of channel %r failed.",
                channel.name if channel else "",
                exc_info=error,
                extra={"cid": cid},
            )
        elif isinstance(error, Unauthorized | CredentialsRefused) and channel is not None:
            context.metrics.counter("junctor_logins_refused_total", channel=channel.name).inc()
        shape = (channel.error_format if channel else "") or (
            context.cluster.error_format if context.is_loaded else ""
        )
        data_format = channel.data_format if channel else "json"
        response.status = answer.status
        response.data, response.content_type = answer.body(
            cid, data_format=data_format or "text", shape=shape
        )
        for name, value in answer.headers.items():
            response.set_header(name, value)
        request.env[ERROR] = answer.error or type(error).__name__
        return answer.status

    def _relay(self, request: falcon.Request, response: falcon.Response) -> None:
        """Hands a message of another server's worker to the worker that it is for; to anybody else, there is nothing here."""
        context = self._context
        if not context.is_loaded:
            raise ServiceUnavailable(msg=context.not_ready)
        if request.method != "POST":
            raise ResourceNotFound(msg=relay.NOTHING_HERE)
        head = request.get_header(relay.HEADER) or ""
        answer = context.relay.receive(request.path, head, lambda limit: read_body(request.env, limit))
        response.status = relay.GONE if answer is None else relay.OK
        response.data, response.content_type = answer, "application/octet-stream"

    def _live(self, request: falcon.Request, response: falcon.Response) -> None:
        """Whether the process works: it does when it answers."""
        del request
        response.data, response.content_type = b'{"live": true}', "application/json"

    def _ready(self, request: falcon.Request, response: falcon.Response) -> None:
        """Whether requests should be sent here: not before the configuration is loaded, and not once the worker is about to stop."""
        del request
        reason = self._context.not_ready
        response.status = 503 if reason else 200
        response.data = orjson.dumps({"ready": not reason, "reason": reason})
        response.content_type = "application/json"

    def _metrics(self, request: falcon.Request, response: falcon.Response) -> None:
        """All metrics of the server, over all of its workers; for the server's own machine only, unless the settings say otherwise."""
        settings = self._context.settings
        environ = request.env
        is_near = environ.get("REMOTE_ADDR") in ("127.0.0.1", "::1") and FORWARDED.isdisjoint(environ)
        if not (is_near or settings.metrics_public):
            answer = http_errors.answer(
                Forbidden(msg="Metrics are for this machine only; see metrics_public in server.toml.")
            )
            response.status = answer.status
            response.data, response.content_type = answer.body("")
            return
        self._context.metrics.flush()
        try:
            response.data = metrics_total.fetch(settings.run_directory / "metrics.out")
        except OSError as error:
            log.warning("The metrics cannot be had from the master: %s", error)
            response.status, response.data = 503, b"The metrics cannot be had.\n"
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
