"""The registry: building live objects, swapping them, and what happens when one does not start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import pytest

from junctor.server.context import Context
from junctor.server.runtime.live import Live
from junctor.server.runtime.registry import Registry
from junctor.sql.changes import CREATE, DELETE, Change
from junctor.sql.errors import JunctorError
from junctor.sql.store import News, Store
from junctor.sql.transaction import Transaction
from tests.helpers.objects import WHO, add, edit, remove

KEY, BASIC, CHANNEL = "security_api_key", "security_basic_auth", "channel_rest"


class Fake(Live):
    """A live object that writes down what is done to it; headers and paths with certain words make it fail."""

    events: ClassVar[list[str]] = []
    found: ClassVar[dict[str, Fake]] = {}
    broken: ClassVar[set[str]] = set()
    when_started: ClassVar[Callable[[Fake], None] | None] = None

    @property
    def shown(self) -> str:
        return f"{self.config.name}.{self.config['version']}"

    def start(self) -> None:
        self.events.append(f"start {self.shown}")
        if self.config.name in self.broken:
            raise JunctorError(f"{self.config.name} is broken.")
        if Fake.when_started is not None:
            Fake.when_started(self)

    def take_over(self, previous: Live | None) -> None:
        old = previous.shown if isinstance(previous, Fake) else "nothing"
        self.events.append(f"take over {self.shown} from {old}")
        if isinstance(previous, Fake) and self.found.get(previous.config.name) is previous:
            del self.found[previous.config.name]
        self.found[self.config.name] = self

    def leave(self) -> None:
        self.events.append(f"leave {self.shown}")
        if self.found.get(self.config.name) is self:
            del self.found[self.config.name]

    def stop(self) -> None:
        self.events.append(f"stop {self.shown}")
        if "sticky" in self.config.name:
            raise OSError("cannot stop")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every type that these tests use has the fake live class; all others have none."""
    kinds = (KEY, BASIC, CHANNEL, "service")
    monkeypatch.setattr("junctor.server.runtime.registry.live_classes", lambda: dict.fromkeys(kinds, Fake))
    yield
    Fake.events.clear()
    Fake.found.clear()
    Fake.broken.clear()
    Fake.when_started = None


@pytest.fixture
def registry(store: Store) -> Registry:
    """A registry with everything that there is in the store."""
    registry = Registry(cast(Context, None))
    registry.load(store.snapshot())
    Fake.events.clear()
    return registry


def follow(registry: Registry, store: Store) -> list[str]:
    """What applying the news did."""
    Fake.events.clear()
    registry.apply(store.news(registry.version))
    assert registry.version == store.version()
    return list(Fake.events)


def test_a_new_object_is_started_and_found(registry: Registry, store: Store) -> None:
    made = add(store, KEY, "one")
    assert follow(registry, store) == ["start one.1", "take over one.1 from nothing"]
    entry = registry.find(KEY, "one")
    assert entry is not None
    assert entry.live is Fake.found["one"] is registry.live("security", made.id)
    assert [item.config.name for item in registry.entries(KEY)] == ["one"]
    assert registry.find("security", "one") is entry
    assert registry.find(KEY, "none") is None
    assert registry.live("security", 0) is None
    assert registry.find("no_such_type", "one") is None


def test_a_changed_object_is_built_before_the_old_one_is_stopped(registry: Registry, store: Store) -> None:
    add(store, KEY, "one")
    follow(registry, store)
    edit(store, KEY, "one", header="X-Other")
    assert follow(registry, store) == ["start one.2", "take over one.2 from one.1", "stop one.1"]


def test_all_of_a_version_are_built_then_swapped_then_stopped(registry: Registry, store: Store) -> None:
    for name in ("one", "two", "three"):
        add(store, KEY, name)
    follow(registry, store)
    with store.transaction(who=WHO) as transaction:
        transaction.edit(KEY, "one", {"header": "X-A"})
        transaction.edit(KEY, "two", {"header": "X-B"})
        transaction.delete(KEY, "three")
        transaction.create(KEY, {"name": "four"})
    assert follow(registry, store) == [
        "start one.2",
        "start two.2",
        "start four.1",
        "leave three.1",
        "take over one.2 from one.1",
        "take over two.2 from two.1",
        "take over four.1 from nothing",
        "stop three.1",
        "stop one.1",
        "stop two.1",
    ]


def test_several_versions_at_once_give_the_last_one(registry: Registry, store: Store) -> None:
    add(store, KEY, "kept")
    add(store, KEY, "gone")
    for number in range(3):
        edit(store, KEY, "kept", header=f"X-{number}")
    remove(store, KEY, "gone")
    assert follow(registry, store) == ["start kept.4", "take over kept.4 from nothing"]
    assert registry.find(KEY, "gone") is None


def test_an_object_that_does_not_start_leaves_its_predecessor_at_work(
    registry: Registry, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, KEY, "one")
    follow(registry, store)
    predecessor = Fake.found["one"]
    Fake.broken.add("one")
    edit(store, KEY, "one", header="X-Other")
    events = follow(registry, store)
    assert set(events) == {"start one.2"}
    entry = registry.find(KEY, "one")
    assert entry is not None
    assert entry.live is predecessor is Fake.found["one"]
    assert entry.config["header"] == "X-Other"
    assert registry.problems == {(KEY, "one"): "one is broken."}
    assert registry.shown_problems() == {f"{KEY}/one": "one is broken."}
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["API key 'one' does not start: one is broken."]


def test_it_is_tried_again_with_each_version_until_it_works(registry: Registry, store: Store) -> None:
    Fake.broken.add("one")
    add(store, KEY, "one")
    follow(registry, store)
    assert "one" not in Fake.found
    Fake.broken.clear()
    add(store, KEY, "other")
    assert "take over one.1 from nothing" in follow(registry, store)
    assert registry.problems == {}
    assert set(Fake.found) == {"one", "other"}


def test_what_needs_something_that_comes_later_in_the_same_version_is_tried_again(
    registry: Registry, store: Store
) -> None:
    def needs_the_other(live: Fake) -> None:
        if live.config.name == "first" and "second" not in Fake.found:
            raise JunctorError("There is no second.")

    Fake.when_started = needs_the_other
    with store.transaction(who=WHO) as transaction:
        transaction.create(KEY, {"name": "first"})
        transaction.create(KEY, {"name": "second"})
    follow(registry, store)
    assert set(Fake.found) == {"first", "second"}
    assert registry.problems == {}


def test_an_unexpected_error_is_logged_with_its_traceback(
    registry: Registry, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Fake) -> None:
        raise ZeroDivisionError

    Fake.when_started = fails
    add(store, KEY, "one")
    follow(registry, store)
    assert registry.problems == {(KEY, "one"): "ZeroDivisionError"}
    assert caplog.records[0].exc_info is not None


def test_an_object_that_does_not_stop_holds_up_nobody(
    registry: Registry, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, KEY, "sticky")
    add(store, KEY, "other")
    follow(registry, store)
    remove(store, KEY, "sticky")
    remove(store, KEY, "other")
    assert follow(registry, store)[-2:] == ["stop sticky.1", "stop other.1"]
    assert f"{KEY} 'sticky' did not stop cleanly." in caplog.text


def test_a_problem_goes_with_its_object(registry: Registry, store: Store) -> None:
    Fake.broken |= {"one", "two"}
    for name in ("one", "two"):
        add(store, KEY, name)
    follow(registry, store)
    remove(store, KEY, "one")
    follow(registry, store)
    assert set(registry.problems) == {(KEY, "two")}
    edit(store, KEY, "two", name="three")
    follow(registry, store)
    assert registry.problems == {}
    assert set(Fake.found) == {"three"}


def test_a_renamed_object_is_found_by_its_new_name_alone(registry: Registry, store: Store) -> None:
    made = add(store, KEY, "before")
    follow(registry, store)
    edit(store, KEY, "before", name="after")
    follow(registry, store)
    assert registry.find(KEY, "before") is None
    entry = registry.find(KEY, "after")
    assert entry is not None
    assert entry.config.id == made.id
    assert set(Fake.found) == {"after"}


def exchange(transaction: Transaction, one: str, two: str) -> None:
    """Gives two keys each other's names."""
    transaction.edit(KEY, one, {"name": "for a moment"})
    transaction.edit(KEY, two, {"name": one})
    transaction.edit(KEY, "for a moment", {"name": two})


def test_two_objects_exchange_their_names(registry: Registry, store: Store) -> None:
    ids = {name: add(store, KEY, name).id for name in ("one", "two")}
    follow(registry, store)
    for _ in range(2):
        with store.transaction(who=WHO) as transaction:
            exchange(transaction, "one", "two")
        follow(registry, store)
        ids = {"one": ids["two"], "two": ids["one"]}
        for name, id_ in ids.items():
            entry = registry.find(KEY, name)
            assert entry is not None
            assert (entry.config.id, entry.config.name) == (id_, name)
            live = registry.live("security", id_)
            assert live is not None
            assert live.config.name == name


def test_who_refers_to_a_renamed_object_gets_its_new_name_and_is_not_built_again(
    registry: Registry, store: Store
) -> None:
    add(store, KEY, "before")
    with store.transaction(who=WHO) as transaction:
        transaction.create("service", {"name": "s"})
        fields: dict[str, Any] = {"url_path": "/c", "service": "s", "security": "before"}
        transaction.create(CHANNEL, {"name": "c", **fields})
    follow(registry, store)
    edit(store, KEY, "before", name="after")
    assert not [event for event in follow(registry, store) if " c." in event]
    entry = registry.find(CHANNEL, "c")
    assert entry is not None
    assert entry.config["security"] == "after"


def test_an_object_of_one_type_can_take_the_name_of_one_of_another_type_of_the_family(
    registry: Registry, store: Store
) -> None:
    add(store, KEY, "shared")
    follow(registry, store)
    with store.transaction(who=WHO) as transaction:
        transaction.delete(KEY, "shared")
        transaction.create(BASIC, {"name": "shared", "username": "u"})
    follow(registry, store)
    entry = registry.find("security", "shared")
    assert entry is not None
    assert entry.config.kind == BASIC
    assert list(registry.entries(KEY)) == []


def test_everything_that_there_is_is_loaded_at_the_start_and_what_fails_is_left_out(store: Store) -> None:
    Fake.broken.add("two")
    for name in ("one", "two", "three"):
        add(store, KEY, name)
    registry = Registry(cast(Context, None))
    registry.load(store.snapshot())
    assert registry.version == store.version()
    assert set(Fake.found) == {"one", "three"}
    assert registry.problems == {(KEY, "two"): "two is broken."}
    entry = registry.find(KEY, "two")
    assert entry is not None
    assert entry.live is None


def test_a_worker_that_is_too_far_behind_loads_everything_anew(registry: Registry, store: Store) -> None:
    for name in ("kept", "changed", "gone"):
        add(store, KEY, name)
    follow(registry, store)
    edit(store, KEY, "changed", header="X-Other", name="renamed")
    remove(store, KEY, "gone")
    add(store, KEY, "new")
    Fake.events.clear()
    registry.replace_all(store.snapshot())
    assert registry.version == store.version()
    assert {name: live.config["version"] for name, live in Fake.found.items()} == {
        "kept": 1,
        "renamed": 2,
        "new": 1,
    }
    assert registry.find(KEY, "gone") is registry.find(KEY, "changed") is None
    first_swap = Fake.events.index("leave gone.1")
    assert all(event.startswith("start ") for event in Fake.events[:first_swap])
    assert sorted(event for event in Fake.events if event.startswith("stop")) == [
        "stop changed.1",
        "stop gone.1",
        "stop kept.1",
    ]


def test_types_without_a_live_class_are_known_all_the_same(registry: Registry, store: Store) -> None:
    add(store, "server", "server1")
    assert follow(registry, store) == []
    entry = registry.find("server", "server1")
    assert entry is not None
    assert entry.live is None
    remove(store, "server", "server1")
    follow(registry, store)
    assert registry.find("server", "server1") is None


def test_changes_of_types_that_this_version_does_not_know_are_passed_over(
    registry: Registry, store: Store
) -> None:
    strange = [Change("planet", 5, "earth", verb, None, None, version=9) for verb in (CREATE, DELETE)]
    registry.apply(News(9, strange, {}))
    assert registry.version == 9
    assert registry.problems == {}
