"""server/service/store.py and server/service/info.py"""

import logging

import pytest

from junctor.server.service.base import Service
from junctor.server.service.info import describe
from junctor.server.service.store import ServiceSettings, ServiceStore, StoreChange
from junctor.sql.errors import DeploymentRefused, Inactive, ServiceInactive, ServiceNotFound


def service(service_name, file_name="a.py", **attributes):
    cls = type("Some", (Service,), {"name": service_name, "handle": lambda self: None, **attributes})
    cls.__module__ = f"m_{service_name.replace('.', '_')}"
    return describe(cls, file_name=file_name, version="1")


@pytest.fixture
def store():
    store = ServiceStore()
    store.replace("a.py", [service("a.one"), service("a.two")])
    return store


def test_a_class_is_described():
    class GetOrder(Service):
        input = "token", "id"

        def handle_GET(self):  # noqa: N802 - the contract
            """Get."""

        def handle_lower(self):
            """No HTTP method."""

        def before_handle(self):
            """A hook."""

    info = describe(GetOrder, file_name="orders.py", version="7", is_internal=True)
    assert info.impl_name == GetOrder.impl_name == f"{__name__}.GetOrder"
    assert info.name == GetOrder.name == GetOrder.get_name() == f"{__name__}.get-order".replace("_", "-")
    assert GetOrder.logger.name == info.impl_name
    assert (info.file_name, info.version, info.is_internal) == ("orders.py", "7", True)
    assert [elem.name for elem in info.io.input] == ["token", "id"]
    assert list(info.verbs) == ["GET"]
    assert info.handle is None
    assert info.accept is None
    assert info.hooks.before_handle is GetOrder.before_handle
    assert info.hooks.after_handle is None
    assert GetOrder.get_impl_name() == info.impl_name


def test_hooks_that_are_not_overridden_cost_nothing():
    info = service("a")
    assert info.hooks is None
    assert info.io is None


def test_a_name_is_not_inherited():
    class Base(Service):
        name = "mine"

        def handle(self):
            """Nothing."""

    describe(Base)
    assert type("Other", (Base,), {"__module__": "m"}).get_name() == "m.other"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"handle": Service.handle}, "there is no handle"),
        ({"name": "a b"}, "no blanks"),
        ({"name": 5}, "non-empty string"),
        ({"input": 5}, "input must be"),
    ],
)
def test_a_class_that_is_no_service_is_refused(attributes, reason):
    cls = type("Bad", (Service,), {"__module__": "m", "handle": lambda self: None, **attributes})
    with pytest.raises(DeploymentRefused, match=f"m.Bad: .*{reason}"):
        describe(cls)


def test_services_are_found_by_both_their_names(store):
    info = store.get("a.one")
    assert store.get_by_impl_name(info.impl_name) is info
    assert "a.one" in store
    assert len(store) == 2
    assert [it.name for it in store.all()] == ["a.one", "a.two"]


def test_an_unknown_service_is_not_found(store):
    with pytest.raises(ServiceNotFound, match="no active service 'missing'"):
        store.get("missing")
    with pytest.raises(ServiceNotFound):
        store.get_by_impl_name("missing")


def test_all_services_of_a_file_are_replaced_at_once(store):
    two = service("a.two")
    change = store.replace("a.py", [two, service("a.three")])
    assert change == StoreChange(added=("a.three",), replaced=("a.two",), removed=("a.one",))
    assert store.get("a.two") is two
    with pytest.raises(ServiceNotFound):
        store.get("a.one")


def test_a_name_of_another_file_is_refused_and_nothing_changes(store):
    store.replace("", [service("zato.ping", "")])
    with pytest.raises(
        DeploymentRefused, match=r"b\.py: there is a service 'a\.one' already, in the file a\.py"
    ):
        store.replace("b.py", [service("b.new", "b.py"), service("a.one", "b.py")])
    with pytest.raises(DeploymentRefused, match="in Junctor itself"):
        store.replace("b.py", [service("zato.ping", "b.py")])
    with pytest.raises(DeploymentRefused, match="two services of this file are named 'b'"):
        store.check("b.py", [service("b", "b.py"), service("b", "b.py")])
    assert "b.new" not in store
    assert store.of_file("b.py") == []


def test_a_file_can_be_removed(store):
    assert store.remove("a.py") == StoreChange(removed=("a.one", "a.two"))
    assert len(store) == 0


def test_an_inactive_service_is_not_found_and_can_be_told_apart(store):
    store.configure({"a.one": ServiceSettings(is_active=False, slow_threshold=2)})
    for error in (ServiceNotFound, ServiceInactive, Inactive):
        with pytest.raises(error):
            store.get("a.one")
    store.replace("a.py", [service("a.one")])
    with pytest.raises(ServiceInactive):
        store.get("a.one")
    assert "a.one" in store
    assert store.settings("a.one").slow_threshold == 2
    store.configure({"a.one": None, "unknown": None})
    assert store.get("a.one")
    assert store.settings("a.one") == ServiceSettings()


def test_settings_may_come_before_the_service(store):
    store.configure({"later": ServiceSettings(is_active=False)})
    store.replace("b.py", [service("later", "b.py")])
    with pytest.raises(ServiceInactive):
        store.get("later")


def test_after_add_to_store_runs_and_may_fail(store, caplog):
    seen = []

    def fails(logger):
        seen.append(logger.name)
        raise ValueError("oops")

    with caplog.at_level(logging.ERROR):
        store.replace("b.py", [service("b", "b.py", after_add_to_store=staticmethod(fails))])
    assert seen == ["junctor.service"]
    assert "after_add_to_store of service b failed" in caplog.text
    assert "b" in store
