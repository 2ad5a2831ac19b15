"""Our own client of WebSocket channels, on a real cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from junctor_client import BadRequest, Client, Forbidden
from junctor_client.websocket import Message, WebSocketClient

from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import wait_until

SERVICES = '''
from zato.common.exception import BadRequest
from zato.server.service import Service


class Add(Service):
    name = "client.add"

    def handle(self):
        values = self.request.payload
        if not all(isinstance(value, int) for value in values):
            raise BadRequest(self.cid, "Only numbers can be added.")
        self.response.payload = sum(values)


class Ask(Service):
    """Asks each client of a branch, wherever it is connected."""

    name = "client.ask"

    def handle(self):
        answers = self.wsx.invoke_by_attrs({"branch": self.request.payload["branch"]}, "stock?", timeout=10)
        self.response.payload = {"answers": sorted(answers.values())}


class Push(Service):
    """Has everybody told, its caller included."""

    name = "client.push"

    def handle(self):
        self.response.payload = {"told": self.wsx.broadcast("python-client", self.request.payload)}
'''
CHANNEL = "zato.channel.web-socket"
PUBLISH_SUBSCRIBE = (
    "pubapi.subscribe-wsx",
    "pubapi.unsubscribe",
    "pubapi.publish-message",
    "resume-wsx-subscription",
)
TOPIC = "/python/news"
Connect = Callable[..., WebSocketClient]


@pytest.fixture(scope="module")
def address(cluster: ClusterUnderTest) -> str:
    """The address of a channel with a gateway, for the user ``python``."""
    cluster.deploy(tests_of_python_client=SERVICES)
    cluster.write(
        "zato.security.basic-auth.create", name="python", username="python", password="the-python-password"
    )
    made = f"ws://{LOOPBACK}:{free_port()}/python"
    services = [f"zato.pubsub.{name}" for name in PUBLISH_SUBSCRIBE]
    gateway = {
        "service": "helpers.web-sockets-gateway",
        "gateway_services": ["client.*", "zato.ping", *services],
    }
    cluster.write(f"{CHANNEL}.create", name="python-client", address=made, security="python", **gateway)
    cluster.channel("ask", "client.ask", data_format="json")
    cluster.write("zato.pubsub.topic.create", name="/python/news")
    patterns = ["pub=/python/*", "sub=/python/*"]
    cluster.write(
        "zato.pubsub.endpoint.create",
        name="python",
        endpoint_type="wsx",
        ws_channel="python-client",
        topic_patterns=patterns,
    )
    cluster.write(
        "zato.pubsub.endpoint.create", name="python-http", security="python", topic_patterns=patterns
    )
    return made


@pytest.fixture
def client_of(address: str) -> Iterator[Connect]:
    """Makes clients, which are closed after the test."""
    made: list[WebSocketClient] = []

    def make(**options: Any) -> WebSocketClient:
        given = {"username": "python", "password": "the-python-password", "timeout": 10} | options
        made.append(WebSocketClient(given.pop("address", address), **given))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_services_are_called_through_the_gateway(client_of: Connect) -> None:
    client = client_of()
    assert client.invoke_service("client.add", [1, 2, 39]) == 42
    with pytest.raises(BadRequest, match=r"Only numbers can be added") as error:
        client.invoke_service("client.add", ["x"])
    assert error.value.cid
    with pytest.raises(Forbidden):
        client.invoke_service("zato.service.get-list")
    assert client.invoke_service("client.add", []) in (0, None)


def test_many_threads_call_at_the_same_time(client_of: Connect) -> None:
    client, sums = client_of(), {}
    threads = [
        threading.Thread(target=lambda n=n: sums.update({n: client.invoke_service("client.add", [n, n])}))
        for n in range(1, 21)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums == {n: 2 * n for n in range(1, 21)}


def test_wrong_credentials_are_forbidden(client_of: Connect, address: str) -> None:
    with pytest.raises(Forbidden, match="not authorized"):
        client_of(password="wrong").connect()


def test_a_token_does_as_a_password(cluster: ClusterUnderTest, client_of: Connect) -> None:
    cluster.write(
        "zato.security.jwt.create", name="python-jwt", username="python-jwt", password="the-jwt-password"
    )
    path = "/python-jwt"
    cluster.write(
        f"{CHANNEL}.create", name="python-jwt", address=path, service="client.add", security="python-jwt"
    )
    server = cluster.servers[0]
    given = {"username": "python-jwt", "password": "the-jwt-password"}
    token = server.post("/zato/jwt/log-in", json=given).json()["token"]
    client = client_of(address=f"ws://{LOOPBACK}:{server.port}{path}", username="", password=token)
    assert client.invoke([20, 22]) == 42


def test_clients_are_asked_by_services_of_any_server(cluster: ClusterUnderTest, client_of: Connect) -> None:
    for number in range(3):
        client_of(
            attributes={"branch": "Łódź"}, on_message=lambda message, n=number: f"{message.data} {n}"
        ).connect()
    for server in cluster.servers:
        answers = wait_until(
            lambda server=server: (
                found
                if len(found := server.post("/ask", json={"branch": "Łódź"}).json().get("answers", [])) == 3
                else None
            ),
            10,
            "Not every client is known yet",
        )
        assert answers == ["stock? 0", "stock? 1", "stock? 2"]


def test_a_client_that_calls_may_be_called_meanwhile(client_of: Connect) -> None:
    told: list[Message] = []
    client = client_of(on_message=told.append)
    wait_until(lambda: client.invoke_service("client.push", {"news": 1})["told"], 10, "Nobody was told")
    wait_until(lambda: told, 10, "The client was not told")
    assert told[0].data == {"news": 1}


def test_a_client_comes_back_after_its_channel_was_away(
    cluster: ClusterUnderTest, client_of: Connect, address: str
) -> None:
    happened: list[str] = []
    client = client_of(
        on_connect=lambda client: happened.append("connected"),
        on_close=lambda code, reason: happened.append(f"closed with {code}"),
    )
    assert client.invoke_service("client.add", [1]) == 1
    cluster.write(f"{CHANNEL}.edit", name="python-client", is_active=False)
    wait_until(lambda: not client.is_connected, 10, "The client was not disconnected")
    cluster.write(f"{CHANNEL}.edit", name="python-client", is_active=True)
    assert client.invoke_service("client.add", [2], timeout=20) == 2
    wait_until(lambda: len(happened) == 3, 10, "on_connect was not called again")
    assert happened == ["connected", "closed with 1001", "connected"]


def test_a_subscriber_gets_what_was_published_while_it_was_away_and_what_it_failed_with_again(
    cluster: ClusterUnderTest, client_of: Connect
) -> None:
    got: list[tuple[Any, int]] = []

    def on_message(message: Message) -> None:
        for published in message.data:
            got.append((published["data"], published["delivery_count"]))
            if published["data"] == "fails once" and not published["delivery_count"]:
                raise ValueError("not now")

    first = client_of(client_id="reader")
    key = first.subscribe(TOPIC, on_message)
    publisher = client_of()
    publisher.publish(TOPIC, {"news": 1}, msg_id="python-news-1")
    assert publisher.publish(TOPIC, {"news": 1}, msg_id="python-news-1") == "python-news-1"
    wait_until(lambda: got, 20, "Nothing came")
    cluster.write(f"{CHANNEL}.edit", name="python-client", is_active=False)
    wait_until(lambda: not first.is_connected, 10, "The client was not disconnected")
    cluster.write(f"{CHANNEL}.edit", name="python-client", is_active=True)
    publisher.publish(TOPIC, "over the next connection", timeout=20)
    wait_until(lambda: len(got) == 2, 20, "The subscription was not taken up again")
    first.close()
    publisher.publish(TOPIC, "while it was away")
    second = client_of(client_id="reader")
    assert second.subscribe(TOPIC, on_message) == key
    wait_until(lambda: len(got) == 3, 20, "What was published meanwhile did not come")
    assert got == [({"news": 1}, 0), ("over the next connection", 0), ("while it was away", 0)]
    second.unsubscribe(TOPIC)
    assert second.subscribe(TOPIC, on_message) != key
    second.unsubscribe(TOPIC)


def test_messages_are_published_and_pulled_over_http(cluster: ClusterUnderTest) -> None:
    address = f"http://{LOOPBACK}:{cluster.servers[0].port}"
    with Client(address, username="python", password="the-python-password") as client:
        made = client.pubsub.subscribe(TOPIC)
        assert client.pubsub.subscribe(TOPIC).sub_key == made.sub_key
        ids = [client.pubsub.publish(TOPIC, {"number": number}) for number in range(3)]
        assert client.pubsub.publish(TOPIC, {"number": 2}, msg_id=ids[2]) == ids[2]
        first, second = client.pubsub.pull(TOPIC, batch_size=2, needs_ack=True)
        assert [first["msg_id"], second["msg_id"]] == ids[:2]
        assert client.pubsub.ack(first) == 1
        assert client.pubsub.nack(second, reason="busy") == 1
        again = client.pubsub.pull(TOPIC, made.sub_key, wait=10)
        assert [(item["data"]["number"], item["delivery_count"]) for item in again] == [(1, 1), (2, 0)]
        assert client.pubsub.pull(TOPIC) == []
        client.pubsub.unsubscribe(TOPIC)
        with pytest.raises(Forbidden):
            client.pubsub.pull(TOPIC)
