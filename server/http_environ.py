"""The WSGI environment: what is the same for all requests of a connection.

Beside what PEP 3333 asks for, an application finds here:

``wsgi.input_terminated``
    True: ``wsgi.input`` ends where the body ends, also for a chunked body, which has no CONTENT_LENGTH.
``junctor.body``
    The whole body, if it had arrived together with the headers, which is the ordinary case; ``wsgi.input`` then gives
    the same bytes.  Absent otherwise: read ``wsgi.input``.
``junctor.socket``, ``gunicorn.socket``
    The connection, a gevent socket.
``junctor.buffered``
    Only for a request with ``Upgrade: websocket``: what the client sent after its headers.  The application may now
    speak for itself on the socket, with these bytes as the first it received.  It does so before it returns, in the
    greenlet that it was called in, and then returns ``ALREADY_HANDLED`` of ``gunicorn.workers.base_async``; the
    worker closes the connection.  Until then no time-out of the worker applies to it.
``junctor.upgraded``
    Beside ``junctor.buffered``: to be called without arguments once the connection is a WebSocket, which then does not count
    among the connections that the worker has places for.

No application may depend on the ``junctor`` ones: gunicorn's own workers do not have them.
"""

from __future__ import annotations

import logging
from typing import Final

from gevent import socket

from junctor.server.http_request import Environ

SERVER_SOFTWARE: Final = "junctor"


class ErrorStream:
    """``wsgi.errors``: what the application writes, as lines of the server's log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def write(self, text: str) -> int:
        """The number of characters logged; blank lines are not."""
        if text.strip():
            self._log.error("%s", text.rstrip())
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Logs each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Does nothing, there is no buffer."""


def server_environ(errors: ErrorStream, *, multiprocess: bool) -> Environ:
    """What is the same for all connections of a server."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": SERVER_SOFTWARE,
        "SCRIPT_NAME": "",
    }


def connection_environ(base: Environ, connection: socket.socket, peer: str, port: int) -> Environ:
    """``base`` with what is the same for all requests of a connection; ``peer`` is ``''`` on a Unix socket."""
    environ = dict(base)
    local = connection.getsockname()
    host, local_port = (local[0], local[1]) if isinstance(local, tuple) else ("localhost", 80)
    environ["SERVER_NAME"] = host
    environ["SERVER_PORT"] = str(local_port)
    environ["REMOTE_ADDR"] = peer
    environ["REMOTE_PORT"] = str(port)
    environ["junctor.socket"] = environ["gunicorn.socket"] = connection
    return environ
