"""Clients that call without a pause in the background, each on a connection that it keeps, and count what fails."""

from __future__ import annotations

import http.client
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.helpers.waiting import wait_until

THINKING = 0.005  # seconds between two calls of a client: what is tested is not how fast it goes
TIMEOUT = 30.0  # seconds
ENOUGH = 20  # calls, before and after whatever the test does
KEPT_FAILURES = 20


@dataclass(frozen=True)
class Request:
    """What a client sends again and again."""

    path: str
    method: str = "GET"
    body: bytes = b""
    auth: tuple[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        found = {"Content-Type": "application/json"} if self.body else {}
        if self.auth:
            found["Authorization"] = "Basic " + b64encode(":".join(self.auth).encode()).decode()
        return found


@dataclass
class Calls:
    """What came of the calls so far."""

    succeeded: int = 0
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, failure: str = "") -> None:
        """Takes down one call; ``failure`` says what was wrong with it."""
        with self._lock:
            if not failure:
                self.succeeded += 1
            elif len(self.failures) < KEPT_FAILURES:
                self.failures.append(failure)

    def wait_for_more(self, number: int = ENOUGH) -> None:
        """Returns when so many more calls have succeeded."""
        goal = self.succeeded + number
        wait_until(lambda: self.succeeded >= goal or self.failures, TIMEOUT, f"The calls hang: {self}")


@contextmanager
def load(address: str, requests: Sequence[Request]) -> Iterator[Calls]:
    """A client for each request, at work from now on until the end of the block; both begin and end with calls that succeed."""
    calls, over = Calls(), threading.Event()
    clients = [
        threading.Thread(target=_client, args=(address, request, calls, over), daemon=True)
        for request in requests
    ]
    for client in clients:
        client.start()
    try:
        calls.wait_for_more()
        yield calls
        calls.wait_for_more()
    finally:
        over.set()
        for client in clients:
            client.join(TIMEOUT)
    assert not any(client.is_alive() for client in clients)


def _client(address: str, request: Request, calls: Calls, over: threading.Event) -> None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        while not over.wait(THINKING):
            calls.count(_failure(connection, request))
    finally:
        connection.close()


def _failure(connection: http.client.HTTPConnection, request: Request) -> str:
    """Makes one call; what was wrong with it, '' = nothing."""
    try:
        connection.request(request.method, request.path, request.body or None, request.headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"{request.method} {request.path}: {error!r}"
    if response.status == http.client.OK:
        return ""
    return f"{request.method} {request.path}: {response.status} {body[:200]!r}"
