"""Revoked tokens: known to every worker, for as long as they would be good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import gevent
import pytest
from sqlalchemy import delete, func, insert, select, text, update

from junctor.server.security import revoked
from junctor.server.security.jwt_token import FOREVER
from junctor.server.security.revoked import GRACE, RevokedTokens
from junctor.sql.errors import SchemaOutdated, StoreUnavailable, TooManyRequests
from junctor.sql.store import Store
from junctor.sql.tables.security import RevokedToken
from tests.helpers.objects import add, remove
from tests.helpers.waiting import wait_until as eventually

LATER = time.time() + 86_400.0
Worker = Callable[[], RevokedTokens]


@pytest.fixture
def definition(store: Store) -> int:
    """The id of a JWT definition."""
    return add(store, "security_jwt", "jwt", username="anna").id


@pytest.fixture
def woken() -> list[RevokedTokens]:
    """The workers that hear of a log-out at once; others find it by themselves."""
    return []


@pytest.fixture
def worker(store: Store, woken: list[RevokedTokens]) -> Iterator[Worker]:
    """Makes workers that have loaded and follow."""
    made: list[RevokedTokens] = []

    def announce() -> None:
        for one in woken:
            one.wake()

    def make() -> RevokedTokens:
        made.append(RevokedTokens(store, announce))
        made[-1].load()
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Waits in gevent's hub, where the workers of these tests are."""
    with gevent.Timeout(timeout):
        while not condition():
            gevent.sleep(0.01)


def test_a_token_is_revoked_at_once_where_it_was_logged_out(worker: Worker, definition: int) -> None:
    one = worker()
    assert b"x" not in one
    one.revoke(definition, b"x", LATER)
    assert b"x" in one
    assert b"y" not in one


def test_other_workers_hear_of_it(worker: Worker, woken: list[RevokedTokens], definition: int) -> None:
    one, other = worker(), worker()
    woken += [one, other]
    before = other.generation(definition)
    one.revoke(definition, b"x", LATER)
    wait_until(lambda: b"x" in other, revoked.POLL_INTERVAL / 2)
    assert other.generation(definition) > before
    assert other.generation(definition + 1) == 0


def test_other_workers_find_it_by_themselves(
    worker: Worker, definition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked, "POLL_INTERVAL", 0.05)
    one, other = worker(), worker()
    one.revoke(definition, b"x", LATER)
    wait_until(lambda: b"x" in other)


def test_a_worker_that_starts_later_knows_everything(
    store: Store, worker: Worker, definition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked, "BATCH", 3)
    one = worker()
    digests = [bytes([number]) * 32 for number in range(10)]
    for digest in digests:
        one.revoke(definition, digest, LATER)
    later = RevokedTokens(store, lambda: None)
    later.load()
    assert all(digest in later for digest in digests)


def test_a_cluster_that_has_no_such_definitions_does_not_ask(store: Store) -> None:
    idle = RevokedTokens(store, lambda: None)
    store.engine.dispose()
    with counted(store) as statements:
        idle.start()
        idle.wake()
        gevent.sleep(0)
        idle.stop()
    assert not statements


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    from sqlalchemy import event

    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def test_a_token_that_is_logged_out_twice_at_a_time_is_revoked_once(
    store: Store, worker: Worker, definition: int
) -> None:
    one, other = worker(), worker()
    one.revoke(definition, b"x", LATER)
    other.revoke(definition, b"x", LATER)
    assert rows(store) == [b"x"]


def rows(store: Store) -> list[bytes]:
    """The digests that the cluster has in the database."""
    mine = RevokedToken.cluster_id == store.cluster_id
    statement = select(RevokedToken.digest).where(mine).order_by(RevokedToken.id)
    with store.engine.connect() as connection:
        return [bytes(digest) for digest in connection.scalars(statement)]


def test_ids_grow_in_the_order_of_commits(store: Store, worker: Worker, definition: int) -> None:
    """Else a worker that has seen a larger id would miss the smaller one that is committed later."""
    one, other = worker(), worker()
    name = f"junctor.revoked_token:{store.cluster_id}"
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    with store.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
        late = Thread(target=one.revoke, args=(definition, b"late", LATER))
        late.start()
        eventually(lambda: connection.scalar(waiting))
        assert rows(store) == []
        connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
        late.join()
    other.revoke(definition, b"later", LATER)
    assert rows(store) == [b"late", b"later"]


def test_what_has_expired_is_forgotten_after_a_while(store: Store, definition: int) -> None:
    now = time.time()
    one = RevokedTokens(store, lambda: None, now=lambda: now)
    one.revoke(definition, b"old", now + 5)
    one.revoke(definition, b"new", LATER)
    one.purge()
    assert b"old" in one
    assert len(rows(store)) == 2
    now += GRACE + 6
    with store.engine.begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=GRACE + 1)
        connection.execute(update(RevokedToken).where(RevokedToken.digest == b"old").values(expires=past))
    one.purge()
    assert b"old" not in one
    assert b"new" in one
    assert rows(store) == [b"new"]
    one.catch_up()
    assert b"old" not in one


def test_when_an_old_state_of_the_database_was_restored_what_comes_later_is_found(
    store: Store, worker: Worker, definition: int
) -> None:
    one, other = worker(), worker()
    one.revoke(definition, b"a", LATER)
    one.revoke(definition, b"b", LATER)
    other.catch_up()
    mine = RevokedToken.cluster_id == store.cluster_id
    values = {"cluster_id": store.cluster_id, "security_id": definition, "digest": b"c"}
    with store.engine.begin() as connection:
        smallest = connection.scalar(select(func.min(RevokedToken.id)).where(mine))
        connection.execute(delete(RevokedToken).where(mine))
        connection.execute(insert(RevokedToken).values(id=smallest, expires=datetime.now(UTC), **values))
    other.catch_up()
    assert b"c" in other


def test_a_definition_takes_its_revoked_tokens_along(store: Store, worker: Worker, definition: int) -> None:
    one = worker()
    one.revoke(definition, b"x", LATER)
    remove(store, "security_jwt", "jwt")
    assert rows(store) == []
    one.revoke(definition, b"y", LATER)
    assert rows(store) == []
    assert b"y" in one


def test_so_many_tokens_of_one_definition_are_revoked_at_a_time_and_no_more(
    store: Store, definition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked, "MAX_REVOKED", 2)
    second = add(store, "security_jwt", "jwt2", username="otto").id
    now = time.time()
    one = RevokedTokens(store, lambda: None, now=lambda: now)
    one.revoke(definition, b"a", now + 5)
    one.revoke(definition, b"b", LATER)
    with pytest.raises(TooManyRequests, match="2 tokens"):
        one.revoke(definition, b"c", LATER)
    assert b"c" not in one
    one.revoke(second, b"d", LATER)
    now += GRACE + 6
    one.revoke(definition, b"c", LATER)


def test_without_the_database_nothing_can_be_logged_out_and_what_was_stays_so(
    store: Store,
    worker: Worker,
    woken: list[RevokedTokens],
    definition: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = worker()
    one.revoke(definition, b"x", LATER)
    hide = text("ALTER TABLE revoked_token RENAME TO hidden")
    with store.engine.begin() as connection:
        connection.execute(hide)
    try:
        one.wake()
        wait_until(lambda: "cannot be read" in caplog.text)
        with pytest.raises(SchemaOutdated):
            one.revoke(definition, b"y", LATER)
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO revoked_token"))
    assert b"x" in one
    assert b"y" not in one
    caplog.set_level("INFO")
    one.wake()
    wait_until(lambda: "can be read again" in caplog.text)


def test_expiry_beyond_all_calendars_is_stored(store: Store, worker: Worker, definition: int) -> None:
    worker().revoke(definition, b"x", FOREVER)
    assert b"x" in worker()
    mine = RevokedToken.cluster_id == store.cluster_id
    with store.engine.connect() as connection:
        assert connection.scalar(select(func.extract("year", RevokedToken.expires)).where(mine)) == 9999


def test_following_goes_on_after_a_fault(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(revoked, "POLL_INTERVAL", 0.01)
    one = worker()
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("for the test")

    monkeypatch.setattr(one, "catch_up", fails)
    wait_until(lambda: len(calls) > 2)
    assert "failed; trying again" in caplog.text


def test_old_rows_are_purged_while_following(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoked, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(revoked, "PURGE_INTERVAL", 0.02)
    one = worker()
    calls: list[int] = []
    monkeypatch.setattr(one, "purge", lambda: calls.append(1))
    wait_until(lambda: len(calls) > 1)


def test_a_store_that_cannot_be_reached_is_said_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = RevokedTokens(store, lambda: None)

    def fails() -> None:
        raise StoreUnavailable

    monkeypatch.setattr(one, "catch_up", fails)
    with pytest.raises(StoreUnavailable):
        one.load()
    one.stop()
