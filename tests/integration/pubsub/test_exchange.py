"""The exchange with the queues, on a real PostgreSQL: what is taken, what is told, and what happens when it breaks off in the middle."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from junctor.server.pubsub import exchange, exchange_sql
from junctor.server.pubsub.exchange import Exchange, Failure, Owned
from junctor.server.pubsub.message import QueuedMessage
from junctor.sql.errors import StoreUnavailable
from junctor.sql.store import Store
from tests.helpers.backlog import add_subscriptions, fill, queued, state

WORKER = 7


class Receiver:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.messages: list[QueuedMessage] = []
        self.has_more: bool | None = None
        self.wait: float | None = None
        self.is_lost = False

    def fetched(self, messages: list[QueuedMessage], *, has_more: bool, wait: float | None) -> None:
        """As the exchange says."""
        self.messages, self.has_more, self.wait = messages, has_more, wait

    def lost(self) -> None:
        """As the exchange says."""
        self.is_lost = True


class Hand:
    """One subscription of an exchange, step by step."""

    def __init__(self, engine: Engine, sub_id: int, exchange: Exchange, *, is_strict: bool = True) -> None:
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO pubsub_state (sub_id, worker_id, epoch) VALUES (:sub, :worker, 3)"),
                {"sub": sub_id, "worker": WORKER},
            )
        self.receiver = Receiver()
        self.owned = Owned(sub_id, 3, self.receiver, is_strict=is_strict)
        self.exchange = exchange

    def take(self, most: int = 100) -> list[str]:
        """The data of what comes in a round trip."""
        self.exchange.fetch(self.owned, most)
        self.exchange.round_trip()
        return [message.data for message in self.receiver.messages]

    def held(self, *data: str) -> list[QueuedMessage]:
        """The held messages with these data."""
        return [message for message in self.owned.held.values() if message.data in data]


@pytest.fixture
def sub_id(store: Store) -> int:
    """A subscription."""
    return add_subscriptions(store)[0]


@pytest.fixture
def exchanging(engine: Engine) -> Any:
    """An exchange, which goes around when it is told to."""
    found = Exchange(engine, lambda: WORKER)
    yield found
    found.stop()


@pytest.fixture
def hand(engine: Engine, sub_id: int, exchanging: Exchange) -> Hand:
    """The subscription in the exchange."""
    return Hand(engine, sub_id, exchanging)


def test_messages_come_by_priority_and_then_in_their_order(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 6, priority="1 + n % 3")
    assert hand.take() == ["2", "5", "1", "4", "3", "6"]
    assert hand.receiver.has_more is False
    assert hand.receiver.wait is None


def test_what_is_taken_is_in_flight_and_is_not_taken_twice(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 5)
    assert hand.take(2) == ["1", "2"]
    assert hand.receiver.has_more
    assert hand.take(2) == ["3", "4"]
    assert state(engine, sub_id).in_flight == [row.message_id for row in queued(engine, sub_id)][:4]


def test_one_round_trip_deletes_what_was_acknowledged_and_takes_what_is_next(
    engine: Engine, sub_id: int, hand: Hand
) -> None:
    fill(engine, sub_id, 4)
    hand.take(2)
    hand.exchange.acknowledge(hand.owned, hand.held("1", "2"))
    assert hand.take(2) == ["3", "4"]
    assert [row.data for row in queued(engine, sub_id)] == ["3", "4"]
    assert hand.exchange.rounds == 2
    assert state(engine, sub_id).in_flight == list(hand.owned.held)


def test_a_failure_is_remembered_and_told_twice_counts_once(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 1)
    hand.take()
    [message] = hand.held("1")
    for _ in range(2):
        hand.exchange.fail(hand.owned, [Failure(message, 1, None, "It broke\0.")])
        hand.exchange.round_trip()
    [row] = queued(engine, sub_id)
    assert (row.attempts, row.not_before, row.last_error) == (1, None, "It broke.")
    assert row.first_failed_at is not None
    assert hand.take() == ["1"]
    assert hand.receiver.messages[0].attempts == 1


def test_what_has_failed_holds_up_what_is_behind_it_where_the_order_is_kept(
    engine: Engine, sub_id: int, hand: Hand
) -> None:
    fill(engine, sub_id, 3)
    hand.take(2)
    hand.exchange.fail(hand.owned, [Failure(*hand.held("2"), 1, 60.0, "It broke.")])
    hand.exchange.acknowledge(hand.owned, hand.held("1"))
    assert hand.take() == []
    assert hand.receiver.has_more is False
    assert 50 < (hand.receiver.wait or 0) <= 61
    fill(engine, sub_id, 1, data="urgent", priority="9")
    assert hand.take() == ["1urgent"]


def test_where_it_is_not_the_others_go_on(engine: Engine, sub_id: int, exchanging: Exchange) -> None:
    hand = Hand(engine, sub_id, exchanging, is_strict=False)
    fill(engine, sub_id, 3)
    hand.take(1)
    exchanging.fail(hand.owned, [Failure(*hand.held("1"), 1, 60.0, "It broke.")])
    assert hand.take() == ["2", "3"]
    assert 50 < (hand.receiver.wait or 0) <= 61


def test_a_message_with_a_delay_waits_and_holds_up_nothing(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 1, not_before="now() + interval '1 hour'")
    fill(engine, sub_id, 1, data="now")
    assert hand.take() == ["1now"]
    assert 3500 < (hand.receiver.wait or 0) <= 3600


def test_expired_messages_are_not_taken(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 3, expires_at="now() + (n - 2) * interval '1 hour'")
    assert hand.take() == ["3"]


def test_a_dead_letter_has_all_that_was_known(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 2)
    hand.take()
    hand.exchange.bury(hand.owned, *hand.held("1"), "Nobody wants it.", 5)
    hand.exchange.round_trip()
    assert [row.data for row in queued(engine, sub_id)] == ["2"]
    with engine.connect() as connection:
        letter = connection.execute(text("SELECT * FROM pubsub_dead_letter")).one()
    assert (letter.sub_id, letter.reason, letter.attempts) == (sub_id, "Nobody wants it.", 5)
    assert letter.message["data"] == "1"
    assert letter.first_failed_at is not None


def test_a_stale_owner_can_neither_acknowledge_nor_fail_nor_bury_nor_take(
    engine: Engine, sub_id: int, hand: Hand
) -> None:
    fill(engine, sub_id, 4)
    hand.take(3)
    with engine.begin() as connection:
        connection.execute(text("UPDATE pubsub_state SET epoch = epoch + 1, in_flight = '{}'"))
    before = queued(engine, sub_id)
    hand.exchange.acknowledge(hand.owned, hand.held("1"))
    hand.exchange.fail(hand.owned, [Failure(*hand.held("2"), 1, None, "It broke.")])
    hand.exchange.bury(hand.owned, *hand.held("3"), "Nobody wants it.", 5)
    hand.receiver.messages = []
    assert hand.take() == []
    assert hand.receiver.is_lost
    assert queued(engine, sub_id) == before
    assert state(engine, sub_id).in_flight == []
    assert hand.exchange.held_bytes == 0
    hand.exchange.acknowledge(hand.owned, [])
    assert hand.exchange.round_trip() == 0


def test_a_transaction_that_fails_has_done_nothing_and_is_done_again(
    engine: Engine, sub_id: int, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(engine, sub_id, 4)
    hand.take(2)
    before = queued(engine, sub_id), state(engine, sub_id).in_flight
    hand.exchange.acknowledge(hand.owned, hand.held("1"))
    hand.exchange.fetch(hand.owned, 2)
    monkeypatch.setattr(
        exchange_sql, "FETCH", exchange_sql.FETCH + "; SELECT pg_terminate_backend(pg_backend_pid())"
    )
    with pytest.raises(StoreUnavailable):
        hand.exchange.round_trip()
    assert (queued(engine, sub_id), state(engine, sub_id).in_flight) == before
    monkeypatch.undo()
    hand.exchange.round_trip()
    assert [message.data for message in hand.receiver.messages] == ["3", "4"]
    assert [row.data for row in queued(engine, sub_id)] == ["2", "3", "4"]


def test_a_commit_whose_answer_is_lost_loses_nothing(
    engine: Engine, sub_id: int, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(engine, sub_id, 4)
    hand.take(2)
    hand.exchange.acknowledge(hand.owned, hand.held("1"))
    hand.exchange.fail(hand.owned, [Failure(*hand.held("2"), 1, None, "It broke.")])
    hand.exchange.fetch(hand.owned, 1)
    send = Exchange._send

    def send_and_break(*arguments: Any) -> None:
        send(*arguments)
        raise StoreUnavailable

    monkeypatch.setattr(Exchange, "_send", send_and_break)
    with pytest.raises(StoreUnavailable):
        hand.exchange.round_trip()
    assert [row.data for row in queued(engine, sub_id)] == ["2", "3", "4"]
    monkeypatch.undo()
    hand.exchange.round_trip()
    assert [(message.data, message.attempts) for message in hand.receiver.messages] == [("2", 1)]
    assert [(row.data, row.attempts) for row in queued(engine, sub_id)] == [("2", 1), ("3", 0), ("4", 0)]
    assert hand.take() == ["3", "4"]


def test_all_subscriptions_share_one_round_trip(
    engine: Engine, store: Store, exchanging: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = [Hand(engine, sub_id, exchanging) for sub_id in add_subscriptions(store, 5)]
    for hand in hands:
        fill(engine, hand.owned.sub_id, 3)
        exchanging.fetch(hand.owned, 2)
    monkeypatch.setattr(exchange, "MAX_MESSAGES", 7)
    assert exchanging.round_trip() == 5
    assert [len(hand.receiver.messages) for hand in hands] == [1] * 5
    assert all(hand.receiver.has_more for hand in hands)
    for hand in hands[:3]:
        exchanging.fetch(hand.owned, 2)
    assert exchanging.round_trip() == 3
    assert [len(hand.receiver.messages) for hand in hands] == [2, 2, 2, 1, 1]
    assert exchanging.round_trip() == 0


def test_no_more_subscriptions_than_fit_share_one(
    engine: Engine, store: Store, exchanging: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = [Hand(engine, sub_id, exchanging) for sub_id in add_subscriptions(store, 3)]
    for hand in hands:
        exchanging.fetch(hand.owned, 2)
    monkeypatch.setattr(exchange, "MAX_SUBSCRIPTIONS", 2)
    assert [exchanging.round_trip() for _ in range(3)] == [2, 1, 0]


def test_what_is_taken_is_bounded_in_bytes_but_one_message_always_comes(
    engine: Engine, sub_id: int, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(engine, sub_id, 4, data="x" * 99)
    monkeypatch.setattr(exchange, "MAX_BYTES_EACH", 150)
    assert len(hand.take()) == 2
    assert hand.receiver.has_more
    monkeypatch.setattr(exchange, "MAX_BYTES", 1)
    assert len(hand.take()) == 1


def test_nothing_more_is_taken_while_too_much_is_held(
    engine: Engine, sub_id: int, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(engine, sub_id, 4, data="x" * 99)
    monkeypatch.setattr(exchange, "MAX_HELD", 150)
    assert len(hand.take(2)) == 2
    hand.receiver.messages = []
    hand.exchange.fetch(hand.owned, 2)
    assert hand.exchange.round_trip() == 0
    hand.exchange.acknowledge(hand.owned, list(hand.owned.held.values())[:1])
    hand.exchange.round_trip()
    hand.exchange.round_trip()
    assert [message.data[0] for message in hand.receiver.messages] == ["3", "4"]


def test_a_row_whose_message_is_gone_holds_up_nothing(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 2)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM pubsub_message WHERE data = '1'"))
    assert hand.take() == ["2"]
    hand.exchange.round_trip()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pubsub_queue")).scalar() == 1


def test_the_plans_look_everything_up_in_indexes(engine: Engine, sub_id: int, hand: Hand) -> None:
    fill(engine, sub_id, 10)
    hand.take(2)
    cursor = hand.exchange._cursor()
    ids = list(hand.owned.held)
    statements = {
        exchange_sql.FETCH: (WORKER, [sub_id], [3], [5], [True], ["{}"], 1000, 1000),
        exchange_sql.ACKNOWLEDGE: (WORKER, [sub_id], [3], [5], ids[:1]),
        exchange_sql.FAIL: (WORKER, [sub_id], [3], [5], ids[:1], [1], [None], ["x"]),
        exchange_sql.BURY: (WORKER, [sub_id], [3], [5], ids[:1], [1], ["x"]),
        exchange_sql.HOLD: (WORKER, [sub_id], [3]),
    }
    for statement, values in statements.items():
        cursor.execute(f"EXPLAIN {statement}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "Seq Scan" not in plan, plan
        assert "ix_pubsub_state_worker_id" not in plan, plan
        if statement == exchange_sql.FETCH:
            assert "Merge Append" in plan, plan  # in the order of the index: no sorting of a whole queue
