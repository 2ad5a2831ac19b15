"""Messages without guaranteed delivery: who gets them directly, and when they are stored after all."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from junctor.server.pubsub import unguaranteed
from junctor.server.pubsub.message import MILLISECONDS, NewMessage, QueuedMessage, new_message
from junctor.server.pubsub.unguaranteed import Unguaranteed

OWN, NEAR = 1, 2  # workers
TOPIC: Any = SimpleNamespace(id=7, name="/orders")


class Worker:
    """The rest of the worker; ``owners`` is what the database says, and ``deaf`` has the workers that cannot be reached."""

    def __init__(self) -> None:
        self.owners: dict[int, int] = {}
        self.subscriptions: list[Any] = []
        self.sent: list[tuple[int, list[int], QueuedMessage]] = []
        self.deaf: set[int] = set()
        self.asked = 0
        context: Any = SimpleNamespace(
            status=SimpleNamespace(worker_id=OWN),
            pubsub=SimpleNamespace(
                directory=SimpleNamespace(subscriptions_of=lambda _: self.subscriptions),
                engine=SimpleNamespace(connect=self._connect),
                hints=self,
            ),
        )
        self.offer = Unguaranteed(context).offer

    def subscribe(self, id_: int, owner: int | None = OWN, status: str = "pub-sub") -> None:
        self.subscriptions.append(SimpleNamespace(id=id_, sub_key=f"zpsk.{id_}", active_status=status))
        if owner is not None:
            self.owners[id_] = owner

    def volatile(self, worker_id: int, sub_ids: list[int], body: bytes) -> bool:
        if worker_id in self.deaf:
            return False
        self.sent.append((worker_id, sub_ids, msgspec.msgpack.decode(body, type=QueuedMessage)))
        return True

    @contextmanager
    def _connect(self) -> Any:
        self.asked += 1
        yield self

    def execute(self, _: Any, given: dict[str, Any]) -> list[Any]:
        return [
            SimpleNamespace(sub_id=sub, worker_id=self.owners[sub])
            for sub in given["subs"]
            if sub in self.owners
        ]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def new(data: Any = "x", **fields: Any) -> NewMessage:
    made = new_message("/orders", {"data": data, **fields}, expiration_unit=MILLISECONDS)
    made.topic_id = TOPIC.id
    return made


def test_a_message_goes_to_the_workers_of_its_subscriptions_and_is_not_stored(worker: Worker) -> None:
    worker.subscribe(1)
    worker.subscribe(2, NEAR)
    worker.subscribe(3, NEAR)
    worker.subscribe(4, NEAR, status="disabled")
    message = new({"a": 1}, priority=8, correl_id="c", expiration=2000, msg_id="mine")
    assert worker.offer(TOPIC, message) is None
    assert [(to, subs) for to, subs, _ in worker.sent] == [(OWN, [1]), (NEAR, [2, 3])]
    sent = worker.sent[0][2]
    assert (sent.msg_id, sent.payload(), sent.priority, sent.correl_id, sent.topic_id) == (
        "mine",
        {"a": 1},
        8,
        "c",
        7,
    )
    assert (sent.has_gd, sent.attempts) == (False, 0)
    assert sent.expires_at == pytest.approx(sent.pub_time + 2)
    assert sent.id < 0


def test_ids_are_never_the_same(worker: Worker) -> None:
    worker.subscribe(1)
    for _ in range(10):
        worker.offer(TOPIC, new())
    assert len({message.id for _, _, message in worker.sent}) == 10


@pytest.mark.parametrize(
    "subscriptions", [[], [(1, OWN), (2, None)]], ids=["nobody has subscribed", "one pulls, or is away"]
)
def test_without_a_worker_for_each_it_is_stored(
    worker: Worker, subscriptions: list[tuple[int, int | None]]
) -> None:
    for id_, owner in subscriptions:
        worker.subscribe(id_, owner)
    message = new()
    assert worker.offer(TOPIC, message) is message
    assert worker.sent == []


def test_it_is_stored_for_those_whose_worker_does_not_answer(worker: Worker) -> None:
    worker.subscribe(1)
    worker.subscribe(2, NEAR)
    worker.deaf.add(NEAR)
    left = worker.offer(TOPIC, new(msg_id="mine"))
    assert left is not None
    assert (left.msg_id, left.deliver_to_sk) == ("mine", ["zpsk.2"])
    assert [to for to, _, _ in worker.sent] == [OWN]


def test_it_goes_to_certain_subscribers_alone(worker: Worker) -> None:
    worker.subscribe(1)
    worker.subscribe(2, None)
    assert worker.offer(TOPIC, new(deliver_to_sk=["zpsk.1"])) is None
    assert [subs for _, subs, _ in worker.sent] == [[1]]


def test_owners_are_asked_for_seldom_and_again_when_one_does_not_answer(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.subscribe(1, NEAR)
    for _ in range(5):
        assert worker.offer(TOPIC, new()) is None
    assert worker.asked == 1
    worker.deaf.add(NEAR)
    assert worker.offer(TOPIC, new()) is not None
    worker.owners[1] = OWN
    assert worker.offer(TOPIC, new()) is None
    assert worker.asked == 2
    now = unguaranteed.monotonic()
    monkeypatch.setattr(unguaranteed, "monotonic", lambda: now + unguaranteed.TTL)
    worker.offer(TOPIC, new())
    assert worker.asked == 3
