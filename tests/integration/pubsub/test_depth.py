"""Limits of the depth of queues, on real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from junctor.server.pubsub import depth
from junctor.server.pubsub.live import Topic
from junctor.sql.errors import ServiceUnavailable
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.objects import add, edit
from tests.helpers.publishers import (
    PublisherUnderTest,
    add_topic,
    emptied,
    message,
    publisher,
)


@pytest.fixture
def engine(module_engine: Engine) -> Engine:
    return module_engine


@pytest.fixture
def store(engine: Engine, keyring: Keyring) -> Store:
    return emptied(engine, keyring)


@pytest.fixture
def published(store: Store, engine: Engine) -> Iterator[PublisherUnderTest]:
    add(store, "pubsub_endpoint", "CRM", endpoint_type="internal", topic_patterns=["pub=/**"])
    with publisher(store, engine) as made:
        yield made


def publish(published: PublisherUnderTest, count: int = 1) -> None:
    endpoint = published.pubsub.directory.endpoint_of(name="CRM")
    messages = [message(0) for _ in range(count)]
    for item in messages:
        item.topic = "/orders"
    published.pubsub.publishing.publish(endpoint, messages)


def empty(engine: Engine, sub_id: int, *, leave: int = 0) -> None:
    with engine.begin() as connection:
        statement = (
            "DELETE FROM pubsub_queue WHERE sub_id = :sub "
            "AND message_id IN (SELECT message_id FROM pubsub_queue WHERE sub_id = :sub OFFSET :leave)"
        )
        connection.execute(text(statement), {"sub": sub_id, "leave": leave})


@pytest.mark.parametrize("subscribers", [2, 0], ids=["a subscription", "the topic's own queue"])
def test_while_a_queue_is_full_publishers_are_refused_and_then_not_any_more(
    store: Store,
    published: PublisherUnderTest,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    subscribers: int,
) -> None:
    topic, subs = add_topic(store, "/orders", subscribers, max_depth_gd=3, depth_check_freq=1)
    published.load()
    monkeypatch.setattr(depth, "INTERVAL_FULL", 0.0)
    monkeypatch.setattr(depth, "SHARE", 0)
    sub = subs[-1] if subs else -topic
    publish(published, 2)
    publish(published)
    with pytest.raises(ServiceUnavailable, match="Topic /orders is full: one of its queues has 3 messages"):
        publish(published)
    assert len(published.queue(sub)) == 3
    assert published.counted("junctor_pubsub_refused_total", reason="unavailable") == 1
    for other in subs[:-1]:
        empty(engine, other)
    with pytest.raises(ServiceUnavailable):
        publish(published)  # one full queue is enough
    empty(engine, sub, leave=2)
    publish(published)
    assert len(published.queue(sub)) == 3


def test_a_subscription_that_takes_nothing_stops_nobody(
    store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (first, _) = add_topic(store, "/orders", 2, max_depth_gd=1, depth_check_freq=1)
    published.load()
    monkeypatch.setattr(depth, "SHARE", 0)
    publish(published)
    edit(store, "pubsub_topic", "/orders", max_depth_gd=2)
    edit(store, "pubsub_subscription", first, active_status="disabled")
    published.load()
    publish(published)
    with pytest.raises(ServiceUnavailable):
        publish(published)


def test_rows_are_counted_seldom(
    store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_topic(store, "/orders", 1, depth_check_freq=10)
    published.load()
    counts: list[float] = []
    count, now = depth.Depths._count, [1000.0]

    def counted(self: depth.Depths, topic: Topic, known: depth._Known) -> None:
        counts.append(now[0])
        count(self, topic, known)

    monkeypatch.setattr(depth, "monotonic", lambda: now[0])
    monkeypatch.setattr(depth.Depths, "_count", counted)
    publish(published)  # the first one
    publish(published, 8)
    assert len(counts) == 1
    publish(published)
    publish(published)  # after ten
    assert len(counts) == 2
    publish(published)
    now[0] += 1.1
    publish(published)  # after a second
    assert len(counts) == 3
    published.pubsub.publishing.depths.forget(published.pubsub.directory.topic("/orders").id)
    publish(published)  # after a change of the topic
    assert len(counts) == 4


def test_a_count_that_takes_long_is_followed_by_none_for_a_while(
    store: Store, published: PublisherUnderTest
) -> None:
    known = depth._Known()
    add_topic(store, "/orders", 1, depth_check_freq=1)
    published.load()
    topic = published.pubsub.directory.topic("/orders")
    known.counted_at, known.took, known.published = 100.0, 0.5, 1000
    assert not known.is_due(topic, 109.9)
    assert known.is_due(topic, 110.0)
    known.is_full = True
    assert not known.is_due(topic, 109.9)
