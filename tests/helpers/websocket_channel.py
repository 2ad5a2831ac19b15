"""A WebSocket channel for tests of its clients: a real server on loopback, which answers as a test tells it to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.helpers.waiting import wait_until

CID = "c1d0c1d0c1d0c1d0c1d0c1d0"
PASSWORD = "hunter2"
TIMESTAMP = "2026-11-24T10:00:00.000000"

Message = dict[str, Any]


class Channel:
    """What it has received, and what it does with it.

    ``answer`` is called with each invocation and returns ``data``, or a whole message, or None for no answer.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Message], Any] = lambda message: message["data"]
        self.log_in: Callable[[Message, ServerConnection], Message | None] = _log_in
        self.log_ins: list[Message] = []
        self.invocations: list[Message] = []
        self.responses: list[Message] = []
        self.connections: list[ServerConnection] = []
        self.process_request: Callable[..., Any] | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = serve(
            self._serve, "127.0.0.1", port, ssl=tls, process_request=self._process_request, ping_interval=None
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown(code=1012, reason="restart")
            self._thread.join(10)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.socket.getsockname()[1])

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def push(self, data: Any, message_id: str = "r1", **meta: Any) -> None:
        """Sends a request to the client that came last."""
        head = {"id": message_id, "timestamp": TIMESTAMP, "msg_type": "zwsx.rqc", **meta}
        self.connections[-1].send(json.dumps({"meta": head, "data": data}))

    def wait_for_responses(self, count: int) -> list[Message]:
        wait_until(lambda: len(self.responses) >= count, 10, f"There are not {count} responses")
        return self.responses

    def _process_request(self, connection: ServerConnection, request: Any) -> Any:
        return self.process_request(connection, request) if self.process_request else None

    def _serve(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for text in connection:
                message = json.loads(text)
                reply = getattr(self, "_take_" + message["meta"]["action"].replace("-", "_"))(
                    message, connection
                )
                if reply is not None:
                    connection.send(json.dumps(reply))

    def _take_create_session(self, message: Message, connection: ServerConnection) -> Message | None:
        self.log_ins.append(message)
        self.connections.append(connection)
        return self.log_in(message, connection)

    def _take_invoke_service(self, message: Message, connection: ServerConnection) -> Any:
        self.invocations.append(message)
        made = self.answer(message)
        return None if made is None else ok(message, made)

    def _take_client_response(self, message: Message, connection: ServerConnection) -> None:
        self.responses.append(message)


def ok(message: Message, data: Any) -> Message:
    """The answer of a service; a message that is complete already is taken as it is."""
    if isinstance(data, dict) and "meta" in data:
        return data
    head = {"msg_type": "zwsx.rspok", "status": 200, "in_reply_to": message["meta"]["id"]}
    return {"meta": {"id": CID, "timestamp": TIMESTAMP, **head}} | ({"data": data} if data else {})


def failure(message: Message, status: int, text: str) -> Message:
    """The answer to an invocation that failed."""
    head = {
        "msg_type": "zwsx.rsperr",
        "status": status,
        "in_reply_to": message["meta"]["id"],
        "error_message": text,
    }
    return {"meta": {"id": CID, "timestamp": TIMESTAMP, **head}, "data": {"cid": CID}}


def refusal() -> Message:
    """What is said before the connection is closed."""
    head = {"id": CID, "timestamp": TIMESTAMP, "msg_type": "zwsx.merr", "status": 403}
    return {"meta": head, "data": "You are not authorized to access this resource"}


def _log_in(message: Message, connection: ServerConnection) -> Message | None:
    if message["meta"]["secret"] != PASSWORD:
        connection.send(json.dumps(refusal()))
        connection.close(1008, "Not authorized")
        return None
    head = {"msg_type": "zwsx.rspa", "status": 200, "in_reply_to": message["meta"]["id"]}
    return {"meta": {"id": CID, "timestamp": TIMESTAMP, **head}, "data": {"token": f"ws.token.{CID}"}}


@contextmanager
def running_channel() -> Iterator[Channel]:
    """A channel that runs."""
    channel = Channel()
    channel.start()
    try:
        yield channel
    finally:
        channel.stop()
