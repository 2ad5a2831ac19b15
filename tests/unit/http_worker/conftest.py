"""A real server on a real port, in the test's own process and event loop, and a client that sees every byte."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from gevent import socket

from junctor.server.http_server import HTTPServer
from junctor.server.http_settings import HTTPLimits, HTTPSettings

# Nothing here takes longer; a test that waits for so long has failed.
PATIENCE = 5.0


def echo(environ, start_response):
    """Answers with what an application can see of the request."""
    seen = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "body": environ["wsgi.input"].read().decode("latin-1"),
        "length": environ.get("CONTENT_LENGTH"),
        "type": environ.get("CONTENT_TYPE"),
        "scheme": environ["wsgi.url_scheme"],
        "peer": environ["REMOTE_ADDR"],
        "headers": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
        "complete": "junctor.body" in environ,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    head: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One connection to a server."""

    def __init__(self, address: Any, server: HTTPServer, *, timeout: float = PATIENCE) -> None:
        self.server = server
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_first(self, data: bytes) -> None:
        """Sends, and waits until the server has read it, so that what is sent next comes late."""
        with gevent.Timeout(PATIENCE):
            while not self._other_end():
                gevent.sleep(0)
            self.send(data)
            while any(end.pending() for end in self._other_end()):
                gevent.sleep(0)

    def _other_end(self) -> list[Any]:
        """The server's end, if it has one: as both are in one process, it can be looked up."""
        port = str(self.socket.getsockname()[1])
        return [
            served.client for served in self.server._connections if served._environ["REMOTE_PORT"] == port
        ]

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next response."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            assert line, f"the server closed after {head!r}"
            head += line
        status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        answer = Answer(int(status_line.split(" ")[1]), headers, head=head)
        if not (head_only or answer.status in (204, 304) or answer.status < 200):
            self._read_body(answer)
        return answer

    def _read_body(self, answer: Answer) -> None:
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(self._file.readline(), 16):
                answer.chunks.append(self._file.read(size))
                assert self._file.readline() == b"\r\n"
            assert self._file.readline() == b"\r\n"
            answer.body = b"".join(answer.chunks)
        elif "content-length" in answer.headers:
            answer.body = self._file.read(int(answer.headers["content-length"]))
            assert len(answer.body) == int(answer.headers["content-length"])
        else:
            answer.body = self._file.read()

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def rest(self) -> bytes:
        """What else the server sends until it closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b"<reset>"

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Served:
    """A running server; ``log`` collects what it logs."""

    def __init__(self, app: Any, settings: HTTPSettings, *, path: str = "", on_response: Any = None) -> None:
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen(64)
        self.address = self.listener.getsockname()
        self.records: list[logging.LogRecord] = []
        log = logging.Logger("http")
        log.addHandler(_Collect(self.records))
        self.server = HTTPServer(app, [self.listener], settings, log=log, on_response=on_response)
        self.server.start()
        self._clients: list[Client] = []

    def connect(self, *, timeout: float = PATIENCE) -> Client:
        client = Client(self.address, self.server, timeout=timeout)
        self._clients.append(client)
        return client

    def ask(self, data: bytes) -> Answer:
        """The answer to a request on a connection of its own."""
        with self.connect() as client:
            return client.ask(data)

    def logged(self, level: int = logging.DEBUG) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno >= level]

    def close(self) -> None:
        self.server.kill()
        for client in self._clients:
            client.close()


class _Collect(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@pytest.fixture
def serve(request) -> Iterator[Callable[..., Served]]:
    """``serve(app, header_timeout=1, ...)`` starts a server with these limits; ``settings`` are the other settings."""
    running: list[Served] = []

    def start(app=echo, *, settings=None, path="", on_response=None, **limits) -> Served:
        chosen = HTTPSettings(limits=HTTPLimits(**limits), **(settings or {}))
        served = Served(app, chosen, path=path, on_response=on_response)
        running.append(served)
        return served

    yield start
    for served in running:
        served.close()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Waits for a condition to become true, and fails if it does not."""

    def wait(condition: Callable[[], Any]) -> Any:
        with gevent.Timeout(PATIENCE):
            while not (value := condition()):
                gevent.sleep(0.005)
            return value

    return wait
