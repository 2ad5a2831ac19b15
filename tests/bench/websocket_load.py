"""Load for WebSocket servers: many connections, each with one message on its way, and as little work for each as can be.

    python tests/bench/websocket_load.py PORT PATH --connections 16 --seconds 5 --size 200 [--log-in] [--idle]

Prints one line of JSON: ``rate`` (messages a second), ``p50`` and ``p99`` (milliseconds), ``messages``, and ``busy``, the share of a core
that the load needed: near 1, it is the load that was measured.  With ``--log-in``, each connection
creates a session first, and the messages invoke the channel's service.  With ``--idle``, nothing is sent: it prints ``{"connected": N}``
and stays until its standard input ends.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import sys
from dataclasses import dataclass, field
from time import perf_counter, process_time

HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds
MASK = b"\0\0\0\0"  # allowed, though nobody should; masking is the load's work and not what is measured
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes) -> bytes:
    """A masked text frame of up to 65,535 bytes."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + MASK + payload


@dataclass
class Client:
    """One connection; ``sent`` is when its message went out."""

    socket: socket.socket
    message: bytes = b""
    received: bytes = b""
    sent: float = 0.0

    def send(self) -> None:
        """Sends its message."""
        self.sent = perf_counter()
        self.socket.sendall(self.message)

    def has_answer(self) -> bool:
        """Whether the whole answer is there, after another look; it is a short frame, pings aside."""
        data = self.received + self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the server has closed a connection")
        while len(data) >= 4:
            size, head = data[1] & 0x7F, 2
            if size == 126:
                size, head = int.from_bytes(data[2:4], "big"), 4
            if len(data) < head + size:
                break
            opcode, data = data[0] & 15, data[head + size :]
            if opcode == 1:
                self.received = data
                return True
        self.received = data
        return False

    def wait(self) -> bytes:
        """The text of the next message."""
        data = b""
        while not data:
            seen = self.received + self.socket.recv(65_536)
            size = seen[1] & 0x7F
            head = 4 if size == 126 else 2
            size = int.from_bytes(seen[2:4], "big") if size == 126 else size
            data, self.received = (seen[head : head + size], b"") if len(seen) >= head + size else (b"", seen)
        return data


@dataclass
class Measured:
    """What came back, and how long that took."""

    messages: int = 0
    waits: list[float] = field(default_factory=list)


def connected(port: int, path: str) -> Client:
    """A client after its handshake."""
    made = socket.create_connection((HOST, port), timeout=TIMEOUT)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(REQUEST.format(path=path).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += made.recv(1)
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(head.decode())
    return Client(made)


def log_in(client: Client, number: int) -> str:
    """The token of a new session."""
    meta = {"action": "create-session", "id": f"a{number}", "timestamp": "2026-11-24T10:00:00"}
    client.socket.sendall(frame(json.dumps({"meta": meta | {"client_id": f"bench.{number}"}}).encode()))
    return str(json.loads(client.wait())["data"]["token"])


def message(token: str, size: int) -> bytes:
    """An invocation whose data has about so many bytes."""
    meta = {
        "action": "invoke-service",
        "id": "b7d1f6a2c3e94f0d8a5b6c7d8e9f0a1b",
        "timestamp": "2026-11-24T10:00:00.000000",
        "token": token or "ws.token.0123456789abcdef01234567",
        "client_id": "bench.1",
    }
    return frame(json.dumps({"meta": meta, "data": {"text": "x" * (size - 11)}}).encode())


def check(client: Client, *, is_channel: bool) -> None:
    """Raises ``ConnectionError`` unless the answer is the right one; while measuring, answers are only counted."""
    client.send()
    sent, answer = client.message.split(MASK, 1)[1], client.wait()
    if is_channel:
        document = json.loads(answer)
        right = document["meta"]["status"] == 200 and document["data"] == json.loads(sent)["data"]
    else:
        right = answer == sent
    if not right:
        raise ConnectionError(f"the server answered {answer[:200]!r}")


def measure(clients: list[Client], seconds: float) -> Measured:
    """What the clients get through in so many seconds."""
    done, selector = Measured(), selectors.EpollSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send()
    end = perf_counter() + seconds
    while perf_counter() < end:
        for key, _ in selector.select(1):
            client = key.data
            if client.has_answer():
                done.messages += 1
                done.waits.append(perf_counter() - client.sent)
                client.send()
    for client in clients:
        while not client.has_answer():
            pass
    selector.close()
    return done


def main() -> None:
    """Runs the load that the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--log-in", action="store_true")
    parser.add_argument("--idle", action="store_true")
    given = parser.parse_args()
    clients = []
    for number in range(given.connections):
        client = connected(given.port, given.path)
        client.message = message(log_in(client, number) if given.log_in else "", given.size)
        clients.append(client)
    if given.idle:
        print(json.dumps({"connected": len(clients)}), flush=True)
        sys.stdin.read()
        return
    check(clients[0], is_channel=given.log_in)
    measure(clients, given.warm_up)
    began = process_time()
    done = measure(clients, given.seconds)
    busy = (process_time() - began) / given.seconds
    percentiles = statistics.quantiles(done.waits, n=100)
    result = {
        "rate": done.messages / given.seconds,
        "p50": percentiles[49] * 1000,
        "p99": percentiles[98] * 1000,
        "messages": done.messages,
        "busy": busy,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
