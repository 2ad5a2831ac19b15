"""The HTTP server of a run: the cluster notifies it of messages, and the run's service reports there what it received."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import orjson

from junctor.cli.chaos.subscribers import BREAK_OFF, DAWDLE, REFUSE, Behaviour
from junctor.cli.session import http_url

MAX_BODY = 64 * 1024 * 1024  # bytes
IDLE_TIMEOUT = 60.0  # seconds
UNAVAILABLE: Final = 503


class Callbacks:
    """The server, on ``host`` and a free port; its URL has a secret in it, so that nobody else reports anything."""

    def __init__(self, host: str) -> None:
        self._base = f"/{secrets.token_urlsafe(16)}"
        self._by_name: dict[str, Behaviour] = {}
        self._by_key: dict[str, Behaviour] = {}
        self._server = _Server((host, 0), _Handler)
        self._server.callbacks = self
        self._host = host

    @property
    def url(self) -> str:
        """Where the cluster calls."""
        return f"{http_url(self._host, self._server.server_address[1])}{self._base}"

    def start(self, behaviours: Iterable[Behaviour], sub_keys: Mapping[str, str]) -> None:
        """Takes messages for these subscribers from now on."""
        for behaviour in behaviours:
            name = behaviour.subscriber.name
            self._by_name[name] = behaviour
            self._by_key[sub_keys[name]] = behaviour
        Thread(target=self._server.serve_forever, args=(0.1,), name="chaos-callbacks", daemon=True).start()

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()

    def behaviour_for(self, path: str, messages: list[Any]) -> Behaviour | None:
        """Whose messages came in to ``path``; None if it is no path of ours."""
        if not path.startswith(f"{self._base}/"):
            return None
        kind, _, name = path.removeprefix(f"{self._base}/").partition("/")
        if kind == "notify":
            return self._by_name.get(name)
        first = messages[0] if messages else None
        key = first.get("sub_key") if isinstance(first, dict) else None
        return self._by_key.get(str(key)) if kind == "record" else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    callbacks: Callbacks

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break off all the time here."""
        del request, client_address

    def get_request(self) -> tuple[Any, Any]:
        """A connection whose small answers are sent at once."""
        accepted, address = super().get_request()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return accepted, address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT
    server: _Server

    def do_POST(self) -> None:
        """Notes the messages and does with them what the subscriber's behaviour says."""
        size = min(int(self.headers.get("Content-Length") or 0), MAX_BODY)
        body = self.rfile.read(size)
        if len(body) < size:
            return  # the sender is gone
        messages = _messages(body)
        behaviour = self.server.callbacks.behaviour_for(self.path, messages)
        if behaviour is None:
            self._answer(404)
            return
        what = behaviour.choose()
        behaviour.note(messages, text=what)
        if what == BREAK_OFF:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        if what == DAWDLE:
            behaviour.dawdle()
        self._answer(UNAVAILABLE if what == REFUSE else 200)

    def log_message(self, format: str, *args: Any) -> None:
        """The history has everything."""
        del format, args

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _messages(body: bytes) -> list[Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    return parsed if isinstance(parsed, list) else [parsed]
