"""How objects of a type are read and written: one statement each, built once from the declaration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import Column, Connection, Select, Table, select

from junctor.sql import base
from junctor.sql.base import Object
from junctor.sql.config import Config
from junctor.sql.errors import SecretUnreadable
from junctor.sql.secrets import Keyring, Secret, UnreadableSecret

UNREADABLE = "unreadable"  # in place of a fingerprint

UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Shape:
    """The table (or the two tables, for members of a family) of a type, and the statement that reads it."""

    cls: type[Object]
    tables: tuple[Table, ...]
    columns: Mapping[str, Column[Any]]
    index: Mapping[str, int]
    select: Select[Any]
    secrets: tuple[tuple[int, str], ...]

    def config(self, row: Any, keyring: Keyring) -> Config:
        """The object of a row, its secrets decrypted; one that cannot be is an ``UnreadableSecret``."""
        values = list(row)
        for position, field in self.secrets:
            try:
                values[position] = keyring.decrypt(values[position], field)
            except SecretUnreadable as error:
                values[position] = UnreadableSecret(error.message)
        return Config(self.cls.kind, self.index, tuple(values))

    def split(self, values: Mapping[str, Any]) -> list[tuple[Table, dict[str, Any]]]:
        """``values`` by attribute name, as column values for each table."""
        parts: list[tuple[Table, dict[str, Any]]] = [(table, {}) for table in self.tables]
        for name, value in values.items():
            column = self.columns[name]
            for table, part in parts:
                if column.table is table:
                    part[column.name] = value
        return parts


@cache
def shape(cls: type[Object]) -> Shape:
    """The shape of a type."""
    tables = cast(tuple[Table, ...], tuple(cls.__mapper__.tables))
    source: Any = tables[0]
    for table in tables[1:]:
        source = source.join(table, table.c.id == tables[0].c.id)
    columns = base.columns(cls)
    chosen: dict[str, Any] = {name: columns[name] for name in base.SYSTEM_COLUMNS}
    for name in base.declared(cls):
        kind = base.references(cls).get(name)
        if kind is None:
            chosen[name] = columns[name]
            continue
        target = _target(kind).alias(f"ref_{name}")
        source = source.outerjoin(target, target.c.id == columns[name])
        chosen[name] = target.c.name
        chosen[f"{name}_id"] = columns[name]
    index = {name: position for position, name in enumerate(chosen)}
    secrets = tuple((index[name], f"{cls.kind}.{name}") for name in base.secrets(cls))
    statement = select(*(column.label(f"f_{name}") for name, column in chosen.items())).select_from(source)
    return Shape(cls, tables, columns, index, statement, secrets)


def _target(kind: str) -> Table:
    """The table that has the names of a type or a family."""
    if kind in base.kinds():
        return base.columns(base.kind_class(kind))["name"].table
    table: Table = base.Base.metadata.tables[kind]
    return table


def can_exist(key: str | int) -> bool:
    """Whether PostgreSQL could hold this name or id at all: no NUL, no surrogates, 64 bits."""
    if isinstance(key, int):
        return -(2**63) <= key < 2**63
    return not UNSTORABLE.search(key)


@cache
def name_space(cls: type[Object]) -> str:
    """The table in which the names and ids of a type are unique: its family's, or its own."""
    return str(shape(cls).tables[0].name)


def find_id(connection: Connection, cluster_id: int, kind: str, name: str) -> int | None:
    """The id of the object of a type (or family) by its name."""
    if not can_exist(name):
        return None
    table = _target(kind)
    statement = select(table.c.id).where(table.c.cluster_id == cluster_id, table.c.name == name)
    if kind in base.kinds() and kind != table.name and "type" in table.c:
        statement = statement.where(table.c.type == kind)
    found: int | None = connection.scalar(statement)
    return found


def public(config: Config, keyring: Keyring) -> dict[str, Any]:
    """An object as surfaces show it: secrets only as fingerprints, under ``secrets``; references as names."""
    fields = base.declared(base.kind_class(config.kind))
    shown: dict[str, Any] = {name: config[name] for name in base.SYSTEM_COLUMNS}
    shown |= {name: _shown(config[name]) for name, field in fields.items() if not field.is_secret}
    fingerprints = {
        name: _fingerprint(config[name], keyring) for name, field in fields.items() if field.is_secret
    }
    return shown | ({"secrets": fingerprints} if fingerprints else {})


def _fingerprint(secret: Secret, keyring: Keyring) -> str:
    return UNREADABLE if isinstance(secret, UnreadableSecret) else keyring.fingerprint(secret.reveal())


def logged(config: Config, keyring: Keyring) -> dict[str, Any]:
    """An object as the change feed keeps it: as it is shown, with large texts as their digests."""
    shown = public(config, keyring)
    for name, field in base.declared(base.kind_class(config.kind)).items():
        if field.large:
            shown[name] = f"sha256:{hashlib.sha256(shown[name].encode()).hexdigest()}"
    return shown


def _shown(value: Any) -> Any:
    return "" if value is None else value
