"""The gunicorn worker: our HTTP server in the life of one of gunicorn's worker processes.

    worker_class = HTTPWorker                                       the default limits
    worker_class = HTTPWorker.with_limits(HTTPLimits(...))          others

What gunicorn has a setting for that this worker can honour comes from there: ``worker_connections``,
``graceful_timeout``, ``timeout``, ``max_requests``, ``proxy_protocol``, ``proxy_allow_ips``, ``forwarded_allow_ips``,
``secure_scheme_headers``, ``accesslog``.  Its limits on requests and its ``keepalive`` have other defaults than ours and
are replaced by HTTPLimits.  TLS and HTTP/2 end at the load balancer.

The WSGI application may have an attribute ``on_drain``, a callable without arguments.  It is called once, as soon as the
worker has been told to stop and before it stops to accept, so that the application's readiness can fail first, and so
that it can end what would not end by itself, such as WebSocket sessions.  It must not wait.

It may also have an attribute ``may_accept``, a gevent event: the worker accepts connections once it is set, and clients wait in the
kernel's queue, or are served by other workers, until then.
"""

from __future__ import annotations

import os
from datetime import timedelta
from time import monotonic
from types import FrameType
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from gunicorn.workers.ggevent import GeventWorker

from junctor.server.http_request import Environ
from junctor.server.http_response import Response
from junctor.server.http_server import HTTPServer
from junctor.server.http_settings import HTTPLimits, HTTPSettings, TrustedPeers

# How often the arbiter is told that this worker is well, in seconds.
_HEARTBEAT = 1.0

# The arbiter kills, when its graceful_timeout is over, what has not ended by then; this much before, we do.
_MARGIN = 0.5


class _AccessRequest:
    """The part of a request that gunicorn's access log asks for."""

    def __init__(self, environ: Environ) -> None:
        self.headers = [
            (name.removeprefix("HTTP_").replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]


class HTTPWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker process that serves with HTTPServer."""

    limits: ClassVar[HTTPLimits] = HTTPLimits()
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = Event()
        self._server: HTTPServer | None = None

    @classmethod
    def with_limits(cls, limits: HTTPLimits) -> type[HTTPWorker]:
        """The same worker with other limits, for gunicorn's ``worker_class``."""
        return type(cls.__name__, (cls,), {"limits": limits, "__doc__": cls.__doc__})

    @staticmethod
    def check_config(cfg: Any, log: Any) -> None:  # noqa: ARG004  gunicorn's signature
        """Does nothing for a configuration that can be served; raises for one that asks for more.

        RuntimeError is what gunicorn prints as a message instead of a traceback.
        """
        if cfg.is_ssl:
            raise RuntimeError("TLS ends at the load balancer; the HTTP worker has none")
        if cfg.protocol != "http":
            raise RuntimeError(f"The HTTP worker does not speak {cfg.protocol}")

    def settings(self) -> HTTPSettings:
        """What the gunicorn configuration and ``limits`` say."""
        cfg = self.cfg
        return HTTPSettings(
            limits=self.limits,
            max_connections=cfg.worker_connections,
            multiprocess=cfg.workers > 1,
            forwarders=TrustedPeers.parse(cfg.forwarded_allow_ips),
            secure_headers=tuple(
                (f"HTTP_{name.upper().replace('-', '_')}", value)
                for name, value in cfg.secure_scheme_headers.items()
            ),
            proxy_protocol=cfg.proxy_protocol,
            proxies=TrustedPeers.parse(cfg.proxy_allow_ips),
        )

    def run(self) -> None:
        """Serves until the worker is told to stop, then drains."""
        on_response = self._log_access if self.cfg.accesslog else None
        for listener in self.sockets:
            listener.setblocking(True)
        server = HTTPServer(
            self.wsgi, self.sockets, self.settings(), log=self.log.error_log, on_response=on_response
        )
        self._server = server
        heartbeat = gevent.spawn(self._beat)
        may_accept = getattr(self.wsgi, "may_accept", None)
        if may_accept is not None:
            gevent.wait([may_accept, self._stop], count=1)
        if not self._stop.is_set():
            server.start()
            self._stop.wait()
            self._drain(server)
        heartbeat.kill()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; called by SIGTERM, which may come more than once."""
        super().handle_exit(sig, frame)
        self._stop.set()

    def notify(self) -> None:
        """Tells the arbiter that this worker is well; begins to stop if there is no arbiter any more."""
        self.tmp.notify()
        if self.alive and self.ppid != os.getppid():
            self.log.info("The arbiter is gone, stopping: %s", self)
            self.alive = False

    def _beat(self) -> None:
        while True:
            self.notify()
            if self._server is not None and self._server.requests >= self.max_requests and self.alive:
                self.log.info(
                    "Stopping after %d requests, as max_requests says: %s", self._server.requests, self
                )
                self.alive = False
            if not self.alive:
                self._stop.set()
            gevent.sleep(_HEARTBEAT)

    def _drain(self, server: HTTPServer) -> None:
        """The graceful stop; everything in it together takes no longer than ``graceful_timeout``."""
        end = monotonic() + max(self.cfg.graceful_timeout - _MARGIN, 0.0)
        on_drain = getattr(self.wsgi, "on_drain", None)
        if on_drain is not None:
            try:
                on_drain()
            except Exception:
                self.log.exception("on_drain failed")
        if self.ppid == os.getppid():
            gevent.sleep(min(self.limits.drain_delay, max(end - monotonic(), 0.0)))
        unfinished = server.drain(max(end - monotonic(), 0.0))
        if unfinished:
            self.log.warning("Stopped with %d unfinished connections: %s", unfinished, self)

    def _log_access(self, environ: Environ, response: Response, seconds: float) -> None:
        self.log.access(response, _AccessRequest(environ), environ, timedelta(seconds=seconds))
