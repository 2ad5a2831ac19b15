"""The story of two linked clusters, each an environment of its own: a service of one calls a service of the other, and hears from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ports import LOOPBACK, ports_in_a_row
from tests.helpers.quickstart import QuickstartUnderTest, running
from tests.helpers.story import HOOK, STORY
from tests.helpers.waiting import wait_until

PASSWORD = "correct horse"
CHANNEL, CONNECTION, TOPIC = "From cluster1", "My WSX Outconn", "/customer/new"
BACK_WITHIN = 40.0  # seconds: pauses between attempts grow to 30

# Of the cluster that is called.
ECHO = """
from zato.server.service import Service


class Echo(Service):
    name = "far.echo"

    def handle(self):
        self.response.payload = self.request.payload


class Tell(Service):
    name = "far.tell"

    def handle(self):
        self.response.payload = {"told": self.wsx.broadcast("From cluster1", self.request.payload)}
"""

# Of the cluster that calls, beside the code of the story.
EVENTS = """
from zato.server.service import Opaque, Service


class OnEvent(Service):
    name = "caller.on-event"

    class SimpleIO:
        input_optional = (Opaque('ctx'),)

    def handle(self):
        ctx = self.request.input.ctx
        self.logger.info('Event: `%s` of `%s` %s', ctx.type, ctx.config.name, ctx.code)
"""
ANSWER = "        self.response.payload = response\n"


@pytest.fixture(scope="module")
def callee(public_directory: Path) -> Iterator[QuickstartUnderTest]:
    """The cluster that is called."""
    for environment in running(public_directory / "cluster2"):
        environment.junctor("deploy", environment.file("echo.py", ECHO))
        environment.junctor(
            "create-security-basic-auth", "link", "--username", "link", *password(environment)
        )
        environment.junctor(
            *(
                "create-channel-websocket",
                CHANNEL,
                "--service",
                "helpers.web-sockets-gateway",
                "--security",
                "link",
            ),
            *("--address", f"ws://0.0.0.0:{ports_in_a_row(1)}/link", "--gateway-services", "far.*"),
            *("--gateway-services", "zato.pubsub.pubapi.subscribe-wsx"),
        )
        environment.junctor("create-pubsub-topic", TOPIC)
        environment.junctor(
            *("create-pubsub-endpoint", "link", "--endpoint-type", "wsx", "--ws-channel", CHANNEL),
            *("--topic-patterns", "sub=/customer/*"),
        )
        yield environment


def password(environment: QuickstartUnderTest) -> tuple[str | Path, ...]:
    return "--password-file", environment.file("password.txt", PASSWORD)


def address(environment: QuickstartUnderTest) -> str:
    """Where the channel is, by itself, without the load balancer."""
    [channel] = [
        found for found in environment.json("list-channel-websocket")["items"] if found["name"] == CHANNEL
    ]
    return str(channel["address"]).replace("0.0.0.0", LOOPBACK)


@pytest.fixture(scope="module")
def caller(quickstart: QuickstartUnderTest, callee: QuickstartUnderTest) -> QuickstartUnderTest:
    """The cluster that calls, and is told."""
    for name, source in (("story", STORY + ANSWER), ("hook", HOOK), ("caller", EVENTS)):
        quickstart.junctor("deploy", quickstart.file(f"{name}.py", source))
    quickstart.junctor("create-security-basic-auth", "link", "--username", "link", *password(quickstart))
    quickstart.junctor(
        *("create-outgoing-websocket", CONNECTION, "--address", address(callee)),
        *("--is-zato", "true", "--security", "link", "--subscription-list", TOPIC),
        *("--on-connect-service", "caller.on-event", "--on-message-service", "hook.on-message-hook"),
        *("--on-close-service", "caller.on-event"),
    )
    wait_until(lambda: states(quickstart) == ["connected", "connected"], 20, "The link was not made.")
    return quickstart


def is_subscribed(environment: QuickstartUnderTest) -> bool:
    """Whether one worker says that it has subscribed to the topic of the other cluster."""
    servers = environment.status()["cluster"]["servers"]
    links = [worker.get("states", {}) for server in servers for worker in server["workers"]]
    found = [link[f"outgoing_websocket/{CONNECTION}"].get("subscriptions") for link in links]
    return found.count({TOPIC: "ok"}) == 1


def states(environment: QuickstartUnderTest) -> list[str]:
    """What each worker says of the link."""
    servers = environment.status()["cluster"]["servers"]
    links = [worker.get("states", {}) for server in servers for worker in server["workers"]]
    return [found[f"outgoing_websocket/{CONNECTION}"]["state"] for found in links]


def call(environment: QuickstartUnderTest, service: str, payload: Any = None) -> Any:
    """The answer of a service, through the load balancer."""
    path = f"/zato/api/invoke/{service}"
    return environment.call("POST", path, auth=environment.public, json=payload or {})


def lines(environment: QuickstartUnderTest) -> list[dict[str, Any]]:
    """What the servers have logged."""
    logs = [path.read_text() for path in environment.logs() if path.name == "server.log"]
    return [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]


def messages(environment: QuickstartUnderTest, text: str) -> list[str]:
    """The messages that the servers have logged with this text in them."""
    return [line["message"] for line in lines(environment) if text in line["message"]]


def logged(environment: QuickstartUnderTest, text: str, field: str = "message") -> int:
    """How many lines the servers have logged that have this text in a field."""
    return sum(text in line.get(field, "") for line in lines(environment))


def test_a_service_calls_a_service_of_another_cluster(caller: QuickstartUnderTest) -> None:
    answer = call(caller, "story.my-service")
    assert (answer.status_code, answer.json()) == (200, {"elem1": "value1", "elem2": "value2"}), answer.text
    assert logged(caller, "Event: `connect` of `My WSX Outconn`") >= 2


def test_what_is_not_on_the_gateways_list_cannot_be_called(
    caller: QuickstartUnderTest, callee: QuickstartUnderTest
) -> None:
    caller.junctor("deploy", caller.file("intruder.py", STORY.replace("far.echo", "zato.service.invoke")))
    answer = call(caller, "intruder.my-service")
    assert answer.status_code >= 400
    assert logged(callee, "zato.service.invoke") >= 1


def test_the_other_cluster_tells_and_every_connection_hears_it(
    caller: QuickstartUnderTest, callee: QuickstartUnderTest
) -> None:
    assert call(callee, "far.tell", {"price": 7}).json() == {"told": 2}
    wait_until(lambda: logged(caller, "Data received: `{'price': 7}`") == 2, 10, "The hooks were not told.")
    assert logged(caller, "Msg type: `message`") == 2
    clients = callee.json("list-websocket-clients", "--channel", CHANNEL)["items"]
    assert {client["ext_client_name"] for client in clients} == {f"WSX outconn - {CONNECTION}"}


def test_the_other_cluster_publishes_and_one_connection_receives(
    caller: QuickstartUnderTest, callee: QuickstartUnderTest
) -> None:
    wait_until(lambda: is_subscribed(caller), BACK_WITHIN, "Nobody has subscribed.")
    callee.junctor("pubsub", "publish", TOPIC, '{"name": "Ada"}', "--msg-id", "customer-1")
    wait_until(lambda: logged(caller, "'msg_id': 'customer-1'"), 20, "The hook was not called.")
    [line] = messages(caller, "'msg_id': 'customer-1'")
    assert line.startswith("Data received: `[{")
    assert "'data': {'name': 'Ada'}" in line
    assert "'delivery_count': 0" in line


def test_a_cluster_that_was_killed_comes_back_and_so_does_the_link(
    caller: QuickstartUnderTest, callee: QuickstartUnderTest
) -> None:
    before = logged(caller, "'delivery_count'")
    callee.kill()
    wait_until(lambda: "connected" not in states(caller), 20, "The link was not seen to be down.")
    answer = call(caller, "story.my-service")
    assert answer.status_code == 500, answer.text
    assert logged(caller, answer.json()["cid"], "cid") >= 1
    assert logged(caller, f"connection {CONNECTION!r} to ws://", "traceback") >= 1
    assert logged(caller, "Event: `close` of `My WSX Outconn`") >= 2
    callee.start()
    wait_until(
        lambda: states(caller) == ["connected", "connected"], BACK_WITHIN, "The link did not come back."
    )
    assert call(caller, "story.my-service").json() == {"elem1": "value1", "elem2": "value2"}
    callee.junctor("pubsub", "publish", TOPIC, "back", "--msg-id", "customer-2")
    wait_until(lambda: logged(caller, "'msg_id': 'customer-2'"), BACK_WITHIN, "It was not subscribed again.")
    assert logged(caller, "'delivery_count'") == before + 1


def test_a_cluster_that_stops_says_so_and_does_not_wait_for_those_who_are_connected(
    caller: QuickstartUnderTest, callee: QuickstartUnderTest
) -> None:
    callee.stop()
    stopped = f"Event: `close` of `{CONNECTION}` 1012"
    wait_until(lambda: logged(caller, stopped) == 2, 10, "The hooks were not told why the link was closed.")
