"""Messages on their way through a whole cluster: to services, REST APIs and WebSocket clients, whichever worker has them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import orjson
import pytest

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.ports import LOOPBACK
from tests.helpers.waiting import eventually, wait_until
from tests.helpers.websocket_client import ChannelClient

SERVICES = '''
import json
import os
from pathlib import Path

from zato.server.service import Service

TAKEN = Path({taken!r})


class Publish(Service):
    """Publishes what it is given."""

    name = "deliveries.publish"

    def handle(self):
        given = self.request.payload
        self.response.payload = {{"ids": self.pubsub.publish(given["topic"], data_list=given["messages"], has_gd=given.get("has_gd"))}}


class Take(Service):
    """Writes down what is delivered to it; fails while there is a file that says so."""

    name = "deliveries.take"

    def handle(self):
        if TAKEN.with_suffix(".fail").exists():
            raise ValueError("not now")
        with TAKEN.open("a") as file:
            for message in self.request.payload:
                file.write(json.dumps({{**message, "pid": os.getpid(), "channel": self.channel.type}}) + "\\n")
'''
PUBLISH = "deliveries-publish"
TOPIC = "zato.pubsub.topic.create"
ENDPOINT = "zato.pubsub.endpoint.create"
SUBSCRIPTION = "zato.pubsub.subscription.create"
PATH = "/deliveries-ws"


@pytest.fixture(scope="module")
def taken(public_directory: Path) -> Path:
    """What the subscribed service has taken, a JSON object in each line."""
    path = public_directory / "taken"
    path.touch()
    return path


@pytest.fixture(scope="module")
def served(cluster: ClusterUnderTest, taken: Path) -> ClusterUnderTest:
    """The cluster, with a way to publish."""
    cluster.deploy(tests_of_deliveries=SERVICES.format(taken=str(taken)))
    cluster.channel(PUBLISH, "deliveries.publish", data_format="json")
    return cluster


def publish(server: ServerUnderTest, topic: str, *data: Any, **how: Any) -> list[str]:
    """The ids of messages that were published on a server."""
    request = {"topic": topic, "messages": [{"data": item} for item in data], **how}
    answer = server.post(f"/{PUBLISH}", json=request)
    assert answer.ok, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


def lines(path: Path, topic: str) -> list[dict[str, Any]]:
    """What a file has of a topic."""
    found = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [line for line in found if line["topic_name"] == topic]


class Api(threading.Thread):
    """A REST API that answers with one status after another, and then with 200."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(daemon=True)
        self.got: list[tuple[Any, dict[str, str]]] = []
        left = list(statuses)
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.got.append((body, dict(self.headers)))
                self.send_response(left.pop(0) if left else 200)
                self.send_header("Content-Length", "0")
                self.send_header("Retry-After", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.HTTPServer((LOOPBACK, 0), Handler)
        self.port = self._server.server_port

    def run(self) -> None:
        """Serves."""
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        """Serves no more."""
        self._server.shutdown()
        self._server.server_close()
        self.join(10)


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that is busy first, then refuses, then takes everything."""
    made = Api(503, 400)
    made.start()
    yield made
    made.close()


def subscribe_service(cluster: ClusterUnderTest, topic: str, **fields: Any) -> None:
    """Has the service that writes down get the messages of a new topic."""
    cluster.write(TOPIC, name=topic)
    cluster.write(
        ENDPOINT,
        name=topic,
        endpoint_type="internal",
        topic_patterns=["sub=/**"],
    )
    cluster.write(SUBSCRIPTION, name=topic, endpoint=topic, topic=topic, service="deliveries.take", **fields)


def test_a_service_gets_the_messages_of_every_server_in_the_order_of_each_publisher(
    served: ClusterUnderTest, taken: Path
) -> None:
    subscribe_service(served, "/deliveries/service")
    for number in range(10):
        for server in served.servers:
            publish(server, "/deliveries/service", f"{server.name} {number}", f"{server.name} {number}b")
    got = wait_until(lambda: _all(taken, "/deliveries/service", 40), 20, "not everything was delivered")
    assert {line["delivery_count"] for line in got} == {0}
    assert {line["channel"] for line in got} == {"publish"}
    for server in served.servers:
        texts = [line["data"] for line in got if line["data"].startswith(server.name)]
        assert texts == [f"{server.name} {n}{part}" for n in range(10) for part in ("", "b")]
    assert len({line["pid"] for line in got}) == 1


def _all(taken: Path, topic: str, count: int) -> list[dict[str, Any]] | None:
    got = lines(taken, topic)
    return got if len(got) >= count else None


def test_what_a_service_fails_with_comes_again_and_says_so(served: ClusterUnderTest, taken: Path) -> None:
    fails = taken.with_suffix(".fail")
    subscribe_service(served, "/deliveries/again", wait_non_sock_err=1)
    fails.touch()
    publish(served.servers[0], "/deliveries/again", {"n": 1})
    wait_until(
        lambda: any(s.metric("junctor_pubsub_delivery_failures_total") for s in served.servers),
        10,
        "no failure",
    )
    fails.unlink()
    [line] = wait_until(lambda: _all(taken, "/deliveries/again", 1), 20, "it does not come again")
    assert line["data"] == {"n": 1}
    assert line["delivery_count"] >= 1


def test_messages_without_guaranteed_delivery_get_to_the_owner_from_everywhere(
    served: ClusterUnderTest, taken: Path
) -> None:
    subscribe_service(served, "/deliveries/fast")
    publish(served.servers[0], "/deliveries/fast", "first")
    wait_until(lambda: _all(taken, "/deliveries/fast", 1), 20, "nothing comes")
    for server in served.servers * 3:
        publish(server, "/deliveries/fast", "more", has_gd=False)
        served.disconnect()
    got = wait_until(lambda: _all(taken, "/deliveries/fast", 7), 20, "not everything was delivered")
    assert [line["has_gd"] for line in got] == [True] + [False] * 6


def test_a_rest_api_acknowledges_with_2xx_and_nothing_else(served: ClusterUnderTest, api: Api) -> None:
    topic = "/deliveries/rest"
    served.write(TOPIC, name=topic)
    served.write(ENDPOINT, name=topic, endpoint_type="internal", topic_patterns=["sub=/**"])
    served.write(
        "zato.outgoing-rest.create", name="deliveries", host=f"http://{LOOPBACK}:{api.port}", url_path="/hook"
    )
    served.write(
        SUBSCRIPTION, name=topic, endpoint=topic, topic=topic, out_rest="deliveries", wait_non_sock_err=1
    )
    [msg_id] = publish(served.servers[1], topic, "one")
    wait_until(lambda: len(api.got) >= 3, 20, "it is not tried again")
    bodies = [orjson.loads(body) for body, _ in api.got]
    assert [(body[0]["msg_id"], body[0]["delivery_count"]) for body in bodies] == [
        (msg_id, n) for n in range(3)
    ]
    assert all(headers["X-Zato-CID"] for _, headers in api.got)
    publish(served.servers[1], topic, "two")
    wait_until(lambda: len(api.got) >= 4, 20, "the next one does not come")
    assert orjson.loads(api.got[3][0])[0]["data"] == "two"


def test_raw_data_come_as_they_are_with_what_is_known_in_headers(served: ClusterUnderTest) -> None:
    api = Api()
    api.start()
    topic = "/deliveries/raw"
    try:
        served.write(TOPIC, name=topic)
        served.write(ENDPOINT, name=topic, endpoint_type="internal", topic_patterns=["sub=/**"])
        served.write(
            "zato.outgoing-rest.create",
            name="deliveries.raw",
            host=f"http://{LOOPBACK}:{api.port}",
            url_path="/",
        )
        served.write(
            SUBSCRIPTION, name=topic, endpoint=topic, topic=topic, out_rest="deliveries.raw",
            delivery_data_format="raw", delivery_batch_size=1,
        )  # fmt: skip
        ids = publish(served.servers[0], topic, "zażółć", {"n": 2})
        wait_until(lambda: len(api.got) == 2, 20, "not everything comes")
        assert [body.decode() for body, _ in api.got] == ["zażółć", '{"n":2}']
        headers = [headers for _, headers in api.got]
        assert [header["X-Junctor-Message-Id"] for header in headers] == ids
        assert headers[0]["Content-Type"] == "text/plain"
        assert headers[0]["X-Junctor-Topic"] == topic
        assert headers[0]["X-Junctor-Delivery-Count"] == "0"
    finally:
        api.close()


class Subscriber:
    """A WebSocket client that subscribes, or resumes; it answers what is delivered unless it is told not to."""

    def __init__(self, server: ServerUnderTest, *, answer: Any = "ok") -> None:
        self.client = ChannelClient(f"ws://{LOOPBACK}:{server.port}{PATH}")
        self.client.log_in(client_id="subscriber")
        self.got: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.answers: list[Any] = []
        self.answer = answer
        self._greenlet = gevent.spawn(self._take)

    def _take(self) -> None:
        while (text := self.client.connection.receive()) is not None:
            message = orjson.loads(text)
            if message["meta"]["msg_type"] != "zwsx.psrq":
                self.answers.append(message)
                continue
            data = message["data"]
            self.ids.append(message["meta"]["id"])
            self.got += data if isinstance(data, list) else [data]
            if self.answer is not None:
                self.client.respond(message, self.answer)

    def call(self, service: str, **request: Any) -> Any:
        """What a service of publish/subscribe answers."""
        before = len(self.answers)
        self.client.message("invoke-service", {"service": service, "request": request})
        eventually(lambda: len(self.answers) > before, 20, f"{service} does not answer")
        answer = self.answers[-1]
        assert answer["meta"]["status"] == 200, answer
        return answer["data"]

    def close(self) -> None:
        """Goes without a word."""
        self.client.connection.abort()
        self._greenlet.join(10)


def elsewhere(action: Any, *arguments: Any, **named: Any) -> Any:
    """The result of something that blocks, while clients go on in this thread."""
    return gevent.get_hub().threadpool.spawn(action, *arguments, **named).get()


def test_a_websocket_client_gets_what_was_published_while_it_was_away(served: ClusterUnderTest) -> None:
    topic = "/deliveries/ws"
    served.write(TOPIC, name=topic)
    served.write(
        "zato.channel.web-socket.create",
        name="deliveries",
        address=PATH,
        service="helpers.web-sockets-gateway",
    )
    served.write(
        ENDPOINT, name=topic, endpoint_type="wsx", ws_channel="deliveries", topic_patterns=[f"sub={topic}"]
    )
    first = Subscriber(served.servers[0])
    sub_key = first.call("zato.pubsub.pubapi.subscribe-wsx", topic_name=topic)["sub_key"]
    ids = elsewhere(publish, served.servers[1], topic, "one", "two")
    eventually(lambda: len(first.got) == 2, 20, "it gets nothing")
    assert [message["msg_id"] for message in first.got] == ids
    assert all(message_id.startswith("zpsm") for message_id in first.ids)
    first.answer = None  # it gets the next one, and goes before it has answered
    elsewhere(publish, served.servers[1], topic, "three")
    eventually(lambda: len(first.got) == 3, 20, "it gets nothing more")
    first.close()
    elsewhere(publish, served.servers[0], topic, "four")

    second = Subscriber(served.servers[1])
    second.call("zato.pubsub.resume-wsx-subscription", sub_key=sub_key)
    eventually(lambda: len(second.got) == 2, 20, "it does not get what was left")
    assert [(message["data"], message["delivery_count"]) for message in second.got] == [
        ("three", 1),
        ("four", 0),
    ]

    third = Subscriber(served.servers[0], answer={"nack": True, "delay": 0})
    third.call("zato.pubsub.resume-wsx-subscription", sub_key=sub_key)
    elsewhere(publish, served.servers[1], topic, "five")
    eventually(lambda: len(third.got) >= 3, 20, "what is rejected does not come again")
    third.answer = "ok"
    eventually(lambda: third.client.connection.is_open and len(third.got) >= 4, 20, "it does not come again")
    assert [message["delivery_count"] for message in third.got[:3]] == [0, 1, 2]
    assert len(second.got) == 2
    second.close()
    third.close()
