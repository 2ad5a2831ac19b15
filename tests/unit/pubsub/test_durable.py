"""Durable calls: what is stored of a call comes back as it was, and what cannot be kept is refused before anybody relies on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from junctor.server.context import Context
from junctor.server.pubsub import durable
from junctor.server.pubsub.durable import DELIVERY_COUNT, TOPIC, RunDurably, store_call
from junctor.server.pubsub.message import NewMessage
from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo, ChannelSecurityInfo
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker
from junctor.server.service.link import LINK, current_link
from junctor.server.service.store import ServiceStore
from junctor.sql.errors import DuplicateMessage, InvalidInput, ServiceNotFound, ServiceUnavailable
from junctor.sql.store import Store
from tests.helpers.objects import edit


class Worker:
    """A worker whose messages are ``stored``, and are delivered when a test says so."""

    def __init__(self) -> None:
        self.seen: list[Call] = []
        self.stored: list[NewMessage] = []
        self.services = ServiceStore()
        self.invoker = Invoker(self.services, cast(Any, self))
        self.lanes = [SimpleNamespace(sub_key=f"zpsk.notify.{number}") for number in range(3)]
        directory = SimpleNamespace(
            internal_endpoint=None,
            topic=lambda name: SimpleNamespace(id=1) if name == TOPIC else None,
            subscriptions_of=lambda topic_id: self.lanes if topic_id == 1 else [],
        )
        publishing = SimpleNamespace(publish=self._publish)
        self.pubsub = SimpleNamespace(directory=directory, publishing=publishing)
        seen = self.seen

        class Target(Service):
            name = "target"

            def handle(self) -> None:
                seen.append(self._call)
                if self.request.payload == "fail":
                    raise ValueError("no")
                self.response.payload = {"done": self.request.payload}

        class Caller(Service):
            name = "caller"

            def handle(self) -> None:
                self.response.payload = self.invoke_async("target", **self.request.payload)

        class Callback(Target):
            name = "target-async-callback"

        self.deploy(Target, Caller, RunDurably)
        self.callback = Callback

    def deploy(self, *classes: type[Service]) -> None:
        for cls in classes:
            self.services.replace(f"{cls.name}.py", [describe(cls)])

    @property
    def context(self) -> Context:
        return cast(Context, self)

    def _publish(self, _endpoint: Any, messages: list[NewMessage], **_: Any) -> list[str]:
        ids = {message.msg_id for message in self.stored}
        if any(message.msg_id in ids for message in messages):
            raise DuplicateMessage
        self.stored += messages
        return [message.msg_id for message in messages]

    def deliver(self, message: NewMessage, count: int = 0) -> None:
        """What the delivery of a stored message does."""
        payload = {"data": orjson.loads(message.data), "delivery_count": count}
        self.invoker.invoke(Call(RunDurably.name, payload, data_format=DATA_FORMAT.DICT))

    def again(self, call: Call, count: int = 0) -> Call:
        """The call as it is made after it was stored."""
        store_call(self.context, call)
        self.deliver(self.stored[-1], count)
        return self.seen[-1]


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize("payload", [{"a": [1, None, "é"]}, [], "", "te\0xt", 5, None, True])
def test_a_payload_comes_back_as_it_was(worker: Worker, payload: Any) -> None:
    made = worker.again(
        Call("target", payload, payload if isinstance(payload, str) else b"", data_format="dict")
    )
    assert made.payload == payload
    assert made.data_format == "dict"


def test_bytes_come_back_as_bytes_and_json_as_what_it_stands_for(worker: Worker) -> None:
    made = worker.again(Call("target", b"\x00\xff", b"\x00\xff"))
    assert made.payload == made.raw_request == b"\x00\xff"
    made = worker.again(Call("target", {"a": 1}, '{"a": 1}', data_format=DATA_FORMAT.JSON))
    assert (made.payload, made.raw_request) == ({"a": 1}, '{"a": 1}')


def test_what_belongs_to_a_call_is_kept(worker: Worker) -> None:
    caller = ChannelSecurityInfo(7, "CRM", "basic_auth", "crm", impl=object())
    call = Call(
        "target",
        cid="c" * 24,
        channel=ChannelInfo(CHANNEL.SCHEDULER, security=caller),
        transport="plain_http",
        environ={"a": 1},
        in_reply_to="d" * 24,
    )
    made = worker.again(call, count=2)
    assert (made.cid, made.channel.type, made.transport, made.in_reply_to) == (
        "c" * 24,
        CHANNEL.SCHEDULER,
        "plain_http",
        "d" * 24,
    )
    security = made.channel.security
    assert (security.id, security.name, security.type, security.username) == (7, "CRM", "basic_auth", "crm")
    assert made.environ == {"a": 1, DELIVERY_COUNT: 2}
    assert worker.stored[0].correl_id == call.cid
    assert worker.stored[0].has_gd is True


def test_a_call_goes_to_one_lane_and_knows_how_far_it_has_come(worker: Worker) -> None:
    token = current_link.set({"origin": "cluster1", "hops": 3})
    try:
        for _ in range(40):
            store_call(worker.context, Call("target"))
    finally:
        current_link.reset(token)
    lanes = [message.deliver_to_sk for message in worker.stored]
    assert all(len(lane) == 1 for lane in lanes)
    assert {lane[0] for lane in lanes} == {lane.sub_key for lane in worker.lanes}
    worker.deliver(worker.stored[0])
    assert worker.seen[0].environ[LINK] == {"origin": "cluster1", "hops": 3}


def test_a_failed_call_fails_its_delivery_so_that_it_is_made_again(worker: Worker) -> None:
    store_call(worker.context, Call("target", "fail", "fail"))
    with pytest.raises(ValueError, match="no"):
        worker.deliver(worker.stored[0])


def test_responses_go_to_callbacks_which_are_durable_calls_themselves(worker: Worker) -> None:
    worker.deploy(worker.callback)
    cid = store_call(worker.context, Call("target", 1, data_format="dict"), callbacks=["caller"])
    worker.deliver(worker.stored.pop())
    calls = [orjson.loads(message.data) for message in worker.stored]
    assert [call["service"] for call in calls] == ["caller", "target-async-callback"]
    assert all(call["payload"] == {"done": 1} and call["in_reply_to"] == cid for call in calls)
    assert all(call["channel"] == CHANNEL.INVOKE_ASYNC_CALLBACK for call in calls)


def test_times_are_given_in_seconds(worker: Worker) -> None:
    store_call(worker.context, Call("target"), expiration=1.5, delay=60)
    assert (worker.stored[0].expiration, worker.stored[0].delay) == (1500, 60_000)


def test_of_one_run_one_call_is_stored(worker: Worker) -> None:
    assert store_call(worker.context, Call("target", cid="c"), run_id="job.1.2026-11-24T10:00:00") == "c"
    assert store_call(worker.context, Call("target", cid="d"), run_id="job.1.2026-11-24T10:00:00") == ""
    assert store_call(worker.context, Call("target", cid="e"), run_id="job.1.2026-11-24T10:01:00") == "e"
    assert len(worker.stored) == 2
    for wrong in ("x" * 151, "a\nb"):
        with pytest.raises(InvalidInput, match="run_id"):
            store_call(worker.context, Call("target"), run_id=wrong)


def test_what_cannot_be_made_later_is_refused_now(worker: Worker) -> None:
    for call, callbacks in ((Call("absent"), []), (Call("target"), ["absent"])):
        with pytest.raises(ServiceNotFound, match="absent"):
            store_call(worker.context, call, callbacks=callbacks)
    worker.lanes.clear()
    with pytest.raises(ServiceUnavailable, match="no subscriptions"):
        store_call(worker.context, Call("target"))
    assert worker.stored == []


def test_services_make_durable_calls_with_invoke_async(worker: Worker) -> None:
    asked = {
        "payload": {"n": 1},
        "durable": True,
        "callback": "caller",
        "zato_ctx": {"b": 2},
        "expiration": 30,
    }
    cid = worker.invoker.invoke(Call("caller", asked, data_format="dict")).payload
    (message,) = worker.stored
    assert message.expiration == 30_000
    stored = orjson.loads(message.data)
    assert (stored["cid"], stored["payload"], stored["callbacks"]) == (cid, {"n": 1}, ["caller"])
    assert (stored["channel"], stored["environ"]) == (CHANNEL.INVOKE_ASYNC, {"b": 2})
    worker.invoker.invoke(Call("caller", {"payload": 2, "durable": True}, data_format="dict"))
    assert worker.stored[1].expiration == 0


def test_the_lanes_are_made_once_and_left_as_administrators_want_them(store: Store) -> None:
    assert durable.has_objects(store) is False
    with store.transaction(who="junctor") as transaction:
        transaction.create("service", {"name": TOPIC}, system={"is_internal": True})
        durable.create_objects(transaction)
    assert durable.has_objects(store) is True
    edit(store, "pubsub_subscription", f"{TOPIC}.1", delivery_max_retry=3)
    with store.transaction(who="junctor") as transaction:
        durable.create_objects(transaction)
        assert transaction.changes == []
    lanes = store.find("pubsub_subscription", internal=True).objects
    assert [lane.name for lane in lanes] == [f"{TOPIC}.{number}" for number in range(1, 9)]
    assert len({lane["sub_key"] for lane in lanes}) == 8
    assert [lane["delivery_max_retry"] for lane in lanes] == [3] + [durable.MAX_RETRY] * 7
