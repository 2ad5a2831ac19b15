"""Encrypting the data of Single Sign-On again, with the key that is active now; what is only kept as a digest ends with its key.

A few rows are done at a time, each time in a transaction of its own, so nobody waits; what was done stays done if it is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select, update

from junctor.sql import blind_index
from junctor.sql.engine import database_errors
from junctor.sql.errors import SecretUnreadable
from junctor.sql.secrets import PREFIX, Keyring
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditEvent
from junctor.sql.tables.sso import (
    SsoAttribute,
    SsoChallenge,
    SsoGrant,
    SsoRecoveryCode,
    SsoSession,
    SsoSigningKey,
    SsoToken,
    SsoUser,
    attribute_field,
)

BATCH: Final = 200  # rows that are locked at a time
AUDIT_SEALS: Final = "seals of audit events"


@dataclass(slots=True)
class Count:
    """How many values are stored encrypted, how many of them had another key than the active one, and how many no key fits."""

    total: int = 0
    changed: int = 0
    unreadable: int = 0


def _table(cls: type[Any]) -> Table:
    table: Table = cls.__table__
    return table


@dataclass(frozen=True, slots=True)
class Column:
    """An encrypted column, and what its values are encrypted for; '' for attributes, each of which is encrypted for itself."""

    table: Table
    name: str
    encrypted_for: str

    def field(self, row: Mapping[str, Any]) -> str:
        """What a row's value is encrypted for."""
        return self.encrypted_for or attribute_field(row["user_id"], row["session_id"], row["name"])


COLUMNS: Final = (
    Column(_table(SsoUser), "password", "sso_user.password"),
    Column(_table(SsoUser), "email_sealed", "sso_user.email"),
    Column(_table(SsoUser), "totp_key_sealed", "sso_user.totp_key"),
    Column(_table(SsoUser), "totp_pending_sealed", "sso_user.totp_pending"),
    Column(_table(SsoAttribute), "value", ""),
    Column(_table(SsoToken), "data_sealed", "sso_token.data"),
    Column(_table(SsoChallenge), "data_sealed", "sso_challenge.data"),
    Column(_table(SsoSigningKey), "private_key_sealed", "sso_signing_key.private_key"),
)


def renew(store: Store, *, write: bool) -> Count:
    """Encrypts everything with the active key, and indexes e-mail addresses with it; without ``write``, only counts.

    What no key fits stays as it is, and is counted.  Raises ``StoreUnavailable`` or ``SchemaOutdated``.
    """
    count = Count()
    for column in COLUMNS:
        for rows in _batches(store, column, write=write):
            _renew(store.keyring, column, rows, count)
    _index_emails(store, write=write)
    return count


def ending(store: Store, made: datetime) -> dict[str, int]:
    """What would end, by its kind, if every key but the active one was removed, which was made at that time; without what there is none of.

    These are digests of what only users and applications have, so no other key can be put in their place.
    """
    user_of = {table: table.c.user_id for table in (_table(SsoRecoveryCode), _table(SsoToken))}
    mine = select(SsoUser.id).where(SsoUser.cluster_id == store.cluster_id)
    wanted: dict[str, tuple[Any, ColumnElement[bool]]] = {
        "sessions": (SsoSession, SsoSession.expiration_time > func.now()),
        "recovery codes": (SsoRecoveryCode, SsoRecoveryCode.used_time.is_(None)),
        "tokens in e-mails": (SsoToken, SsoToken.expiration_time > func.now()),
        "OpenID Connect grants": (
            SsoGrant,
            (SsoGrant.expiration_time > func.now()) & SsoGrant.revoked_time.is_(None),
        ),
    }
    found = {}
    with database_errors(), store.engine.connect() as connection:
        for kind, (cls, is_valid) in wanted.items():
            table = _table(cls)
            is_mine = user_of[table].in_(mine) if table in user_of else table.c.cluster_id == store.cluster_id
            statement = select(func.count()).where(is_mine, is_valid, table.c.creation_time <= made)
            found[kind] = connection.execute(statement).scalar_one()
        sealed = select(func.count()).where(
            AuditEvent.cluster_id == store.cluster_id, AuditEvent.key_id != store.keyring.active
        )
        found[AUDIT_SEALS] = connection.execute(sealed).scalar_one()
    return {kind: number for kind, number in found.items() if number}


def _batches(store: Store, column: Column, *, write: bool) -> Iterator[_Batch]:
    """The rows that have something encrypted in a column, by id, each batch in a transaction of its own."""
    table, last = column.table, 0
    stored = table.c[column.name]
    is_mine = (
        table.c.cluster_id == store.cluster_id
        if "cluster_id" in table.c
        else table.c.user_id.in_(select(SsoUser.id).where(SsoUser.cluster_id == store.cluster_id))
    )
    is_sealed: ColumnElement[bool] = stored.startswith(PREFIX, autoescape=True)
    if table is SsoAttribute.__table__:  # whose values may begin with anything
        is_sealed = table.c.is_encrypted
    while True:
        statement = (
            select(table).where(is_mine, table.c.id > last, is_sealed).order_by(table.c.id).limit(BATCH)
        )
        with database_errors(), store.engine.begin() as connection:
            rows = connection.execute(statement.with_for_update() if write else statement).mappings().all()
            if not rows:
                return
            yield _Batch(connection if write else None, [dict(row) for row in rows])
            last = rows[-1]["id"]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows that are locked, if there is a connection to write them with."""

    connection: Connection | None
    rows: list[dict[str, Any]]


def _renew(keyring: Keyring, column: Column, batch: _Batch, count: Count) -> None:
    for row in batch.rows:
        count.total += 1
        stored = row[column.name]
        if keyring.is_current(stored):
            continue
        count.changed += 1
        field = column.field(row)
        try:
            value = keyring.encrypt(keyring.decrypt(stored, field).reveal(), field)
        except SecretUnreadable:
            count.changed -= 1
            count.unreadable += 1
            continue
        if batch.connection is not None:
            table = column.table
            batch.connection.execute(
                update(table).where(table.c.id == row["id"]).values({column.name: value})
            )


def _index_emails(store: Store, *, write: bool) -> None:
    """Indexes addresses with the active key; rows whose index is current stay untouched."""
    if not write:
        return
    key, last = store.keyring.derive(blind_index.EMAIL)[0], 0
    statement = (
        select(SsoUser.id, SsoUser.email, SsoUser.email_sealed, SsoUser.email_mac)
        .where(
            SsoUser.cluster_id == store.cluster_id,
            or_(SsoUser.email.is_not(None), SsoUser.email_sealed.is_not(None)),
        )
        .order_by(SsoUser.id)
        .limit(BATCH)
        .with_for_update()
    )
    while True:
        with database_errors(), store.engine.begin() as connection:
            rows = connection.execute(statement.where(SsoUser.id > last)).all()
            if not rows:
                return
            for row in rows:
                _index_email(connection, store.keyring, key, row)
            last = rows[-1].id


def _index_email(connection: Connection, keyring: Keyring, key: bytes, row: Any) -> None:
    try:
        email = row.email or keyring.decrypt(row.email_sealed or "", "sso_user.email").reveal()
    except SecretUnreadable:  # counted where it is encrypted anew
        return
    mac = blind_index.digest(key, blind_index.email_key(email))
    if email and mac != row.email_mac:
        connection.execute(update(SsoUser).where(SsoUser.id == row.id).values(email_mac=mac))
