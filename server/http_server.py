"""The HTTP server of one process: accepts connections, watches over their waits, and drains them at its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final

import gevent
from gevent import socket, ssl
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from junctor.server.http_connection import Connection
from junctor.server.http_environ import ErrorStream, server_environ
from junctor.server.http_request import Environ
from junctor.server.http_response import Response
from junctor.server.http_settings import HTTPSettings

Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
OnResponse = Callable[[Environ, Response, float], None]

# The watch looks at all waits this often, in seconds, or four times in the shortest time that one may last.
_WATCH: Final = 1.0

# A server with no place for more connections takes back those of idle clients, a tenth of them, if they have been
# idle for this many seconds.
_LEAST_IDLE: Final = 1.0

# How long to wait after accept() failed, most likely for want of file descriptors.
_ACCEPT_PAUSE: Final = 0.1

_KILL_TIMEOUT: Final = 1.0


class HTTPServer:
    """Serves a WSGI application on listening sockets, with a greenlet for each connection.

    ``start`` and ``kill`` do not wait, ``drain`` does.  ``draining`` makes each response the last one of its
    connection.  ``requests`` counts the responses, of which each is reported to ``on_response`` with its environment
    and how long it took, in seconds.  With ``tls``, which is asked for each connection, clients must speak TLS.
    """

    def __init__(
        self,
        app: Application,
        listeners: Sequence[socket.socket],
        settings: HTTPSettings | None = None,
        *,
        log: logging.Logger,
        on_response: OnResponse | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.app = app
        self.settings = settings or HTTPSettings()
        self.log = log
        self.environ = server_environ(ErrorStream(log), multiprocess=self.settings.multiprocess)
        if tls is not None:
            self.environ["wsgi.url_scheme"] = "https"
        self.loop_now: Callable[[], float] = gevent.get_hub().loop.now
        self.draining = False
        self.requests = 0
        self._on_response = on_response
        self._listeners = list(listeners)
        self._connections: dict[Connection, gevent.Greenlet] = {}
        self._upgraded: set[Connection] = set()
        self._tls = tls
        self._handshakes = Group()
        self._places = BoundedSemaphore(self.settings.max_connections)
        self._acceptors: list[gevent.Greenlet] = []
        self._watch: gevent.Greenlet | None = None
        self._drain_started = 0.0
        self._empty = Event()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def start(self) -> None:
        """Begins to accept connections."""
        self._acceptors = [gevent.spawn(self._accept_all, listener) for listener in self._listeners]
        self._watch = gevent.spawn(self._watch_over)

    def drain(self, timeout: float) -> int:
        """The number of connections that were still busy after ``timeout`` seconds and had to be killed.

        Stops accepting, after it has accepted what the kernel already has; answers what is being asked, with
        ``Connection: close``; keeps idle connections for ``limits.drain_idle`` seconds, so that clients which use
        theirs meanwhile are told, and closes the rest.
        """
        self.draining = True
        self._drain_started = monotonic()
        self._stop_accepting()
        if self._connections:
            self._empty.clear()
            self._empty.wait(timeout)
        unfinished = len(self._connections)
        self.kill()
        return unfinished

    def kill(self) -> None:
        """Closes everything, at once."""
        greenlets = [*self._acceptors, *self._connections.values()]
        if self._watch is not None:
            greenlets.append(self._watch)
        gevent.killall([*greenlets, *self._handshakes], timeout=_KILL_TIMEOUT)
        for listener in self._listeners:
            listener.close()

    def answered(self, environ: Environ, response: Response, seconds: float) -> None:
        """Counts a response; called by its connection."""
        self.requests += 1
        if self._on_response is not None:
            self._on_response(environ, response, seconds)

    def upgraded(self, served: Connection) -> None:
        """Gives the place of a connection that has become a WebSocket to another one; called by the application, once."""
        if served in self._connections and served not in self._upgraded:
            self._upgraded.add(served)
            self._places.release()

    def _accept_all(self, listener: socket.socket) -> None:
        while True:
            self._places.acquire()
            try:
                connection, address = listener.accept()
            except OSError as error:
                self._places.release()
                self.log.error("Cannot accept connections: %s", error)
                gevent.sleep(_ACCEPT_PAUSE)
                continue
            self._take(connection, address)
            # The other workers of this listener are given the chance to take the next one.
            gevent.sleep(0)

    def _take(self, connection: socket.socket, address: object) -> None:
        """Takes what was accepted, and for which there is a place; what a client has to do first, it does in a greenlet of its own."""
        if self._tls is None:
            self._serve(connection, address)
        else:
            self._handshakes.spawn(self._secure, self._tls(), connection, address)

    def _secure(self, tls: ssl.SSLContext, connection: socket.socket, address: object) -> None:
        """Serves a connection once it is encrypted."""
        secured = None
        try:
            secured = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with gevent.Timeout(self.settings.limits.header_timeout, TimeoutError("TLS took too long")):
                secured.do_handshake()
        except BaseException as error:  # also when it is killed: the place must be free again
            (secured or connection).close()
            self._places.release()
            if not isinstance(error, OSError):
                raise
            self.log.debug("Connection from %s ended: %s", address, error)
            return
        self._serve(secured, address)

    def _serve(self, connection: socket.socket, address: object) -> None:
        """Starts to serve an accepted connection, for which there is a place."""
        try:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served = Connection(self, connection, address)
        except OSError as gone:
            self.log.debug("Connection from %s ended: %s", address, gone)
            connection.close()
            self._places.release()
            return
        greenlet = self._connections[served] = gevent.Greenlet(served.run)
        greenlet.link(lambda _: self._forget(served))
        greenlet.start()

    def _forget(self, served: Connection) -> None:
        del self._connections[served]
        if served in self._upgraded:
            self._upgraded.remove(served)
        else:
            self._places.release()
        if not self._connections:
            self._empty.set()

    def _places_taken(self) -> int:
        return len(self._connections) - len(self._upgraded) + len(self._handshakes)

    def _stop_accepting(self) -> None:
        """Closes the listeners, after accepting what nobody else would: the last to close them resets the rest."""
        gevent.killall(self._acceptors)
        for listener in self._listeners:
            listener.settimeout(0)
            try:
                while self._places_taken() < self.settings.max_connections:
                    connection, address = listener.accept()
                    self._places.acquire(blocking=False)
                    connection.settimeout(None)
                    self._take(connection, address)
            except OSError:
                self.log.debug("Every connection has been accepted")
            listener.close()

    def _watch_over(self) -> None:
        limits = self.settings.limits
        shortest = min(limits.header_timeout, limits.body_timeout, limits.write_timeout, limits.idle_timeout)
        pause = min(_WATCH, shortest / 4, limits.drain_idle / 4 or _WATCH)
        while True:
            gevent.sleep(pause)
            now = monotonic()
            for served in list(self._connections):
                if served.client.deadline <= now:
                    self._expire(served)
            if self.draining and now - self._drain_started >= limits.drain_idle:
                self._expire_idle(now - limits.drain_idle, len(self._connections))
            elif self._places.locked():
                self._expire_idle(now - _LEAST_IDLE, max(1, len(self._connections) // 10))

    def _expire_idle(self, since: float, count: int) -> None:
        """Ends ``count`` of the connections that are idle since ``since``, of those the longest idle ones."""
        idle = [served for served in self._connections if 0.0 < served.client.idle_since <= since]
        idle.sort(key=lambda served: served.client.idle_since)
        for served in idle[:count]:
            self._expire(served)

    def _expire(self, served: Connection) -> None:
        try:
            served.client.expire()
        except OSError as gone:
            self.log.debug("A connection ended while it was waited for: %s", gone)
