"""Pulling, on a real database: what is handed over, in which order, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from sqlalchemy import Engine, text

from junctor.server.metrics import Metrics
from junctor.server.pubsub import pull_sql
from junctor.server.pubsub.long_polls import LongPolls
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.pull import MAX_BATCH, Fetch, Pull
from junctor.sql.errors import BadRequest, Forbidden, InvalidInput, ServiceUnavailable
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.objects import add

OLDEST, NEWEST = Fetch(100), Fetch(100, is_newest=True)
EXPLICIT = Fetch(100, is_explicit=True)
_numbers = itertools.count(1)
LONG = 10.0  # seconds


@pytest.fixture(scope="module")
def engine(module_engine: Engine) -> Engine:
    """One database for all tests here, each of which has a queue of its own."""
    return module_engine


@pytest.fixture(scope="module")
def store(engine: Engine) -> Store:
    """The cluster of these tests."""
    return Store.create(engine, "pull", Keyring(parse_keys(new_key_line())))


@pytest.fixture
def pull(engine: Engine) -> Pull:
    """What one worker pulls with."""
    context: Any = SimpleNamespace(pubsub=SimpleNamespace(engine=engine), metrics=Metrics())
    return Pull(context)


@pytest.fixture
def subscribe(engine: Engine, store: Store) -> Callable[..., Any]:
    """Makes a subscription with an empty queue, as a worker knows it."""

    def made(**fields: Any) -> Any:
        name = f"/orders/{next(_numbers)}"
        topic = add(store, "pubsub_topic", name)
        add(store, "pubsub_endpoint", name, endpoint_type="internal", topic_patterns=["sub=/**"])
        config = add(store, "pubsub_subscription", name, endpoint=name, topic=name, delivery_method="pull")
        known = {
            "id": config.id,
            "name": name,
            "topic_id": topic.id,
            "delivery_method": "pull",
            "can_deliver": True,
            "ack_wait": 30,
            "max_retry": 3,
        }
        return SimpleNamespace(**known | fields)

    return made


@pytest.fixture
def orders(subscribe: Callable[..., Any]) -> Any:
    """A subscription with an empty queue."""
    return subscribe()


def fill(engine: Engine, subscription: Any, count: int = 1, *, priority: str = "5", **row: str) -> None:
    """Puts messages into a queue, whose data are their numbers; ``priority``, and columns of the queue, are SQL of ``n``, from 1."""
    columns = "".join(f", {name}" for name in row)
    values = "".join(f", {value}" for value in row.values())
    statement = f"""
        WITH given AS (
            SELECT n, nextval('pubsub_message_id_seq') AS id, ({priority})::smallint AS priority FROM generate_series(1, :count) n
        ), stored AS (
            INSERT INTO pubsub_message (id, cluster_id, topic_id, msg_id, data, size, priority)
            SELECT id, :cluster, :topic, 'zpsm' || id, n, length(n::text), priority FROM given
        )
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id{columns})
        SELECT :sub, priority, id, :topic{values} FROM given
    """
    values_of = {"count": count, "topic": subscription.topic_id, "sub": subscription.id}
    with engine.begin() as connection:
        cluster = connection.scalar(text("SELECT id FROM cluster"))
        connection.execute(text(statement), values_of | {"cluster": cluster})


def queued(engine: Engine, sub_id: int) -> list[Any]:
    """The rows of a queue, in the order of delivery, with their messages."""
    statement = """
        SELECT q.*, m.data, m.msg_id FROM pubsub_queue q LEFT JOIN pubsub_message m ON m.id = q.message_id
        WHERE q.sub_id = :id ORDER BY q.priority DESC, q.message_id
    """
    with engine.connect() as connection:
        return list(connection.execute(text(statement), {"id": sub_id}))


def state(engine: Engine, sub_id: int) -> Any:
    """What is known of the use of a subscription."""
    with engine.connect() as connection:
        return connection.execute(text("SELECT * FROM pubsub_state WHERE sub_id = :id"), {"id": sub_id}).one()


def data(messages: Iterable[QueuedMessage]) -> list[str]:
    """What was published, in order."""
    return [message.data for message in messages]


def ids(messages: Iterable[QueuedMessage]) -> list[str]:
    """What the messages are called."""
    return [message.msg_id for message in messages]


def dead(engine: Engine, sub_id: int) -> list[Any]:
    """The dead letters of a subscription."""
    with engine.connect() as connection:
        statement = text("SELECT * FROM pubsub_dead_letter WHERE sub_id = :id ORDER BY id")
        return list(connection.execute(statement, {"id": sub_id}))


def make_due(engine: Engine, sub_id: int) -> None:
    """The time of all messages that are lent is over."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE pubsub_queue SET not_before = now() - interval '1 s' WHERE sub_id = :id"),
            {"id": sub_id},
        )


class TestOrder:
    def test_the_oldest_come_first_and_of_all_those_of_the_highest_priority(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 6, priority="CASE WHEN n % 3 = 0 THEN 9 ELSE 1 END")
        assert data(pull.fetch(orders, OLDEST)) == ["3", "6", "1", "2", "4", "5"]

    def test_the_newest_come_first_and_of_all_those_of_the_highest_priority(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 6, priority="CASE WHEN n % 3 = 0 THEN 9 ELSE 1 END")
        assert data(pull.fetch(orders, NEWEST)) == ["6", "3", "5", "4", "2", "1"]

    @pytest.mark.parametrize(("is_newest", "expected"), [(False, ["3", "6", "1"]), (True, ["6", "3", "5"])])
    def test_a_batch_has_what_comes_first_and_the_rest_stays(
        self, engine: Engine, pull: Pull, orders: Any, is_newest: bool, expected: list[str]
    ) -> None:
        fill(engine, orders, 6, priority="CASE WHEN n % 3 = 0 THEN 9 ELSE 1 END")
        assert data(pull.fetch(orders, Fetch(3, is_newest=is_newest))) == expected
        assert len(queued(engine, orders.id)) == 3

    def test_more_than_a_hand_over_may_have_stays_but_a_single_message_may_be_larger(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 3)
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE pubsub_message SET size = :size WHERE data = '2' AND topic_id = :topic"),
                {"size": pull_sql.MAX_BYTES, "topic": orders.topic_id},
            )
        assert data(pull.fetch(orders, OLDEST)) == ["1", "2"]
        assert data(pull.fetch(orders, OLDEST)) == ["3"]


class TestHandingOver:
    def test_what_was_handed_over_is_gone(self, engine: Engine, pull: Pull, orders: Any) -> None:
        fill(engine, orders, 2)
        (first, _) = pull.fetch(orders, OLDEST)
        assert (first.attempts, first.sub_id, first.topic_id) == (0, orders.id, orders.topic_id)
        assert pull.fetch(orders, OLDEST) == []
        assert queued(engine, orders.id) == []

    def test_expired_and_delayed_messages_are_not_handed_over(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 1, expires_at="now() - interval '1 s'")
        fill(engine, orders, 1, not_before="now() + interval '1 h'")
        assert pull.fetch(orders, OLDEST) == pull.fetch(orders, NEWEST) == []

    @pytest.mark.parametrize("is_newest", [False, True])
    @pytest.mark.parametrize("is_explicit", [False, True])
    def test_what_somebody_else_is_handed_just_now_is_left_to_them(
        self, engine: Engine, pull: Pull, orders: Any, is_newest: bool, is_explicit: bool
    ) -> None:
        fill(engine, orders, 4)
        wanted = Fetch(2, is_newest=is_newest, is_explicit=is_explicit)
        values = {"sub_id": orders.id, "most": 2, "bytes": pull_sql.MAX_BYTES, "ack_wait": 30}
        with engine.connect() as other, other.begin():
            theirs = other.execute(pull_sql.HAND_OVER[is_newest, is_explicit], values).all()
            mine = pull.fetch(orders, wanted)
        assert len(theirs) == len(mine) == 2
        assert not {row.message_id for row in theirs} & {message.id for message in mine}

    def test_a_row_without_its_message_is_removed_and_harms_nobody(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 2)
        with engine.begin() as connection:
            connection.execute(
                text("DELETE FROM pubsub_message WHERE data = '1' AND topic_id = :id"),
                {"id": orders.topic_id},
            )
        assert data(pull.fetch(orders, OLDEST)) == ["2"]
        assert queued(engine, orders.id) == []

    def test_messages_that_are_sent_to_the_subscriber_cannot_be_pulled(
        self, pull: Pull, subscribe: Callable[..., Any]
    ) -> None:
        with pytest.raises(BadRequest, match="cannot be pulled"):
            pull.fetch(subscribe(delivery_method="notify"), OLDEST)

    def test_nothing_is_handed_over_while_the_subscription_is_switched_off(
        self, pull: Pull, subscribe: Callable[..., Any]
    ) -> None:
        with pytest.raises(Forbidden, match="switched off"):
            pull.fetch(subscribe(can_deliver=False), OLDEST)

    def test_it_is_noted_when_a_subscription_was_used(self, engine: Engine, pull: Pull, orders: Any) -> None:
        pull.fetch(orders, OLDEST)
        assert state(engine, orders.id).last_interaction_type == "pull"
        assert state(engine, orders.id).worker_id is None


class TestExplicitAcknowledgement:
    def test_a_message_that_was_not_acknowledged_comes_again_and_says_so(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders)
        (first,) = pull.fetch(orders, EXPLICIT)
        assert first.attempts == 0
        assert pull.fetch(orders, EXPLICIT) == []
        make_due(engine, orders.id)
        (again,) = pull.fetch(orders, EXPLICIT)
        assert (again.msg_id, again.attempts) == (first.msg_id, 1)

    def test_an_acknowledged_message_is_gone(self, engine: Engine, pull: Pull, orders: Any) -> None:
        fill(engine, orders, 3, priority="n")
        messages = pull.fetch(orders, EXPLICIT)
        assert pull.acknowledge(orders, ids(messages[:2])) == 2
        assert [row.data for row in queued(engine, orders.id)] == ["1"]
        assert pull.acknowledge(orders, ids(messages[:2])) == 0

    def test_what_was_not_handed_over_or_is_of_another_queue_cannot_be_acknowledged(
        self, engine: Engine, pull: Pull, orders: Any, subscribe: Callable[..., Any]
    ) -> None:
        fill(engine, orders)
        other = subscribe()
        msg_id = queued(engine, orders.id)[0].msg_id
        assert pull.acknowledge(orders, [msg_id, "zpsm-unknown"]) == 0
        assert pull.acknowledge(other, [msg_id]) == 0
        assert pull.delete(orders, [msg_id]) == 1

    def test_a_rejected_message_can_be_had_again_after_its_delay(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders)
        (first,) = pull.fetch(orders, EXPLICIT)
        assert pull.reject(orders, [first.msg_id]) == 1
        (again,) = pull.fetch(orders, EXPLICIT)
        assert again.attempts == 1
        assert pull.reject(orders, [first.msg_id], delay=60, reason="Out of paper") == 1
        assert pull.fetch(orders, EXPLICIT) == []
        (row,) = queued(engine, orders.id)
        assert (row.attempts, row.last_error) == (2, "Out of paper")
        assert row.first_failed_at is not None

    def test_what_is_rejected_more_often_than_allowed_becomes_a_dead_letter(
        self, engine: Engine, pull: Pull, subscribe: Callable[..., Any]
    ) -> None:
        orders = subscribe(max_retry=1)
        fill(engine, orders)
        for attempt in range(2):
            (message,) = pull.fetch(orders, EXPLICIT)
            assert message.attempts == attempt
            pull.reject(orders, [message.msg_id], reason="Broken")
        (letter,) = dead(engine, orders.id)
        assert (letter.msg_id, letter.attempts, letter.reason) == (message.msg_id, 2, "Broken")
        assert letter.message["data"] == "1"
        assert queued(engine, orders.id) == []

    def test_what_nobody_ever_acknowledges_becomes_a_dead_letter_and_the_others_are_handed_over(
        self, engine: Engine, pull: Pull, subscribe: Callable[..., Any]
    ) -> None:
        orders = subscribe(max_retry=2)
        fill(engine, orders, 2, attempts="CASE n WHEN 1 THEN 3 ELSE 2 END")
        (message,) = pull.fetch(orders, EXPLICIT)
        assert (message.data, message.attempts) == ("2", 2)
        (letter,) = dead(engine, orders.id)
        assert letter.message["data"] == "1"
        assert "not acknowledged in time" in letter.reason

    def test_too_many_ids_are_refused(self, pull: Pull, orders: Any) -> None:
        with pytest.raises(InvalidInput, match="15000"):
            pull.acknowledge(orders, ["x"] * (MAX_BATCH + 1))


class TestDepth:
    def test_the_depth_counts_what_is_lent_and_delayed_but_not_what_has_expired(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        fill(engine, orders, 3, not_before="now() + interval '1 h'")
        fill(engine, orders, 2, expires_at="now() - interval '1 s'")
        assert pull.depth(orders.id) == 3


class TestLongPolling:
    def test_who_waits_gets_what_is_published_meanwhile_by_a_hint(
        self, engine: Engine, pull: Pull, orders: Any
    ) -> None:
        waiting = gevent.spawn(pull.fetch, orders, Fetch(10, wait=LONG))
        gevent.sleep(0)
        fill(engine, orders)
        pull.due([orders.id])
        assert data(waiting.get(timeout=LONG)) == ["1"]

    def test_who_waits_gets_it_without_a_hint_as_well(self, engine: Engine, pull: Pull, orders: Any) -> None:
        waiting = gevent.spawn(pull.fetch, orders, Fetch(10, wait=LONG))
        gevent.sleep(0)
        fill(engine, orders)
        assert data(waiting.get(timeout=LONG)) == ["1"]

    def test_a_hint_to_another_queue_wakes_nobody(self, engine: Engine) -> None:
        polls = LongPolls()
        waiting = gevent.spawn(polls.wait, engine, 1, monotonic() + LONG)
        gevent.sleep(0)
        polls.due([2])
        gevent.sleep(0)
        assert not waiting.ready()
        polls.due([1])
        assert waiting.get(timeout=LONG) is True

    def test_the_wait_ends_with_nothing(self, pull: Pull, orders: Any) -> None:
        assert pull.fetch(orders, Fetch(10, wait=0.01)) == []

    def test_nothing_is_handed_over_to_who_has_left(self, engine: Engine, pull: Pull, orders: Any) -> None:
        wanted = Fetch(10, wait=LONG, is_gone=lambda: True)
        waiting = gevent.spawn(pull.fetch, orders, wanted)
        gevent.sleep(0)
        fill(engine, orders)
        pull.due([orders.id])
        assert waiting.get(timeout=LONG) == []
        assert len(queued(engine, orders.id)) == 1

    def test_nobody_waits_for_a_worker_that_stops(self, pull: Pull, orders: Any) -> None:
        waiting = gevent.spawn(pull.fetch, orders, Fetch(10, wait=LONG))
        gevent.sleep(0)
        pull.stop()
        assert waiting.get(timeout=LONG) == []

    def test_only_so_many_may_wait(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("junctor.server.pubsub.long_polls.MAX_WAITING", 1)
        polls = LongPolls()
        waiting = gevent.spawn(polls.wait, engine, 1, monotonic() + LONG)
        gevent.sleep(0)
        with pytest.raises(ServiceUnavailable, match="Too many"):
            polls.wait(engine, 1, monotonic() + LONG)
        polls.stop()
        assert waiting.get(timeout=LONG) is False
