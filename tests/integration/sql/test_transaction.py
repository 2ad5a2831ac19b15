"""Changing objects: all or nothing, one version each time, nobody's change lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from junctor.sql import base
from junctor.sql import engine as engines
from junctor.sql.changes import CREATE, DELETE, EDIT
from junctor.sql.errors import (
    AlreadyExists,
    EditConflict,
    InUse,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    UnknownKind,
)
from junctor.sql.secrets import Secret
from junctor.sql.shape import logged, public
from junctor.sql.store import Store
from tests.helpers.objects import WHO, add, add_channel, edit, remove
from tests.helpers.samples import required


def fields_of(error: InvalidInput) -> list[str]:
    return [problem.field for problem in error.problems]


@pytest.fixture
def channel(store: Store) -> Store:
    """A store with the secured REST channel 'orders'."""
    with store.transaction(who=WHO) as transaction:
        transaction.create("security_basic_auth", {"name": "crm", "username": "crm", "password": "hunter2"})
        add_channel(transaction, security="crm")
    return store


# creating


@pytest.fixture
def referred_to(store: Store) -> Mapping[str, str]:
    """An object of each type and family that others refer to."""
    made: dict[str, str] = {}
    for kind in base.kinds():
        for target in base.references(base.kind_class(kind)).values():
            if target not in made:
                member = base.members(target)[0]
                given = required(member, f"one.{target}", made)
                made[target] = add(store, member, given.pop("name"), **given).name
    return made


@pytest.mark.parametrize("kind", [kind for kind in base.kinds() if kind != "cluster"])
def test_an_object_of_each_type_is_created_with_its_defaults_and_read_back(
    store: Store, referred_to: Mapping[str, str], kind: str
) -> None:
    given = required(kind, "one", referred_to)
    declared = base.declared(base.kind_class(kind))

    made = add(store, kind, given.pop("name"), **given)

    assert made == store.get(kind, "one")
    assert (made["version"], made["is_internal"], made["owner"]) == (1, False, "")
    for name, value in public(made, store.keyring).items():
        if (
            name in declared
            and not declared[name].required
            and name not in given
            and not declared[name].read_only
        ):
            default = declared[name].default
            assert value == (list(default) if isinstance(default, tuple) else default), name
    assert made in store.snapshot().objects[kind]


def test_what_only_the_server_may_set_is_taken_from_the_server_alone(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        made = transaction.create(
            "service",
            {"name": "orders.get"},
            system={"impl_name": "orders.Get", "is_internal": True, "owner": "enmasse:main"},
        )
    assert (made["impl_name"], made["is_internal"], made["owner"]) == ("orders.Get", True, "enmasse:main")
    with pytest.raises(InvalidInput, match="impl_name: is set by the server and cannot be given"):
        edit(store, "service", "orders.get", impl_name="other")
    with pytest.raises(
        InvalidInput, match="is_internal: is not a field of a Service; there are name, is_active"
    ):
        edit(store, "service", "orders.get", is_internal=False)
    with store.transaction(who=WHO) as transaction:
        edited = transaction.edit("service", "orders.get", {}, system={"impl_name": "o.Get", "owner": "me"})
    assert (edited["impl_name"], edited["owner"], edited["version"]) == ("o.Get", "me", 2)


def test_every_problem_of_an_object_is_told_at_once(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(
            store,
            "channel_rest",
            "x" * 201,
            service="nothing",
            security="nobody",
            timeout=0,
            data_format="xml",
            is_active="maybe",
        )
    assert sorted(fields_of(caught.value)) == sorted(
        ["name", "url_path", "service", "security", "timeout", "data_format", "is_active"]
    )
    assert "service: there is no service 'nothing'." in str(caught.value)
    assert "timeout: must be between 1 and 3600 s, is 0." in str(caught.value)
    assert store.find("channel_rest").total == 0


def test_every_unknown_field_is_told_at_once(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(store, "service", "s", colour="red", size=5)
    assert fields_of(caught.value) == ["colour", "size"]


def test_a_problem_of_the_whole_object_is_told(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(store, "security_basic_auth", "crm", username="a:b", realm='"')
    assert fields_of(caught.value) == ["username", "realm"]


def test_zato_s_names_of_fields_are_understood_and_our_own_win(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        transaction.create("service", {"name": "a"})
        transaction.create("service", {"name": "b"})
        transaction.create("security_api_key", {"name": "key", "username": "X-Key", "password": "hunter2"})
        made = transaction.create(
            "channel_rest",
            {
                "name": "c",
                "url_path": "/c",
                "service_name": "a",
                "service": "b",
                "sec_def": "zato-no-security",
            },
        )
        again = transaction.create(
            "channel_rest", {"name": "d", "url_path": "/d", "service": "b", "service_name": "a"}
        )
    assert (made["service"], made["security"], again["service"]) == ("b", None, "b")
    key = store.get("security", "key")
    assert (key["header"], key["key"].reveal()) == ("X-Key", "hunter2")


def test_a_name_is_taken_once_in_a_type_and_in_a_family(store: Store) -> None:
    add(store, "security_basic_auth", "crm", username="crm")
    with pytest.raises(AlreadyExists, match="Basic Auth 'crm' exists already"):
        add(store, "security_basic_auth", " crm ", username="other")
    with pytest.raises(AlreadyExists, match="API key 'crm' exists already"):
        add(store, "security_api_key", "crm")
    add(store, "service", "crm")


def test_two_channels_on_one_path_must_differ_in_their_methods(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        add_channel(transaction, "read", url_path="/orders", method="GET,HEAD")
        add_channel(transaction, "write", url_path="/orders", method="post")
    with pytest.raises(InvalidInput, match="url_path: is taken by REST channel 'read' for the same methods"):
        add(store, "channel_rest", "third", url_path="/orders", service="orders.get", method="GET")
    with pytest.raises(InvalidInput, match="is taken by REST channel 'write'"):
        edit(store, "channel_rest", "read", method="")
    assert edit(store, "channel_rest", "read", method="GET")["method"] == "GET"


def test_an_unknown_type_is_refused(store: Store) -> None:
    with pytest.raises(UnknownKind):
        add(store, "channel_soap", "a")


# editing


def test_an_edit_changes_what_it_is_given_and_leaves_all_else(channel: Store) -> None:
    before = channel.get("channel_rest", "orders")
    after = edit(channel, "channel_rest", "orders", timeout="60")
    assert after == before.replaced("timeout", 60).replaced("version", 2)
    assert after == channel.get("channel_rest", "orders")


def test_an_edit_that_changes_nothing_is_no_change(channel: Store) -> None:
    version = channel.version()
    for same in ({}, {"timeout": 30}, {"timeout": "30", "security": "crm"}, {"name": " orders "}):
        assert edit(channel, "channel_rest", "orders", **same)["version"] == 1
    assert edit(channel, "security_basic_auth", "crm", password="hunter2")["version"] == 1
    assert channel.version() == version


def test_an_edit_by_id_is_the_same_as_one_by_name(channel: Store) -> None:
    found = channel.get("channel_rest", "orders")
    assert edit(channel, "channel_rest", found.id, timeout=5).id == found.id
    assert channel.get("channel_rest", "orders")["timeout"] == 5


def test_a_secret_stays_when_it_is_not_given_and_is_replaced_when_it_is(channel: Store) -> None:
    assert edit(channel, "security_basic_auth", "crm", username="c")["password"] == Secret("hunter2")
    assert edit(channel, "security_basic_auth", "crm", password="hunter3")["password"] == Secret("hunter3")
    assert edit(channel, "security_basic_auth", "crm", password="")["password"] == Secret("")


def test_an_optional_reference_is_removed_by_an_empty_name(channel: Store) -> None:
    for empty in ("", None, "zato-no-security"):
        assert edit(channel, "channel_rest", "orders", security=empty)["security_id"] is None
        assert edit(channel, "channel_rest", "orders", security="crm")["security"] == "crm"


def test_a_required_field_cannot_be_emptied(channel: Store) -> None:
    with pytest.raises(InvalidInput, match="service: is required"):
        edit(channel, "channel_rest", "orders", service=None)
    with pytest.raises(InvalidInput, match="name: must not be empty"):
        edit(channel, "channel_rest", "orders", name=" ")


def test_references_follow_a_rename(channel: Store) -> None:
    edit(channel, "security_basic_auth", "crm", name="sales")
    found = channel.get("channel_rest", "orders")
    assert (found["security"], found["version"]) == ("sales", 1)
    with pytest.raises(NotFound):
        channel.get("security", "crm")


def test_a_rename_to_a_name_that_is_taken_is_refused(channel: Store) -> None:
    add(channel, "security_api_key", "erp")
    with pytest.raises(AlreadyExists, match="'crm' exists already"):
        edit(channel, "security_api_key", "erp", name="crm")
    assert channel.get("security", "erp").name == "erp"


def test_names_can_be_swapped_in_one_transaction(store: Store) -> None:
    a, b = add(store, "server", "a"), add(store, "server", "b")
    with store.transaction(who=WHO) as transaction:
        transaction.edit("server", "a", {"name": "c"})
        transaction.edit("server", "b", {"name": "a"})
        transaction.edit("server", "c", {"name": "b"})
    assert (store.get("server", "a").id, store.get("server", "b").id) == (b.id, a.id)


def test_of_two_edits_of_one_version_the_second_is_refused(channel: Store) -> None:
    read_by_both = channel.get("channel_rest", "orders")["version"]
    with channel.transaction(who="alice") as transaction:
        transaction.edit("channel_rest", "orders", {"timeout": 60}, expected_version=read_by_both)
    with (
        pytest.raises(EditConflict, match="you edited version 1, it is at 2 now"),
        channel.transaction(who="bob") as transaction,
    ):
        transaction.edit("channel_rest", "orders", {"timeout": 90}, expected_version=read_by_both)
    with pytest.raises(EditConflict), channel.transaction(who="bob") as transaction:
        transaction.delete("channel_rest", "orders", expected_version=read_by_both)
    assert channel.get("channel_rest", "orders")["timeout"] == 60


def test_what_is_not_there_cannot_be_edited(store: Store) -> None:
    for key in ("nothing", 999, "a\x00"):
        with pytest.raises(NotFound):
            edit(store, "service", key, is_active=False)


# deleting


def test_what_is_deleted_is_gone_from_all_its_tables(channel: Store) -> None:
    edit(channel, "channel_rest", "orders", security="")
    gone = remove(channel, "security_basic_auth", "crm")
    assert gone["username"] == "crm"
    with channel.engine.connect() as connection:
        for table in ("security", "security_basic_auth"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0
    with pytest.raises(NotFound):
        remove(channel, "security_basic_auth", "crm")


def test_what_is_in_use_is_not_deleted_and_who_uses_it_is_named(channel: Store) -> None:
    with channel.transaction(who=WHO) as transaction:
        transaction.create("outgoing_rest", {"name": "api", "host": "https://api", "security": "crm"})
    with pytest.raises(InUse) as caught:
        remove(channel, "security_basic_auth", "crm")
    users = ("REST channel 'orders'", "Outgoing REST connection 'api'")
    assert sorted(caught.value.users) == sorted(users)
    with pytest.raises(InUse, match=r"Service 'orders\.get' is in use by REST channel 'orders'"):
        remove(channel, "service", "orders.get")


def test_what_is_in_use_can_be_deleted_together_with_its_users(channel: Store) -> None:
    with channel.transaction(who=WHO) as transaction:
        transaction.delete("channel_rest", "orders")
        transaction.delete("service", "orders.get")
        transaction.delete("security_basic_auth", "crm")
    assert channel.find("service").total == 0


# transactions


def test_a_transaction_is_one_version_whatever_it_changes(store: Store) -> None:
    version = store.version()
    with store.transaction(who="alice", cid="K05A") as transaction:
        for number in range(3):
            transaction.create("service", {"name": f"s{number}"})
        transaction.edit("service", "s0", {"is_active": False})
        transaction.delete("service", "s1")
    assert transaction.version == store.version() == version + 1

    changes = store.news(version).changes
    assert [change.verb for change in changes] == [CREATE, CREATE, CREATE, EDIT, DELETE]
    assert {(change.version, change.who, change.cid) for change in changes} == {
        (version + 1, "alice", "K05A")
    }
    assert changes[3].differences() == {"is_active": (True, False)}


def test_a_transaction_that_changes_nothing_is_no_version(store: Store) -> None:
    version = store.version()
    with store.transaction(who=WHO) as transaction:
        pass
    assert (transaction.version, store.version()) == (version, version)


def test_an_error_in_a_transaction_leaves_nothing(store: Store) -> None:
    version = store.version()

    def write() -> None:
        with store.transaction(who=WHO) as transaction:
            transaction.create("service", {"name": "a"})
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        write()
    assert (store.version(), store.find("service").total, store.news(version).changes) == (version, 0, ())


def test_a_refused_change_may_be_caught_and_the_others_kept(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        transaction.create("service", {"name": "a"})
        with pytest.raises(AlreadyExists):
            transaction.create("service", {"name": "a"})
        with pytest.raises(InvalidInput):
            transaction.create("service", {"name": ""})
        transaction.create("service", {"name": "b"})
    assert [found.name for found in store.find("service").objects] == ["a", "b"]


def test_a_transaction_sees_its_own_changes_and_nobody_else_does(store: Store) -> None:
    with store.transaction(who=WHO) as transaction:
        made = transaction.create("service", {"name": "a"})
        assert transaction.find("service", "a") == made == transaction.read("service", made.id)
        assert transaction.read_named("service", "a") == made
        assert store.find("service").total == 0
        assert store.version() == 1
    assert store.get("service", "a") == made


def test_a_dry_run_tells_what_would_change_and_changes_nothing(store: Store) -> None:
    with store.transaction(who=WHO, dry_run=True) as transaction:
        transaction.create("service", {"name": "a"})
        transaction.edit("service", "a", {"is_active": False})
    assert [change.verb for change in transaction.changes] == [CREATE, EDIT]
    assert (transaction.version, store.version(), store.find("service").total) == (1, 1, 0)


def test_long_words_about_the_author_are_cut_and_break_nothing(store: Store) -> None:
    with store.transaction(who="w" * 300, cid="c" * 300) as transaction:
        transaction.create("service", {"name": "a"})
    change = store.history(limit=1)[0]
    assert (change.who, change.cid) == ("w" * 200, "c" * 60)


def test_versions_have_no_gaps_and_no_repeats_under_eight_writers(store: Store) -> None:
    start, each = store.version(), 12

    def write(writer: int) -> list[int]:
        made = []
        for number in range(each):
            with store.transaction(who=f"w{writer}") as transaction:
                transaction.create("service", {"name": f"s{writer}.{number}"})
                if number % 4 == 3:
                    transaction.delete("service", f"s{writer}.{number - 1}")
            made.append(transaction.version)
            if number % 3 == 0:
                with pytest.raises(InvalidInput):
                    write_in_vain()
        return made

    def write_in_vain() -> None:
        with store.transaction(who=WHO) as transaction:
            transaction.create("service", {"name": "fine"})
            transaction.create("service", {"name": ""})

    with ThreadPoolExecutor(8) as pool:
        made = [version for versions in pool.map(write, range(8)) for version in versions]

    assert sorted(made) == list(range(start + 1, start + 1 + 8 * each))
    assert store.version() == start + 8 * each
    changes = store.news(start).changes
    assert sorted({change.version for change in changes}) == sorted(made)
    assert len(store.snapshot().objects["service"]) == 8 * (each - each // 4)


def test_no_edit_of_eight_concurrent_writers_is_lost(store: Store) -> None:
    add(store, "service", "counter", slow_threshold=1)

    def increase(_: int) -> None:
        for _ in range(10):
            with store.transaction(who=WHO) as transaction:
                found = transaction.find("service", "counter")
                assert found is not None
                transaction.edit("service", "counter", {"slow_threshold": found["slow_threshold"] + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increase, range(8)))
    found = store.get("service", "counter")
    assert (found["slow_threshold"], found["version"]) == (81, 81)


def test_news_read_while_others_write_are_complete_up_to_their_version(store: Store) -> None:
    stop = threading.Event()

    def write() -> int:
        number = 0
        while not stop.is_set() and number < 500:
            add(store, "service", f"s{number}")
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        version, seen = 1, set()
        try:
            while len(seen) < 40 and not writer.done():
                news = store.news(version)
                assert [change.version for change in news.changes] == list(
                    range(version + 1, news.version + 1)
                )
                assert {found.name for found in news.objects.values()} == {c.name for c in news.changes}
                seen |= {change.name for change in news.changes}
                version = news.version
        finally:
            stop.set()
        assert writer.result() >= 40


def test_a_writer_that_waits_too_long_for_another_is_told_so(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOCK_TIMEOUT", 0.2)
    engine = engines.connect(database)
    impatient = Store(engine, store.cluster_id, store.keyring)
    with store.transaction(who=WHO) as transaction:
        transaction.create("service", {"name": "a"})
        with pytest.raises(StoreUnavailable, match="lock timeout"), impatient.transaction(who="other"):
            pytest.fail("two writers at once")
        assert impatient.version() == 1, "readers do not wait"
    with impatient.transaction(who="other") as transaction:
        transaction.create("service", {"name": "b"})
    assert store.version() == 3
    engine.dispose()


def test_a_waiting_writer_goes_on_when_the_first_has_ended(store: Store) -> None:
    entered = threading.Event()

    def second() -> int:
        entered.set()
        with store.transaction(who="second") as transaction:
            assert transaction.find("service", "a") is not None, "what the first did is seen"
            transaction.create("service", {"name": "b"})
        return transaction.version

    with ThreadPoolExecutor(1) as pool:
        with store.transaction(who="first") as transaction:
            transaction.create("service", {"name": "a"})
            waiting = pool.submit(second)
            assert entered.wait(10)
        assert (transaction.version, waiting.result(10)) == (2, 3)


# what leaves the store


def test_an_object_is_shown_with_fingerprints_instead_of_secrets(channel: Store) -> None:
    shown = public(channel.get("security", "crm"), channel.keyring)
    assert shown["secrets"] == {"password": channel.keyring.fingerprint("hunter2")}
    assert "password" not in shown
    assert "hunter2" not in repr(shown)
    plain = public(channel.get("channel_rest", "orders"), channel.keyring)
    assert "secrets" not in plain
    assert (plain["service"], plain["security"]) == ("orders.get", "crm")
    edit(channel, "channel_rest", "orders", security="")
    assert public(channel.get("channel_rest", "orders"), channel.keyring)["security"] == ""


def test_the_change_feed_has_the_digest_of_a_large_text(store: Store) -> None:
    made = add(store, "service_source", "a.py", content="print('hello')\n")
    assert logged(made, store.keyring)["content"].startswith("sha256:")
    change = store.history(limit=1)[0]
    assert change.after is not None
    assert "hello" not in str(change.after)
    edited = edit(store, "service_source", "a.py", content="print('bye')\n")
    assert edited["version"] == 2
    assert list(store.history(limit=1)[0].differences()) == ["content"]


def test_a_changed_secret_shows_in_the_feed_as_another_fingerprint(channel: Store) -> None:
    edit(channel, "security_basic_auth", "crm", password="hunter3")
    assert channel.history(limit=1)[0].differences() == {
        "secrets": (
            {"password": channel.keyring.fingerprint("hunter2")},
            {"password": channel.keyring.fingerprint("hunter3")},
        )
    }


@pytest.mark.parametrize("kind", ["service", "service_source"])
def test_what_code_knows_by_its_name_cannot_be_renamed(store: Store, kind: str) -> None:
    add(store, kind, "orders")
    with pytest.raises(InvalidInput, match=r"name: of a Service.* cannot be changed"):
        edit(store, kind, "orders", name="others")
    assert store.get(kind, "orders").name == "orders"
