"""No secret is anywhere in the database, whatever was done with it."""

from __future__ import annotations

import logging
from collections import defaultdict

import pytest
from sqlalchemy import Engine, inspect

from junctor.sql import base
from junctor.sql.errors import InvalidInput, JunctorError, SecretUnreadable
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.shape import public
from junctor.sql.store import Store
from tests.helpers.objects import WHO, add, edit, remove
from tests.helpers.samples import required

CANARIES = tuple(f"canary-{number}-7c9-as-long-as-a-key-must-be" for number in ("one", "two", "three"))


def everything(engine: Engine) -> str:
    """All rows of all tables, as text."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        assert len(tables) > 10
        return "\n".join(
            str(row[0])
            for table in tables
            for row in connection.exec_driver_sql(f'SELECT t::text FROM "{table}" t')
        )


@pytest.mark.parametrize("kind", [kind for kind, cls in base.kinds().items() if base.secrets(cls)])
def test_no_secret_of_any_type_is_stored_in_plain_text(
    store: Store, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cls = base.kind_class(kind)
    add(store, "service", "a-service")
    fields = required(kind, "one", defaultdict(lambda: "a-service"))
    del fields["name"]
    longest = max(base.declared(cls)[name].max or 0 for name in base.secrets(cls))
    for step, canary in enumerate(CANARIES):
        given = dict.fromkeys(base.secrets(cls), canary)
        _ = add(store, kind, "one", **fields, **given) if step == 0 else edit(store, kind, "one", **given)
        assert store.get(kind, "one")[base.secrets(cls)[0]].reveal() == canary

    with pytest.raises(JunctorError) as refused:
        edit(store, kind, "one", **dict.fromkeys(base.secrets(cls), CANARIES[0] * longest))
    with store.transaction(who=WHO, dry_run=True) as transaction:
        transaction.edit(kind, "one", dict.fromkeys(base.secrets(cls), CANARIES[0]))
    stored = everything(store.engine)
    remove(store, kind, "one")
    afterwards = everything(store.engine)

    seen = [
        stored,
        afterwards,
        str(refused.value),
        caplog.text,
        repr(transaction.changes),
        repr(store.history()),
    ]
    for canary in CANARIES:
        assert not [text for text in seen if canary in text]


def test_a_database_error_does_not_show_the_values_of_its_statement(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidInput) as caught:
        add(store, "security_api_key", "one", key=CANARIES[0] + "\x00")
    assert CANARIES[0] not in str(caught.value)
    assert CANARIES[0] not in caplog.text


def test_a_stored_secret_moved_to_another_object_type_is_not_readable(store: Store) -> None:
    add(store, "security_basic_auth", "crm", username="crm", password=CANARIES[0])
    add(store, "security_api_key", "erp", key=CANARIES[1])
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE security_api_key SET key = (SELECT password FROM security_basic_auth LIMIT 1)"
        )
    with pytest.raises(SecretUnreadable, match=r"security_api_key\.key does not fit its key"):
        store.get("security", "erp")["key"].reveal()


def test_without_its_key_the_database_tells_no_secret(store: Store) -> None:
    add(store, "security_basic_auth", "crm", username="crm", password=CANARIES[0])
    thief = Store(store.engine, store.cluster_id, Keyring(parse_keys(new_key_line())))
    with pytest.raises(SecretUnreadable, match="was encrypted with the key"):
        thief.get("security", "crm")["password"].reveal()


def test_an_unreadable_secret_spoils_nothing_but_what_needs_it(store: Store) -> None:
    add(store, "security_basic_auth", "crm", username="crm", password=CANARIES[0])
    add(store, "security_basic_auth", "erp", username="erp")
    stranger = Store(store.engine, store.cluster_id, Keyring(parse_keys(new_key_line())))
    assert [found.name for found in stranger.snapshot().objects["security_basic_auth"]] == ["crm", "erp"]
    shown = public(stranger.get("security", "crm"), stranger.keyring)
    assert shown["secrets"] == {"password": "unreadable"}

    edit(stranger, "security_basic_auth", "crm", realm="CRM")
    assert store.get("security", "crm")["password"].reveal() == CANARIES[0]

    edit(stranger, "security_basic_auth", "crm", password="new")
    assert stranger.get("security", "crm")["password"].reveal() == "new"


def test_secrets_of_an_older_key_are_read_and_new_ones_use_the_new_key(store: Store, engine: Engine) -> None:
    old_line, new_line = new_key_line(), new_key_line()
    before = Store(engine, store.cluster_id, Keyring(parse_keys(old_line)))
    add(before, "security_basic_auth", "crm", username="crm", password=CANARIES[0])
    after = Store(engine, store.cluster_id, Keyring(parse_keys(new_line + old_line)))
    assert after.get("security", "crm")["password"].reveal() == CANARIES[0]
    edit(after, "security_basic_auth", "crm", password=CANARIES[1])
    stored = everything(engine)
    assert new_line.partition(":")[0] in stored
    assert f"junctor.1.{old_line.partition(':')[0]}" not in stored
