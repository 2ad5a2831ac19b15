"""What load balancers send requests to: an HTTP server and a WebSocket server on loopback that say who they are."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ssl
import threading
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.helpers.ports import LOOPBACK


class Backend:
    """A real HTTP server that remembers what it was asked, and can be told to hang up on requests, or that it is stopping."""

    def __init__(self, name: str, port: int = 0, host: str = LOOPBACK) -> None:
        self.name = name
        self.seen: list[tuple[str, str, dict[str, list[str]]]] = []
        self.hang_up = False
        self.is_stopping = False
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                is_check = self.path == "/health/ready"
                if not is_check:
                    headers = {key.lower(): self.headers.get_all(key, []) for key in self.headers}
                    backend.seen.append((self.command, self.path, headers))
                    if backend.hang_up:
                        self.close_connection = True
                        return
                self.send_response(503 if is_check and backend.is_stopping else 200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """HAProxy resets the connections of its health checks."""

        self._server = Server((host, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Nothing listens there any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Echo:
    """A WebSocket server that repeats what it is sent, with its name before it, and knows the handshakes that it has seen."""

    def __init__(
        self, name: str, port: int = 0, host: str = LOOPBACK, tls: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self.handshakes: list[tuple[str, dict[str, str]]] = []
        self._server = serve(self._serve, host, port, ping_interval=None, ssl=tls)
        self.port = int(self._server.socket.getsockname()[1])
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Nothing listens there any more, and nobody is connected."""
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        self.handshakes.append((request.path, dict(request.headers.raw_items())))
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(f"{self.name}: {message!s}")


def call(
    port: int,
    path: str = "/orders",
    method: str = "GET",
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, http.client.HTTPMessage, str]:
    """The status, the headers and the body that a request on a connection of its own is answered with."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()
