"""A real HTTP server on loopback: one that answers as a test tells it to, and one that stands in for Junctor."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from junctor_client import Client

from tests.helpers.client_code import Junctor

CID = "c1d0c1d0c1d0c1d0c1d0c1d0"
JSON = {"Content-Type": "application/json"}


@dataclass
class Asked:
    method: str
    path: str
    headers: Message
    body: bytes
    connection: tuple[str, int]

    @property
    def credentials(self) -> tuple[str, ...]:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return tuple(base64.b64decode(value).decode().split(":", 1)) if kind == "Basic" else ()


@dataclass
class Reply:
    status: int = 200
    data: object = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else json.dumps(self.data).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, self.headers, body, self.client_address)
        self.server.asked.append(asked)
        if (reply := self.server.reply(asked, self)) is None:
            return  # the test has written to the connection itself
        self.send_response(reply.status)
        kind = {} if isinstance(reply.data, bytes) else JSON
        headers = {"Content-Length": str(len(reply.body)), "X-Zato-CID": CID} | kind | reply.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Asked] = []
        self.reply: Callable[[Asked, Handler], Reply | None] = lambda asked, handler: Reply()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are part of the tests


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(**options: object) -> Client:
        made.append(Client(server.address, **({"timeout": 5} | options)))
        return made[-1]

    yield make
    for client in made:
        client.close()


# A server that has the service of docs/clients.md on a channel of its own


def get_order(order_id: int, wrap: Callable[[object], object], *, envelope: bool = False) -> Reply:
    """The service, and how its errors look with and without the envelope."""
    if order_id == 0:
        answer = {"result": "Error", "cid": CID, "details": "There is no such order."}
        return Reply(404, {"zato_env": answer | {"result": "ZATO_ERROR"}} if envelope else answer)
    return Reply(200, wrap({"order_id": order_id, "state": "sent"}))


def in_envelope(output: object) -> object:
    response = base64.b64encode(json.dumps(output).encode()).decode()
    env = {"result": "ZATO_OK", "cid": CID, "details": ""}
    return {"zato_env": env, "zato_service_invoke_response": response}


def answer_as_junctor(asked: Asked, handler: Handler) -> Reply:
    admin = asked.path == "/zato/admin/invoke"
    if asked.credentials != (("admin.invoke", "admin-pw") if admin else ("shop", "shop-pw")):
        details = "You are not authorized to access this resource."
        return Reply(401, {"result": "Error", "cid": CID, "details": details})
    if admin:
        asked_for = json.loads(asked.body)
        payload = json.loads(base64.b64decode(asked_for["payload"]))
        assert asked_for["name"] == "orders.get"
        return get_order(int(payload["order_id"]), in_envelope, envelope=True)
    if asked.path == "/zato/api/invoke/orders.get":
        return get_order(int(json.loads(asked.body)["order_id"]), lambda output: output)
    if found := re.fullmatch("/orders/(.+)", asked.path):
        return get_order(int(found[1]), lambda output: output)
    return Reply(404, {"result": "Error", "cid": CID, "details": "Not found"})


@pytest.fixture
def junctor(server: Server) -> Junctor:
    """Put a real server here to run the same tests against it."""
    server.reply = answer_as_junctor
    return Junctor(server.address, "shop", "shop-pw", "admin-pw")
