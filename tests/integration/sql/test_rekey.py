import pytest
from sqlalchemy import select, text

from junctor.sql import base
from junctor.sql import rekey as module
from junctor.sql.errors import SecretUnreadable
from junctor.sql.rekey import Rekeyed, outdated, rekey
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store

SECRETS = {"security_basic_auth": "password", "security_api_key": "key"}


@pytest.fixture
def old_line():
    return new_key_line()


@pytest.fixture
def filled(engine, old_line, monkeypatch):
    """A cluster with five secrets of two types and an object without a secret, read in batches of two."""
    monkeypatch.setattr(module, "BATCH", 2)
    store = Store.create(engine, "test", Keyring(parse_keys(old_line)))
    with store.transaction(who="test") as transaction:
        for n in range(4):
            fields = {"name": f"b{n}", "username": "u", "password": f"secret {n}" if n else ""}
            transaction.create("security_basic_auth", fields)
        for n in range(2):
            transaction.create("security_api_key", {"name": f"k{n}", "key": f"key {n}"})
    return store


@pytest.fixture
def renewed(engine, filled, old_line):
    """The same cluster with a newer key, which is active, beside the old one."""
    return Store.open(engine, "test", Keyring(parse_keys(new_key_line() + old_line)))


def stored(store):
    values = []
    with store.engine.connect() as connection:
        for kind, field in SECRETS.items():
            column = base.columns(base.kind_class(kind))[field]
            values += [value for value in connection.scalars(select(column)) if value]
    return values


def test_every_secret_has_the_active_key_afterwards(renewed):
    assert outdated(renewed) == Rekeyed(total=5, changed=5)
    assert rekey(renewed) == Rekeyed(total=5, changed=5)
    assert all(renewed.keyring.is_current(value) for value in stored(renewed))
    assert outdated(renewed) == Rekeyed(total=5, changed=0)


def test_secrets_are_what_they_were(renewed):
    rekey(renewed)
    assert renewed.get("security_basic_auth", "b1")["password"].reveal() == "secret 1"
    assert renewed.get("security_api_key", "k1")["key"].reveal() == "key 1"
    assert not renewed.get("security_basic_auth", "b0")["password"]


def test_it_makes_no_version_and_a_second_time_changes_nothing(renewed):
    version = renewed.version()
    rekey(renewed)
    before = stored(renewed)
    assert rekey(renewed).changed == 0
    assert stored(renewed) == before
    assert renewed.version() == version


def test_when_one_secret_cannot_be_read_all_stay_as_they_are(engine, filled, renewed):
    # given a secret whose key is nowhere
    other = Keyring(parse_keys(new_key_line()))
    with engine.begin() as connection:
        value = {"value": other.encrypt("x", "security_basic_auth.password")}
        connection.execute(
            text("UPDATE security_api_key SET key = :value WHERE id = (SELECT max(id) FROM security)"), value
        )
    before = stored(renewed)
    # when
    with pytest.raises(SecretUnreadable):
        rekey(renewed)
    # then
    assert stored(renewed) == before


def test_secrets_of_other_clusters_are_left_alone(engine, renewed):
    other = Store.create(engine, "other", Keyring(parse_keys(new_key_line())))
    with other.transaction(who="test") as transaction:
        transaction.create("security_api_key", {"name": "k", "key": "theirs"})
    assert rekey(renewed).total == 5
    assert other.get("security_api_key", "k")["key"].reveal() == "theirs"
