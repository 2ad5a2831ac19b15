"""Connections: bounded in time, and back by themselves after whatever happened to the database."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from junctor.sql import engine as engines
from junctor.sql import schema
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError, StoreUnavailable
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.objects import WHO, add
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.postgres import PostgresServer
from tests.helpers.waiting import wait_until

Connect = Callable[..., Engine]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``engine.connect``, whose engines are disposed of at the end."""
    made: list[Engine] = []

    def connect(url: str, **options: object) -> Engine:
        made.append(engines.connect(url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for engine in made:
        engine.dispose()


def run(engine: Engine, statement: str) -> object:
    with database_errors(), engine.connect() as connection:
        return connection.scalar(text(statement))


def test_connections_are_set_up_alike_whatever_the_server_s_own_settings(
    database: str, connect: Connect
) -> None:
    engine = connect(database, application="junctor server1" + "x" * 100)
    settings = {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "1min",
        "client_connection_check_interval": "2s",
        "timezone": "UTC",
    }
    assert {name: run(engine, f"SHOW {name}") for name in settings} == settings
    assert str(run(engine, "SHOW application_name")).startswith("junctor server1xxx")


def test_times_are_in_utc(store: Store) -> None:
    add(store, "service", "a")
    at = store.history(limit=1)[0].at
    assert at is not None
    assert at.utcoffset() is not None
    assert at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]


def test_a_statement_that_takes_too_long_is_ended(
    database: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "STATEMENT_TIMEOUT", 0.2)
    engine = connect(database, pool_size=1)
    with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
        run(engine, "SELECT pg_sleep(20)")
    assert run(engine, "SELECT 1") == 1


def test_a_transaction_that_idles_too_long_is_ended(
    store: Store, database: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs in the middle of a transaction does not lock the configuration for ever."""
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_TIMEOUT", 0.2)
    hanging = Store(connect(database), store.cluster_id, store.keyring)

    def hang() -> None:
        with hanging.transaction(who="hangs") as transaction:
            transaction.create("service", {"name": "a"})
            assert (
                add(store, "service", "b")["version"] == 1
            )  # waits for the lock until the other one is ended
            transaction.create("service", {"name": "c"})

    with pytest.raises(StoreUnavailable):
        hang()
    assert [found.name for found in store.find("service").objects] == ["b"]
    assert add(hanging, "service", "d")["version"] == 1


def test_who_finds_no_free_connection_is_told_so(
    database: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "POOL_TIMEOUT", 0.1)
    engine = connect(database, pool_size=1)
    with (
        engine.connect(),
        engine.connect(),
        pytest.raises(StoreUnavailable, match="is busy: no connection became free in time"),
    ):
        run(engine, "SELECT 1")
    assert run(engine, "SELECT 1") == 1


def test_a_database_that_is_not_there_is_named_without_its_password(connect: Connect) -> None:
    engine = connect(f"postgresql://junctor:hunter2@{LOOPBACK}:{free_port()}/junctor")
    with pytest.raises(StoreUnavailable, match=r"cannot be used: .*Connection refused") as caught:
        run(engine, "SELECT 1")
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_told_without_the_password(database: str, connect: Connect) -> None:
    head, _, tail = database.rpartition("@")
    user = head.rpartition(":")[0]
    engine = connect(f"{user}:hunter2@{tail}")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        run(engine, "SELECT 1")
    assert "hunter2" not in str(caught.value)


def test_a_server_that_accepts_and_never_answers_is_given_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CONNECT_TIMEOUT", 2)  # the least that libpq knows
    with socket.create_server((LOOPBACK, 0)) as silent:
        engine = connect(f"postgresql://u:p@{LOOPBACK}:{silent.getsockname()[1]}/d")
        with pytest.raises(StoreUnavailable):
            run(engine, "SELECT 1")


def test_a_connection_that_the_server_ended_is_replaced_unseen(store: Store) -> None:
    with store.engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with engines.connect(store.engine.url.render_as_string(hide_password=False)).connect() as other:
        assert other.scalar(text(f"SELECT pg_terminate_backend({pid})"))
        other.engine.dispose()
    assert store.version() == 1


def test_a_transaction_whose_connection_the_server_ends_leaves_nothing(store: Store) -> None:
    def write() -> None:
        with store.transaction(who=WHO) as transaction:
            transaction.create("service", {"name": "a"})
            pid = transaction.connection.scalar(text("SELECT pg_backend_pid()"))
            run(store.engine, f"SELECT pg_terminate_backend({pid})")
            ended = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
            wait_until(lambda: run(store.engine, ended) == 0)
            transaction.create("service", {"name": "b"})

    with pytest.raises(StoreUnavailable):
        write()
    assert (store.version(), store.find("service").total) == (1, 0)


def test_a_killed_database_is_back_in_use_as_soon_as_it_runs(
    own_postgres: PostgresServer, connect: Connect, keyring: Keyring
) -> None:
    """Three times kill -9 with open connections: told plainly while it is away, and no restart of ours afterwards."""
    engine = connect(own_postgres.url(), pool_size=3)
    schema.upgrade(engine)
    store = Store.create(engine, "test", keyring)
    for number in range(3):
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda _: store.version(), range(6))) == [number + 1] * 6
        own_postgres.kill()
        for use in (store.version, store.snapshot, lambda: add(store, "service", "away")):
            with pytest.raises(StoreUnavailable):
                use()
        own_postgres.start()
        assert add(store, "service", f"s{number}")["version"] == 1
        assert store.version() == number + 2
    assert [found.name for found in store.find("service").objects] == ["s0", "s1", "s2"]


def test_under_restarts_each_write_is_done_or_refused_and_never_half(
    own_postgres: PostgresServer, connect: Connect, keyring: Keyring
) -> None:
    """Committed is what was answered; what was refused may be there as a whole or not at all, never in part."""
    engine = connect(own_postgres.url(), pool_size=4)
    schema.upgrade(engine)
    store = Store.create(engine, "test", keyring)
    done: list[int] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 5000:
            number += 1
            try:
                with store.transaction(who=WHO) as transaction:
                    transaction.create("service", {"name": f"{number}.a"})
                    transaction.create("service", {"name": f"{number}.b"})
                done.append(number)
            except StoreUnavailable:
                stop.wait(0.01)

    def writes_on() -> bool:
        before = len(done)
        return bool(wait_until(lambda: len(done) > before + 5, 20, "no write succeeds"))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            for _ in range(2):
                assert writes_on()
                own_postgres.stop()
                own_postgres.start()
            assert writes_on()
        finally:
            stop.set()
        writer.result(30)

    names = {found.name for found in store.find("service").objects}
    halves = {name.rpartition(".")[0] for name in names}
    assert names == {f"{number}.{half}" for number in halves for half in "ab"}
    assert {str(number) for number in done} <= halves
    versions = [found.version for found in store.news(1).changes]
    assert sorted(set(versions)) == list(range(2, store.version() + 1))


def test_an_error_in_use_gives_the_connection_back(store: Store) -> None:
    for _ in range(30):
        with pytest.raises(JunctorError):
            add(store, "service", "")
    assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
