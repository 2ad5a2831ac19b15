"""Encrypting every stored secret again, with the key that is active now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, bindparam, select, text, update

from junctor.sql import base, changes, rekey_sso
from junctor.sql.engine import database_errors
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store

BATCH = 1000  # rows that are read and written at a time


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """How many secrets are stored, how many of them had another key than the active one, and of how many the key is missing."""

    total: int
    changed: int
    unreadable: int = 0


def rekey(store: Store) -> Rekeyed:
    """Encrypts the secrets of the cluster with the active key of its keyring: those of objects all or none, then those of users.

    Values stay what they are, so it makes no version of the configuration and no worker has to do anything.  Those who write objects wait
    meanwhile; users are done a few at a time (``rekey_sso.py``), and it can be run again when it was interrupted.
    Raises ``SecretUnreadable`` when the key of an object's secret is missing, ``StoreUnavailable`` or ``SchemaOutdated``.
    """
    return _both(store, write=True)


def outdated(store: Store) -> Rekeyed:
    """The same count, with nothing changed: ``changed`` is how many secrets the active key would have to replace."""
    return _both(store, write=False)


def _both(store: Store, *, write: bool) -> Rekeyed:
    objects, users = _each(store, write=write), rekey_sso.renew(store, write=write)
    return Rekeyed(objects.total + users.total, objects.changed + users.changed, users.unreadable)


def _each(store: Store, *, write: bool) -> Rekeyed:
    total = changed = 0
    with database_errors(), store.engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        changes.lock_version(connection, store.cluster_id)
        for cls in base.kinds().values():
            for name in base.secrets(cls):
                field = f"{cls.kind}.{name}"
                for rows in _batches(
                    connection, base.columns(cls)["cluster_id"], base.columns(cls)[name], store
                ):
                    total += len(rows)
                    old = [(key, stored) for key, stored in rows if not store.keyring.is_current(stored)]
                    changed += len(old)
                    if old and write:
                        _write(connection, base.columns(cls)[name], _renewed(store.keyring, field, old))
    return Rekeyed(total, changed)


def _batches(
    connection: Connection, cluster: Column[int], column: Column[str], store: Store
) -> Iterator[list[tuple[int, str]]]:
    """The ids and stored values of a secret field that are not empty, by id."""
    table: Table = column.table
    source = table if cluster.table is table else table.join(cluster.table, cluster.table.c.id == table.c.id)
    last = 0
    while True:
        statement = (
            select(table.c.id, column)
            .select_from(source)
            .where(cluster == store.cluster_id, column != "", table.c.id > last)
            .order_by(table.c.id)
            .limit(BATCH)
        )
        rows = [(row[0], row[1]) for row in connection.execute(statement)]
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _renewed(keyring: Keyring, field: str, rows: list[tuple[int, str]]) -> list[dict[str, object]]:
    return [
        {"key": key, "value": keyring.encrypt(keyring.decrypt(stored, field).reveal(), field)}
        for key, stored in rows
    ]


def _write(connection: Connection, column: Column[str], values: list[dict[str, object]]) -> None:
    table: Table = column.table
    statement = update(table).where(table.c.id == bindparam("key")).values({column.name: bindparam("value")})
    connection.execute(statement, values)
