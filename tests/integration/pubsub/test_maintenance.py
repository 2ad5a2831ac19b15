"""Maintenance: partitions are there before they are needed, and what nobody needs any more goes; nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from junctor.server.pubsub import cleaning as cleaning_module
from junctor.server.pubsub import partitions as partitions_module
from junctor.server.pubsub.cleaning import Cleaning
from junctor.server.pubsub.filled import filled_queues, queue_heads
from junctor.server.pubsub.partitions import Partitions
from junctor.sql.engine import connect
from junctor.sql.errors import StoreUnavailable
from junctor.sql.store import Store
from junctor.sql.tables.pubsub import MESSAGES_PER_PARTITION as WIDTH
from tests.helpers.objects import remove
from tests.helpers.queues import Queues

HOUR = 3600.0


@pytest.fixture
def partitions(store: Store) -> Partitions:
    return Partitions(store.engine)


@pytest.fixture
def cleaning(store: Store) -> Cleaning:
    return Cleaning(store.engine)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions count as settled as soon as all transactions say so."""
    monkeypatch.setattr(partitions_module, "SETTLED_AFTER", 0.0)


def advance(queues: Queues, message_id: int) -> None:
    """The next message gets the id after this one."""
    queues.one("SELECT setval('pubsub_message_id_seq', :id)", id=message_id)


def tables(queues: Queues) -> list[str]:
    rows = queues.rows("SELECT relname FROM pg_class WHERE relname ~ '^pubsub_message_p[0-9]+$' ORDER BY oid")
    return [row["relname"].removeprefix("pubsub_message_") for row in rows]


def total(steps: Iterator[Any]) -> int:
    return sum(sum(step.values()) if isinstance(step, dict) else step for step in steps)


def dropped(partitions: Partitions) -> list[int]:
    """What two looks in a row drop: the first one notes what every transaction of today must have left behind."""
    return [*partitions.drop_dead(), *partitions.drop_dead()]


def test_two_partitions_are_always_ready_and_a_third_from_the_middle_of_one_on(
    queues: Queues, partitions: Partitions
) -> None:
    assert tables(queues) == ["p0", "p1", "p2"]
    assert partitions.ensure() == []
    advance(queues, WIDTH // 2)
    assert partitions.ensure() == [3]
    advance(queues, 7 * WIDTH - 1)
    assert partitions.ensure() == [7, 8, 9]
    assert partitions.count() == 7
    topic = queues.topic()
    assert [queues.publish(topic)[0] // WIDTH for _ in range(2)] == [7, 7]


def test_partitions_are_made_while_others_publish_and_read(
    queues: Queues, partitions: Partitions, store: Store
) -> None:
    topic = queues.topic()
    queues.publish(topic)
    with store.engine.begin() as busy:
        busy.execute(text("UPDATE pubsub_message SET data = 'other'"))
        advance(queues, 3 * WIDTH)
        assert partitions.ensure() == [3, 4, 5]
        assert queues.publish(topic)[0] == 3 * WIDTH + 1


def test_a_made_partition_is_like_those_of_the_migration(queues: Queues, partitions: Partitions) -> None:
    advance(queues, WIDTH)
    partitions.ensure()
    described = """
        SELECT (SELECT array_agg(regexp_replace(indexdef, 'p[0-9]+', 'p', 'g') ORDER BY indexdef) FROM pg_indexes
                WHERE tablename = c.relname) AS indexes, c.reloptions,
               (SELECT count(*) FROM pg_inherits JOIN pg_index ON inhrelid = indexrelid WHERE indrelid = c.oid) AS attached
        FROM pg_class c WHERE relname = :name
    """
    of_migration, made = (queues.rows(described, name=f"pubsub_message_p{n}")[0] for n in (0, 3))
    assert made["reloptions"] == of_migration["reloptions"]
    assert made["attached"] == of_migration["attached"] == 4
    assert len(made["indexes"]) == len(of_migration["indexes"])


def test_a_worker_boots_without_future_partitions_and_not_without_the_present_one(
    queues: Queues, partitions: Partitions, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions_module, "LOCK_TIMEOUT", 0.05)
    with store.engine.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": partitions_module.LOCK_ID})
        advance(queues, WIDTH)
        partitions.prepare()
        assert tables(queues) == ["p0", "p1", "p2"]
        advance(queues, 3 * WIDTH)
        with pytest.raises(StoreUnavailable):
            partitions.prepare()
    partitions.prepare()
    assert tables(queues)[-1] == "p5"


@pytest.mark.usefixtures("settled")
def test_partitions_go_whose_messages_are_all_delivered(queues: Queues, partitions: Partitions) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    queues.publish(topic)
    advance(queues, WIDTH)
    waiting, _ = queues.publish(topic, [sub])
    advance(queues, 2 * WIDTH + 5)
    assert dropped(partitions) == [0]
    assert tables(queues) == ["p1", "p2"]
    assert queues.queue(sub) == [waiting]
    queues.run("DELETE FROM pubsub_queue")
    assert dropped(partitions) == [1]
    assert tables(queues) == ["p2"]


@pytest.mark.usefixtures("settled")
def test_a_partition_is_kept_while_a_message_may_be_replayed(queues: Queues, partitions: Partitions) -> None:
    topic = queues.topic()
    queues.publish(topic, kept_for=HOUR)
    queues.publish(topic, kept_for=10)
    advance(queues, WIDTH)
    assert dropped(partitions) == []
    partitions._kept_until.clear()
    queues.run("UPDATE pubsub_message SET keep_until = now() - interval '1 minute'")
    assert dropped(partitions) == []  # somebody may be replaying it
    partitions._kept_until.clear()
    queues.run("UPDATE pubsub_message SET keep_until = now() - interval '3 minutes'")
    assert dropped(partitions) == [0]


@pytest.mark.usefixtures("settled")
def test_a_partition_is_not_dropped_under_a_transaction_that_may_write_to_it(
    queues: Queues, partitions: Partitions, store: Store
) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    with store.engine.begin() as publisher:
        made = publisher.execute(
            text("""
                INSERT INTO pubsub_message (cluster_id, topic_id, msg_id, data, size, priority)
                VALUES (:cluster, :topic, 'late', '', 0, 5) RETURNING id
            """),
            {"cluster": store.cluster_id, "topic": topic},
        ).scalar_one()
        advance(queues, WIDTH)
        assert dropped(partitions) == []
        publisher.execute(
            text(
                "INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id) VALUES (:sub, 5, :id, :topic)"
            ),
            {"sub": sub, "id": made, "topic": topic},
        )
    assert dropped(partitions) == []
    assert queues.queue(sub) == queues.stored() == [made]


def test_a_partition_is_kept_for_a_minute_after_its_last_id(queues: Queues, partitions: Partitions) -> None:
    advance(queues, WIDTH)
    assert dropped(partitions) == []


@pytest.mark.usefixtures("settled")
def test_what_a_worker_that_died_has_left_half_done_is_finished(
    queues: Queues, partitions: Partitions, database: str
) -> None:
    advance(queues, 3 * WIDTH)
    partitions.ensure()
    queues.run("ALTER TABLE pubsub_message DETACH PARTITION pubsub_message_p1")
    reader, worker = connect(database), connect(database)
    with reader.begin() as reading, worker.connect() as pooled:
        reading.execute(text("SELECT count(*) FROM pubsub_message"))
        working = pooled.execution_options(isolation_level="AUTOCOMMIT")
        working.execute(text("SET statement_timeout = '100ms'"))
        with pytest.raises(Exception, match="canceling statement"):
            working.execute(
                text("ALTER TABLE pubsub_message DETACH PARTITION pubsub_message_p0 CONCURRENTLY")
            )
        pooled.invalidate()
    reader.dispose()
    worker.dispose()
    partitions.drop_dead()
    assert tables(queues) == ["p3", "p4", "p5"]


def test_dead_messages_go_after_an_hour(
    queues: Queues, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning_module, "BATCH", 3)
    monkeypatch.setattr(cleaning_module, "PAGES_OF_ROWS", 2)
    topic = queues.topic()
    sub, other = queues.subscription(), queues.subscription()
    dead = [queues.publish(topic, age=2 * HOUR)[0] for _ in range(10)]
    kept = [
        queues.publish(topic)[0],
        queues.publish(topic, age=2 * HOUR, kept_for=HOUR)[0],
        queues.publish(topic, age=2 * HOUR, kept_for=-60)[0],
        queues.publish(topic, [sub, other], age=2 * HOUR)[0],
        queues.publish(topic, [other], age=2 * HOUR, priority=1)[0],
        queues.publish(topic, [-topic], age=2 * HOUR)[0],
    ]
    dead.append(queues.publish(topic, age=2 * HOUR, kept_for=-150)[0])
    queues.run("UPDATE pubsub_queue SET priority = 9 WHERE sub_id = :sub", sub=sub)  # as an administrator may
    assert total(cleaning.dead_messages()) == len(dead)
    assert queues.stored() == kept
    assert total(cleaning.dead_messages()) == 0


def test_expired_messages_leave_their_queues(
    queues: Queues, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning_module, "BATCH", 2)
    topic = queues.topic()
    subs = [queues.subscription() for _ in range(3)]
    for _ in range(5):
        queues.publish(topic, [*subs, -topic], expires_in=-1)
    stays = queues.publish(topic, subs, expires_in=HOUR)[0], queues.publish(topic, subs)[0]
    gone: dict[int, int] = {}
    for step in cleaning.expired():
        assert sum(step.values()) <= 2
        gone = {key: gone.get(key, 0) + step.get(key, 0) for key in {*gone, *step}}
    assert gone == {topic: 20}
    assert all(tuple(queues.queue(sub)) == stays for sub in subs)


def test_what_somebody_is_handing_out_is_not_waited_for(
    queues: Queues, cleaning: Cleaning, store: Store
) -> None:
    topic = queues.topic()
    sub = queues.subscription()
    held, free = (queues.publish(topic, [sub], expires_in=-1)[0] for _ in range(2))
    with store.engine.begin() as other:
        other.execute(text("SELECT FROM pubsub_queue WHERE message_id = :id FOR UPDATE"), {"id": held})
        assert total(cleaning.expired()) == 1
    assert queues.queue(sub) == [held] != [free]


def test_queues_of_deleted_subscriptions_and_topics_are_emptied(
    queues: Queues, cleaning: Cleaning, store: Store
) -> None:
    topic, other = queues.topic(), queues.topic("/other")
    stays, goes = queues.subscription(), queues.subscription()
    queues.publish(topic, [stays, goes, -topic, -other])
    remove(store, "pubsub_subscription", goes)
    remove(store, "pubsub_topic", other)
    assert total(cleaning.orphans()) == 2
    with store.engine.connect() as connection:
        assert filled_queues(connection) == [-topic, stays]


def test_parked_messages_go_to_the_oldest_subscription_that_may_have_them(
    queues: Queues, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning_module, "BATCH", 2)
    topic = queues.topic()
    parked = [queues.publish(topic, [-topic], priority=priority)[0] for priority in (1, 9, 5, 5)]
    assert total(cleaning.parked()) == 0
    queues.subscription(active_status="disabled")
    oldest, named = queues.subscription(), queues.subscription()
    addressed, _ = queues.publish(topic, [-topic], deliver_to_sk=[queues.sub_key(named)])
    nobodys, _ = queues.publish(topic, [-topic], deliver_to_sk=["zpsk.unknown"])
    assert total(cleaning.parked()) == 5
    assert queues.queue(oldest) == [parked[1], parked[2], parked[3], parked[0]]
    assert queues.queue(named) == [addressed]
    assert queues.queue(-topic) == [nobodys]


def test_ids_of_publishers_are_forgotten_after_a_day_and_dead_letters_after_a_month(
    queues: Queues, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning_module, "BATCH", 2)
    topic = queues.topic()
    sub = queues.subscription()
    for hours in (1, 25, 26, 27):
        queues.run(
            "INSERT INTO pubsub_dedupe VALUES (:cluster, :msg_id, now() - make_interval(hours => :hours))",
            cluster=queues.store.cluster_id,
            msg_id=f"id-{hours}",
            hours=hours,
        )
    letters = [queues.bury(sub, topic)[0] for _ in range(2)]
    queues.run(
        "UPDATE pubsub_dead_letter SET died_at = now() - interval '31 days' WHERE id = :id", id=letters[0]
    )
    assert total(cleaning.dedupe()) == 3
    assert total(cleaning.dead_letters()) == 1
    assert [row["msg_id"] for row in queues.rows("SELECT msg_id FROM pubsub_dedupe")] == ["id-1"]
    assert [row["id"] for row in queues.rows("SELECT id FROM pubsub_dead_letter")] == letters[1:]


def test_the_heads_of_queues_are_found_without_reading_them(queues: Queues, store: Store) -> None:
    topic = queues.topic()
    one, two = queues.subscription(), queues.subscription()
    ids = [queues.publish(topic, [one], priority=priority)[0] for priority in (5, 5, 9, 1)]
    ids.append(queues.publish(topic, [two, -topic])[0])
    with store.engine.connect() as connection:
        heads = queue_heads(connection)
    assert sorted(heads.rows) == sorted(
        [(one, 5, ids[0]), (one, 9, ids[2]), (one, 1, ids[3]), (two, 5, ids[4]), (-topic, 5, ids[4])]
    )
    assert heads.sub_ids == [-topic, one, two]
    assert heads.oldest == ids[0]
