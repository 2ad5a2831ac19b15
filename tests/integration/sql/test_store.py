"""Reading objects: one, a page, all of them, what changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select

from junctor.sql import base
from junctor.sql.changes import CREATE, DELETE, EDIT
from junctor.sql.errors import AlreadyExists, JunctorError, NotFound, UnknownKind
from junctor.sql.secrets import Keyring, Secret
from junctor.sql.store import Store
from tests.helpers.objects import WHO, add, add_channel, edit, remove


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a channel, its service, and two security definitions."""
    with store.transaction(who=WHO) as transaction:
        transaction.create("security_basic_auth", {"name": "crm", "username": "crm", "password": "hunter2"})
        transaction.create("security_api_key", {"name": "erp", "key": "hunter3"})
        add_channel(transaction, security="crm")
        transaction.create("service", {"name": "zato.ping"}, system={"is_internal": True})
    return store


def test_a_new_cluster_has_its_settings_at_version_one(store: Store) -> None:
    assert store.version() == 1
    assert store.get("cluster", "test")["max_body_size"] == 10_485_760


def test_a_cluster_is_made_once(store: Store) -> None:
    with pytest.raises(AlreadyExists, match="Cluster 'test' exists already"):
        Store.create(store.engine, "test", store.keyring)


def test_of_several_who_make_one_cluster_at_once_one_does(engine: Engine, keyring: Keyring) -> None:
    def make(_: int) -> bool:
        try:
            Store.create(engine, "same", keyring)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(make, range(6))) == 1
    assert Store.open(engine, "same", keyring).version() == 1


def test_a_cluster_whose_settings_cannot_be_made_is_not_made_either(engine: Engine, keyring: Keyring) -> None:
    with pytest.raises(JunctorError):
        Store.create(engine, "line\nbreak", keyring)
    with pytest.raises(NotFound):
        Store.open(engine, "line\nbreak", keyring)


def test_a_store_is_opened_by_the_name_of_its_cluster(store: Store) -> None:
    assert Store.open(store.engine, "test", store.keyring).cluster_id == store.cluster_id
    with pytest.raises(NotFound, match="There is no cluster 'other'"):
        Store.open(store.engine, "other", store.keyring)


def test_clusters_do_not_see_each_other(filled: Store) -> None:
    other = Store.create(filled.engine, "other", filled.keyring)
    add(other, "service", "orders.get")

    assert other.find("channel_rest").total == 0
    assert other.version() == 2
    with pytest.raises(NotFound):
        other.get("security", "crm")
    service = filled.get("service", "orders.get")
    with pytest.raises(NotFound):
        other.get_by_id("service", service.id)
    with pytest.raises(NotFound):
        remove(other, "service", service.id)


def test_an_object_is_found_by_name_by_id_and_through_its_family(filled: Store) -> None:
    channel = filled.get("channel_rest", "orders")
    assert channel == filled.get_by_id("channel_rest", channel.id)
    assert (channel["service"], channel["security"]) == ("orders.get", "crm")
    assert channel["service_id"] == filled.id_of("service", "orders.get")
    assert channel["security_id"] == filled.id_of("security", "crm")

    assert filled.get("security", "crm").kind == "security_basic_auth"
    assert filled.get("security", "erp").kind == "security_api_key"
    assert filled.get("security", "crm")["password"] == Secret("hunter2")


@pytest.mark.parametrize("name", ["nothing", "", "a\x00b", "\ud800", "x" * 500])
def test_what_is_not_there_is_not_found_whatever_its_name(filled: Store, name: str) -> None:
    with pytest.raises(NotFound, match="There is no REST channel"):
        filled.get("channel_rest", name)
    with pytest.raises(NotFound, match="There is no security"):
        filled.get("security", name)
    assert filled.id_of("channel_rest", name) is None
    assert filled.find("channel_rest", query=name or "nothing").total == 0


@pytest.mark.parametrize("object_id", [0, -1, 999_999, 2**63, -(2**80)])
def test_what_is_not_there_is_not_found_whatever_its_id(filled: Store, object_id: int) -> None:
    with pytest.raises(NotFound):
        filled.get_by_id("channel_rest", object_id)
    with pytest.raises(NotFound):
        remove(filled, "channel_rest", object_id)


def test_an_unknown_type_is_refused(filled: Store) -> None:
    for use in (filled.get, filled.id_of):
        with pytest.raises(UnknownKind):
            use("channel_soap", "a")
    with pytest.raises(UnknownKind):
        filled.find("channel_soap")
    with pytest.raises(UnknownKind):
        filled.get_by_id("channel_soap", 1)


def test_the_id_of_a_member_is_found_by_its_own_type_alone(filled: Store) -> None:
    assert filled.id_of("security_basic_auth", "crm") == filled.id_of("security", "crm")
    assert filled.id_of("security_api_key", "crm") is None


def test_a_list_leaves_internal_objects_out_unless_they_are_asked_for(filled: Store) -> None:
    assert [found.name for found in filled.find("service").objects] == ["orders.get"]
    everything = filled.find("service", internal=True)
    assert [found.name for found in everything.objects] == ["orders.get", "zato.ping"]
    assert everything.total == 2


def test_a_list_of_a_member_has_that_type_alone(filled: Store) -> None:
    page = filled.find("security_api_key")
    assert [found.name for found in page.objects] == ["erp"]
    assert page.total == 1


def test_a_list_is_read_in_pages_ordered_by_name(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        for number in (3, 1, 5, 2, 4):
            transaction.create("service", {"name": f"s{number}"})

    page = store.find("service", offset=1, limit=2)
    assert ([found.name for found in page.objects], page.total) == (["s2", "s3"], 5)
    assert store.find("service", offset=10).objects == []
    assert len(store.find("service", limit=10**12).objects) == 5
    assert len(store.find("service", offset=-5, limit=2).objects) == 2
    assert store.find("service", limit=-1).objects == []


def test_a_search_takes_its_text_literally_and_ignores_case(store: Store) -> None:
    for name in ("Orders_100%", "orders-1", "other"):
        add(store, "service", name)
    assert [found.name for found in store.find("service", query="ORDERS").objects] == [
        "Orders_100%",
        "orders-1",
    ]
    assert [found.name for found in store.find("service", query="_").objects] == ["Orders_100%"]
    assert [found.name for found in store.find("service", query="0%").objects] == ["Orders_100%"]
    assert store.find("service", query="'; DROP TABLE service; --").total == 0


def test_a_snapshot_has_everything_at_one_version(filled: Store) -> None:
    snapshot = filled.snapshot()
    assert snapshot.version == filled.version()
    assert set(snapshot.objects) == set(base.kinds())
    assert [found.name for found in snapshot.objects["service"]] == ["orders.get", "zato.ping"]
    assert snapshot.objects["channel_rest"][0]["security"] == "crm"


def test_news_tell_the_changes_and_the_objects_as_they_are_now(filled: Store) -> None:
    start = filled.version()
    edit(filled, "service", "orders.get", slow_threshold=100)
    edit(filled, "service", "orders.get", slow_threshold=200)
    gone = add(filled, "service", "gone")
    remove(filled, "service", "gone")

    news = filled.news(start)

    service = filled.get("service", "orders.get")
    assert news.version == start + 4
    assert [(change.verb, change.name, change.version) for change in news.changes] == [
        (EDIT, "orders.get", start + 1),
        (EDIT, "orders.get", start + 2),
        (CREATE, "gone", start + 3),
        (DELETE, "gone", start + 4),
    ]
    assert news.objects == {("service", service.id): service}
    assert news.objects["service", service.id]["slow_threshold"] == 200
    assert ("service", gone.id) not in news.objects


def test_there_are_no_news_when_nothing_changed(filled: Store) -> None:
    news = filled.news(filled.version())
    assert (news.version, list(news.changes), dict(news.objects)) == (filled.version(), [], {})


def test_news_are_incomplete_for_who_is_ahead_of_a_restored_database(filled: Store) -> None:
    news = filled.news(filled.version() + 1)
    assert (news.is_complete, news.version) == (False, filled.version())


def test_news_are_incomplete_for_who_is_too_far_behind(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = filled.version()
    monkeypatch.setattr("junctor.sql.store.MAX_NEWS", 2)
    add(filled, "service", "one")
    add(filled, "service", "two")
    assert filled.news(start).is_complete
    add(filled, "service", "three")
    assert not filled.news(start).is_complete


def test_news_skip_changes_of_types_that_this_code_does_not_know(filled: Store) -> None:
    start = filled.version()
    add(filled, "service", "new")
    with filled.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE config_change SET kind = 'channel_amqp' WHERE name = 'new'")
    news = filled.news(start)
    assert [change.kind for change in news.changes] == ["channel_amqp"]
    assert not news.objects


def test_applying_news_one_after_the_other_gives_the_snapshot(filled: Store) -> None:
    """Whoever follows the feed has what whoever reads everything has, whatever was done and in which steps."""
    known = {(kind, found.id): found for kind, all_ in filled.snapshot().objects.items() for found in all_}
    version = filled.version()
    steps = [
        lambda: add(filled, "server", "a"),
        lambda: edit(filled, "security_basic_auth", "crm", password="other"),
        lambda: edit(filled, "channel_rest", "orders", security=""),
        lambda: remove(filled, "security_basic_auth", "crm"),
        lambda: edit(filled, "server", "a", name="b"),
        lambda: add(filled, "security_api_key", "crm", key="k"),
        lambda: remove(filled, "channel_rest", "orders"),
    ]
    for number, step in enumerate(steps):
        step()
        if number % 2:
            continue  # two versions at once
        news = filled.news(version)
        for change in news.changes:
            key = (change.kind, change.object_id)
            if key in news.objects:
                known[key] = news.objects[key]
            else:
                known.pop(key, None)
        version = news.version

    now = {(kind, found.id): found for kind, all_ in filled.snapshot().objects.items() for found in all_}
    assert known == now


def test_history_is_read_backwards_in_pages(filled: Store) -> None:
    for number in range(4):
        add(filled, "service", f"s{number}")
    newest = filled.history(limit=2)
    assert [change.name for change in newest] == ["s3", "s2"]
    older = filled.history(before=newest[-1].version, limit=2)
    assert [change.name for change in older] == ["s1", "s0"]
    assert newest[0].who == WHO
    assert newest[0].at is not None
    assert newest[0].at.utcoffset() is not None
    assert filled.history(limit=0) == []
    assert filled.history(limit=-1) == []


def test_reading_leaves_no_connection_behind(filled: Store) -> None:
    filled.snapshot()
    filled.news(0)
    filled.find("service")
    with pytest.raises(NotFound):
        filled.get("service", "nothing")
    assert filled.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_connection_that_read_a_snapshot_writes_as_before(filled: Store) -> None:
    """The snapshot's isolation level must not stay on the pooled connection."""
    filled.snapshot()
    with filled.engine.connect() as connection:
        level = connection.scalar(select(func.current_setting("transaction_isolation")))
    assert level == "read committed"
