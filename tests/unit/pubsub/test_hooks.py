"""Hook services of topics and subscriptions: what they get, and what becomes of what they answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from junctor.server.pubsub import hooks as hooking
from junctor.server.pubsub.hooks import DELETE, DELIVER, SKIP, Hooks
from junctor.server.pubsub.live import Subscription, Topic
from junctor.server.pubsub.message import MILLISECONDS, NewMessage, QueuedMessage, new_message
from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.hook_services import PubSubHook
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker
from junctor.server.service.store import ServiceStore
from junctor.sql.errors import BadRequest, CallFailed, InvalidInput, ServiceUnavailable
from tests.helpers.configs import config


class MyHook(PubSubHook):
    """Does what the tests say, and remembers what it was told."""

    name = "my.hook"
    seen: list[Any] = []  # noqa: RUF012 - emptied by the fixture
    todo: Any = None

    def before_publish(self) -> None:
        self._act()

    def before_delivery(self) -> None:
        self._act()

    def on_subscribed(self) -> None:
        self._act()

    def on_unsubscribed(self) -> None:
        self._act()

    def _act(self) -> None:
        ctx = self.request.input.ctx
        MyHook.seen.append(ctx)
        if MyHook.todo is not None:
            MyHook.todo(self, ctx)


class Declared(MyHook):
    """A hook as many services of Zato declare it."""

    name = "declared.hook"

    class SimpleIO:
        input_required = ("ctx",)
        output_optional = ("hook_action",)


@pytest.fixture
def context() -> Iterator[Any]:
    MyHook.seen, MyHook.todo = [], None
    store = ServiceStore()
    for cls in (MyHook, Declared):
        store.replace(cls.__name__, [describe(cls, file_name=cls.__name__)])
    made = SimpleNamespace(
        pubsub=SimpleNamespace(directory=SimpleNamespace(topic_by_id=lambda _: made.topic))
    )
    made.invoker = Invoker(store, made)
    made.topic = Topic(config("pubsub_topic", name="/orders", hook_service="my.hook"), made)
    made.subscription = Subscription(
        config("pubsub_subscription", name="s", sub_key="zpsk.1", topic_id=1, endpoint_id=1), made
    )
    yield made
    made.invoker.stop(0)


@pytest.fixture
def hooks(context: Any) -> Hooks:
    return Hooks(context)


def new(data: Any = "x", **fields: Any) -> NewMessage:
    return new_message("/orders", {"data": data, **fields}, expiration_unit=MILLISECONDS)


def queued(data: str = "x", data_type: str = "text") -> QueuedMessage:
    return QueuedMessage(
        id=1, sub_id=1, priority=5, attempts=2, topic_id=1, msg_id="zpsm1", data=data, data_type=data_type,
        size=1, mime_type="text/plain", pub_time=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("service", ["my.hook", "declared.hook"])
def test_a_message_may_be_skipped_before_it_is_published(context: Any, hooks: Hooks, service: str) -> None:
    context.topic.hook_service = service

    def skip(hook: PubSubHook, _: Any) -> None:
        hook.response.payload.hook_action = "skip"

    MyHook.todo = skip
    assert hooks.before_publish(context.topic, new()) is None
    (ctx,) = MyHook.seen
    assert (ctx.hook_type, ctx.msg.data, ctx.topic.name) == ("pubsub_before_publish", "x", "/orders")


def test_a_message_may_be_changed_before_it_is_published(context: Any, hooks: Hooks) -> None:
    def change(_: PubSubHook, ctx: Any) -> None:
        ctx.msg.data["total"] = 3
        ctx.msg.priority = 9

    MyHook.todo = change
    given = new({"id": 1}, correl_id="c", expiration=5)
    found = hooks.before_publish(context.topic, given)
    assert found is not None
    assert (found.data, found.data_type, found.size, found.priority) == ('{"id":1,"total":3}', "json", 18, 9)
    assert (found.msg_id, found.is_own_id, found.correl_id, found.expiration) == (given.msg_id, False, "c", 5)


def test_a_message_that_nobody_changes_stays_the_same(context: Any, hooks: Hooks) -> None:
    given = new(
        [1, {"a": None}], msg_id="mine", has_gd=False, reply_to_sk=["zpsk.2"], ext_pub_time=3.5, delay=4
    )
    assert hooks.before_publish(context.topic, given) == given


def test_what_a_hook_makes_of_a_message_must_be_valid(context: Any, hooks: Hooks) -> None:
    MyHook.todo = lambda _, ctx: ctx.msg.update(priority=77)
    with pytest.raises(InvalidInput, match="priority"):
        hooks.before_publish(context.topic, new())


def test_the_publisher_gets_what_the_hook_raises(context: Any, hooks: Hooks) -> None:
    def refuse(hook: PubSubHook, _: Any) -> None:
        raise BadRequest(hook.cid, "No such customer")

    MyHook.todo = refuse
    with pytest.raises(BadRequest, match="No such customer"):
        hooks.before_publish(context.topic, new())


def test_a_hook_that_is_not_deployed_stops_publishers(context: Any, hooks: Hooks) -> None:
    context.topic.hook_service = "no.such"
    with pytest.raises(ServiceUnavailable, match="hook service of topic /orders"):
        hooks.before_publish(context.topic, new())


def test_hooks_that_publish_to_their_own_topic_end(context: Any, hooks: Hooks) -> None:
    MyHook.todo = lambda *_: hooks.before_publish(context.topic, new())
    with pytest.raises(CallFailed, match="one inside another"):
        hooks.before_publish(context.topic, new())
    assert len(MyHook.seen) == hooking.MAX_DEPTH
    MyHook.todo = None
    assert hooks.before_publish(context.topic, new()) is not None, "the depth is that of a greenlet's calls"


@pytest.mark.parametrize(
    ("action", "expected"),
    [("", DELIVER), ("deliver", DELIVER), ("skip", SKIP), ("delete", DELETE), ("?", DELIVER)],
)
def test_before_delivery_says_what_becomes_of_a_message(
    context: Any, hooks: Hooks, action: str, expected: str
) -> None:
    MyHook.todo = lambda hook, _: setattr(hook.response.payload, "hook_action", action)
    assert hooks.before_delivery(context.subscription, queued()) == expected
    (ctx,) = MyHook.seen
    assert (ctx.hook_type, ctx.msg.delivery_count, ctx.sub.sub_key) == ("pubsub_before_delivery", 2, "zpsk.1")


def test_what_is_delivered_may_be_changed(context: Any, hooks: Hooks) -> None:
    MyHook.todo = lambda _, ctx: ctx.msg.data.update(b=2)
    message = queued('{"a":1}', "json")
    hooks.before_delivery(context.subscription, message)
    assert message.payload() == {"a": 1, "b": 2}
    MyHook.todo = lambda _, ctx: ctx.msg.update(data="y")
    message = queued()
    hooks.before_delivery(context.subscription, message)
    assert (message.payload(), message.data_type) == ("y", "text")
    MyHook.todo = lambda _, ctx: ctx.msg.update(serialized={"all": "mine"})
    hooks.before_delivery(context.subscription, message)
    assert message.external("/orders", "zpsk.1") == {"all": "mine"}


def test_a_hook_that_fails_is_a_delivery_that_failed(
    context: Any, hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    MyHook.todo = lambda *_: 1 / 0
    with pytest.raises(CallFailed, match=r"'my.hook' failed: ZeroDivisionError"):
        hooks.before_delivery(context.subscription, queued("secret payload"))
    assert "secret payload" not in caplog.text
    assert "zpsk.1" not in caplog.text


def test_a_subscription_without_a_hook_has_its_messages_delivered(context: Any, hooks: Hooks) -> None:
    context.topic.hook_service = ""
    assert hooks.before_delivery(context.subscription, queued()) == DELIVER


def test_subscribing_and_unsubscribing_are_told_and_cannot_fail(
    context: Any, hooks: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    hooks.on_subscribed(context.topic, context.subscription)
    MyHook.todo = lambda *_: 1 / 0
    with caplog.at_level(logging.ERROR):
        hooks.on_unsubscribed(context.topic, context.subscription)
    assert [ctx.hook_type for ctx in MyHook.seen] == ["pubsub_on_subscribed", "pubsub_on_unsubscribed"]
    assert MyHook.seen[0].sub.sub_key == "zpsk.1"
    assert "Hook service my.hook failed" in caplog.text


def test_a_type_that_there_is_not_is_ignored(context: Any) -> None:
    call = Call("my.hook", {"ctx": Bunch(hook_type="pubsub_of_the_future")}, data_format="dict")
    assert context.invoker.invoke(call).payload == {"hook_action": ""}
    assert MyHook.seen == []
