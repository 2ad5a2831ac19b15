"""Publish/subscribe over WebSockets on a real cluster: through the gateways, and through services of the channel's own."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import eventually
from tests.helpers.websocket_client import ChannelClient

CHANNEL, PATH = "wsx-api.clients", "/wsx-api"
PUB_SUB_PATH, MOUNTED_PATH = "/wsx-api-pub-sub", "/wsx-api-mounted"
API, SUBSCRIPTION = "zato.pubsub.pubapi.", "zato.pubsub.subscription."
_numbers = itertools.count(1)
SERVICES = '''
from zato.server.service import Service


class Mounted(Service):
    """Does with self.pubsub, for the client that calls it, what that wants; or invokes a service."""

    name = "wsx-api.mounted"

    def handle(self):
        asked = self.request.payload
        if "service" in asked:
            self.response.payload = self.invoke(asked["service"], asked["request"])
        elif "sub_key" in asked:
            self.pubsub.resume_wsx_subscription(asked["sub_key"], self)
            self.response.payload = {"resumed": asked["sub_key"]}
        else:
            sub_key = self.pubsub.subscribe(asked["topic"], use_current_wsx=True, service=self)
            self.response.payload = {"sub_key": sub_key}
'''


class Client:
    """A client that acknowledges what it is sent; what that is, is in ``delivered``."""

    def __init__(self, server: ServerUnderTest, path: str = PATH, client_id: str = "crm.1") -> None:
        self.connection = ChannelClient(f"ws://127.0.0.1:{server.port}{path}")
        self.connection.log_in(client_id=client_id)
        self.delivered: deque[Any] = deque()

    def call(self, data: Any, **meta: Any) -> dict[str, Any]:
        """The answer to a request to the channel's service."""
        asked = self.connection.message("invoke-service", data, **meta)
        while (message := self.connection.receive())["meta"].get("in_reply_to") != asked:
            self._take(message)
        return message

    def ask(self, service: str, /, **request: Any) -> Any:
        """What a service answers through a gateway."""
        answer = self.call({"service": service, "request": request})
        assert answer["meta"]["status"] == 200, answer
        return answer.get("data")

    def refusal(self, service: str, /, **request: Any) -> tuple[int, str]:
        """The status and the message with which a request is refused."""
        meta = self.call({"service": service, "request": request})["meta"]
        return meta["status"], meta["error_message"]

    def next(self) -> Any:
        """The next message that is delivered."""
        while not self.delivered:
            self._take(self.connection.receive())
        return self.delivered.popleft()

    def _take(self, message: dict[str, Any]) -> None:
        assert message["meta"]["msg_type"] == "zwsx.psrq", message
        self.connection.respond(message, None)
        data = message["data"]
        self.delivered.extend(data if isinstance(data, list) else [data])


@pytest.fixture(scope="module")
def wsx(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster, with channels whose clients may publish and subscribe to topics below ``/wsx``."""
    cluster.deploy(wsx_api_services=SERVICES)
    for name, path, service in (
        (CHANNEL, PATH, "helpers.web-sockets-gateway"),
        (f"{CHANNEL}.pub-sub", PUB_SUB_PATH, "helpers.web-sockets-pub-sub-gateway"),
        (f"{CHANNEL}.mounted", MOUNTED_PATH, "wsx-api.mounted"),
        (f"{CHANNEL}.nobody", "/wsx-api-nobody", "helpers.web-sockets-gateway"),
    ):
        cluster.write("zato.channel.web-socket.create", name=name, address=path, service=service)
        if not name.endswith("nobody"):
            cluster.write(
                "zato.pubsub.endpoint.create",
                name=name,
                endpoint_type="wsx",
                ws_channel=name,
                topic_patterns=["pub=/wsx/**", "sub=/wsx/**"],
            )
    return cluster


@pytest.fixture
def topic(wsx: ClusterUnderTest) -> str:
    """A topic of the test's own."""
    name = f"/wsx/{next(_numbers)}"
    wsx.write("zato.pubsub.topic.create", name=name)
    return name


@pytest.fixture
def connect(wsx: ClusterUnderTest) -> Iterator[Any]:
    """Connects clients, to one server or the other."""
    made: list[Client] = []

    def client(path: str = PATH, client_id: str = "crm.1", server: int = 0) -> Client:
        made.append(Client(wsx.servers[server], path, client_id))
        return made[-1]

    yield client
    for one in made:
        one.connection.end()


class TestThroughTheGateway:
    @pytest.mark.parametrize("service", [f"{API}subscribe-wsx", f"{SUBSCRIPTION}create-wsx-subscription"])
    def test_a_client_subscribes_and_gets_what_others_publish(
        self, connect: Any, topic: str, service: str
    ) -> None:
        subscriber, publisher = connect(), connect(server=1)
        made = subscriber.ask(service, topic_name=topic)
        assert made == {"sub_key": made["sub_key"], "queue_depth": 0}
        assert made["sub_key"].startswith("zpsk.websockets.")
        sent = publisher.ask(
            f"{API}publish-message", topic_name=topic, data={"n": 1}, expiration=60, priority=7
        )
        message = subscriber.next()
        assert (message["msg_id"], message["data"], message["sub_key"]) == (
            sent["msg_id"],
            {"n": 1},
            made["sub_key"],
        )
        assert (message["expiration"], message["priority"], message["topic_name"]) == (60_000, 7, topic)

    def test_a_client_subscribes_to_several_topics_at_once(
        self, connect: Any, wsx: ClusterUnderTest, topic: str
    ) -> None:
        other = f"{topic}/other"
        wsx.write("zato.pubsub.topic.create", name=other)
        client = connect()
        client.ask(f"{API}publish-message", topic_name=other, data="parked")
        made = client.ask(f"{API}subscribe-wsx", topic_name_list=[topic, other])
        assert [(one["topic_name"], one["current_depth"]) for one in made["sub_data"]] == [
            (topic, 0),
            (other, 1),
        ]
        assert client.next()["data"] == "parked"

    def test_a_list_is_published_together_and_its_answer_goes_to_whom_it_should(
        self, connect: Any, topic: str
    ) -> None:
        one, two = connect(), connect()
        key = one.ask(f"{API}subscribe-wsx", topic_name=topic)["sub_key"]
        other = two.ask(f"{API}subscribe-wsx", topic_name=topic)["sub_key"]
        request = {"topic_name": topic, "data_list": [{"data": 1}, {"data": 2}]}
        call = {"service": f"{API}publish-message", "request": request}
        answer = one.call(call, ctx={"deliver_to_sk": [other], "reply_to_sk": [key]})
        assert len(answer["data"]["msg_id_list"]) == 2
        assert [(two.next()["data"]), (two.next()["data"])] == [1, 2]
        two.ask(f"{API}publish-message", topic_name=topic, data="for both")
        assert one.next()["data"] == "for both"

    def test_patterns_bind_clients_and_who_has_no_endpoint_may_nothing(
        self, connect: Any, topic: str
    ) -> None:
        refused = (403, "You are not authorized to access this resource.")
        client, nobody = connect(), connect("/wsx-api-nobody")
        for other in ("/zato/demo/sample", "/wsx/unknown"):
            assert client.refusal(f"{API}subscribe-wsx", topic_name=other) == refused
        assert client.refusal(f"{API}publish-message", topic_name="/zato/demo/sample", data="x") == refused
        assert nobody.refusal(f"{API}subscribe-wsx", topic_name=topic) == refused
        assert nobody.refusal(f"{API}publish-message", topic_name=topic, data="x") == refused

    def test_a_subscription_is_resumed_on_another_server_with_what_came_meanwhile(
        self, connect: Any, topic: str
    ) -> None:
        first, second, publisher = connect(), connect(client_id="crm.2", server=1), connect()
        sub_key = first.ask(f"{API}subscribe-wsx", topic_name=topic)["sub_key"]
        first.connection.end()
        publisher.ask(f"{API}publish-message", topic_name=topic, data="meanwhile")
        resumed = second.ask("zato.pubsub.resume-wsx-subscription", sub_key=sub_key)
        assert resumed["sub_key"] == sub_key
        assert second.next()["data"] == "meanwhile"
        assert second.refusal("zato.pubsub.resume-wsx-subscription", sub_key="zpsk.unknown")[0] == 403

    def test_a_link_has_one_subscription_of_a_topic_however_often_it_subscribes(
        self, connect: Any, topic: str
    ) -> None:
        keys = {
            connect(client_id="outconn.far.7", server=server).ask(f"{API}subscribe-wsx", topic_name=topic)[
                "sub_key"
            ]
            for server in (0, 1, 0)
        }
        assert len(keys) == 1

    def test_a_subscription_may_end_with_its_connection(
        self, connect: Any, wsx: ClusterUnderTest, topic: str
    ) -> None:
        ends, stays = connect(), connect()
        gone = ends.ask(f"{API}subscribe-wsx", topic_name=topic, unsub_on_wsx_close=True)["sub_key"]
        kept = stays.ask(f"{API}subscribe-wsx", topic_name=topic)["sub_key"]
        ends.connection.end()
        stays.connection.end()

        def keys() -> set[str]:
            store = wsx.store()
            try:
                page = store.find("pubsub_subscription", internal=True, limit=1000)
                return {item["sub_key"] for item in page.objects}
            finally:
                store.engine.dispose()

        eventually(lambda: gone not in keys(), message="the subscription is still there")
        assert kept in keys()

    def test_a_client_unsubscribes(self, connect: Any, topic: str) -> None:
        client = connect()
        sub_key = client.ask(f"{API}subscribe-wsx", topic_name=topic)["sub_key"]
        client.ask(f"{API}unsubscribe", sub_key=sub_key)
        assert client.refusal(f"{API}unsubscribe", sub_key=sub_key)[0] == 403


class TestThroughThePubSubGateway:
    def test_subscriptions_are_made_listed_and_ended(self, connect: Any, topic: str) -> None:
        client = connect(PUB_SUB_PATH, client_id=f"lister{topic}")
        made = client.ask(f"{SUBSCRIPTION}create-wsx-subscription", topic_name=topic)
        (listed,) = client.ask("pubsub.subscription.get-list")
        assert (listed["topic_name"], listed["sub_key"]) == (topic, made["sub_key"])
        client.ask("pubsub.subscription.unsubscribe", sub_key=made["sub_key"])
        assert client.ask("pubsub.subscription.get-list") in ([], None)
        assert client.refusal(f"{API}publish-message", topic_name=topic, data="x")[0] == 403


class TestThroughOnesOwnService:
    def test_a_service_subscribes_and_resumes_for_the_client_that_invoked_it(
        self, connect: Any, topic: str
    ) -> None:
        first = connect(MOUNTED_PATH)
        sub_key = first.call({"topic": topic})["data"]["sub_key"]
        publish = {"service": f"{API}publish-message", "request": {"topic_name": topic, "data": "one"}}
        first.call(publish)
        assert first.next()["data"] == "one"
        second = connect(MOUNTED_PATH, server=1)
        assert second.call({"sub_key": sub_key})["data"] == {"resumed": sub_key}
        first.call(publish)
        assert second.next()["data"] == "one"

    def test_what_it_invokes_for_a_client_is_bound_by_the_patterns_of_the_channel(self, connect: Any) -> None:
        request = {"topic_name": "/zato/demo/sample", "data": "x"}
        answer = connect(MOUNTED_PATH).call({"service": f"{API}publish-message", "request": request})
        assert answer["meta"]["status"] == 403

    def test_on_a_socket_subscribe_is_what_subscribe_wsx_is(self, connect: Any, topic: str) -> None:
        client = connect(MOUNTED_PATH)
        made = client.call({"service": f"{API}subscribe", "request": {"topic_name": topic}})["data"]
        assert made["sub_key"].startswith("zpsk.websockets.")
