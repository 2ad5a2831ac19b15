"""The REST API on a real cluster: requests as clients of Zato 3.0 and 3.2 send them, and the answers that these get."""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import wait_until

NOT_AUTHORIZED = "You are not authorized to access this resource."
MSG_ID = re.compile(r"zpsm[0-9a-f]{24}")
SUB_KEY = re.compile(r"zpsk\.rest\.[0-9a-f]{24}")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NEVER = 2_147_483_647_000  # milliseconds
USER, PASSWORD = "rest-api.crm", "s3cret"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Client:
    """An application that speaks to one server of the cluster, or to any of them in turn."""

    servers: list[ServerUnderTest]
    topic: str
    auth: tuple[str, str] | None = (USER, PASSWORD)

    def send(self, method: str, path: str, json: Any = None, **options: Any) -> requests.Response:
        """The answer to a request."""
        server = self.servers[next(_numbers) % len(self.servers)]
        return server.request(method, path, **{"json": json, "auth": self.auth, **options})

    def publish(self, data: Any, **fields: Any) -> str:
        """The id of a message that was published."""
        answer = self.send("POST", f"/zato/pubsub/topic/{self.topic}", {"data": data, **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["msg_id"])

    def subscribe(self, **fields: Any) -> str:
        """The key of a new subscription."""
        answer = self.send("POST", f"/zato/pubsub/subscribe/topic/{self.topic}", fields or None)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sub_key"])

    def pull(self, **fields: Any) -> list[Any]:
        """Messages, as a client of 3.2 gets them."""
        answer = self.send("PATCH", f"/zato/pubsub/topic/{self.topic}", fields)
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def crm(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster, with a user that may publish and subscribe to topics below ``/crm``, and one that may only publish."""
    for name in (USER, "rest-api.other"):
        cluster.write("zato.security.basic-auth.create", name=name, username=name, password=PASSWORD)
        cluster.write(
            "zato.pubsub.endpoint.create",
            name=name,
            endpoint_type="rest",
            security=name,
            topic_patterns=["pub=/crm/**", "sub=/crm/**"],
        )
    return cluster


@pytest.fixture
def client(crm: ClusterUnderTest) -> Client:
    """An application, and a topic of its own; its requests go to all servers in turn."""
    topic = f"/crm/orders/{next(_numbers)}"
    crm.write("zato.pubsub.topic.create", name=topic)
    return Client(crm.servers, topic)


def error(answer: requests.Response) -> tuple[int, Any]:
    """The status and the details of an answer, which must have the form of 3.0."""
    env = answer.json()["zato_env"]
    assert env["result"] == "ZATO_ERROR"
    assert env["cid"] == answer.headers["X-Zato-CID"]
    return answer.status_code, env["details"]


class TestGoldenRequests:
    """Section 4.9 of the facts sheet, row by row."""

    def test_publishing(self, client: Client) -> None:
        answer = client.send(
            "POST",
            f"/zato/pubsub/topic/{client.topic}",
            {
                "data": "Hello",
                "priority": 7,
                "expiration": 60,
                "correl_id": "c1",
                "in_reply_to": "r1",
                "ext_client_id": "crm.1",
                "has_gd": True,
            },
        )
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert list(answer.json()) == ["msg_id"]
        assert MSG_ID.fullmatch(answer.json()["msg_id"])
        assert answer.headers["X-Zato-CID"]

    def test_subscribing_and_subscribing_again(self, client: Client) -> None:
        path = f"/zato/pubsub/subscribe/topic/{client.topic}"
        client.publish("before anybody had subscribed")
        answer = client.send("POST", path, {"delivery_method": "pull"})
        assert answer.status_code == 200
        assert answer.json() == {"sub_key": answer.json()["sub_key"], "queue_depth": 1}
        assert SUB_KEY.fullmatch(answer.json()["sub_key"])
        again = client.send("POST", path)
        assert error(again) == (400, f"Subscription to topic `{client.topic}` already exists")
        same = client.send("POST", path, params={"reuse": "true"})
        assert same.json() == answer.json()

    @pytest.mark.parametrize("is_in_query", [True, False])
    def test_getting_messages_as_clients_of_3_0_do_newest_first(
        self, client: Client, is_in_query: bool
    ) -> None:
        sub_key = client.subscribe()
        ids = [client.publish(data) for data in ("one", {"two": 2}, ["three"])]
        given = {"sub_key": sub_key}
        options: dict[str, Any] = {"params": given} if is_in_query else {"json": given}
        answer = client.send("POST", f"/zato/pubsub/topic/{client.topic}", **options)
        assert answer.status_code == 200
        messages = answer.json()
        assert [message["msg_id"] for message in messages] == ids[::-1]
        assert [message["data"] for message in messages] == [["three"], {"two": 2}, "one"]
        again = client.send("POST", f"/zato/pubsub/topic/{client.topic}", **options)
        assert again.json() == []

    def test_getting_messages_as_clients_of_3_2_do_oldest_first_and_without_a_key(
        self, client: Client
    ) -> None:
        sub_key = client.subscribe()
        sent = {
            "priority": 7,
            "expiration": 60,
            "correl_id": "c1",
            "in_reply_to": "r1",
            "ext_client_id": "crm.1",
        }
        msg_id = client.publish("Hello", **sent)
        client.publish("second")
        answer = client.send("PATCH", f"/zato/pubsub/topic/{client.topic}")
        assert answer.status_code == 200
        first, second = answer.json()
        assert (first["data"], second["data"]) == ("Hello", "second")
        assert ISO.fullmatch(first.pop("pub_time_iso"))
        assert ISO.fullmatch(first.pop("expiration_time_iso"))
        assert first == {
            "msg_id": msg_id,
            "topic_name": client.topic,
            "sub_key": sub_key,
            "data": "Hello",
            "size": 5,
            "mime_type": "application/json",
            "priority": 7,
            "expiration": 60_000,
            "has_gd": True,
            "delivery_count": 0,
            "correl_id": "c1",
            "in_reply_to": "r1",
            "ext_client_id": "crm.1",
        }
        assert second["expiration"] == NEVER

    def test_unsubscribing(self, client: Client) -> None:
        path = f"/zato/pubsub/subscribe/topic/{client.topic}"
        sub_key = client.subscribe()
        answer = client.send("DELETE", path, params={"sub_key": sub_key})
        assert (answer.status_code, answer.json()) == (200, {})
        assert error(client.send("DELETE", path, params={"sub_key": sub_key})) == (403, NOT_AUTHORIZED)
        client.subscribe()
        assert client.send("DELETE", path).json() == {}

    def test_asking_what_became_of_a_message(self, client: Client) -> None:
        client.subscribe()
        msg_id = client.publish("Hello", correl_id="c1")
        state = client.send("GET", f"/zato/pubsub/msg/{msg_id}").json()
        assert (state["msg_id"], state["topic_name"], state["correl_id"]) == (msg_id, client.topic, "c1")
        assert (state["queues"], state["dead_letters"], state["is_expired"]) == (1, 0, False)
        assert "data" not in state
        client.pull()
        assert client.send("GET", f"/zato/pubsub/msg/{msg_id}").json()["queues"] == 0

    @pytest.mark.parametrize("form", ["slashes", "encoded", "wholly encoded"])
    def test_topics_with_slashes_in_their_names(self, client: Client, form: str) -> None:
        topic = {
            "slashes": client.topic,
            "encoded": quote(client.topic, safe=""),
            "wholly encoded": "".join(f"%{ord(character):02x}" for character in client.topic),
        }[form]
        answer = client.send("POST", f"/zato/pubsub/topic/{topic}", {"data": "Hello"})
        assert answer.status_code == 200
        without = client.topic.removeprefix("/")
        other = client.send("POST", f"/zato/pubsub/topic/{without}", {"data": "Hello"})
        assert error(other) == (403, NOT_AUTHORIZED)


class TestRefusals:
    @pytest.mark.parametrize("auth", [None, (USER, "wrong"), ("nobody", PASSWORD), ("zato.pubsub.demo", "")])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "topic//crm/any"),
            ("PATCH", "topic//crm/any"),
            ("POST", "subscribe/topic//crm/any"),
            ("DELETE", "subscribe/topic//crm/any"),
            ("GET", "msg/zpsm1"),
            ("POST", "ack"),
            ("POST", "nack"),
        ],
    )
    def test_wrong_credentials_and_none_are_refused_everywhere_before_anything_else(
        self, crm: ClusterUnderTest, auth: tuple[str, str] | None, method: str, path: str
    ) -> None:
        answer = crm.servers[0].request(method, f"/zato/pubsub/{path}", auth=auth)
        assert error(answer) == (403, NOT_AUTHORIZED)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Junctor", charset="UTF-8"'

    def test_a_topic_that_does_not_exist_is_told_to_who_might_publish_to_it(self, client: Client) -> None:
        unknown = client.send("POST", "/zato/pubsub/topic//crm/unknown", {"data": "Hello"})
        assert error(unknown) == (404, "No such topic")
        forbidden = client.send("POST", "/zato/pubsub/topic//other/unknown", {"data": "Hello"})
        assert error(forbidden) == (403, NOT_AUTHORIZED)

    def test_an_unknown_topic_and_a_forbidden_one_look_the_same_to_who_subscribes(
        self, client: Client
    ) -> None:
        for topic in ("/crm/unknown", "/zato/demo/sample", "/other/unknown"):
            answer = client.send("POST", f"/zato/pubsub/subscribe/topic/{topic}")
            assert error(answer) == (403, NOT_AUTHORIZED)

    def test_a_key_of_somebody_else_does_not_exist(self, client: Client) -> None:
        sub_key = client.subscribe()
        other = Client(client.servers, client.topic, ("rest-api.other", PASSWORD))
        path = f"/zato/pubsub/topic/{client.topic}"
        for key in (sub_key, "zpsk.rest.unknown"):
            assert error(other.send("POST", path, {"sub_key": key})) == (403, NOT_AUTHORIZED)
            acknowledgement = {"sub_key": key, "msg_id_list": ["zpsm1"]}
            assert error(other.send("POST", "/zato/pubsub/ack", acknowledgement)) == (403, NOT_AUTHORIZED)
        assert error(other.send("PATCH", path)) == (403, NOT_AUTHORIZED)

    def test_a_message_of_somebody_else_does_not_exist(self, client: Client) -> None:
        msg_id = client.publish("Hello")
        other = Client(client.servers, client.topic, ("rest-api.other", PASSWORD))
        for key in (msg_id, "zpsm1"):
            assert error(other.send("GET", f"/zato/pubsub/msg/{key}")) == (404, "No such message")

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({}, "data: is required."),
            ({"data": "x", "priority": 10}, "priority: must be a number from 1 to 9."),
            ({"data": "x", "expiration": -1}, "expiration: must be a number"),
            ({"data": "x", "sub_key": "k"}, "Either data, to publish, or sub_key"),
            ({"data_list": [{"data": "x"}, {"priority": 0}]}, "data_list[1].priority"),
        ],
    )
    def test_what_is_wrong_with_a_message_is_told(
        self, client: Client, fields: dict[str, Any], problem: str
    ) -> None:
        status, details = error(client.send("POST", f"/zato/pubsub/topic/{client.topic}", fields))
        assert status == 400
        assert problem in details

    def test_a_message_id_that_is_taken_is_refused(self, client: Client) -> None:
        msg_id = f"own-{client.topic}"
        assert client.publish("one", msg_id=msg_id) == msg_id
        path = f"/zato/pubsub/topic/{client.topic}"
        status, details = error(client.send("POST", path, {"data": "two", "msg_id": msg_id}))
        assert status == 400
        assert details.startswith("Duplicate msg_id")

    def test_an_inactive_topic_takes_nothing(self, client: Client, crm: ClusterUnderTest) -> None:
        crm.write("zato.pubsub.topic.edit", name=client.topic, is_active=False)
        answer = client.send("POST", f"/zato/pubsub/topic/{client.topic}", {"data": "x"})
        assert error(answer) == (503, "Topic is inactive")

    def test_a_gateway_over_http_is_no_way_around_the_patterns(
        self, client: Client, crm: ClusterUnderTest
    ) -> None:
        path = "/zato/api/invoke/helpers.web-sockets-gateway"
        request = {"topic_name": client.topic, "data": "x"}
        sent = {"service": "zato.pubsub.pubapi.publish-message", "request": request}
        answer = client.send("POST", path, sent, auth=("pubapi", crm.public_api_password))
        assert answer.status_code == 403
        path = "/zato/api/invoke/pubsub.subscription.unsubscribe"
        sent = {"sub_key": client.subscribe()}
        answer = client.send("POST", path, sent, auth=("pubapi", crm.public_api_password))
        assert answer.status_code == 403


class TestMore:
    def test_a_list_of_messages_is_published_together(self, client: Client) -> None:
        client.subscribe()
        items = [{"data": "one"}, {"data": "two", "priority": 9}]
        answer = client.send(
            "POST", f"/zato/pubsub/topic/{client.topic}", {"data_list": items, "correl_id": "c"}
        )
        ids = answer.json()["msg_id_list"]
        messages = client.pull()
        assert [message["msg_id"] for message in messages] == ids[::-1]
        assert {message["correl_id"] for message in messages} == {"c"}

    def test_the_type_of_the_body_is_that_of_the_message(self, client: Client) -> None:
        client.subscribe()
        path = f"/zato/pubsub/topic/{client.topic}"
        for content_type in ("application/x-www-form-urlencoded", "text/csv; header=present", None):
            headers = {"Content-Type": content_type} if content_type else {}
            client.send("POST", path, data=b'{"data": "x"}', headers=headers)
        client.send("POST", path, {"data": "x", "mime_type": "text/xml"})
        types = [message["mime_type"] for message in client.pull()]
        assert types == ["application/json", "text/csv; header=present", "text/plain", "text/xml"]

    def test_messages_are_acknowledged_explicitly_if_the_subscriber_wants_to(self, client: Client) -> None:
        sub_key = client.subscribe()
        for number in range(3):
            client.publish(number)
        lent = client.pull(ack_mode="explicit", batch_size=2)
        assert [message["data"] for message in lent] == [0, 1]
        first, second = (message["msg_id"] for message in lent)
        given = {"sub_key": sub_key, "msg_id_list": [first]}
        assert client.send("POST", "/zato/pubsub/ack", given).json() == {"count": 1}
        assert client.send("POST", "/zato/pubsub/ack", given).json() == {"count": 0}
        given = {"sub_key": sub_key, "msg_id_list": [second], "delay": 0}
        assert client.send("POST", "/zato/pubsub/nack", given).json() == {"count": 1}
        again = client.pull(ack_mode="explicit")
        assert [(message["data"], message["delivery_count"]) for message in again] == [(1, 1), (2, 0)]
        later = {"sub_key": sub_key, "msg_id_list": [message["msg_id"] for message in again], "delay": 3600}
        assert client.send("POST", "/zato/pubsub/nack", later).json() == {"count": 2}
        assert client.pull() == []

    def test_of_several_who_pull_from_one_subscription_each_gets_other_messages(self, client: Client) -> None:
        client.subscribe()
        ids = [client.publish(number) for number in range(40)]
        found: list[str] = []

        def work(server: ServerUnderTest) -> None:
            url = f"{server.url}/zato/pubsub/topic/{client.topic}"
            with requests.Session() as session:
                session.trust_env, session.auth = False, client.auth
                while messages := session.patch(url, json={"batch_size": 3}, timeout=15).json():
                    found.extend(message["msg_id"] for message in messages)

        threads = [threading.Thread(target=work, args=(server,)) for server in client.servers * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert sorted(found) == sorted(ids)

    def test_the_order_is_whatever_the_subscriber_wants(self, client: Client) -> None:
        sub_key = client.subscribe()
        for number in range(4):
            client.publish(number)
        path = f"/zato/pubsub/topic/{client.topic}"
        given = {"sub_key": sub_key, "order": "oldest", "batch_size": 1}
        (first,) = client.send("POST", path, given).json()
        (last,) = client.pull(order="newest", batch_size=1)
        assert (first["data"], last["data"]) == (0, 3)
        status, details = error(client.send("PATCH", path, {"order": "random"}))
        assert (status, details) == (400, "order: must be newest or oldest.")

    def test_who_waits_gets_what_is_published_on_another_server(self, client: Client) -> None:
        client.subscribe()
        waiter, publisher = (Client([server], client.topic) for server in client.servers)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(waiter.pull(wait=10)))
        thread.start()
        publisher.publish("at last")
        thread.join(timeout=15)
        assert [message["data"] for message in found] == ["at last"]

    def test_callers_are_known_by_api_keys_and_tokens_too(
        self, client: Client, crm: ClusterUnderTest
    ) -> None:
        crm.write("zato.security.apikey.create", name="rest-api.key", header="X-Crm", key="k3y-of-the-tests")
        crm.write(
            "zato.security.jwt.create", name="rest-api.jwt", username="rest-api.anna", password=PASSWORD
        )
        for name in ("rest-api.key", "rest-api.jwt"):
            patterns = ["pub=/crm/**"]
            crm.write(
                "zato.pubsub.endpoint.create",
                name=name,
                endpoint_type="rest",
                security=name,
                topic_patterns=patterns,
            )
        token = (
            crm.servers[0]
            .post("/zato/jwt/log-in", json={"username": "rest-api.anna", "password": PASSWORD})
            .json()["token"]
        )
        one = Client(crm.servers[:1], client.topic, None)
        path = f"/zato/pubsub/topic/{client.topic}"
        for headers in ({"X-Crm": "k3y-of-the-tests"}, {"Authorization": f"Bearer {token}"}):
            answer = one.send("POST", path, {"data": "x"}, headers=headers)
            assert answer.status_code == 200, answer.text
        for name in ("rest-api.key", "rest-api.jwt"):
            assert crm.servers[0].logged("access", caller=name, status=200)

    def test_the_demo_works_once_its_user_has_a_password(self, crm: ClusterUnderTest) -> None:
        crm.write("zato.security.basic-auth.edit", name="zato.pubsub.demo", password=PASSWORD)
        demo = Client(crm.servers, "/zato/demo/sample", ("zato.pubsub.demo", PASSWORD))
        demo.subscribe()
        demo.publish("Hello")
        assert [message["data"] for message in demo.pull()] == ["Hello"]


SERVICES = '''
from zato.server.service import Service


class Uses(Service):
    """Does with self.pubsub what it is told, and answers with the result."""

    name = "rest-api.uses"

    def handle(self):
        asked = self.request.payload
        try:
            found = getattr(self.pubsub, asked["method"])(*asked.get("args", ()), **asked.get("kwargs", {}))
        except Exception as error:
            self.response.payload = {"error": type(error).__name__, "message": str(error)}
        else:
            self.response.payload = {"result": found}


class Invokes(Service):
    """Invokes a service of publish/subscribe, trusted as it is."""

    name = "rest-api.invokes"

    def handle(self):
        self.response.payload = self.invoke(self.request.payload["service"], self.request.payload["request"])


class Receives(Service):
    """Publishes again what it receives, to the topic that this says."""

    name = "rest-api.receives"

    def handle(self):
        message = self.request.payload
        self.pubsub.publish(message["data"]["topic"], data=["received", message["data"]["n"]])
'''


@pytest.fixture(scope="module")
def services(crm: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster, with services that use publish/subscribe."""
    crm.deploy(rest_api_services=SERVICES)
    crm.channel("rest-api.invokes", "rest-api.invokes")
    return crm


class TestServices:
    """``self.pubsub`` (section 4.11 of the facts sheet), and the services of section 4.10 that trusted services invoke."""

    def uses(self, cluster: ClusterUnderTest, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of ``self.pubsub`` returns."""
        asked = {"method": method, "args": args, "kwargs": kwargs}
        answer = cluster.invoke("rest-api.uses", asked, server=next(_numbers) % 2)
        assert "error" not in answer, answer
        return answer["result"]

    def test_services_publish_subscribe_and_read(self, services: ClusterUnderTest, client: Client) -> None:
        topic = client.topic
        sub_key = self.uses(services, "subscribe", topic, endpoint_name=USER)
        assert self.uses(services, "subscribe", topic, endpoint_name=USER) == sub_key
        msg_id = self.uses(services, "publish", topic, data={"n": 1}, expiration=60_000, correl_id="c1")
        ids = self.uses(services, "publish", topic, data_list=[{"data": 2}, {"data": 3, "priority": 9}])
        assert MSG_ID.fullmatch(msg_id)
        assert len(ids) == 2
        queued = self.uses(services, "read_messages", topic, sub_key)
        assert [item["msg_id"] for item in queued] == [ids[1], msg_id, ids[0]]
        stored = self.uses(services, "read_messages", topic)
        assert [item["msg_id"] for item in stored] == [*ids[::-1], msg_id]
        read = self.uses(services, "read_message", topic, msg_id, sub_key=sub_key)
        assert (read["data"], read["correl_id"], read["delivery_count"]) == ({"n": 1}, "c1", 0)
        self.uses(services, "delete_message", sub_key, ids[1])
        got = self.uses(services, "get_messages", topic, sub_key, True)
        assert [message["data"] for message in got] == [2, {"n": 1}]
        assert got[1]["expiration"] == 60_000
        assert got[0]["endpoint_name"] == "zato.pubsub.default.internal.endpoint"
        self.uses(services, "unsubscribe", sub_key)

    def test_services_acknowledge_and_reject(self, services: ClusterUnderTest, client: Client) -> None:
        sub_key = self.uses(services, "subscribe", client.topic, endpoint_name=USER)
        self.uses(services, "publish", client.topic, data_list=[{"data": 1}, {"data": 2}])
        lent = self.uses(services, "get_messages", client.topic, sub_key, is_explicit=True)
        first, second = (message["msg_id"] for message in lent)
        assert self.uses(services, "acknowledge", sub_key, [first]) == 1
        assert self.uses(services, "reject", sub_key, [second]) == 1
        (again,) = self.uses(services, "get_messages", client.topic, sub_key)
        assert (again["data"], again["delivery_count"]) == (2, 1)

    def test_services_are_told_what_is_wrong(self, services: ClusterUnderTest) -> None:
        for method, args, kwargs, expected in (
            ("publish", ["/no/such"], {"data": 1}, "ResourceNotFound"),
            ("publish", ["/zato/demo/sample"], {"data": 1, "nonsense": 1}, "TypeError"),
            ("subscribe", ["/zato/demo/sample"], {}, "InvalidInput"),
            ("subscribe", ["/zato/demo/sample"], {"endpoint_name": "nobody"}, "NotFound"),
            ("subscribe", ["/zato/demo/sample"], {"use_current_wsx": True}, "InvalidInput"),
            ("get_messages", ["/zato/demo/sample", "zpsk.unknown"], {}, "NotFound"),
            ("read_messages", ["/zato/demo/sample"], {"cur_page": 0}, "InvalidInput"),
        ):
            asked = {"method": method, "args": args, "kwargs": kwargs}
            assert services.invoke("rest-api.uses", asked)["error"] == expected, asked

    def test_a_trusted_service_needs_no_patterns_whatever_its_own_caller_may(
        self, services: ClusterUnderTest, client: Client
    ) -> None:
        name = f"/internal/{client.topic}"
        services.write("zato.pubsub.topic.create", name=name)
        sent = {"service": "zato.pubsub.pubapi.publish-message", "request": {"topic_name": name, "data": "x"}}
        answer = client.send("POST", "/rest-api.invokes", sent, auth=None)
        assert MSG_ID.fullmatch(answer.json()["msg_id"])

    def test_queues_are_read_in_two_steps(self, services: ClusterUnderTest, client: Client) -> None:
        sub_key = client.subscribe()
        msg_id = client.publish("x")
        queue = "zato.pubsub.queue"
        depth = services.invoke(f"{queue}.get-queue-depth-by-sub-key", {"sub_key": sub_key})
        assert depth["queue_depth"] == 1
        (message,) = services.invoke(f"{queue}.get-messages", {"sub_key": sub_key})
        assert message["msg_id"] == msg_id
        given = {"sub_key": sub_key, "msg_id_list": [msg_id]}
        assert services.invoke(f"{queue}.acknowledge-delivery", given) == {"count": 1}

    def test_a_message_to_a_service_invokes_it(self, services: ClusterUnderTest, client: Client) -> None:
        client.subscribe()
        self.uses(services, "publish", "rest-api.receives", data={"topic": client.topic, "n": 7})
        received = wait_until(client.pull, 15, "the service was not invoked")
        assert [message["data"] for message in received] == [["received", 7]]
