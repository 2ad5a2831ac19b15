"""The chores of publish/subscribe: who does them, when, and what is told of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from junctor.server.context import Context
from junctor.server.metrics import Metrics
from junctor.server.pubsub import maintenance as module
from junctor.server.pubsub import stats
from junctor.server.pubsub.maintenance import LEASE, Chore, Maintenance, tell_owners
from junctor.server.pubsub.partitions import Partitions
from junctor.server.pubsub.stats import APPLICATIONS, OTHERS, UNSUBSCRIBED, Gauges
from junctor.server.runtime.lease import Lease
from junctor.sql.errors import StoreUnavailable
from junctor.sql.store import Store
from tests.helpers.queues import Queues
from tests.helpers.waiting import eventually


class Leases:
    """Gives a lease to whoever wants it, when a test says so."""

    def __init__(self) -> None:
        self.lease = Lease("")
        self.given_up: list[str] = []

    def want(self, name: str) -> Lease:
        self.lease.name = name
        return self.lease

    def give_up(self, name: str) -> None:
        self.given_up.append(name)


class Worker:
    """What maintenance needs of a worker; ``told`` are the owners that were given hints."""

    def __init__(self, store: Store) -> None:
        self.store, self.metrics, self.leases = store, Metrics(), Leases()
        self.links = SimpleNamespace(leases=self.leases)
        self.told: dict[int, int | None] = {}
        self.unsubscribed: list[int] = []
        directory = SimpleNamespace(
            topic_by_id=lambda topic_id: SimpleNamespace(name=f"topic {topic_id}"),
            subscription_by_id=lambda sub_id: SimpleNamespace(
                id=sub_id, config=SimpleNamespace(name=str(sub_id))
            ),
        )
        self.pubsub = SimpleNamespace(
            engine=store.engine,
            directory=directory,
            hints=SimpleNamespace(due=self.told.update),
            subscribing=SimpleNamespace(
                unsubscribe=lambda subscription: self.unsubscribed.append(subscription.id)
            ),
        )
        self.maintenance = Maintenance(self.context)

    @property
    def context(self) -> Context:
        return cast(Context, self)

    def gauges(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a gauge by its labels: the endpoint, the subscription, the topic."""
        return {
            tuple(value for _, value in series.labels): cast(float, series.value)  # type: ignore[union-attr]  # a gauge
            for series in self.metrics._series.values()
            if series.name == name
        }


@pytest.fixture
def worker(store: Store) -> Worker:
    return Worker(store)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time as chores see it, in seconds."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(module, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(module, "perf_counter", lambda: now.seconds)
    return now


def test_a_chore_is_done_step_by_step_and_then_rests(clock: SimpleNamespace) -> None:
    done: list[int] = []

    def steps() -> Iterator[int]:
        for number in range(2):
            done.append(number)
            yield number

    chore = Chore("test", 10, steps)
    assert [chore.step() for _ in range(4)] == [True, True, False, False]
    clock.seconds = 9.9
    assert chore.step() is False
    clock.seconds = 10.0
    assert chore.step() is True
    assert done == [0, 1, 0]


def test_a_chore_that_takes_long_rests_fifty_times_as_long(clock: SimpleNamespace) -> None:
    def steps() -> Iterator[None]:
        for _ in range(2):
            clock.seconds += 1.5
            yield

    chore = Chore("test", 10, steps)
    while chore.step():
        pass
    clock.seconds = 3 + 149
    assert chore.step() is False
    clock.seconds = 3 + 150
    assert chore.step() is True


def test_a_chore_that_fails_is_begun_anew_soon(clock: SimpleNamespace) -> None:
    def steps() -> Iterator[None]:
        yield
        raise StoreUnavailable("away")

    chore = Chore("test", 600, steps)
    assert chore.step() is True
    with pytest.raises(StoreUnavailable):
        chore.step()
    clock.seconds = module.RETRY_PAUSE
    assert chore.step() is True


def test_only_who_has_the_lease_does_something(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL", 0.01)
    done: list[str] = []

    def steps() -> Iterator[None]:
        done.append("step")
        yield

    def chores(_: Maintenance) -> list[Chore]:
        return [Chore("test", 0.0, steps)]

    monkeypatch.setattr(Maintenance, "chores", chores)
    worker.maintenance.start()
    assert worker.leases.lease.name == LEASE
    assert not done
    worker.leases.lease.granted(1, monotonic() + 60)
    eventually(lambda: done)
    worker.maintenance.stop()
    assert worker.leases.given_up == [LEASE]


def test_what_fails_is_told_once_and_stops_nothing_else(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state: dict[str, Any] = {"error": StoreUnavailable("The object database is away.")}

    def fails() -> Iterator[None]:
        if state["error"] is not None:
            raise state["error"]
        yield

    failing = Chore("failing", 0.0, fails)
    for _ in range(3):
        assert worker.maintenance._step(failing) is False
    state["error"] = None
    assert worker.maintenance._step(failing) is True
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "The maintenance of publish/subscribe cannot do 'failing' now: The object database is away.",
        "The maintenance of publish/subscribe does 'failing' again.",
    ]
    state["error"] = ZeroDivisionError()
    assert worker.maintenance._step(Chore("broken", 0.0, fails)) is False
    assert "failed at 'broken'" in caplog.records[-1].getMessage()


def test_every_chore_can_be_done_with_an_empty_database(worker: Worker) -> None:
    for chore in worker.maintenance.chores():
        while chore.step():
            pass
    assert worker.metrics.gauge("junctor_pubsub_partitions").value >= 3


def test_what_chores_have_removed_is_counted(worker: Worker, store: Store) -> None:
    queues = Queues(store)
    topic = queues.topic()
    sub = queues.subscription()
    queues.publish(topic, [sub], expires_in=-1)
    queues.publish(topic, [-topic])
    queues.publish(topic, age=7200)
    for chore in worker.maintenance.chores():
        while chore.step():
            pass
    metrics = worker.metrics
    assert metrics.counter("junctor_pubsub_expired_total", topic=f"topic {topic}").value >= 1
    assert metrics.counter("junctor_pubsub_removed_total", what="message").value >= 1
    assert worker.told[sub] is None


def test_subscriptions_that_applications_made_and_nobody_uses_are_deleted(
    worker: Worker, store: Store
) -> None:
    queues = Queues(store)
    queues.topic(limit_sub_inactivity=60)
    queues.topic("/for-ever")
    of_application: dict[str, Any] = {"system": {"is_internal": True}}
    unused, fresh, used, owned = (queues.subscription(**of_application) for _ in range(4))
    configured, elsewhere = queues.subscription(), queues.subscription("/for-ever", **of_application)
    of_application["unsub_on_wsx_close"] = True
    left_over, connected = (queues.subscription("/for-ever", **of_application) for _ in range(2))
    queues.run(
        "UPDATE pubsub_subscription SET created = now() - interval '1 hour' WHERE id <> :fresh", fresh=fresh
    )
    queues.own(used, None, idle=10)
    queues.own(unused, None, idle=70)
    for sub_id in (owned, connected):
        queues.own(sub_id, queues.worker(), idle=70)
    queues.own(left_over, None, idle=70)
    assert worker.maintenance.unsubscribe_inactive() == [str(unused), str(left_over)]
    assert worker.unsubscribed == [unused, left_over]
    assert configured != elsewhere


def test_owners_are_told_of_what_came_into_their_queues(worker: Worker, store: Store) -> None:
    queues = Queues(store)
    queues.topic()
    owned, nobodys = queues.subscription(), queues.subscription()
    owner = queues.worker()
    queues.own(owned, owner)
    tell_owners(worker.context, [owned, nobodys])
    assert worker.told == {owned: owner, nobodys: None}


def test_gauges_say_what_waits_in_the_queues_of_the_cluster(worker: Worker, store: Store) -> None:
    queues = Queues(store)
    topic = queues.topic()
    sub = queues.subscription(name="Orders")
    ours = [queues.subscription(system={"is_internal": True}) for _ in range(2)]
    queues.publish(topic, [sub, *ours, -topic], age=100)
    queues.publish(topic, [sub])
    queues.bury(sub, topic)
    gauges = Gauges(worker.context, Partitions(store.engine))
    gauges.update()
    endpoints = [
        row["name"]
        for row in queues.rows(
            "SELECT name FROM pubsub_endpoint WHERE cluster_id = :c ORDER BY id", c=store.cluster_id
        )
    ]
    assert worker.gauges("junctor_pubsub_depth") == {
        (endpoints[0], "Orders", "/orders"): 2,
        (endpoints[1], APPLICATIONS, "/orders"): 1,
        (endpoints[2], APPLICATIONS, "/orders"): 1,
        (UNSUBSCRIBED, "", "/orders"): 1,
    }
    assert worker.gauges("junctor_pubsub_dead_letters")[endpoints[0], "Orders", "/orders"] == 1
    assert all(value >= 100 for value in worker.gauges("junctor_pubsub_oldest_seconds").values())
    queues.run("DELETE FROM pubsub_queue WHERE topic_id = :topic", topic=topic)
    gauges.update()
    assert set(worker.gauges("junctor_pubsub_depth").values()) == {0}
    gauges.reset()
    assert set(worker.gauges("junctor_pubsub_dead_letters").values()) == {0}


def test_there_is_an_end_to_the_series(worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_SERIES", 2)
    queues = Queues(store)
    topic = queues.topic()
    subs = [queues.subscription(name=f"S{number}") for number in range(4)]
    queues.publish(topic, subs)
    gauges = Gauges(worker.context, Partitions(store.engine))
    for _ in range(2):
        gauges.update()
        found: Mapping[tuple[str, ...], float] = worker.gauges("junctor_pubsub_depth")
        assert len(found) == 3
        assert found[OTHERS, OTHERS, OTHERS] == 2
        assert sum(found.values()) == 4
