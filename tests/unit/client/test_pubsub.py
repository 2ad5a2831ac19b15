"""Publish/subscribe over HTTP, against a real server."""

from __future__ import annotations

import json

import pytest
from junctor_client import BadRequest, Forbidden, InvalidResponse, Subscription

TOPIC, KEY = "/zato/demo/sample", "zpsk.rest.1"
PATH = "/zato/pubsub/topic//zato/demo/sample"


@pytest.fixture
def pubsub(connect):
    return connect(username="shop", password="secret").pubsub


def asked(server):
    """Methods, paths and bodies of all requests."""
    return [(item.method, item.path, json.loads(item.body or b"null")) for item in server.asked]


def test_what_is_published_goes_to_its_topic_with_an_id_of_its_own(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(data={"msg_id": json.loads(asked.body)["msg_id"]})
    first, second = pubsub.publish(TOPIC, {"a": ["ż"]}, priority=9), pubsub.publish(TOPIC, "text")
    assert first != second
    assert first.startswith("zpsm")
    assert asked(server) == [
        ("POST", PATH, {"data": {"a": ["ż"]}, "priority": 9, "msg_id": first}),
        ("POST", PATH, {"data": "text", "msg_id": second}),
    ]


def test_a_message_is_sent_again_with_the_same_id_when_the_connection_is_lost(pubsub, server, reply):
    def answer(asked, handler):
        if len(server.asked) == 1:
            handler.close_connection = True
            return None
        return reply(data={"msg_id": json.loads(asked.body)["msg_id"]})

    server.reply = answer
    msg_id = pubsub.publish(TOPIC, 1)
    assert [item[2]["msg_id"] for item in asked(server)] == [msg_id, msg_id]


def test_a_server_that_is_busy_gets_the_same_message_again(pubsub, server, reply):
    def answer(asked, handler):
        if len(server.asked) == 1:
            return reply(503, headers={"Retry-After": "0"})
        return reply(data={"msg_id": json.loads(asked.body)["msg_id"]})

    server.reply = answer
    msg_id = pubsub.publish(TOPIC, 1)
    assert [item[2]["msg_id"] for item in asked(server)] == [msg_id, msg_id]


def test_a_message_that_the_server_has_already_is_no_error(pubsub, server, reply):
    refused = {"zato_env": {"result": "ZATO_ERROR", "cid": "c", "details": "Duplicate msg_id"}}
    server.reply = lambda asked, handler: reply(400, refused)
    assert pubsub.publish(TOPIC, 1, msg_id="order-7") == "order-7"
    refused["zato_env"]["details"] = "priority: must be a number from 1 to 9."
    with pytest.raises(BadRequest, match="from 1 to 9"):
        pubsub.publish(TOPIC, 1, priority=10)


def test_topics_are_encoded(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(data={"msg_id": "x"})
    pubsub.publish("a b?/c#", 1)
    assert server.asked[0].path == "/zato/pubsub/topic/a%20b%3F/c%23"


def test_a_subscription_is_made_or_found_and_ended(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(data={"sub_key": KEY, "queue_depth": 2})
    assert pubsub.subscribe(TOPIC) == Subscription(TOPIC, KEY, 2)
    pubsub.unsubscribe(TOPIC)
    pubsub.unsubscribe(TOPIC, KEY)
    path = "/zato/pubsub/subscribe/topic//zato/demo/sample"
    assert asked(server) == [
        ("POST", path, {"reuse": True}),
        ("DELETE", path, None),
        ("DELETE", f"{path}?sub_key={KEY}", None),
    ]


def test_messages_are_pulled_acknowledged_and_given_back(pubsub, server, reply):
    messages = [{"msg_id": f"m{number}", "sub_key": KEY, "data": number} for number in range(3)]
    answers = [messages, [], {"count": 2}, {"count": 1}]
    server.reply = lambda asked, handler: reply(data=answers.pop(0))
    found = pubsub.pull(TOPIC, KEY, batch_size=3, wait=10, needs_ack=True)
    assert found == messages
    assert pubsub.pull(TOPIC) == []
    assert pubsub.ack(*found[:2]) == 2
    assert pubsub.nack(found[2], delay=5, reason="busy") == 1
    assert asked(server) == [
        ("PATCH", PATH, {"sub_key": KEY, "batch_size": 3, "wait": 10, "ack_mode": "explicit"}),
        ("PATCH", PATH, {}),
        ("POST", "/zato/pubsub/ack", {"sub_key": KEY, "msg_id_list": ["m0", "m1"]}),
        (
            "POST",
            "/zato/pubsub/nack",
            {"sub_key": KEY, "msg_id_list": ["m2"], "delay": 5, "reason": "busy"},
        ),
    ]


def test_messages_of_several_subscriptions_are_acknowledged_in_each(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(data={"count": 1})
    assert pubsub.ack({"msg_id": "a", "sub_key": "1"}, {"msg_id": "b", "sub_key": "2"}) == 2
    assert [body["sub_key"] for _, _, body in asked(server)] == ["1", "2"]
    assert pubsub.ack() == 0


def test_pulling_is_not_repeated_since_the_messages_may_be_gone(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(503, headers={"Retry-After": "0"})
    with pytest.raises(Exception, match="503"):
        pubsub.pull(TOPIC)
    assert len(server.asked) == 1


def test_errors_are_those_of_calls(pubsub, server, reply):
    server.reply = lambda asked, handler: reply(403, {"zato_env": {"result": "ZATO_ERROR", "details": "No"}})
    for call in (
        lambda: pubsub.publish(TOPIC, 1),
        lambda: pubsub.subscribe(TOPIC),
        lambda: pubsub.pull(TOPIC),
    ):
        with pytest.raises(Forbidden, match="No"):
            call()


@pytest.mark.parametrize("data", [None, [], "text", {}])
def test_an_answer_of_something_else_is_an_error(pubsub, server, reply, data):
    server.reply = lambda asked, handler: reply(data=data)
    with pytest.raises(InvalidResponse, match="not one of publish/subscribe"):
        pubsub.publish(TOPIC, 1)
    if data != []:
        with pytest.raises(InvalidResponse):
            pubsub.pull(TOPIC)
