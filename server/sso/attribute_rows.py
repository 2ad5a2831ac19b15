"""Attributes in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from junctor.server.sso import session_rows
from junctor.server.sso.attribute_values import MAX_ATTRIBUTES, AttrEntity, Item, too_many
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.gate import no_session
from junctor.server.sso.protection import Protection
from junctor.server.sso.user_view import naive
from junctor.sql.tables.sso import SsoAttribute, SsoSession, attribute_field

CREATE, UPDATE, SET = "create", "update", "set"


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Whose attributes: a user's, or with ``session`` a session's; both are rows.  ``user_id`` is what the user is known by."""

    user: int
    session: int
    user_id: str

    @property
    def is_mine(self) -> list[ColumnElement[bool]]:
        """What holds for its rows."""
        if self.session:
            return [SsoAttribute.session_id == self.session]
        return [SsoAttribute.user_id == self.user, SsoAttribute.session_id.is_(None)]

    def field(self, name: str) -> str:
        """What a value is encrypted for."""
        return attribute_field(self.user, self.session or None, name)

    def lock(self, connection: Connection) -> None:
        """Has others who write attributes of the same owner wait.  Raises ``ValidationError`` if it is gone."""
        if not self.session:
            if session_rows.lock_user(connection, self.user)[0] < 0:
                raise ValidationError(status_code.user_id.invalid, True, reason="There is no such user.")
            return
        wanted = select(SsoSession.id).where(SsoSession.id == self.session)
        if connection.execute(wanted.with_for_update(key_share=True)).first() is None:
            raise no_session()


def find(connection: Connection, owner: Owner, names: Sequence[str] | None = None) -> Sequence[Any]:
    """The rows of an owner that have not expired, of these names or all, by name."""
    wanted = [*owner.is_mine, _is_valid(datetime.now(UTC))]
    if names is not None:
        wanted.append(SsoAttribute.name.in_(names))
    statement = select(*SsoAttribute.__table__.columns).where(*wanted).order_by(SsoAttribute.name)
    return connection.execute(statement).all()


def entity(protection: Protection, owner: Owner, row: Any, *, decrypt: bool) -> AttrEntity:
    """What a caller gets of a row; an encrypted value as it is stored unless it is to be decrypted.  Raises ``SecretUnreadable``."""
    value: Any
    if row.is_encrypted and not decrypt:
        value = row.value
    else:
        text = protection.unseal(row.value, owner.field(row.name)) if row.is_encrypted else row.value
        value = orjson.loads(text)
    return AttrEntity(
        row.name,
        value,
        naive(row.creation_time),
        naive(row.last_modified),
        naive(row.expiration_time) if row.expiration_time is not None else None,
        row.is_encrypted,
    )


def write(connection: Connection, protection: Protection, owner: Owner, items: list[Item], verb: str) -> None:
    """Writes attributes of an owner, which is locked.  Raises ``ValidationError`` (E009001, E009002)."""
    now = datetime.now(UTC)
    wanted = {item.name: item for item in items}
    connection.execute(delete(SsoAttribute).where(*owner.is_mine, ~_is_valid(now)))
    statement = select(SsoAttribute.name, SsoAttribute.is_encrypted).where(*owner.is_mine)
    existing: dict[str, bool] = {row[0]: row[1] for row in connection.execute(statement)}
    if verb == CREATE and (len(wanted) < len(items) or not wanted.keys().isdisjoint(existing)):
        raise ValidationError(
            status_code.attr.already_exists, True, reason="There is an attribute of this name.", field="name"
        )
    new = [item for item in wanted.values() if item.name not in existing]
    if verb == UPDATE and new:
        raise no_attribute()
    if len(existing) + len(new) > MAX_ATTRIBUTES:
        raise too_many()
    if new:
        connection.execute(insert(SsoAttribute), [_values(protection, owner, item, now) for item in new])
    for item in wanted.values():
        if item.name in existing:
            # What was encrypted once stays so: a caller who says nothing about it must not lay it open.
            kept = replace(item, encrypt=item.encrypt or existing[item.name])
            values = _values(protection, owner, kept, now)
            del values["creation_time"]
            if verb == UPDATE and item.seconds is None:
                del values["expiration_time"]
            connection.execute(
                update(SsoAttribute).where(*owner.is_mine, SsoAttribute.name == item.name).values(values)
            )


def set_expiry(connection: Connection, owner: Owner, expiries: dict[str, float | None]) -> None:
    """Has attributes of an owner, which is locked, expire so many seconds from now, None = never.  Raises ``ValidationError`` (E009002)."""
    now = datetime.now(UTC)
    found = {row.name for row in find(connection, owner, list(expiries))}
    if found != expiries.keys():
        raise no_attribute()
    statement = (
        update(SsoAttribute)
        .where(*owner.is_mine, SsoAttribute.name == bindparam("its_name"))
        .values(expiration_time=bindparam("expires"), last_modified=now)
    )
    connection.execute(
        statement,
        [{"its_name": name, "expires": _expires(seconds, now)} for name, seconds in expiries.items()],
    )


def remove(connection: Connection, owner: Owner, names: Sequence[str]) -> None:
    """Deletes attributes that need not exist."""
    connection.execute(delete(SsoAttribute).where(*owner.is_mine, SsoAttribute.name.in_(names)))


def no_attribute() -> ValidationError:
    """The refusal of changing an attribute that there is not."""
    return ValidationError(
        status_code.attr.no_such_attr, True, reason="There is no such attribute.", field="name"
    )


def _is_valid(now: datetime) -> ColumnElement[bool]:
    return SsoAttribute.expiration_time.is_(None) | (SsoAttribute.expiration_time > now)


def _expires(seconds: float | None, now: datetime) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def _values(protection: Protection, owner: Owner, item: Item, now: datetime) -> dict[str, Any]:
    value = protection.seal(item.value, owner.field(item.name)) if item.encrypt else item.value
    return {
        "user_id": owner.user,
        "session_id": owner.session or None,
        "name": item.name,
        "value": value,
        "is_encrypted": item.encrypt,
        "creation_time": now,
        "last_modified": now,
        "expiration_time": _expires(item.seconds, now),
    }
