"""Storing messages: all or nothing, in order, into the queues of whoever has subscribed, and what publishers are told when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gevent
import psycopg2
import pytest
from sqlalchemy import Engine, text

from junctor.server.pubsub import commit, unit
from junctor.server.pubsub import writer as writing
from junctor.server.pubsub.commit import Committer
from junctor.server.pubsub.parked import take_parked
from junctor.server.pubsub.unit import unit_of
from junctor.sql.errors import (
    DuplicateMessage,
    InvalidInput,
    PayloadTooLarge,
    ResourceNotFound,
    ServiceUnavailable,
)
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.objects import edit, remove
from tests.helpers.publishers import (
    PublisherUnderTest,
    add_topic,
    emptied,
    message,
    publisher,
)
from tests.helpers.waiting import wait_until


@pytest.fixture
def engine(module_engine: Engine) -> Engine:
    return module_engine


@pytest.fixture
def store(engine: Engine, keyring: Keyring) -> Store:
    return emptied(engine, keyring)


@pytest.fixture
def published(store: Store, engine: Engine) -> Iterator[PublisherUnderTest]:
    with publisher(store, engine) as made:
        yield made


def kill_connections(engine: Engine) -> None:
    """Ends all connections to the test's database but the one that says so."""
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_a_message_is_in_the_queue_of_each_subscription_with_all_that_is_known_of_it(
    store: Store, published: PublisherUnderTest
) -> None:
    topic, subs = add_topic(store, "/orders", 2)
    made = message(
        topic,
        {"id": 1},
        msg_id="zpsm-1",
        mime_type="application/json",
        priority=7,
        expiration=60_000,
        correl_id="c",
        in_reply_to="r",
        ext_client_id="e",
        group_id="g",
        position_in_group=3,
        ext_pub_time=1_700_000_000.5,
        reply_to_sk=["zpsk.1"],
    )
    made.endpoint_id, made.endpoint_name, made.pub_pattern = 5, "CRM", "pub=/**"

    published.writer.write([made])

    row = published.row(
        "SELECT *, expires_at - pub_time = interval '60 s' AS expires, extract(epoch FROM ext_pub_time)::float AS ext "
        "FROM pubsub_message"
    )
    expected = {
        "cluster_id": store.cluster_id,
        "topic_id": topic,
        "msg_id": "zpsm-1",
        "data": '{"id":1}',
        "data_type": "json",
        "size": 8,
        "mime_type": "application/json",
        "priority": 7,
        "expiration": 60_000,
        "expires": True,
        "ext": 1_700_000_000.5,
        "keep_until": None,
        "endpoint_id": 5,
        "endpoint_name": "CRM",
        "pub_pattern": "pub=/**",
        "correl_id": "c",
        "in_reply_to": "r",
        "ext_client_id": "e",
        "group_id": "g",
        "position_in_group": 3,
        "reply_to_sk": ["zpsk.1"],
        "deliver_to_sk": None,
    }
    assert {name: row._mapping[name] for name in expected} == expected
    queued = "SELECT count(*), min(priority), bool_and(expires_at IS NOT NULL), min(attempts), min(not_before) FROM pubsub_queue"
    assert tuple(published.row(queued)) == (2, 7, True, 0, None)
    assert published.told.owners == [dict.fromkeys(subs)]


def test_defaults_are_those_of_the_contract(store: Store, published: PublisherUnderTest) -> None:
    topic, _ = add_topic(store, "/orders", 1)
    published.writer.write([message(topic, "")])
    row = published.row(
        "SELECT data, data_type, mime_type, priority, expiration, expires_at, size FROM pubsub_message"
    )
    assert tuple(row) == ("", "text", "text/plain", 5, 0, None, 0)


def test_the_owner_of_a_queue_is_told_and_comes_from_the_database(
    store: Store, published: PublisherUnderTest, engine: Engine
) -> None:
    topic, (first, second) = add_topic(store, "/orders", 2)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO pubsub_state (sub_id, worker_id) VALUES (:sub, 77)"), {"sub": second}
        )
    published.writer.write([message(topic)])
    assert published.told.owners == [{first: None, second: 77}]


def test_messages_of_many_greenlets_keep_the_order_of_each(
    store: Store, published: PublisherUnderTest
) -> None:
    topic, (sub,) = add_topic(store, "/orders", 1)

    def publish(name: str) -> None:
        for number in range(0, 20, 2):
            published.writer.write(
                [message(topic, f"{name} {number:02}"), message(topic, f"{name} {number + 1:02}")]
            )

    greenlets = [gevent.spawn(publish, name) for name in "abcdefgh"]
    gevent.joinall(greenlets, raise_error=True)

    queue = published.queue(sub)
    assert len(queue) == 160
    for name in "abcdefgh":
        mine = [data for data in queue if data.startswith(name)]
        assert mine == sorted(mine)


def test_whatever_waits_is_one_transaction(
    store: Store, published: PublisherUnderTest, engine: Engine
) -> None:
    topic, (sub,) = add_topic(store, "/orders", 1)
    published.writer.write([message(topic)])  # connects
    gevent.joinall(
        [gevent.spawn(published.writer.write, [message(topic)]) for _ in range(100)], raise_error=True
    )
    transactions = published.row("SELECT count(DISTINCT xmin::text) FROM pubsub_message").count
    assert len(published.queue(sub)) == 101
    assert transactions == 2


def test_a_delayed_message_is_not_due_yet(store: Store, published: PublisherUnderTest) -> None:
    topic, _ = add_topic(store, "/orders", 1)
    published.writer.write([message(topic, delay=60_000)])
    assert published.row(
        "SELECT q.not_before - m.pub_time = interval '60 s' AS is_right FROM pubsub_queue q JOIN pubsub_message m ON m.id = q.message_id"
    ).is_right


def test_deliver_to_sk_limits_who_receives(store: Store, published: PublisherUnderTest) -> None:
    topic, (first, second) = add_topic(store, "/orders", 2)
    key = store.get("pubsub_subscription", "/orders subscriber 1")["sub_key"]
    published.writer.write([message(topic, "all"), message(topic, "one", deliver_to_sk=[key])])
    assert published.queue(first) == ["all"]
    assert published.queue(second) == ["all", "one"]


def test_a_message_for_subscribers_that_there_are_not_reaches_nobody_else(
    store: Store, published: PublisherUnderTest
) -> None:
    topic, _ = add_topic(store, "/orders")
    published.writer.write([message(topic, deliver_to_sk=["zpsk.gone"])])
    assert tuple(
        published.row("SELECT (SELECT count(*) FROM pubsub_queue), (SELECT count(*) FROM pubsub_message)")
    ) == (0, 0)


@pytest.mark.parametrize(
    ("status", "is_queued"), [("pub-sub", True), ("pub-only", True), ("sub-only", False), ("disabled", False)]
)
def test_the_status_of_a_subscription_decides_whether_its_queue_takes_messages(
    store: Store, published: PublisherUnderTest, status: str, *, is_queued: bool
) -> None:
    topic, (first, second) = add_topic(store, "/orders", 2)
    edit(store, "pubsub_subscription", first, active_status=status)
    published.writer.write([message(topic, "x")])
    assert published.queue(first) == (["x"] if is_queued else [])
    assert published.queue(second) == ["x"]


def test_retention_keeps_messages_that_nobody_receives(store: Store, published: PublisherUnderTest) -> None:
    topic, _ = add_topic(store, "/orders", limit_retention=3600, on_no_subs_pub="drop")
    published.writer.write([message(topic)])
    assert published.row(
        "SELECT keep_until - pub_time = interval '1 hour' AS is_right FROM pubsub_message"
    ).is_right
    assert published.row("SELECT count(*) FROM pubsub_queue").count == 0


def test_a_topic_that_drops_stores_nothing_while_nobody_has_subscribed(
    store: Store, published: PublisherUnderTest
) -> None:
    topic, _ = add_topic(store, "/orders", on_no_subs_pub="drop")
    published.writer.write([message(topic)])
    assert tuple(
        published.row("SELECT (SELECT count(*) FROM pubsub_queue), (SELECT count(*) FROM pubsub_message)")
    ) == (0, 0)
    assert published.told.owners == []


class TestParkedMessages:
    """What is published while nobody has subscribed."""

    def test_it_waits_for_the_first_subscription(self, store: Store, published: PublisherUnderTest) -> None:
        topic, _ = add_topic(store, "/orders")
        published.writer.write([message(topic, "1"), message(topic, "2", priority=9)])
        assert published.queue(-topic) == ["2", "1"]
        sub = subscribe(store, "/orders")
        assert take_parked(published.engine, topic, sub) == 2
        assert published.queue(sub) == ["2", "1"]
        assert take_parked(published.engine, topic, subscribe(store, "/orders", "late")) == 0

    def test_more_than_a_batch_is_moved(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, _ = add_topic(store, "/orders")
        published.writer.write([message(topic, str(number)) for number in range(10_001)])
        sub = subscribe(store, "/orders")
        assert take_parked(published.engine, topic, sub) == 10_001
        assert published.queue(sub) == [str(number) for number in range(10_001)]

    def test_a_subscription_that_takes_nothing_gets_nothing(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, _ = add_topic(store, "/orders")
        published.writer.write([message(topic)])
        sub = subscribe(store, "/orders", active_status="disabled")
        assert take_parked(published.engine, topic, sub) == 0

    def test_who_subscribes_before_the_publisher_looks_again_gets_it(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The statement has found nobody, and is not committed, when somebody subscribes, who finds nothing parked."""
        topic, _ = add_topic(store, "/orders")
        look_again, made = Committer._look_again, []

        def late(self: Committer, owners: dict[int, int | None]) -> dict[int, int | None]:
            made.append(subscribe(store, "/orders"))
            assert take_parked(published.engine, topic, made[0]) == 0
            return look_again(self, owners)

        monkeypatch.setattr(Committer, "_look_again", late)
        published.writer.write([message(topic, "x")])
        assert published.queue(made[0]) == ["x"]
        assert published.told.owners == [{made[0]: None}]

    def test_who_subscribes_before_the_publisher_commits_waits_for_it(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, _ = add_topic(store, "/orders")
        end, took, subs = Committer._end, [], []

        def late(self: Committer, ticket: Any) -> None:
            subs.append(subscribe(store, "/orders"))
            thread = threading.Thread(
                target=lambda: took.append(take_parked(published.engine, topic, subs[0]))
            )
            thread.start()
            blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_until(lambda: published.row(blocked).count == 1)
            end(self, ticket)
            thread.join()

        monkeypatch.setattr(Committer, "_end", late)
        published.writer.write([message(topic, "x")])
        assert took == [1]
        assert published.queue(subs[0]) == ["x"]


def subscribe(store: Store, topic: str, who: str = "first", **fields: Any) -> int:
    """The id of a new subscription."""
    with store.transaction(who="tester") as transaction:
        transaction.create(
            "pubsub_endpoint", {"name": who, "endpoint_type": "internal", "topic_patterns": ["sub=/**"]}
        )
        given = {"name": who, "endpoint": who, "topic": topic, "delivery_method": "pull", **fields}
        return transaction.create("pubsub_subscription", given).id


class TestOwnIds:
    """Messages with ids that their publishers gave."""

    def test_the_same_id_is_stored_once(self, store: Store, published: PublisherUnderTest) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        published.writer.write([message(topic, "first", msg_id="a")])
        with pytest.raises(DuplicateMessage, match="Duplicate msg_id"):
            published.writer.write([message(topic, "second", msg_id="a")])
        assert published.queue(sub) == ["first"]

    def test_a_list_with_one_that_is_taken_is_refused_as_a_whole_and_takes_no_ids(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        published.writer.write([message(topic, "1", msg_id="a")])
        with pytest.raises(DuplicateMessage):
            published.writer.write([message(topic, "2", msg_id="b"), message(topic, "3", msg_id="a")])
        published.writer.write([message(topic, "4", msg_id="b")])
        assert published.queue(sub) == ["1", "4"]

    def test_of_two_at_the_same_time_one_is_stored_and_others_are_not_harmed(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        units = [
            unit_of([message(topic, data, **({"msg_id": own} if own else {}))])
            for data, own in (("1", "a"), ("2", "a"), ("3", ""), ("4", "b"))
        ]
        committer = Committer(published.engine, store.cluster_id)
        outcome = committer.commit(units)
        assert [type(outcome.refused.get(unit)) for unit in units] == [
            type(None),
            DuplicateMessage,
            type(None),
            type(None),
        ]
        assert published.queue(sub) == ["1", "3", "4"]
        assert isinstance(committer.commit(units[:1]).refused[units[0]], DuplicateMessage)
        committer.close()

    def test_a_list_with_an_id_twice_is_refused(self, store: Store, published: PublisherUnderTest) -> None:
        topic, _ = add_topic(store, "/orders", 1)
        with pytest.raises(DuplicateMessage):
            published.writer.write([message(topic, msg_id="a"), message(topic, msg_id="a")])

    def test_what_failed_can_be_published_again_with_the_same_id(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        with monkeypatch.context() as patched:
            patched.setattr(commit.writer_sql, "RELEASE", "SELECT no_such_function()")
            patched.setattr(Committer, "_write", lambda *_: (_ for _ in ()).throw(psycopg2.OperationalError))
            with pytest.raises(ServiceUnavailable, match="Nothing was stored"):
                published.writer.write([message(topic, "x", msg_id="a")])
        published.writer.write([message(topic, "x", msg_id="a")])
        assert published.queue(sub) == ["x"]


def test_publishers_do_not_wait_for_a_change_of_the_configuration(
    store: Store, published: PublisherUnderTest
) -> None:
    """The ids of messages refer to the cluster, whose row such a change holds."""
    topic, (sub,) = add_topic(store, "/orders", 1)
    with store.transaction(who="tester") as transaction:
        transaction.create("service", {"name": "my.service"})
        published.writer.write([message(topic, "x", msg_id="a")])
        assert published.queue(sub) == ["x"]


class TestFailures:
    """What stops some, or all, from being stored."""

    def test_one_that_the_database_refuses_stops_no_other(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        messages = [message(topic, str(number)) for number in range(9)]
        messages[3].correl_id = "x" * 201  # the column has 200; other surfaces check it before
        units = [unit_of([item]) for item in messages]
        units[5] = unit_of([messages[5], messages[3]])
        committer = Committer(published.engine, store.cluster_id)
        outcome = committer.commit(units)
        committer.close()
        assert set(outcome.refused) == {units[3], units[5]}
        refused = outcome.refused[units[3]]
        assert isinstance(refused, InvalidInput)
        assert "StringDataRightTruncation 22001" in str(refused)
        assert published.queue(sub) == ["0", "1", "2", "4", "6", "7", "8"]
        assert outcome.owners == {sub: None}

    def test_a_nul_character_is_refused_but_not_what_looks_like_one(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        made = message(topic, "x")
        made.reply_to_sk = ["a\0"]
        with pytest.raises(InvalidInput, match="reply_to_sk: has a NUL"):
            published.writer.write([made])
        published.writer.write([message(topic, "\\u0000")])
        assert published.queue(sub) == ["\\u0000"]

    def test_half_a_surrogate_is_refused(self, published: PublisherUnderTest) -> None:
        made = message(1, "x")
        made.group_id = "\ud800"
        with pytest.raises(InvalidInput, match="UTF-8"):
            published.writer.write([made])

    def test_too_many_bytes_are_refused(
        self, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unit, "MAX_BYTES", 1000)
        with pytest.raises(PayloadTooLarge, match="more than the 1000"):
            published.writer.write([message(1, "x" * 500), message(1, "x" * 500)])

    def test_a_topic_that_is_gone_is_told_to_its_publishers_alone(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        gone, _ = add_topic(store, "/gone")
        remove(store, "pubsub_topic", gone)
        units = [
            unit_of([message(topic, "1", msg_id="a")]),
            unit_of([message(gone)]),
            unit_of([message(topic, "2")]),
        ]
        committer = Committer(published.engine, store.cluster_id)
        outcome = committer.commit(units)
        committer.close()
        assert set(outcome.refused) == {units[1]}
        assert isinstance(outcome.refused[units[1]], ResourceNotFound)
        assert published.queue(sub) == ["1", "2"]

    def test_a_partition_that_is_missing_is_made(
        self, store: Store, published: PublisherUnderTest, engine: Engine
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        with engine.begin() as connection:
            connection.execute(text("SELECT setval('pubsub_message_id_seq', (2 ^ 19 * 7)::bigint)"))
        published.writer.write([message(topic, "x")])
        assert published.queue(sub) == ["x"]

    def test_a_connection_that_broke_while_nothing_was_published_is_replaced_unseen(
        self, store: Store, published: PublisherUnderTest, engine: Engine
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        published.writer.write([message(topic, "1")])
        kill_connections(engine)
        published.writer.write([message(topic, "2")])
        assert published.queue(sub) == ["1", "2"]

    def test_while_the_database_is_away_nothing_is_stored_and_callers_know(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        refuse = psycopg2.OperationalError("connection refused")
        with monkeypatch.context() as patched:
            patched.setattr(published.engine, "raw_connection", lambda: (_ for _ in ()).throw(refuse))
            with pytest.raises(ServiceUnavailable, match="Nothing was stored"):
                published.writer.write([message(topic, "1")])
        published.writer.write([message(topic, "2")])
        assert published.queue(sub) == ["2"]


class TestCommitWithoutAnswer:
    """The connection is lost when COMMIT has been sent."""

    @pytest.fixture
    def fails(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Any:
        """Has COMMIT fail, once, before or after the database has done it."""

        def arrange(*, is_committed: bool) -> None:
            end = Committer._end

            def lost(self: Committer, ticket: Any) -> None:
                monkeypatch.setattr(Committer, "_end", end)
                if is_committed:
                    self._cursor.execute("COMMIT")
                kill_connections(engine)
                end(self, ticket)

            monkeypatch.setattr(Committer, "_end", lost)

        return arrange

    def test_if_it_was_committed_the_publisher_never_learns(
        self, store: Store, published: PublisherUnderTest, fails: Any
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        fails(is_committed=True)
        published.writer.write([message(topic, "1", msg_id="a")])
        assert published.queue(sub) == ["1"]

    def test_if_it_was_not_the_publisher_may_publish_again(
        self, store: Store, published: PublisherUnderTest, fails: Any
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        fails(is_committed=False)
        with pytest.raises(ServiceUnavailable, match="Nothing was stored"):
            published.writer.write([message(topic, "1", msg_id="a")])
        published.writer.write([message(topic, "1", msg_id="a")])
        assert published.queue(sub) == ["1"]

    def test_if_nobody_can_tell_the_publisher_is_told_so(
        self, store: Store, published: PublisherUnderTest, fails: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, _ = add_topic(store, "/orders", 1)
        monkeypatch.setattr(commit, "SETTLE_TIMEOUT", 0.0)
        fails(is_committed=True)
        with pytest.raises(
            ServiceUnavailable, match="may have been stored; publish again with the same msg_id"
        ):
            published.writer.write([message(topic)])

    def test_a_database_that_has_lost_the_transaction_is_not_believed(
        self, store: Store, published: PublisherUnderTest
    ) -> None:
        committer = Committer(published.engine, store.cluster_id)
        assert committer._settle(commit._Ticket(10**9, "zpsm-1", str(2**40))) is None
        committer.close()


class TestBackpressure:
    """Bounds, time-outs and the end."""

    def test_a_full_queue_refuses_at_once(
        self, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = PublisherUnderTest(store, engine)  # whose writer does not run yet
        topic, (sub,) = add_topic(store, "/orders", 1)
        monkeypatch.setattr(writing, "MAX_WAITING", 3)
        waiting = [gevent.spawn(made.writer.write, [message(topic), message(topic)])]
        gevent.sleep(0)
        with pytest.raises(ServiceUnavailable, match="2 messages wait"):
            made.writer.write([message(topic), message(topic)])
        made.writer.start()
        gevent.joinall(waiting, raise_error=True)
        made.writer.write([message(topic)] * 4)  # more than the bound, but nothing else waits
        made.writer.stop()
        assert len(made.queue(sub)) == 6

    def test_who_has_waited_long_enough_is_told_and_nothing_is_stored(
        self, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = PublisherUnderTest(store, engine)
        topic, (sub,) = add_topic(store, "/orders", 1)
        with monkeypatch.context() as patched:
            patched.setattr(writing, "CALLER_TIMEOUT", 0.0)
            with pytest.raises(
                ServiceUnavailable, match="Nothing was stored: the database did not answer in time"
            ):
                made.writer.write([message(topic, "late")])
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.001):
            made.writer.write([message(topic, "late, too")])
        made.writer.start()
        made.writer.write([message(topic, "in time")])
        made.writer.stop()
        assert made.queue(sub) == ["in time"]

    def test_what_waits_when_the_worker_stops_is_stored_and_nothing_more_is_taken(
        self, store: Store, engine: Engine
    ) -> None:
        made = PublisherUnderTest(store, engine)
        topic, (sub,) = add_topic(store, "/orders", 1)
        waiting = [gevent.spawn(made.writer.write, [message(topic)]) for _ in range(5)]
        gevent.sleep(0)
        made.writer.start()
        made.writer.stop()
        gevent.joinall(waiting, raise_error=True)
        assert len(made.queue(sub)) == 5
        with pytest.raises(ServiceUnavailable, match="stopping"):
            made.writer.write([message(topic)])

    def test_a_writer_that_never_ran_tells_its_callers(self, store: Store, engine: Engine) -> None:
        made = PublisherUnderTest(store, engine)
        waiting = gevent.spawn(made.writer.write, [message(1)])
        gevent.sleep(0)
        made.writer.stop()
        with pytest.raises(ServiceUnavailable, match="stopping"):
            waiting.get(timeout=5)

    def test_a_relaxed_group_does_not_wait_for_the_disk(
        self, store: Store, published: PublisherUnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, (sub,) = add_topic(store, "/orders", 1)
        seen: list[str] = []
        end = Committer._end

        def look(self: Committer, ticket: Any) -> None:
            self._cursor.execute("SHOW synchronous_commit")
            seen.append(self._cursor.fetchone()[0])
            end(self, ticket)

        monkeypatch.setattr(Committer, "_end", look)
        published.writer.write([message(topic)], is_relaxed=True)
        published.writer.write([message(topic)])
        assert seen == ["off", "on"]
        assert len(published.queue(sub)) == 2
