"""Which live classes there are, and what the outgoing connections of services look like."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any, cast

import pytest

from junctor.server.context import Context
from junctor.server.outgoing import facade
from junctor.server.outgoing.facade import Outgoing, OutgoingLive
from junctor.server.outgoing.rest import RestConnections
from junctor.server.runtime import live
from junctor.server.runtime.live import Live, live_classes
from junctor.sql import base
from junctor.sql.config import Config


@pytest.fixture
def fresh() -> Iterator[None]:
    """Live classes are looked for again, before and after the test."""
    live_classes.cache_clear()
    yield
    live_classes.cache_clear()


def test_each_type_that_needs_a_live_class_has_one() -> None:
    needed = {kind for kind, cls in base.kinds().items() if cls.needs_live}
    assert set(live_classes()) == needed
    assert all(cls.kind == kind for kind, cls in live_classes().items())


def test_other_packages_bring_live_classes_of_their_own(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Planet(Live):
        kind = "planet"

    point = EntryPoint("planet", "junctor.server.runtime.live:Live", "junctor.live")
    monkeypatch.setattr(live, "entry_points", lambda group: [point] if group == "junctor.live" else [])
    assert live_classes()["planet"] is Planet
    del Planet.kind


def test_a_live_object_does_nothing_by_itself() -> None:
    config = Config("planet", {"name": 0}, ("earth",))
    bare = Live(config, cast(Context, None))
    bare.start()
    bare.take_over(None)
    bare.leave()
    bare.stop()
    assert bare.config is config


class Connection(OutgoingLive):
    """An outgoing connection whose connection is the object's name."""

    names = ("tests",)
    view = dict

    def __init__(self, name: str, outgoing: Outgoing) -> None:
        config = Config("outgoing_test", {"name": 0}, (name,))
        super().__init__(config, cast(Context, SimpleNamespace(outgoing=outgoing)))
        self.kind = "outgoing_test"  # type: ignore[misc]
        self.connection = f"connection {name}"


@pytest.fixture
def outgoing() -> Outgoing:
    """The outgoing connections of a worker that has none yet."""
    return Outgoing()


def test_a_connection_is_found_by_its_name_and_follows_it(outgoing: Outgoing) -> None:
    found = outgoing.connections("outgoing_test")
    first = Connection("a", outgoing)
    first.take_over(None)
    assert found == {"a": "connection a"}
    again = Connection("a", outgoing)
    again.connection = "newer"
    again.take_over(first)
    assert found == {"a": "newer"}
    renamed = Connection("b", outgoing)
    renamed.take_over(again)
    assert found == {"b": "connection b"}
    renamed.leave()
    renamed.leave()
    assert found == {}


def test_connections_that_exchange_their_names_are_both_found(outgoing: Outgoing) -> None:
    old = {name: Connection(name, outgoing) for name in ("a", "b")}
    for one in old.values():
        one.take_over(None)
    new = {name: Connection(name, outgoing) for name in ("a", "b")}
    for one in new.values():
        one.connection = f"new {one.config.name}"
    new["b"].take_over(old["a"])
    new["a"].take_over(old["b"])
    assert outgoing.connections("outgoing_test") == {"a": "new a", "b": "new b"}


def test_services_find_connections_under_each_name_of_their_type(outgoing: Outgoing) -> None:
    assert isinstance(outgoing.rest, RestConnections)
    assert outgoing.plain_http is outgoing.rest


def test_a_kind_of_connection_that_there_is_not_is_told_with_those_that_there_are(outgoing: Outgoing) -> None:
    with pytest.raises(
        AttributeError, match=r"There is no self\.out\.rset; there are plain_http, rest, websocket, wsx\."
    ):
        _ = outgoing.rset
    with pytest.raises(AttributeError):
        _ = cast(Any, Outgoing.__new__(Outgoing)).rest


def test_only_outgoing_connections_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Live):
        """A live class that is no connection; it has no kind, so nothing registers it."""

    monkeypatch.setattr(facade, "live_classes", lambda: {"other": Other})
    with pytest.raises(AttributeError, match=r"there are \."):
        _ = Outgoing().other
