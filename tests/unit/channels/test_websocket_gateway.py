"""Gateways: what WebSocket clients may invoke through them, and what they may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from junctor.server import compat
from junctor.server.admin.builtin import Ping
from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.service.websocket_gateway import WebSocketsGateway, WebSocketsPubSubGateway
from junctor.server.websocket.allow_list import AllowList
from junctor.sql.errors import Forbidden
from tests.helpers.one_worker import OneWorker
from tests.helpers.websocket_client import ChannelClient

Connect = Callable[..., ChannelClient]
Open = Callable[..., ChannelClient]


class Admin(Service):
    name = "zato.secret.get"

    def handle(self) -> None:
        self.response.payload = "secret"


class Publish(Service):
    name = "zato.pubsub.pubapi.publish-message"

    def handle(self) -> None:
        self.response.payload = "published"


class Origin(Service):
    name = "orders.origin"

    def handle(self) -> None:
        channel = self.wsgi_environ["zato.orig_channel"]
        client = self.wsgi_environ["zato.request_ctx.async_msg"]["environ"]["ext_client_id"]
        self.response.payload = [channel.type, channel.name, client, self.request.payload]


@pytest.fixture
def opened(worker: OneWorker, connect: Connect, address: str) -> Open:
    """Makes a client of a channel with a gateway."""
    worker.deploy(Ping, Admin, Publish, Origin, WebSocketsGateway, WebSocketsPubSubGateway)

    def make(*services: str, gateway: type[Service] = WebSocketsGateway) -> ChannelClient:
        fields: dict[str, Any] = {"service": gateway.name, "gateway_services": list(services)}
        worker.create("channel_websocket", "ws", address=address, **fields)
        client = connect(address)
        client.log_in()
        return client

    return make


def status(client: ChannelClient, service: object, **fields: object) -> int:
    answer = client.ask({"service": service, **fields})
    return int(answer["meta"]["status"])


def test_by_default_there_are_ping_and_publish_subscribe(opened: Open) -> None:
    client = opened()
    pong = client.ask({"service": "zato.ping"})
    assert pong["data"]["zato_ping_response"] == {"pong": "zato"}
    assert client.ask({"service": "zato.pubsub.pubapi.publish-message"})["data"] == "published"
    assert status(client, "zato.pubsub.pubapi.subscribe-wsx") == 404  # allowed, if there were such a service
    assert status(client, "t.echo") == 403


def test_a_refusal_says_so_and_is_logged_with_who_and_what(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    answer = opened().ask({"service": "orders.get\n" + "x" * 1000})
    assert answer["meta"]["msg_type"] == "zwsx.rsperr"
    assert (answer["meta"]["status"], answer["meta"]["error_message"]) == (
        403,
        "You are not allowed to access this resource",
    )
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    message = record.getMessage()
    assert message.startswith("crm.1 at 127.0.0.1, ws.")
    assert "may not invoke service 'orders.get\\nxxx" in message
    assert "of WebSocket channel 'ws'" in message
    assert len(message) < 500


def test_a_channel_lists_what_it_allows(opened: Open) -> None:
    client = opened("orders.*", "t.echo")
    assert client.ask({"service": "t.echo", "request": {"a": 1}})["data"] == {"a": 1}
    assert client.ask({"service": "orders.origin", "request": 5})["data"] == ["web-socket", "ws", "crm.1", 5]
    assert status(client, "orders.unknown") == 404
    assert status(client, "zato.ping") == 403  # the list replaces the default
    assert status(client, "t.echo2") == 403


def test_a_request_is_optional(opened: Open) -> None:
    client = opened("t.*")
    assert "data" not in client.ask({"service": "t.echo"})
    assert "data" not in client.ask({"service": "t.echo", "request": None})


@pytest.mark.parametrize("data", [{}, {"service": ""}, {"service": 5}, [], "zato.ping", {"request": 1}])
def test_a_request_must_name_a_service(opened: Open, data: object) -> None:
    answer = opened().ask(data)
    assert answer["meta"]["status"] == 400
    assert "service: is required" in answer["meta"]["error_message"]


@pytest.mark.parametrize("listed", ["*", "zato.*", "zato.secret.*"])
def test_no_wildcard_stands_for_an_administrative_service(opened: Open, listed: str) -> None:
    client = opened(listed)
    assert status(client, "zato.secret.get") == 403
    assert status(client, "zato.pubsub.pubapi.publish-message") == (403 if "secret" in listed else 200)


def test_an_administrative_service_may_be_listed_by_name(opened: Open) -> None:
    assert opened("zato.secret.get").ask({"service": "zato.secret.get"})["data"] == "secret"


def test_a_gateway_does_not_lead_to_itself(opened: Open) -> None:
    client = opened("*")
    for name in (WebSocketsGateway.name, WebSocketsPubSubGateway.name):
        assert status(client, name, request={"service": "t.echo"}) == 403


def test_the_publish_subscribe_gateway_leads_to_nothing_else(opened: Open) -> None:
    client = opened("*", "t.echo", gateway=WebSocketsPubSubGateway)
    assert status(client, "t.echo") == 403
    assert status(client, "zato.ping") == 403
    assert status(client, "pubsub.subscription.get-list") == 404  # allowed


def test_a_subclass_allows_more(worker: OneWorker, opened: Open) -> None:
    class Mine(WebSocketsGateway):
        name = "my.gateway"
        services_allowed = ("t.echo", "orders.*")

    worker.deploy(Mine)
    client = opened(gateway=Mine)
    assert status(client, "t.echo") == 200
    assert status(client, "orders.origin") == 200
    assert status(client, "zato.ping") == 200
    assert status(client, "zato.secret.get") == 403


def test_a_caller_that_is_no_websocket_has_the_default(worker: OneWorker, opened: Open) -> None:
    opened("*")
    invoker = worker.context.invoker
    assert invoker.invoke(Call("helpers.web-sockets-gateway", {"service": "zato.ping"})).payload
    with pytest.raises(Forbidden):
        invoker.invoke(Call("helpers.web-sockets-gateway", {"service": "t.echo"}))


def test_gateways_are_imported_as_in_zato() -> None:
    names = compat.MODULES["zato.server.service.internal.helpers"]
    assert names["WebSocketsGateway"] is WebSocketsGateway


def test_a_wildcard_stands_for_any_characters_and_nothing_else_does() -> None:
    listed = AllowList(["a.*.c", "[x]", "b?", ""])
    assert listed
    assert all(listed.matches(name) for name in ("a..c", "a.b.b.c", "[x]", "b?", "a.*.c"))
    assert not any(listed.matches(name) for name in ("a.c", "a.b.cd", "xa.b.c", "x", "bb", "", "a.b.c\n"))
    assert listed.has("b?")
    assert not listed.has("a.b.c")
    assert not AllowList()
