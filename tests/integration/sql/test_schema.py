"""The schema: made and taken back by migrations, the same as what the declarations say, and never half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from junctor.sql import base, schema
from junctor.sql import engine as engines
from junctor.sql.errors import InvalidInput, SchemaOutdated
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from junctor.sql.tables import change, process, websocket
from tests.helpers.objects import WHO, add_channel

DECLARED = (change, process, websocket)  # imported for what they declare


@pytest.fixture
def empty(empty_database: str) -> Iterator[Engine]:
    """Connections to a database without any tables."""
    engine = engines.connect(empty_database)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_an_empty_database_is_upgraded_to_what_this_code_needs(empty: Engine) -> None:
    before = schema.state(empty)
    assert (before.current, before.up_to_date) == ("", False)
    assert before.pending[0] == "0001"
    assert before.pending[-1] == before.head
    with pytest.raises(
        SchemaOutdated, match=r"has the schema \(none\) and needs .*; run 'junctor odb upgrade'"
    ):
        schema.require(empty)

    after = schema.upgrade(empty)

    assert (after.current, after.pending, after.up_to_date) == (before.head, (), True)
    schema.require(empty)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(engine: Engine) -> None:
    before = tables(engine)
    assert schema.upgrade(engine).up_to_date
    assert tables(engine) == before


def test_the_migrations_make_what_the_declarations_say(engine: Engine) -> None:
    base.kinds()
    with engine.connect() as connection:
        partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _parents: kind != "table" or name not in partitions,
            },
        )
        differences = compare_metadata(context, base.METADATA)
    assert differences == []


def test_keys_and_constraints_are_named_as_the_declarations_name_them(engine: Engine) -> None:
    base.kinds()
    inspector = inspect(engine)
    for table in base.METADATA.sorted_tables:
        expected = f"pk_{table.name}" if table.primary_key.columns else None
        assert inspector.get_pk_constraint(table.name)["name"] == expected
        found = {key["name"] for key in inspector.get_foreign_keys(table.name)}
        assert found == {
            f"fk_{table.name}_{next(iter(key.columns)).name}" for key in table.foreign_key_constraints
        }


def test_every_column_that_refers_to_an_object_has_an_index(engine: Engine) -> None:
    base.kinds()
    inspector = inspect(engine)
    for table in base.METADATA.sorted_tables:
        indexed = {index["column_names"][0] for index in inspector.get_indexes(table.name)}
        indexed |= set(inspector.get_pk_constraint(table.name)["constrained_columns"][:1])
        for key in inspector.get_foreign_keys(table.name):
            assert key["constrained_columns"][0] in indexed, f"{table.name}.{key['constrained_columns'][0]}"


def test_every_step_can_be_taken_back_and_done_again(empty: Engine) -> None:
    schema.upgrade(empty)
    made = tables(empty)
    assert schema.downgrade(empty, "base").current == ""
    assert tables(empty) == {"alembic_version"}
    schema.upgrade(empty)
    assert tables(empty) == made


def test_data_survive_an_upgrade(store: Store, keyring: Keyring) -> None:
    with store.transaction(who=WHO) as transaction:
        transaction.create("security_basic_auth", {"name": "crm", "username": "c", "password": "hunter2"})
        add_channel(transaction, security="crm")
    before = store.snapshot()
    store.engine.dispose()

    schema.upgrade(store.engine)

    after = Store.open(store.engine, "test", keyring)
    assert after.snapshot() == before
    assert after.get("security", "crm")["password"].reveal() == "hunter2"


def test_a_database_of_a_newer_version_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = tables(engine)
    for use in (schema.state, schema.require, schema.upgrade):
        with pytest.raises(SchemaOutdated, match="has the schema 9999, which this version does not know"):
            use(engine)
    with pytest.raises(SchemaOutdated):
        schema.downgrade(engine, "base")
    assert tables(engine) == before


@pytest.mark.parametrize("revision", ["nothing", "0001:0002", "+99", "-99"])
def test_a_revision_that_does_not_exist_is_refused(engine: Engine, revision: str) -> None:
    for use in (schema.upgrade, schema.downgrade):
        with pytest.raises(InvalidInput) as caught:
            use(engine, revision)
        assert caught.value.problems[0].field == "revision"
    assert schema.state(engine).up_to_date


def test_reading_a_database_without_a_schema_says_what_to_do(empty: Engine, keyring: Keyring) -> None:
    with pytest.raises(SchemaOutdated, match="run 'junctor odb upgrade'"):
        Store.open(empty, "test", keyring)
    with pytest.raises(SchemaOutdated):
        Store.create(empty, "test", keyring)


def test_an_upgrade_that_fails_leaves_the_schema_as_it_was(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE worker (id int)")  # in the way of the last table
    with pytest.raises(ProgrammingError, match="already exists"):
        schema.upgrade(empty)
    assert tables(empty) == {"worker"}
    with empty.begin() as connection:
        connection.exec_driver_sql("DROP TABLE worker")
    assert schema.upgrade(empty).up_to_date


def test_processes_that_upgrade_at_once_wait_for_each_other(empty: Engine, empty_database: str) -> None:
    program = """
import sys
from junctor.sql import engine, schema
print(schema.upgrade(engine.connect(sys.stdin.readline().strip())).up_to_date)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process_ in running:
        assert process_.stdin is not None
        process_.stdin.write(f"{empty_database}\n")
        process_.stdin.flush()
    for process_ in running:
        output, errors = process_.communicate(timeout=60)
        assert (output.strip(), process_.returncode) == ("True", 0), errors
    assert schema.state(empty).up_to_date
