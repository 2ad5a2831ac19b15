"""Publish/subscribe over WebSockets, against a real server."""

from __future__ import annotations

import threading

import pytest
from junctor_client import (
    ConnectionFailed,
    Forbidden,
    InvalidResponse,
    ServiceUnavailable,
    Timeout,
    websocket_link,
    websocket_subscriptions,
)
from junctor_client.websocket import WebSocketClient

from tests.helpers.waiting import wait_until
from tests.helpers.websocket_channel import PASSWORD, failure, running_channel

TOPIC, OTHER = "/customer/new", "/customer/old"
SUBSCRIBE, RESUME = "zato.pubsub.pubapi.subscribe-wsx", "zato.pubsub.resume-wsx-subscription"
UNSUBSCRIBE, PUBLISH = "zato.pubsub.pubapi.unsubscribe", "zato.pubsub.pubapi.publish-message"


@pytest.fixture
def channel():
    """A channel whose gateway has publish/subscribe: a topic's key is made of its name."""
    with running_channel() as made:
        made.answer = answer
        yield made


def answer(message):
    service, request = message["data"]["service"], message["data"]["request"]
    if service == SUBSCRIBE:
        return {"sub_key": f"key of {request['topic_name']}", "queue_depth": 0}
    return {"msg_id": request["msg_id"]} if service == PUBLISH else {"done": True}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(websocket_link, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(websocket_link, "LAST_WAIT", 0.05)
    monkeypatch.setattr(websocket_subscriptions, "FIRST_WAIT", 0.01)


@pytest.fixture
def client_of(channel):
    made = []

    def make(**options):
        options = {"username": "shop", "password": PASSWORD, "timeout": 5, "client_id": "crm.1"} | options
        made.append(WebSocketClient(channel.address, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def invoked(channel):
    """The services that were called, without the start of their names, each with the topic or the key."""
    found = [message["data"] for message in channel.invocations]
    values = [item["request"] for item in found]
    names = [value.get("topic_name") or value.get("sub_key") for value in values]
    return [f"{item['service'].rpartition('.')[2]} {name}" for item, name in zip(found, names, strict=True)]


def deliver(channel, *data, topic=TOPIC, message_id="zpsm1"):
    """Sends messages that were published to a topic."""
    messages = [{"msg_id": f"m{item}", "topic_name": topic, "data": item} for item in data]
    channel.push(messages, message_id, msg_type="zwsx.psrq")


def test_what_was_published_is_acknowledged_when_on_message_returns(client_of, channel):
    seen = []
    client = client_of()
    assert client.subscribe(TOPIC, seen.append, batch_size=10) == f"key of {TOPIC}"
    [subscribed] = channel.invocations
    assert subscribed["data"]["request"] == {
        "topic_name": TOPIC,
        "reuse": True,
        "unsub_on_wsx_close": False,
        "ack_mode": "explicit",
        "delivery_batch_size": 10,
    }
    deliver(channel, 1, 2)
    [response] = channel.wait_for_responses(1)
    assert response["meta"]["in_reply_to"] == "zpsm1"
    assert response["data"] == {"response": None}
    [message] = seen
    assert message.is_delivery
    assert [item["data"] for item in message.data] == [1, 2]


def test_what_on_message_fails_with_is_rejected(client_of, channel, caplog):
    failures = [ValueError("not now")]

    def on_message(message):
        if failures:
            raise failures.pop()

    client_of().subscribe(TOPIC, on_message)
    deliver(channel, 1)
    deliver(channel, 1, message_id="zpsm2")
    first, second = channel.wait_for_responses(2)
    assert first["data"] == {"response": {"nack": True}}
    assert (second["meta"]["in_reply_to"], second["data"]) == ("zpsm2", {"response": None})
    assert "not now" in caplog.text


def test_each_topic_has_its_own_function_and_the_clients_own_has_the_rest(client_of, channel):
    seen = []
    client = client_of(on_message=lambda message: seen.append(("client", message.data)))
    client.subscribe(TOPIC, lambda message: seen.append(("topic", message.data[0]["data"])))
    client.subscribe(OTHER)
    deliver(channel, 1)
    deliver(channel, 2, topic=OTHER)
    channel.push("a request")
    channel.wait_for_responses(3)
    assert [who for who, _ in seen] == ["topic", "client", "client"]
    assert seen[2] == ("client", "a request")


def test_subscriptions_are_taken_up_again_over_each_new_connection(client_of, channel):
    client = client_of()
    seen = []
    client.subscribe(TOPIC, seen.append)
    client.subscribe(OTHER, seen.append)
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(invoked(channel)) == 4, 10, "The subscriptions were not taken up again")
    assert invoked(channel)[2:] == [
        f"resume-wsx-subscription key of {TOPIC}",
        f"resume-wsx-subscription key of {OTHER}",
    ]
    deliver(channel, 1)
    channel.wait_for_responses(1)
    assert len(seen) == 1


def test_a_subscription_that_is_gone_is_made_anew_and_one_that_cannot_be_is_tried_again(
    client_of, channel, caplog
):
    client = client_of()
    client.subscribe(TOPIC, print)
    errors = [failure, failure, failure]

    def refuse(message):
        service = message["data"]["service"]
        if service == RESUME:
            return failure(message, 403, "You are not authorized")
        if errors:
            errors.pop()
            return failure(message, 503, "Not now")
        return answer(message)

    channel.answer = refuse
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(invoked(channel)) == 6, 10, "The subscription was not made anew")
    assert invoked(channel)[1:] == [
        f"resume-wsx-subscription key of {TOPIC}",
        *[f"subscribe-wsx {TOPIC}"] * 4,
    ]
    assert caplog.text.count("There is no subscription to '/customer/new' now") == 1


def test_what_was_not_handled_before_the_connection_was_lost_comes_again(client_of, channel):
    release, seen = threading.Event(), []

    def on_message(message):
        seen.append(message.id)
        release.wait(10)

    client = client_of()
    client.subscribe(TOPIC, on_message)
    deliver(channel, 1, message_id="zpsm1")
    deliver(channel, 2, message_id="zpsm2")
    wait_until(lambda: seen, 10, "on_message was not called")
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(channel.log_ins) == 2, 10, "The connection was not made again")
    release.set()
    wait_until(lambda: client.invoke_service("x"), 10, "There is no answer")
    deliver(channel, 2, message_id="zpsm3")
    channel.wait_for_responses(1)
    assert seen == ["zpsm1", "zpsm3"]


def test_an_earlier_subscription_is_taken_up_by_its_key(client_of, channel):
    client = client_of(client_id="")
    assert client.subscribe(TOPIC, print, sub_key="zpsk.1") == "zpsk.1"
    assert invoked(channel) == ["resume-wsx-subscription zpsk.1"]


def test_who_unsubscribes_gets_nothing_and_does_not_come_back_to_it(client_of, channel):
    client = client_of()
    client.subscribe(TOPIC, print)
    client.unsubscribe(TOPIC)
    assert channel.invocations[-1]["data"] == {
        "service": UNSUBSCRIBE,
        "request": {"topic_name": TOPIC, "sub_key": f"key of {TOPIC}"},
    }
    with pytest.raises(ValueError, match="no subscription to '/customer/new'"):
        client.unsubscribe(TOPIC)
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(channel.log_ins) == 2, 10, "The connection was not made again")
    client.invoke_service("x")
    assert len(invoked(channel)) == 3


def test_a_subscription_that_is_refused_is_an_error_and_not_tried_again(client_of, channel):
    channel.answer = lambda message: failure(message, 403, "You are not authorized")
    client = client_of()
    with pytest.raises(Forbidden, match="not authorized"):
        client.subscribe(TOPIC, print)
    channel.answer = lambda message: {"queue_depth": 0}
    with pytest.raises(InvalidResponse, match="it has no sub_key"):
        client.subscribe(TOPIC, print)
    channel.connections[-1].close(1012, "restart")
    wait_until(lambda: len(channel.log_ins) == 2, 10, "The connection was not made again")
    client.invoke_service("x")
    assert len(invoked(channel)) == 3


def test_who_subscribes_can_be_found_again_and_has_a_function(client_of):
    with pytest.raises(ValueError, match="needs a client_id"):
        client_of(client_id="").subscribe(TOPIC, print)
    with pytest.raises(ValueError, match="no on_message"):
        client_of().subscribe(TOPIC)


def test_what_is_published_gets_an_id(client_of, channel):
    client = client_of()
    msg_id = client.publish(TOPIC, {"a": 1}, priority=9)
    assert msg_id.startswith("zpsm")
    assert channel.invocations[0]["data"] == {
        "service": PUBLISH,
        "request": {"priority": 9, "topic_name": TOPIC, "data": {"a": 1}, "msg_id": msg_id},
    }
    assert client.publish(TOPIC, 1, msg_id="order-7") == "order-7"


def test_a_message_is_sent_again_with_the_same_id_over_the_next_connection(client_of, channel):
    def lose(message):
        channel.answer = lambda message: failure(message, 400, "Duplicate msg_id")
        channel.connections[-1].close(1012, "restart")

    channel.answer = lose
    msg_id = client_of().publish(TOPIC, 1)
    assert [message["data"]["request"]["msg_id"] for message in channel.invocations] == [msg_id, msg_id]
    assert len(channel.log_ins) == 2


def test_a_message_that_cannot_be_published_is_an_error(client_of, channel):
    client = client_of()
    channel.answer = lambda message: failure(message, 503, "Topic is inactive")
    with pytest.raises(ServiceUnavailable, match="Topic is inactive"):
        client.publish(TOPIC, 1)
    channel.answer = lambda message: None
    with pytest.raises(Timeout):
        client.publish(TOPIC, 1, timeout=0.05)
    channel.answer = lambda message: channel.connections[-1].close(1012, "restart")
    once = client_of(reconnect=False)
    with pytest.raises(ConnectionFailed, match="lost before there was an answer"):
        once.publish(TOPIC, 1)
