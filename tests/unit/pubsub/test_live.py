"""Topics, endpoints and subscriptions as a worker has them: what they make of their configuration, and whom they tell of changes."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.live import Endpoint, Subscription, Topic
from tests.helpers.configs import config


@pytest.fixture
def context() -> Any:
    made: Any = SimpleNamespace()
    made.changed, made.forgotten = [], []
    made.pubsub = SimpleNamespace(
        directory=Directory(made),
        deliveries=SimpleNamespace(changed=made.changed.append),
        publishing=SimpleNamespace(depths=SimpleNamespace(forget=made.forgotten.append)),
    )
    return made


def topic(context: Any, previous: Topic | None = None, **fields: Any) -> Topic:
    made = Topic(config("pubsub_topic", **{"name": "/orders", **fields}), context)
    made.take_over(previous)
    return made


def endpoint(context: Any, previous: Endpoint | None = None, **fields: Any) -> Endpoint:
    made = Endpoint(config("pubsub_endpoint", **{"name": "CRM", "topic_patterns": [], **fields}), context)
    made.take_over(previous)
    return made


def subscription(context: Any, **fields: Any) -> Subscription:
    made = Subscription(
        config(
            "pubsub_subscription",
            **{"name": "s", "sub_key": "zpsk.1", "topic_id": 1, "endpoint_id": 1, **fields},
        ),
        context,
    )
    made.take_over(None)
    return made


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"delivery_method": "pull"}, "pull"),
        ({"delivery_method": "web-socket"}, "web-socket"),
        ({"delivery_method": "notify", "out_rest": "CRM", "out_rest_id": 5}, "rest"),
        ({"delivery_method": "notify", "service": "my.service"}, "service"),
        ({"delivery_method": "notify"}, "service"),
    ],
)
def test_a_subscription_has_a_target(context: Any, fields: dict[str, Any], target: str) -> None:
    assert subscription(context, **fields).target == target


def test_the_service_is_that_of_the_subscription_or_else_of_the_endpoint(context: Any) -> None:
    made = subscription(context)
    assert made.service == ""
    endpoint(context, service="of.endpoint")
    assert made.service == "of.endpoint"
    assert subscription(context, service="its.own").service == "its.own"


def test_the_hook_is_that_of_the_subscription_or_else_of_the_topic(context: Any) -> None:
    made = subscription(context)
    assert made.hook_service == ""
    topic(context, hook_service="of.topic")
    assert made.hook_service == "of.topic"
    assert subscription(context, hook_service="its.own").hook_service == "its.own"


@pytest.mark.parametrize(
    ("role", "publishes", "subscribes"),
    [("pub-sub", True, True), ("pub-only", True, False), ("sub-only", False, True)],
)
def test_a_role_says_what_an_endpoint_may_do(
    context: Any, role: str, *, publishes: bool, subscribes: bool
) -> None:
    made = endpoint(context, role=role)
    assert (made.can_publish, made.can_subscribe) == (publishes, subscribes)
    made = endpoint(context, role=role, is_active=False)
    assert not made.can_publish
    assert not made.can_subscribe


@pytest.mark.parametrize(
    ("status", "delivers"), [("pub-sub", True), ("sub-only", True), ("pub-only", False), ("disabled", False)]
)
def test_nothing_is_delivered_unless_the_status_and_the_endpoint_say_so(
    context: Any, status: str, *, delivers: bool
) -> None:
    made = subscription(context, active_status=status)
    assert not made.can_deliver, "there is no endpoint"
    endpoint(context)
    assert made.can_deliver is delivers
    endpoint(context, is_active=False)
    assert not made.can_deliver


def test_whoever_delivers_is_told_of_what_concerns_it(context: Any) -> None:
    made = subscription(context)
    first = topic(context)
    second = topic(context, first, max_depth_gd=5)
    assert context.changed == [1], "of the subscription itself"
    assert context.forgotten == [1, 1], "depths are counted anew"
    topic(context, second, hook_service="my.hook")
    assert context.changed == [1, 1]
    one = endpoint(context)
    two = endpoint(context, one, topic_patterns=["sub=/**"])
    assert context.changed == [1, 1]
    endpoint(context, two, is_active=False)
    assert context.changed == [1, 1, 1]
    made.leave()
    assert context.changed == [1, 1, 1, 1]
    assert context.pubsub.directory.subscription("zpsk.1") is None


def test_a_line_that_is_no_pattern_is_warned_of(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        endpoint(context, topic_patterns=["/orders", "pub=/orders"])
    assert "Endpoint 'CRM' has 1 topic patterns that are ignored" in caplog.text
