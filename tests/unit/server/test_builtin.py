"""What comes with every server, and how a cluster gets it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine

from junctor.server.admin.bootstrap import create_cluster
from junctor.server.admin.builtin import (
    ADMIN,
    CHANNELS,
    PUBLIC_API,
    builtin_services,
    ensure_builtin,
    ensure_server,
    unwrapped,
)
from junctor.server.context import Context
from junctor.server.service.store import ServiceStore
from junctor.server.settings import Settings, load
from junctor.sql.errors import AlreadyExists
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.objects import edit


class Worker:
    """The parts of a worker that built-in services need."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.services = ServiceStore()
        self.settings: Settings | None = None


def ensure(store: Store) -> bool:
    """Whether a worker that starts has to add something."""
    return ensure_builtin(cast(Context, Worker(store)))


def test_a_new_cluster_has_an_administrator_services_and_channels_in_one_version(
    shared_engine: Engine, keyring: Keyring, cluster_name: str
) -> None:
    made = create_cluster(shared_engine, cluster_name, keyring, servers=[("server1", "127.0.0.1", 17010)])
    store = made.store
    assert store.get("security", ADMIN)["password"].reveal() == made.admin_password
    assert store.get("security", PUBLIC_API)["password"].reveal() == made.public_api_password
    assert len({made.admin_password, made.public_api_password}) == 2
    assert min(len(made.admin_password), len(made.public_api_password)) >= 32
    assert made.admin_password not in repr(made)
    for name in CHANNELS:
        assert store.get("channel_rest", name)["is_internal"]
    assert store.get("channel_rest", "admin.invoke.json")["security"] == ADMIN
    assert store.get("channel_rest", "zato.service-invoker")["security"] == PUBLIC_API
    assert store.get("server", "server1")["port"] == 17010
    assert {cls.get_name() for cls in builtin_services()} <= {
        item.name for item in store.find("service", internal=True, limit=1000).objects
    }
    with pytest.raises(AlreadyExists):
        create_cluster(shared_engine, cluster_name, keyring)


def test_passwords_that_are_given_are_used(
    shared_engine: Engine, keyring: Keyring, cluster_name: str
) -> None:
    made = create_cluster(
        shared_engine, cluster_name, keyring, admin_password="one", public_api_password="two"
    )
    assert (made.admin_password, made.public_api_password) == ("one", "two")
    assert made.store.get("security", ADMIN)["password"].reveal() == "one"


def test_a_worker_adds_nothing_to_a_complete_cluster(
    shared_engine: Engine, keyring: Keyring, cluster_name: str
) -> None:
    store = create_cluster(shared_engine, cluster_name, keyring).store
    version = store.version()
    assert ensure(store) is False
    assert store.version() == version


def test_a_worker_of_a_newer_version_adds_what_is_missing_and_leaves_what_was_changed(
    shared_engine: Engine, keyring: Keyring, cluster_name: str
) -> None:
    store = create_cluster(shared_engine, cluster_name, keyring, admin_password="kept").store
    edit(store, "channel_rest", "zato.ping", url_path="/moved")
    with store.transaction(who="an older version") as transaction:
        transaction.delete("channel_rest", "zato.service-invoker")
        transaction.delete("service", "junctor.config.history")
    version = store.version()
    assert ensure(store) is True
    assert store.version() == version + 1
    assert store.get("channel_rest", "zato.service-invoker")["is_internal"]
    assert store.get("service", "junctor.config.history")["is_internal"]
    assert store.get("channel_rest", "zato.ping")["url_path"] == "/moved"
    assert store.get("security", ADMIN)["password"].reveal() == "kept"
    assert ensure(store) is False


def test_a_server_that_starts_makes_itself_and_its_address_known(store: Store, tmp_path: Path) -> None:
    def starts(**given: str) -> bool:
        environ = {"JUNCTOR_ODB_URL": "postgresql://x", "JUNCTOR_SERVER_NAME": "server7"}
        environ |= {f"JUNCTOR_{name.upper()}": value for name, value in given.items()}
        worker = Worker(store)
        worker.settings = load(tmp_path, environ)
        return ensure_server(cast(Context, worker))

    assert starts(port="18000", address="10.0.0.5") is True
    made = store.get("server", "server7")
    assert (made["host"], made["port"]) == ("10.0.0.5", 18000)
    assert starts(port="18000", address="10.0.0.5") is False
    assert starts(port="18001", address="10.0.0.5") is True
    moved = store.get("server", "server7")
    assert (moved.id, moved["port"], moved["version"]) == (made.id, 18001, 2)
    assert store.history()[0].who == "server7"


def test_a_worker_completes_an_empty_cluster_whose_administrator_has_no_password(store: Store) -> None:
    assert ensure(store) is True
    assert not store.get("security", ADMIN)["password"]


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ({"zato_env": {}, "x_response": {"a": 1}}, {"a": 1}),
        ({"zato_env": {}}, None),
        ({"a": 1}, {"a": 1}),
        ("text", "text"),
        (None, None),
    ],
)
def test_the_envelope_of_an_answer_is_taken_off(answer: object, fields: object) -> None:
    assert unwrapped(answer) == fields
