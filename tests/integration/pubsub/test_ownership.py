"""Who owns a subscription, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from junctor.server.pubsub.exchange import Failure
from junctor.server.pubsub.ownership import Claimed, chosen
from junctor.sql.store import Store
from tests.helpers.backlog import add_subscriptions, fill, queued, state
from tests.helpers.receivers import ReceiverUnderTest, SubscriptionUnderTest, WorkerUnderTest


@pytest.fixture
def subscription(store: Store) -> Any:
    """A subscription."""
    return SubscriptionUnderTest(add_subscriptions(store)[0])


@pytest.fixture
def worker(store: Store) -> WorkerUnderTest:
    """A worker."""
    return WorkerUnderTest(store, ReceiverUnderTest())


@pytest.fixture
def other(store: Store) -> WorkerUnderTest:
    """Another one."""
    return WorkerUnderTest(store, ReceiverUnderTest())


def taken(worker: WorkerUnderTest, subscription: Any) -> Any:
    """The worker's delivery of the subscription, which has taken what is there and sent nothing."""
    delivery = worker.claim(subscription)
    assert delivery is not None
    worker.exchange.fetch(delivery.owned, 100)
    delivery.end()  # what it is given goes back, and the database does not know yet
    worker.exchange.round_trip()
    return delivery


def test_a_free_subscription_goes_to_who_claims_it(
    subscription: Any, worker: WorkerUnderTest, engine: Engine
) -> None:
    assert worker.ownership.claim([subscription.id]) == [Claimed(subscription.id, 1, None)]
    assert state(engine, subscription.id).worker_id == worker.id
    assert worker.ownership.owner_of(subscription.id) == worker.id


def test_a_living_owner_keeps_it(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    worker.claim(subscription)
    assert other.ownership.claim([subscription.id]) == []
    assert state(engine, subscription.id).epoch == 1


def test_unless_it_is_taken_by_force(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest
) -> None:
    worker.claim(subscription)
    assert other.ownership.claim([subscription.id], by_force=True) == [Claimed(subscription.id, 2, worker.id)]


@pytest.mark.parametrize(
    "end", ["DELETE FROM worker WHERE id = :id", "UPDATE lease SET expires = now() WHERE worker_id = :id"]
)
def test_a_subscription_whose_owner_is_dead_is_free(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine, end: str
) -> None:
    worker.claim(subscription)
    with engine.begin() as connection:
        connection.execute(text(end), {"id": worker.id})
    assert other.ownership.claim([subscription.id]) == [Claimed(subscription.id, 2, worker.id)]


def test_what_was_in_flight_has_been_handed_out_once_more(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    fill(engine, subscription.id, 3, priority="4 + n % 2")
    taken(worker, subscription)
    fill(engine, subscription.id, 1)
    worker.dies()
    other.claim(subscription)
    assert [row.attempts for row in queued(engine, subscription.id)] == [1, 1, 0, 1]
    assert state(engine, subscription.id).in_flight == []


def test_a_message_that_was_taken_while_the_claim_waited_is_marked_too(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    """The claim waits for the owner's last transaction, and then sees what came into the queue after the claim had begun."""
    import threading

    delivery = worker.claim(subscription)
    assert delivery is not None
    fill(engine, subscription.id, 1)
    with engine.connect() as owner:
        owner.execute(
            text("SELECT 1 FROM pubsub_state WHERE sub_id = :sub FOR NO KEY UPDATE"), {"sub": subscription.id}
        )
        claiming = threading.Thread(
            target=lambda: other.ownership.claim([subscription.id], by_force=True), daemon=True
        )
        claiming.start()
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not owner.execute(waits).scalar():
            claiming.join(0.01)
        fill(engine, subscription.id, 1)
        owner.execute(
            text(
                "UPDATE pubsub_state SET in_flight = array(SELECT message_id FROM pubsub_queue WHERE sub_id = :sub) "
                "WHERE sub_id = :sub"
            ),
            {"sub": subscription.id},
        )
        owner.commit()
        claiming.join(10)
    assert [row.attempts for row in queued(engine, subscription.id)] == [1, 1]


def test_what_is_given_back_is_free_and_only_what_was_sent_is_marked(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    fill(engine, subscription.id, 3)
    delivery = taken(worker, subscription)
    first = queued(engine, subscription.id)[0].message_id
    worker.ownership.release([(subscription.id, delivery.owned.epoch, [first])])
    assert state(engine, subscription.id).worker_id is None
    assert other.ownership.claim([subscription.id])[0].previous is None
    assert [row.attempts for row in queued(engine, subscription.id)] == [1, 0, 0]


def test_a_stale_owner_cannot_give_back_what_is_not_its_own(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    delivery = worker.claim(subscription)
    assert delivery is not None
    other.claim(subscription, by_force=True)
    worker.ownership.release([(subscription.id, delivery.owned.epoch, [])])
    assert state(engine, subscription.id).worker_id == other.id


def test_a_stale_owner_can_neither_acknowledge_nor_mark(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    fill(engine, subscription.id, 2)
    delivery = worker.claim(subscription)
    assert delivery is not None
    worker.exchange.fetch(delivery.owned, 2)
    worker.exchange.round_trip()
    messages = list(delivery.owned.held.values())
    other.claim(subscription, by_force=True)
    worker.exchange.acknowledge(delivery.owned, messages[:1])
    worker.exchange.fail(delivery.owned, [Failure(messages[1], 7, None, "It broke.")])
    worker.exchange.round_trip()
    assert delivery.owned.is_over
    assert [row.attempts for row in queued(engine, subscription.id)] == [1, 1]


def test_a_deleted_subscription_is_nobodys(worker: WorkerUnderTest) -> None:
    assert worker.ownership.claim([123_456]) == []
    assert worker.ownership.claim([123_456], by_force=True) == []
    assert worker.ownership.owner_of(123_456) is None


def test_one_look_tells_of_the_newest_message_and_of_the_living(
    subscription: Any, worker: WorkerUnderTest, other: WorkerUnderTest, engine: Engine
) -> None:
    before = worker.ownership.look()
    assert set(before.workers) == {worker.id, other.id}
    assert before.workers[worker.id].server == "server1"
    fill(engine, subscription.id, 3)
    other.dies()
    after = worker.ownership.look()
    assert after.last_id > before.last_id
    assert set(after.workers) == {worker.id}
    worker.dies()
    assert worker.ownership.look().workers == {}


def test_only_queues_with_something_due_are_due(
    store: Store, worker: WorkerUnderTest, engine: Engine
) -> None:
    empty, full, delayed, expired, late = add_subscriptions(store, 5)
    fill(engine, full, 2)
    fill(engine, delayed, 2, not_before="now() + interval '1 hour'")
    fill(engine, expired, 2, expires_at="now() - interval '1 hour'")
    fill(engine, late, 2, not_before="now() - interval '1 hour'")
    assert sorted(worker.ownership.due([empty, full, delayed, expired, late])) == [full, late]
    assert worker.ownership.due([]) == []


def test_everybody_chooses_the_same_owner_and_few_change_when_a_worker_goes() -> None:
    workers = [3, 8, 21, 34]
    owners = {sub_id: chosen(sub_id, workers) for sub_id in range(1000)}
    assert owners == {sub_id: chosen(sub_id, reversed(workers)) for sub_id in range(1000)}
    assert all(150 < list(owners.values()).count(worker) < 350 for worker in workers)
    fewer = {sub_id: chosen(sub_id, [3, 8, 21]) for sub_id in range(1000)}
    assert all(fewer[sub_id] == owner for sub_id, owner in owners.items() if owner != 34)
    assert chosen(1, []) is None
