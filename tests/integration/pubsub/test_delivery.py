"""The delivery of one subscription, with a real PostgreSQL and receivers that do as they are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest
from sqlalchemy import Engine, text

from junctor.server.pubsub import batch
from junctor.server.pubsub import delivery as delivery_module
from junctor.server.pubsub.delivery import Delivery, Screened
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.transports.base import DeliveryFailed
from junctor.sql.store import Store
from tests.helpers.backlog import add_subscriptions, fill, queued, state
from tests.helpers.receivers import (
    ReceiverUnderTest,
    SubscriptionUnderTest,
    WorkerUnderTest,
    failing,
    settle,
)
from tests.helpers.waiting import eventually


class Stage:
    """A subscription, and workers that deliver it, one after another."""

    def __init__(self, store: Store) -> None:
        self.store, self.engine = store, store.engine
        self.subscription: Any = SubscriptionUnderTest(add_subscriptions(store)[0])
        self.receiver = ReceiverUnderTest()
        self.workers: list[WorkerUnderTest] = []

    def fill(self, count: int, **how: Any) -> list[int]:
        """The ids of new messages in the queue, in the order in which they are to be delivered."""
        fill(self.engine, self.subscription.id, count, **how)
        return self.ids()

    def ids(self) -> list[int]:
        """The ids of the messages in the queue."""
        return [row.message_id for row in queued(self.engine, self.subscription.id)]

    def worker(self) -> WorkerUnderTest:
        """One more worker."""
        worker = WorkerUnderTest(self.store, self.receiver)
        worker.start()
        self.workers.append(worker)
        return worker

    def begin(self) -> Delivery:
        """The delivery has begun, by a worker of its own."""
        delivery = self.worker().claim(self.subscription, by_force=True)
        assert delivery is not None
        delivery.due()
        return delivery

    def dead_letters(self) -> list[Any]:
        """The dead letters."""
        with self.engine.connect() as connection:
            return list(connection.execute(text("SELECT * FROM pubsub_dead_letter ORDER BY id")))

    def is_empty(self) -> bool:
        """Whether nothing is queued any more."""
        return not self.ids()


@pytest.fixture
def stage(store: Store) -> Iterator[Stage]:
    """A subscription whose messages can be delivered."""
    found = Stage(store)
    yield found
    for worker in found.workers:
        worker.exchange.stop()


def test_a_backlog_is_delivered_in_order_and_in_batches(stage: Stage) -> None:
    ids = stage.fill(25)
    stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.got == [(id_, 0) for id_ in ids]
    assert stage.receiver.batches == [10, 10, 5]


def test_what_comes_later_is_delivered_when_it_is_said_to_be_due(stage: Stage) -> None:
    delivery = stage.begin()
    settle()
    stage.fill(1)
    delivery.due()
    eventually(stage.is_empty)
    assert delivery.is_idle


def test_the_next_batch_is_fetched_while_one_is_out_and_no_more(stage: Stage) -> None:
    stage.fill(50)
    stage.receiver.answer = lambda messages: gevent.sleep(3600)
    delivery = stage.begin()
    eventually(lambda: len(delivery.owned.held) == 20)
    settle()
    assert stage.receiver.batches == [10]
    assert len(delivery.owned.held) == 20
    assert sorted(state(stage.engine, stage.subscription.id).in_flight) == sorted(delivery.owned.held)
    assert len(delivery.sent) == 10
    delivery.drop()


def test_a_batch_has_a_mebibyte_at_the_most(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_BYTES", 250)
    stage.fill(5, data="x" * 99)
    stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.batches == [2, 2, 1]


def test_a_failure_is_tried_again_before_anything_else_where_the_order_is_kept(stage: Stage) -> None:
    ids = stage.fill(4)
    stage.subscription.batch_size = 1
    failures = iter([DeliveryFailed("Busy."), DeliveryFailed("Busy.", is_socket=True)])

    def answer(messages: Sequence[QueuedMessage]) -> None:
        if messages[0].id == ids[1] and (failed := next(failures, None)):
            raise failed

    stage.receiver.answer = answer
    stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.got == [
        (ids[0], 0), (ids[1], 0), (ids[1], 1), (ids[1], 2), (ids[2], 0), (ids[3], 0)
    ]  # fmt: skip


def test_where_it_is_not_the_others_go_on_meanwhile(stage: Stage) -> None:
    ids = stage.fill(4)
    stage.subscription.batch_size, stage.subscription.is_blocking = 1, False
    stage.subscription.wait_other = 0.3
    is_first = iter([True])

    def answer(messages: Sequence[QueuedMessage]) -> None:
        if messages[0].id == ids[1] and next(is_first, False):
            raise DeliveryFailed("Not this one.")

    stage.receiver.answer = answer
    stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.got == [(ids[0], 0), (ids[1], 0), (ids[2], 0), (ids[3], 0), (ids[1], 1)]


def test_in_a_batch_that_fails_the_culprit_is_found_and_only_it_dies(stage: Stage) -> None:
    ids = stage.fill(30)
    stage.subscription.batch_size, stage.subscription.max_retry = 16, 1
    stage.receiver.answer = failing(ids[7])
    stage.begin()
    eventually(stage.is_empty)
    [letter] = stage.dead_letters()
    assert letter.message_id == ids[7]
    assert letter.reason == "It was refused."
    assert stage.receiver.ids == ids
    assert all(attempts <= 3 for id_, attempts in stage.receiver.got if id_ != ids[7])


def test_what_fails_too_often_becomes_a_dead_letter(stage: Stage) -> None:
    ids = stage.fill(2)
    stage.subscription.batch_size, stage.subscription.max_retry = 1, 3
    stage.receiver.answer = failing(ids[0])
    delivery = stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.got == [(ids[0], 0), (ids[0], 1), (ids[0], 2), (ids[1], 0)]
    [letter] = stage.dead_letters()
    assert (letter.attempts, letter.sub_id) == (3, stage.subscription.id)
    assert delivery.owned.held == {}


def test_a_receiver_that_is_away_makes_no_dead_letters(stage: Stage) -> None:
    ids = stage.fill(1)
    stage.subscription.max_retry = 1
    stage.receiver.answer = failing(*ids, is_socket=True)
    stage.begin()
    eventually(lambda: len(stage.receiver.got) > 3)
    stage.receiver.answer = lambda messages: None
    eventually(stage.is_empty)
    assert stage.dead_letters() == []


def test_what_can_never_be_delivered_dies_at_once(stage: Stage) -> None:
    ids = stage.fill(1)
    stage.receiver.answer = failing(*ids, is_final=True)
    stage.begin()
    eventually(stage.is_empty)
    assert len(stage.dead_letters()) == 1


def test_an_error_of_any_kind_is_a_failure(stage: Stage) -> None:
    stage.fill(1)
    errors = iter([ValueError("What?"), gevent.Timeout(1)])

    def answer(_messages: Sequence[QueuedMessage]) -> None:
        if error := next(errors, None):
            raise error

    stage.receiver.answer = answer
    stage.begin()
    eventually(stage.is_empty)
    assert [attempts for _, attempts in stage.receiver.got] == [0, 1, 2]


def test_a_receiver_is_believed_when_it_says_when_to_come_again(stage: Stage) -> None:
    ids = stage.fill(1)
    stage.receiver.answer = failing(*ids, is_transient=True, retry_after=1800)
    delivery = stage.begin()
    eventually(lambda: queued(stage.engine, stage.subscription.id)[0].not_before is not None)
    assert 1700 < delivery.shown()["waits_seconds"] <= 1800
    stage.receiver.answer = lambda messages: None
    delivery.apply(stage.subscription)  # somebody has edited it
    settle()
    assert len(stage.receiver.got) == 1  # its time has not come all the same


def test_what_has_expired_in_memory_is_not_delivered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = stage.fill(2)
    with stage.engine.begin() as connection:
        connection.execute(
            text("UPDATE pubsub_message SET expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": ids[0]},
        )
    stage.begin()
    eventually(lambda: stage.ids() == ids[:1])
    assert stage.receiver.ids == ids[1:]


def test_hooks_may_let_messages_wait_or_go(stage: Stage) -> None:
    ids = stage.fill(4)
    delivery = stage.begin()
    delivery.drop()

    def screen(_subscription: Any, messages: list[QueuedMessage]) -> Screened:
        skipped = [message for message in messages if message.id == ids[0]]
        deleted = [message for message in messages if message.id == ids[1]]
        return Screened([m for m in messages if m.id not in ids[:2]], skipped, deleted)

    worker = stage.worker()
    worker.parts = delivery_module.Parts(worker.exchange, worker.metrics, lambda: True, screen)
    stage.subscription.wait_other = 3600
    found = worker.claim(stage.subscription, by_force=True)
    assert found is not None
    found.due()
    eventually(lambda: stage.ids() == ids[:1])
    assert stage.receiver.got == [(ids[2], 0), (ids[3], 0)]
    assert queued(stage.engine, stage.subscription.id)[0].attempts == 0


def test_several_batches_may_be_out_at_a_time(stage: Stage) -> None:
    stage.fill(40)
    stage.subscription.max_in_flight, stage.subscription.is_blocking = 3, False
    turn = gevent.event.Event()
    stage.receiver.answer = lambda messages: turn.wait()
    stage.begin()
    eventually(lambda: len(stage.receiver.batches) == 3)
    settle()
    assert len(stage.receiver.batches) == 3
    turn.set()
    eventually(stage.is_empty)


def test_nothing_is_sent_without_the_lease(stage: Stage) -> None:
    stage.fill(3)
    worker = stage.worker()
    worker.is_alive = False
    delivery = worker.claim(stage.subscription)
    assert delivery is not None
    delivery.due()
    settle()
    assert stage.receiver.got == []
    worker.is_alive = True
    delivery.due()
    eventually(stage.is_empty)


def test_messages_without_guaranteed_delivery_need_no_database(stage: Stage) -> None:
    delivery = stage.begin()
    for number in range(3):
        message = QueuedMessage(
            id=-number - 1, sub_id=stage.subscription.id, priority=5, attempts=0, topic_id=1, msg_id="m", data="d",
            data_type="text", size=1, mime_type="text/plain", pub_time=0.0, has_gd=False,
        )  # fmt: skip
        delivery.add_volatile(message, 2 if number else 10)
    is_first = iter([True])

    def answer(_messages: Sequence[QueuedMessage]) -> None:
        if next(is_first, False):
            raise DeliveryFailed("Busy.")

    stage.receiver.answer = answer
    eventually(lambda: len(stage.receiver.batches) == 2)
    settle()
    assert stage.receiver.got == [(-2, 0), (-3, 0), (-2, 1), (-3, 1)]


# What a worker does between taking a message and hearing that its acknowledgement is stored; in each place it dies.


def die_before_sending(stage: Stage) -> None:
    """After COMMIT: it is in flight, and not sent."""
    worker = stage.worker()
    delivery = worker.claim(stage.subscription)
    assert delivery is not None
    worker.exchange.fetch(delivery.owned, 10)
    worker.is_alive = False
    eventually(lambda: delivery.owned.held)
    worker.dies()


def die_after_sending(stage: Stage) -> None:
    """It is sent, and the acknowledgement never comes."""
    stage.receiver.answer = lambda messages: gevent.sleep(3600)
    stage.begin()
    eventually(lambda: stage.receiver.got)
    stage.workers[-1].dies()
    stage.receiver.answer = lambda messages: None


def die_before_acknowledging(stage: Stage) -> None:
    """It was acknowledged, and the database is not told."""

    def answer(_messages: Sequence[QueuedMessage]) -> None:
        stage.workers[-1].dies()

    stage.receiver.answer = answer
    stage.begin()
    eventually(lambda: stage.receiver.got)
    settle()
    stage.receiver.answer = lambda messages: None


@pytest.mark.parametrize("die", [die_before_sending, die_after_sending, die_before_acknowledging])
def test_wherever_an_owner_dies_nothing_is_lost_and_duplicates_are_marked(
    stage: Stage, die: Callable[[Stage], None]
) -> None:
    ids = stage.fill(5)
    die(stage)
    sent = len(stage.receiver.got)
    assert stage.ids() == ids
    stage.begin()
    eventually(stage.is_empty)
    assert stage.receiver.ids == ids
    assert all(attempts == 1 for _, attempts in stage.receiver.got[sent:])
    assert all(attempts == 0 for _, attempts in stage.receiver.got[:sent])


def test_an_owner_that_was_overtaken_does_not_acknowledge_what_the_new_one_delivers(stage: Stage) -> None:
    ids = stage.fill(3)
    go_on = gevent.event.Event()
    stage.receiver.answer = lambda messages: go_on.wait()
    old = stage.begin()
    eventually(lambda: stage.receiver.got)
    old_worker = stage.workers[-1]
    stage.receiver.answer = failing(*ids, is_transient=True, retry_after=3600)
    stage.begin()
    eventually(lambda: len(stage.receiver.got) == 4)
    go_on.set()
    eventually(lambda: old.owned.is_over)
    assert stage.ids() == ids
    assert [row.attempts for row in queued(stage.engine, stage.subscription.id)] == [2, 1, 1]
    assert old_worker.exchange.held_bytes == 0


@pytest.mark.parametrize("seed", range(4))
def test_order_and_marks_hold_across_failures_and_takeovers(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    ids = stage.fill(120, priority="1 + n % 3")
    stage.subscription.batch_size = 7
    stage.subscription.wait_other = stage.subscription.wait_socket = 0.001

    def answer(_messages: Sequence[QueuedMessage]) -> None:
        gevent.sleep(0)
        fate = chance.random()
        if fate < 0.1:
            raise DeliveryFailed("Busy.", is_socket=chance.random() < 0.5)
        if fate < 0.2:
            stage.workers[-1].dies()
        elif fate < 0.25:
            stage.workers[-1].is_alive = False

    stage.receiver.answer = answer
    while not stage.is_empty():
        if not stage.workers or not stage.workers[-1].is_alive:
            stage.begin()
        settle(0.001)
    assert stage.receiver.ids == ids
    seen: dict[int, int] = {}
    for id_, attempts in stage.receiver.got:
        assert id_ not in seen or attempts > 0
        assert attempts >= seen.get(id_, 0)
        seen[id_] = attempts + 1
    firsts = [id_ for id_, attempts in stage.receiver.got if attempts == 0]
    assert firsts == [id_ for id_ in ids if id_ in set(firsts)]


def test_a_delivery_that_ends_gives_back_what_it_has_not_sent(stage: Stage, engine: Engine) -> None:
    stage.fill(30)
    go_on = gevent.event.Event()
    stage.receiver.answer = lambda messages: go_on.wait()
    delivery = stage.begin()
    eventually(lambda: len(delivery.owned.held) == 20)
    delivery.end()
    gevent.spawn_later(0.02, go_on.set)
    delivery.finish(5.0)
    assert delivery.sent == []
    assert len(stage.ids()) == 20
    stage.workers[-1].ownership.release([(stage.subscription.id, delivery.owned.epoch, delivery.sent)])
    stage.begin()
    eventually(stage.is_empty)
    assert all(attempts == 0 for _, attempts in stage.receiver.got)
