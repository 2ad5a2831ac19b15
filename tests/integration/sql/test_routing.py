"""What the load balancer reads by itself is what the store says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from junctor.sql.errors import NotFound, SchemaOutdated, StoreUnavailable
from junctor.sql.routing import ChannelRoute, RouteReader, Routes, ServerRoute
from junctor.sql.store import Store
from tests.helpers.objects import add, edit, remove
from tests.helpers.postgres import PostgresServer


@pytest.fixture
def reader(database: str, store: Store) -> Iterator[RouteReader]:
    made = RouteReader(database, "test")
    yield made
    made.close()


def test_an_empty_cluster_has_no_routes(reader: RouteReader) -> None:
    assert reader.read() == Routes(1)


def test_it_has_the_servers_by_name_and_the_active_channels_by_age(store: Store, reader: RouteReader) -> None:
    add(store, "service", "orders.get")
    add(store, "server", "b", host="10.0.0.2", port=17011)
    add(store, "server", "a", host="127.0.0.1", port=17010)
    for name, address in (("z", "ws://0.0.0.0:48902/ws"), ("off", "/off"), ("a", "/käse")):
        add(store, "channel_websocket", name, address=address, service="orders.get", is_active=name != "off")
    Store.create(store.engine, "other", store.keyring)

    assert reader.read() == Routes(
        store.version(),
        (ServerRoute("a", "127.0.0.1", 17010), ServerRoute("b", "10.0.0.2", 17011)),
        (ChannelRoute("z", "ws://0.0.0.0:48902/ws"), ChannelRoute("a", "/käse")),
    )


def test_the_version_grows_with_every_change(store: Store, reader: RouteReader) -> None:
    before = reader.version()

    server = add(store, "server", "a")
    edit(store, "server", server.id, port=1)
    remove(store, "server", server.id)

    assert (before, reader.version()) == (1, 4)
    assert store.version() == 4


def test_it_takes_urls_as_sqlalchemy_has_them(database: str, store: Store) -> None:
    reader = RouteReader(database.replace("postgresql://", "postgresql+psycopg2://"), "test")

    assert reader.version() == 1
    reader.close()


def test_a_cluster_that_is_not_there_is_told(database: str, store: Store) -> None:
    reader = RouteReader(database, "other")

    with pytest.raises(NotFound, match="There is no cluster 'other'"):
        reader.read()
    reader.close()


def test_a_database_without_the_schema_is_told(empty_database: str) -> None:
    with pytest.raises(SchemaOutdated):
        RouteReader(empty_database, "test").read()


def test_a_database_that_is_away_is_told_and_used_again_when_it_is_back(own_postgres: PostgresServer) -> None:
    reader = RouteReader(own_postgres.url(), "test")
    with pytest.raises(SchemaOutdated):
        reader.version()
    own_postgres.kill()
    with pytest.raises(StoreUnavailable, match="The object database cannot be used: "):
        reader.version()
    own_postgres.start()

    with pytest.raises(SchemaOutdated):
        reader.version()
    reader.close()


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@h:1/d?no=1", "nonsense hunter2"])
def test_a_url_that_is_none_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        RouteReader(url, "test").read()

    assert raised.value.message == "The URL of the object database is not valid."
