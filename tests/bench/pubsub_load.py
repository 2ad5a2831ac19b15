"""Load for publish/subscribe: publishers over REST and a subscriber over a WebSocket, with as little work for each message as can be.

    python tests/bench/pubsub_load.py publish PORT TOPIC --user NAME:PASSWORD --connections 16 --seconds 5 [--rate 300]
    python tests/bench/pubsub_load.py subscribe PORT PATH TOPIC [--sub-key KEY] [--count 100000]

Each message carries when it was published, and its number.  ``publish`` keeps one message on its way on each connection, or sends
``--rate`` a second, and prints a line of JSON: how many were confirmed, ``rate``, and ``p50`` and ``p99`` of the confirmations.

``subscribe`` prints ``{"sub_key": ...}`` once it has subscribed or resumed, acknowledges what comes, and prints at the end ``messages``
(different ones), ``duplicates``, ``unmarked`` (duplicates that said delivery_count 0), ``disordered``, ``rate`` from the first
message to the last, and ``p50`` and ``p99`` from publishing to receiving.  It ends with ``--count`` messages, or after it has read a number
from its standard input, with so many or 30 seconds later.  With ``--away FROM TO`` it is gone from one second to another, and
resumes.  Times are milliseconds; ``busy`` is the share of a core that the load needed.  With ``--every SECONDS``, both print such a line
again and again, whose percentiles are of the time since the line before.
"""

from __future__ import annotations

import argparse
import base64
import json
import selectors
import socket
import statistics
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic, process_time, sleep

import orjson

HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds
NEVER = float("inf")
MASK = b"\0\0\0\0"  # allowed, though nobody should; masking is the load's work and not what is measured
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def main() -> None:
    """Runs the load that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    loads = parser.add_subparsers(dest="load", required=True)
    publish = loads.add_parser("publish")
    publish.add_argument("port", type=int)
    publish.add_argument("topic")
    publish.add_argument("--user", required=True)
    publish.add_argument("--connections", type=int, default=16)
    publish.add_argument("--seconds", type=float, default=5)
    publish.add_argument("--rate", type=float, default=0)
    publish.add_argument("--size", type=int, default=200)
    publish.add_argument("--every", type=float, default=NEVER)
    subscribe = loads.add_parser("subscribe")
    subscribe.add_argument("port", type=int)
    subscribe.add_argument("path")
    subscribe.add_argument("topic")
    subscribe.add_argument("--sub-key", default="")
    subscribe.add_argument("--count", type=int, default=0)
    subscribe.add_argument("--batch", type=int, default=500)
    subscribe.add_argument("--client", default="bench")
    subscribe.add_argument("--away", type=float, nargs=2, default=(NEVER, NEVER))
    subscribe.add_argument("--every", type=float, default=NEVER)
    given = parser.parse_args()
    print(json.dumps(Publishers(given).run() if given.load == "publish" else Subscriber(given).run()))


def summary(waits: list[float]) -> dict[str, float]:
    """The median and the 99th percentile of seconds, in milliseconds."""
    if len(waits) < 2:
        return {"p50": 0.0, "p99": 0.0}
    percentiles = statistics.quantiles(waits, n=100)
    return {"p50": percentiles[49] * 1000, "p99": percentiles[98] * 1000}


class Reports:
    """Prints a line of figures now and then."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = monotonic() + every

    def maybe(self, figures: dict[str, float], waits: list[float]) -> None:
        """Prints the figures if it is time, and begins new percentiles."""
        if monotonic() >= self._next:
            self._next += self._every
            print(json.dumps(figures | summary(waits)), flush=True)
            waits.clear()


def payload(number: int, size: int) -> str:
    """The data of a message: when it is published, its number, and filling."""
    return f"{monotonic():.6f} {number} ".ljust(size, "x")


@dataclass
class Publisher:
    """One connection, with at most one message on its way; ``is_over`` once the server has said that it closes it."""

    socket: socket.socket
    sent: float = 0.0
    received: bytes = b""
    is_over: bool = False

    def is_answered(self) -> bool:
        """Whether the whole answer is there, after another look.  Raises ``ConnectionError`` if it is not a success."""
        data = self.received + self.socket.recv(65_536)
        self.received = data
        if not data:
            raise ConnectionError("the server has closed a connection")
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return False
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < size:
            return False
        if b" 200 " not in head[:20]:
            raise ConnectionError(f"the server answered {data[:500]!r}")
        self.received = body[size:]
        self.is_over = b"\r\nconnection: close" in head.lower()
        return True


class Publishers:
    """Publishers on kept connections."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        credentials = base64.b64encode(given.user.encode()).decode()
        self._head = (
            f"POST /zato/pubsub/topic/{given.topic} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._number = 0
        self._waits: list[float] = []

    def run(self) -> dict[str, float]:
        """What was measured."""
        given, began, cpu, reports = self.given, monotonic(), process_time(), Reports(self.given.every)
        free = deque(self._connected() for _ in range(given.connections))
        with selectors.EpollSelector() as selector:
            for one in free:
                selector.register(one.socket, selectors.EVENT_READ, one)
            on_their_way = 0
            while (now := monotonic()) < began + given.seconds or on_their_way:
                for _ in range(min(self._due(now - began), len(free))):
                    self._send(free.popleft())
                    on_their_way += 1
                for key, _ in selector.select(0.001 if given.rate else 1):
                    if key.data.is_answered():
                        self._waits.append(monotonic() - key.data.sent)
                        free.append(self._renewed(key.data, selector) if key.data.is_over else key.data)
                        on_their_way -= 1
                reports.maybe({"published": self._number}, self._waits)
        took = monotonic() - began
        busy = (process_time() - cpu) / took
        return {"published": self._number, "rate": self._number / took, "busy": busy} | summary(self._waits)

    def _due(self, passed: float) -> int:
        """How many messages are to be sent now."""
        if passed >= self.given.seconds:
            return 0
        return int(passed * self.given.rate) - self._number if self.given.rate else self.given.connections

    def _connected(self) -> Publisher:
        made = socket.create_connection((HOST, self.given.port), timeout=TIMEOUT)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Publisher(made)

    def _renewed(self, publisher: Publisher, selector: selectors.BaseSelector) -> Publisher:
        """Another connection: servers close each after so many requests."""
        selector.unregister(publisher.socket)
        publisher.socket.close()
        made = self._connected()
        selector.register(made.socket, selectors.EVENT_READ, made)
        return made

    def _send(self, publisher: Publisher) -> None:
        body = b'{"data": "%s"}' % payload(self._number, self.given.size).encode()
        self._number += 1
        publisher.sent = monotonic()
        publisher.socket.sendall(self._head + b"%d\r\n\r\n" % len(body) + body)


class WebSocket:
    """The client's end of a connection."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(UPGRADE.format(path=path).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.decode())
        self._received = bytearray()

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """Sends a short message."""
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE))
        self._socket.sendall(head + (size.to_bytes(2, "big") if size >= 126 else b"") + MASK + payload)

    def texts(self) -> Iterator[bytes]:
        """The messages that come.  Raises ``TimeoutError`` if none did for a while, and ``ConnectionError`` at the end."""
        while True:
            opcode, payload = self._frame()
            if opcode == TEXT:
                yield payload
            elif opcode == PING:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                raise ConnectionError(f"the server has closed the connection: {payload!r}")

    def close(self) -> None:
        """Ends the connection without a word, as a network does."""
        self._socket.close()

    def wait_at_most(self, seconds: float) -> None:
        """How long ``texts`` waits for more before it raises ``TimeoutError``."""
        self._socket.settimeout(seconds)

    def _frame(self) -> tuple[int, bytes]:
        self._have(2)
        size, head = self._received[1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            self._have(head)
            size = int.from_bytes(self._received[2:head], "big")
        self._have(head + size)
        opcode, payload = self._received[0] & 15, bytes(self._received[head : head + size])
        del self._received[: head + size]
        return opcode, payload

    def _have(self, count: int) -> None:
        while len(self._received) < count:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._received += data


@dataclass
class Received:
    """What has come."""

    seen: set[int] = field(default_factory=set)
    waits: list[float] = field(default_factory=list)
    duplicates: int = 0
    unmarked: int = 0
    disordered: int = 0
    first: float = 0.0
    last: float = 0.0
    _highest: int = -1

    def take(self, messages: list[dict[str, object]]) -> None:
        """Notes a batch that has just come."""
        now = monotonic()
        self.first = self.first or now
        self.last = now
        for message in messages:
            published, number_text, _ = str(message["data"]).split(" ", 2)
            number = int(number_text)
            if number in self.seen:
                self.duplicates += 1
                self.unmarked += not message.get("delivery_count")
                continue
            self.seen.add(number)
            self.waits.append(now - float(published))
            self.disordered += number < self._highest
            self._highest = max(self._highest, number)

    def result(self) -> dict[str, float]:
        """What is printed of it."""
        took = self.last - self.first
        return {
            "messages": len(self.seen),
            "duplicates": self.duplicates,
            "unmarked": self.unmarked,
            "disordered": self.disordered,
            "rate": len(self.seen) / took if took else 0.0,
        } | summary(self.waits)


class Subscriber:
    """One WebSocket client that subscribes, or resumes what it subscribed to before, and acknowledges each batch."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self._sub_key: str = given.sub_key
        self._early: list[bytes] = []
        self._number = 0
        self._wanted = given.count
        self._until = NEVER
        self._connect()

    def run(self) -> dict[str, float]:
        """What was measured."""
        given = self.given
        print(json.dumps({"sub_key": self._sub_key}), flush=True)
        if not given.count:
            threading.Thread(target=self._read_count, daemon=True).start()
        cpu, began, received, reports = process_time(), monotonic(), Received(), Reports(given.every)
        leaves, returns = given.away
        while not (self._wanted and len(received.seen) >= self._wanted) and monotonic() < self._until:
            if text := self._early.pop(0) if self._early else self._next():
                self._take(orjson.loads(text), received)
            reports.maybe({"messages": len(received.seen)}, received.waits)
            if monotonic() > began + leaves:
                self._web_socket.close()
                sleep(max(0.0, began + returns - monotonic()))
                self._connect()
                leaves = NEVER
        busy = (process_time() - cpu) / (monotonic() - began)
        return received.result() | {"busy": busy}

    def _connect(self) -> None:
        """Logs in, and subscribes or resumes."""
        given = self.given
        self._token = ""
        self._web_socket = WebSocket(given.port, given.path)
        self._texts = self._web_socket.texts()
        self._token = str(self._ask("create-session", {})["token"])
        if self._sub_key:
            self._invoke("zato.pubsub.resume-wsx-subscription", {"sub_key": self._sub_key})
        else:
            request = {"topic_name": given.topic, "delivery_batch_size": given.batch}
            self._sub_key = self._invoke("zato.pubsub.pubapi.subscribe-wsx", request)["sub_key"]
        self._web_socket.wait_at_most(1.0)

    def _read_count(self) -> None:
        self._wanted = int(sys.stdin.readline() or "0")
        self._until = monotonic() + TIMEOUT

    def _next(self) -> bytes | None:
        try:
            return next(self._texts)
        except TimeoutError:
            self._texts = self._web_socket.texts()
            return None

    def _take(self, document: dict[str, dict[str, str]], received: Received) -> None:
        """Notes and acknowledges what the server sent of its own accord."""
        if document["meta"].get("in_reply_to"):
            return
        data = document["data"]
        received.take(data if isinstance(data, list) else [data])
        self._send("client-response", {"response": None}, in_reply_to=document["meta"]["id"])

    def _send(self, action: str, data: object, **meta: str) -> str:
        self._number += 1
        head = {"action": action, "id": f"b{self._number}", "timestamp": "2026-11-24T10:00:00"}
        head |= {"client_id": f"bench.{self.given.client}"} | meta
        if self._token:
            head["token"] = self._token
        self._web_socket.send(orjson.dumps({"meta": head, "data": data}))
        return head["id"]

    def _ask(self, action: str, data: object) -> dict[str, str]:
        """The data of the answer to a message; what comes meanwhile is kept."""
        asked = self._send(action, data)
        for text in self._texts:
            document = orjson.loads(text)
            if document["meta"].get("in_reply_to") != asked:
                self._early.append(text)
            elif document["meta"]["status"] != 200:
                raise ConnectionError(f"the server answered {text[:500]!r}")
            else:
                return dict(document["data"] or {})
        raise ConnectionError("the server has closed the connection")

    def _invoke(self, service: str, request: dict[str, object]) -> dict[str, str]:
        answer = self._ask("invoke-service", {"service": service, "request": request})
        return dict(answer.get("response") or answer)


if __name__ == "__main__":
    main()
