"""A small HTTP server that speaks the wire format of ``AdminClient``, for tests of the command line."""

from __future__ import annotations

import json
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USERNAME, PASSWORD = "admin.invoke", "s3cret-of-the-tests"
CREDENTIALS = b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
CID = "0123456789abcdef01234567"


class Refused(Exception):
    """An answer with an error status; ``more`` is what its body has beside the details."""

    def __init__(self, status: int, details: str, **more: Any) -> None:
        self.status, self.body = status, {"result": "Error", "cid": CID, "details": details, **more}
        super().__init__(details)


@dataclass
class AdminServer:
    """Answers with what ``answers`` say, by service; ``calls`` are the services and payloads that it was sent."""

    address: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, service: str, payload: Any) -> Any:
        """The answer of a service: a value, or what a function of the payload returns or raises."""
        self.calls.append((service, payload))
        if service not in self.answers:
            raise Refused(404, f"There is no active service {service!r}.", error="ServiceNotFound")
        found = self.answers[service]
        return found(payload) if callable(found) else found

    def payload(self, service: str) -> Any:
        """What the only call of a service was sent."""
        (found,) = [payload for name, payload in self.calls if name == service]
        return found


def _handler(server: AdminServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/zato/ping" else 404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["Authorization"] != f"Basic {CREDENTIALS}":
                self._send(401, b"{}")
                return
            try:
                answer = server.answer(body["name"], json.loads(b64decode(body["payload"])))
            except Refused as refused:
                self._send(refused.status, json.dumps(refused.body).encode())
                return
            text = answer if isinstance(answer, str) else json.dumps(answer)
            wrapped = {"zato_service_invoke_response": b64encode(text.encode()).decode()}
            self._send(200, json.dumps(wrapped).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Zato-CID", CID)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: tests look at what was called."""

    return Handler


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go before they have read everything; any other error is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running() -> Iterator[AdminServer]:
    """A server on a free port of the loopback address."""
    server = AdminServer()
    http = _HTTPServer(("127.0.0.1", 0), _handler(server))
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
