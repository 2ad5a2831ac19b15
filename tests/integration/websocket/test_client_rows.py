"""The rows of WebSocket clients: written as clients come and go, found by whoever looks for them, and gone with their worker."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import gevent
import pytest
from sqlalchemy import delete, select, update

from junctor.server.context import Context
from junctor.server.runtime.status import WorkerStatus
from junctor.server.settings import Settings
from junctor.server.websocket import client_rows as module
from junctor.server.websocket.client_rows import ClientRows
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.directory import Directory, FoundClient, Wanted, wanted_attributes
from junctor.sql.errors import InvalidInput, StoreUnavailable
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from junctor.sql.tables import process
from junctor.sql.tables.websocket import WebSocketClient
from tests.helpers.client_session import LocalClient
from tests.helpers.objects import add, remove
from tests.helpers.postgres import PostgresServer
from tests.helpers.waiting import eventually

START = datetime(2026, 11, 24, tzinfo=UTC)


class Worker:
    """What a worker needs to have clients and to find those of others."""

    def __init__(self, store: Store, server: str) -> None:
        self.store = store
        self.settings = Settings(directory=Path("/nowhere"), odb_url="", server_name=server)
        self.clients = ConnectedClients()
        self.status = WorkerStatus(store, server, dict)
        self.status.register(1)
        self.rows = ClientRows(store, self.clients, lambda: self.status.worker_id)
        self.directory = Directory(cast(Context, self))

    def client(self, *, seconds: float = 0, **given: Any) -> LocalClient:
        """A client that connected so many seconds after the others."""
        client = LocalClient(**{"connected": START + timedelta(seconds=seconds), **given})
        self.clients.add(client)
        return client

    def write(self) -> None:
        """Everything is in the database."""
        while self.rows.write():
            pass

    def find(self, **wanted: Any) -> list[str]:
        return [client.pub_client_id for client in self.directory.find(Wanted(**wanted))]


def rows(store: Store) -> dict[str, Any]:
    with store.engine.connect() as connection:
        found = connection.execute(select(WebSocketClient.pub_client_id, WebSocketClient.worker_id))
        return {row.pub_client_id: row.worker_id for row in found}


@pytest.fixture
def channel(store: Store) -> int:
    """The id of a channel."""
    for number, server in enumerate(("server1", "server2")):
        add(store, "server", server, host=f"10.0.0.{number}", port=17010)
    add(store, "service", "orders.get")
    return add(store, "channel_websocket", "orders", address="/ws", service="orders.get").id


@pytest.fixture
def worker(store: Store, channel: int) -> Worker:
    return Worker(store, "server1")


@pytest.fixture
def other(store: Store, channel: int) -> Worker:
    return Worker(store, "server2")


def test_clients_have_rows_from_their_arrival_to_their_departure(
    store: Store, worker: Worker, channel: int
) -> None:
    stays, leaves = worker.client(channel_id=channel), worker.client(channel_id=channel)
    worker.write()
    assert rows(store) == dict.fromkeys((stays.pub_client_id, leaves.pub_client_id), worker.status.worker_id)
    worker.clients.remove(leaves)
    worker.write()
    assert list(rows(store)) == [stays.pub_client_id]


def test_all_is_written_in_batches(
    store: Store, worker: Worker, channel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    clients = [worker.client(channel_id=channel) for _ in range(5)]
    assert [worker.rows.write() for _ in range(4)] == [True, True, False, False]
    assert len(rows(store)) == 5
    for client in clients:
        worker.clients.remove(client)
    worker.write()
    assert not rows(store)


def test_others_find_a_client_by_its_ids_its_attributes_and_its_channel(
    worker: Worker, other: Worker, channel: int
) -> None:
    client = worker.client(
        seconds=1,
        channel_id=channel,
        ext_client_id="crm.1",
        attributes={"region": "eu", "level": 3, "vip": True, "note": None},
        forwarded_for="203.0.113.5",
    )
    far = worker.client(channel_id=channel, ext_client_id="crm.2", attributes={"region": "us"})
    worker.write()
    here, there = worker.directory.find(Wanted()), other.directory.find(Wanted())
    assert [found.pub_client_id for found in there] == [client.pub_client_id, far.pub_client_id]
    found = there[0]
    assert found.worker is not None
    assert (found.worker.id, found.worker.host, found.worker.port) == (
        worker.status.worker_id,
        "10.0.0.0",
        17010,
    )
    assert _without_worker(found) == _without_worker(here[0])
    assert found.pid == os.getpid()
    for one in (worker, other):
        assert one.find(pub_client_id=client.pub_client_id) == [client.pub_client_id]
        assert one.find(ext_client_id="crm.2") == [far.pub_client_id]
        assert one.find(ext_client_id="crm.3") == one.find(pub_client_id="ws.0") == []
        assert one.find(ext_client_id="crm.2\0") == []
        assert one.find(channel_id=channel, ext_client_id="crm.1") == [client.pub_client_id]
        assert one.find(channel_id=channel + 1) == []
        for wanted in ({"region": "eu"}, {"level": 3, "vip": True}, {"level": 3.0}, {"note": None}):
            assert one.find(attributes=wanted) == [client.pub_client_id], wanted
        for wanted in (
            {"region": "e"},
            {"level": "3"},
            {"vip": 1},
            {"level": 3, "region": "us"},
            {"x": None},
        ):
            assert one.find(attributes=wanted) == [], wanted


def _without_worker(client: FoundClient) -> list[Any]:
    return [getattr(client, name) for name in FoundClient.__slots__ if name != "worker"]


def test_own_clients_are_found_before_they_are_written_and_not_after_they_have_left(
    worker: Worker, channel: int
) -> None:
    client = worker.client(channel_id=channel)
    assert worker.find(ext_client_id=client.ext_client_id) == [client.pub_client_id]
    worker.write()
    assert worker.find() == [client.pub_client_id]
    worker.clients.remove(client)
    assert worker.find() == []


def test_those_come_first_that_connected_last_wherever_they_are(
    worker: Worker, other: Worker, channel: int
) -> None:
    made = [
        where.client(seconds=second, channel_id=channel)
        for second, where in ((1, worker), (3, other), (2, worker))
    ]
    worker.write()
    other.write()
    assert worker.find() == other.find() == [made[index].pub_client_id for index in (1, 2, 0)]


def test_a_client_that_introduces_itself_anew_is_found_under_its_new_name(
    worker: Worker, other: Worker, channel: int
) -> None:
    client = worker.client(channel_id=channel, attributes={"a": 1})
    worker.write()
    worker.clients.remove(client)
    client.ext_client_id, client.attributes = "crm.9", {"a": 2}
    worker.clients.add(client)
    worker.write()
    assert other.find(ext_client_id="crm.1") == other.find(attributes={"a": 1}) == []
    assert other.find(ext_client_id="crm.9") == other.find(attributes={"a": 2}) == [client.pub_client_id]


def test_pages_are_parts_of_what_there_is(worker: Worker, other: Worker, channel: int) -> None:
    made = [
        worker.client(seconds=-number, channel_id=channel, ext_client_name=f"Shop {number}%")
        for number in range(5)
    ]
    ids = [client.pub_client_id for client in made]
    worker.write()

    def page(
        channel_id: int | None = None, query: str = "", offset: int = 0, limit: int = 10
    ) -> tuple[list[str], int]:
        found, total = other.directory.page(channel_id, query=query, offset=offset, limit=limit)
        return [client.pub_client_id for client in found], total

    assert page() == page(channel) == (ids, 5)
    assert page(offset=1, limit=2) == (ids[1:3], 5)
    assert page(query="shop 3%") == page(query=ids[3]) == ([ids[3]], 1)
    assert page(query="shop_3") == page(channel + 1) == page(query="\0") == ([], 0)
    assert page(limit=0) == ([], 5)


def test_a_worker_whose_row_was_lost_writes_its_clients_anew(
    store: Store, worker: Worker, channel: int
) -> None:
    client = worker.client(channel_id=channel)
    worker.write()
    before = worker.status.worker_id
    with store.engine.begin() as connection:
        connection.execute(delete(process.Worker))
    assert not rows(store)
    later = worker.client(channel_id=channel)
    assert not worker.rows.write()  # nothing can be written without the worker's row
    worker.status.beat()
    worker.write()
    assert worker.status.worker_id != before
    assert rows(store) == dict.fromkeys((client.pub_client_id, later.pub_client_id), worker.status.worker_id)


def test_the_clients_of_a_worker_that_has_left_or_is_silent_are_not_found(
    store: Store, worker: Worker, other: Worker, channel: int
) -> None:
    worker.client(channel_id=channel)
    worker.write()
    assert [address.id for address in other.directory.workers()] == [worker.status.worker_id]
    silent = update(process.Worker).where(process.Worker.id == worker.status.worker_id)
    with store.engine.begin() as connection:
        connection.execute(silent.values(seen=datetime.now(UTC) - timedelta(seconds=40)))
    assert other.find() == []
    assert other.directory.workers() == []
    worker.status.leave()
    assert not rows(store)


def test_clients_of_a_channel_that_is_deleted_keep_nobody_else_from_being_found(
    store: Store, worker: Worker, channel: int
) -> None:
    gone = add(store, "channel_websocket", "bills", address="/bills", service="orders.get").id
    worker.client(channel_id=gone)
    worker.write()
    remove(store, "channel_websocket", "bills")
    worker.client(channel_id=gone)
    client = worker.client(channel_id=channel)
    worker.write()
    assert list(rows(store)) == [client.pub_client_id]


def test_a_client_whose_data_the_database_refuses_keeps_nobody_else_from_being_found(
    store: Store, worker: Worker, channel: int, caplog: pytest.LogCaptureFixture
) -> None:
    leaves = worker.client(channel_id=channel)
    worker.write()
    worker.clients.remove(leaves)
    first = worker.client(channel_id=channel)
    worker.client(channel_id=channel, ext_client_id="x" * 501, attributes={"secret": "canary"})
    last = worker.client(channel_id=channel, forwarded_for="y" * 2000)
    with caplog.at_level(logging.WARNING):
        worker.write()
    assert sorted(rows(store)) == sorted([first.pub_client_id, last.pub_client_id])
    assert "cannot be found by other workers" in caplog.text
    assert "canary" not in caplog.text
    assert not worker.rows.write()


def test_other_clusters_are_not_looked_at(
    store: Store, worker: Worker, channel: int, keyring: Keyring
) -> None:
    client = worker.client(channel_id=channel)
    worker.write()
    stranger = Worker(Store.create(store.engine, "stranger", keyring), "server1")
    assert stranger.find(pub_client_id=client.pub_client_id) == stranger.find() == []
    assert stranger.directory.page(None, offset=0, limit=10) == ([], 0)
    assert stranger.directory.workers() == []


@pytest.mark.parametrize("given", [None, {}, [], "x", {"a": [1]}, {"a": {}}, {1: 2}, {"a": "\0"}])
def test_attributes_to_look_for_are_some_texts_numbers_and_flags(given: object) -> None:
    with pytest.raises(InvalidInput, match="attrs"):
        wanted_attributes(given)


@pytest.fixture
def running(worker: Worker) -> Iterator[Worker]:
    """A worker that writes its rows by itself."""
    worker.rows.start()
    yield worker
    worker.rows.stop()
    gevent.sleep(0)


def test_rows_are_written_by_themselves(
    store: Store, running: Worker, channel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_INTERVAL", 0.05)
    client = running.client(channel_id=channel)
    eventually(lambda: list(rows(store)) == [client.pub_client_id])
    with store.engine.begin() as connection:
        connection.execute(delete(process.Worker))
    running.status.beat()
    eventually(lambda: rows(store) == {client.pub_client_id: running.status.worker_id})
    running.clients.remove(client)
    eventually(lambda: not rows(store))


def test_what_happens_while_the_database_is_away_is_written_when_it_is_back(
    own_postgres: PostgresServer,
    keyring: Keyring,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from junctor.sql import engine as engines
    from junctor.sql import schema

    monkeypatch.setattr(module, "RETRY_PAUSE", 0.05)
    engine = engines.connect(own_postgres.url())
    schema.upgrade(engine)
    store = Store.create(engine, "test", keyring)
    add(store, "server", "server1")
    add(store, "service", "orders.get")
    channel = add(store, "channel_websocket", "orders", address="/ws", service="orders.get").id
    worker = Worker(store, "server1")
    leaves, stays = worker.client(channel_id=channel), worker.client(channel_id=channel)
    worker.write()
    own_postgres.stop()
    worker.clients.remove(leaves)
    comes = worker.client(channel_id=channel)
    with pytest.raises(StoreUnavailable):
        worker.rows.write()
    with caplog.at_level(logging.INFO):
        worker.rows.start()
        eventually(lambda: "Other workers do not find" in caplog.text)
        own_postgres.start()
        eventually(lambda: sorted(rows(store)) == sorted([stays.pub_client_id, comes.pub_client_id]))
        eventually(lambda: "find the WebSocket clients of this one again" in caplog.text)
    assert caplog.text.count("Other workers do not find") == 1
    worker.rows.stop()
    gevent.sleep(0)
    engine.dispose()
