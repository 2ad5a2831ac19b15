"""A new key for all stored secrets: all of them or none, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from junctor.sql import base
from junctor.sql import rekey as rekeys
from junctor.sql.errors import SecretUnreadable
from junctor.sql.rekey import Rekeyed, outdated, rekey
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.objects import add

OLD, NEW = new_key_line(), new_key_line()
NAMES = [f"s{number}" for number in range(5)]


@pytest.fixture
def old(engine: Engine) -> Store:
    """A store with five secrets of each type under the old key, one object of each type without, and another cluster."""
    store = Store.create(engine, "test", Keyring(parse_keys(OLD)))
    other = Store.create(engine, "other", Keyring(parse_keys(OLD)))
    for name in NAMES:
        add(store, "security_basic_auth", f"{name}.basic", username=name, password=f"password of {name}")
        add(store, "security_api_key", f"{name}.key", key=f"key of {name}")
    add(store, "security_basic_auth", "empty.basic", username="empty")
    add(store, "security_api_key", "empty.key")
    add(other, "security_api_key", "other.key", key="key of other")
    return store


def with_keys(store: Store, lines: str) -> Store:
    return Store(store.engine, store.cluster_id, Keyring(parse_keys(lines)))


def stored_keys(store: Store) -> set[str]:
    """The ids of the keys that the cluster's stored secrets are encrypted with."""
    found: set[str] = set()
    with store.engine.connect() as connection:
        for cls in base.kinds().values():
            for name in base.secrets(cls):
                table = base.columns(cls)[name].table.name  # type: ignore[attr-defined]
                rows = connection.exec_driver_sql(
                    f"SELECT t.{name} FROM {table} t JOIN security s ON s.id = t.id "
                    f"WHERE s.cluster_id = {store.cluster_id} AND t.{name} <> ''"
                )
                found |= {row[0].split(".")[2] for row in rows}
    return found


@pytest.mark.parametrize("batch", [1, 2, 5, 1000])
def test_every_secret_has_the_new_key_and_its_old_value(
    old: Store, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeys, "BATCH", batch)
    version, before = old.version(), old.snapshot()
    store = with_keys(old, NEW + OLD)
    assert outdated(store) == Rekeyed(total=10, changed=10)

    assert rekey(store) == Rekeyed(total=10, changed=10)

    assert outdated(store) == Rekeyed(total=10, changed=0)
    assert stored_keys(store) == {NEW.partition(":")[0]}
    alone = with_keys(old, NEW)
    assert alone.snapshot() == before
    assert alone.version() == version, "no worker has anything to do"


def test_a_second_time_changes_nothing(old: Store) -> None:
    store = with_keys(old, NEW + OLD)
    rekey(store)
    assert rekey(store) == Rekeyed(total=10, changed=0)


def test_counting_changes_nothing(old: Store) -> None:
    outdated(with_keys(old, NEW + OLD))
    assert stored_keys(old) == {OLD.partition(":")[0]}


def test_other_clusters_are_left_alone(old: Store) -> None:
    rekey(with_keys(old, NEW + OLD))
    other = Store.open(old.engine, "other", Keyring(parse_keys(OLD)))
    assert other.get("security", "other.key")["key"].reveal() == "key of other"


def test_a_missing_key_leaves_everything_as_it_was(old: Store) -> None:
    newest = new_key_line()
    mixed = with_keys(old, NEW + OLD)
    add(mixed, "security_api_key", "zz", key="under the new key")
    with pytest.raises(SecretUnreadable, match=f"with the key {OLD.partition(':')[0]}"):
        rekey(with_keys(old, newest + NEW))
    assert stored_keys(old) == {OLD.partition(":")[0], NEW.partition(":")[0]}


def test_a_running_process_reads_what_was_encrypted_again(old: Store, tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(OLD)
    running = Store(old.engine, old.cluster_id, Keyring.load(path))
    path.write_text(NEW + OLD)
    rekey(Store(old.engine, old.cluster_id, Keyring.load(path)))
    assert running.get("security", "s0.basic")["password"].reveal() == "password of s0"
