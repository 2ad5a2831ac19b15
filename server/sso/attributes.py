"""Attributes of users and of sessions: named values that applications keep there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from junctor.server.sso import attribute_rows as rows
from junctor.server.sso.attribute_rows import CREATE, SET, UPDATE, Owner
from junctor.server.sso.attribute_values import AttrEntity, Item, expiries_of, items_of, names_of
from junctor.server.sso.audited import Audited, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import invalid
from junctor.server.sso.gate import no_session
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_AUDITED: Final = 50  # names in one event


class EntityAttributes:
    """The attributes of a user or of a session, for one caller; owners and super-users may read and write them.

    A value is anything that JSON can have, of 64 KiB at the most; an owner may have 1000 attributes.  An encrypted one stays so until
    it is deleted.  Expired ones are not there.  What is done to many is done to all or to none.  ``expiration`` is in seconds from now.
    ``user_id`` is another user than the one whose attributes these are.

    Raises ``ValidationError``: E005005, E007001 and the like, E008002 and E008003 for what cannot be, E009001 and E009002.
    """

    of: str

    def __init__(self, sso: SingleSignOn, caller: Caller) -> None:
        self._sso = sso
        self._caller = caller

    def create(
        self, name: str, value: Any, expiration: float | None = None, encrypt: bool = False, user_id: str = ""
    ) -> None:
        """A new attribute, which must not exist (E009001)."""
        self._write("create", CREATE, [_one(name, value, user_id)], expiration, encrypt)

    def set(
        self, name: str, value: Any, expiration: float | None = None, encrypt: bool = False, user_id: str = ""
    ) -> None:
        """An attribute as given, whether it exists or not."""
        self._write("set", SET, [_one(name, value, user_id)], expiration, encrypt)

    def update(
        self, name: str, value: Any, expiration: float | None = None, encrypt: bool = False, user_id: str = ""
    ) -> None:
        """Another value of an attribute, which must exist (E009002); it expires as before unless ``expiration`` is given."""
        self._write("update", UPDATE, [_one(name, value, user_id)], expiration, encrypt)

    def create_many(
        self, data: Iterable[Mapping[str, Any]], expiration: float | None = None, encrypt: bool = False
    ) -> None:
        """New attributes, from dictionaries of name, value and what else ``create`` takes; the rest holds for those without their own."""
        self._write("create_many", CREATE, data, expiration, encrypt)

    def update_many(
        self, data: Iterable[Mapping[str, Any]], expiration: float | None = None, encrypt: bool = False
    ) -> None:
        """The same with attributes that exist."""
        self._write("update_many", UPDATE, data, expiration, encrypt)

    def set_many(
        self, data: Iterable[Mapping[str, Any]], expiration: float | None = None, encrypt: bool = False
    ) -> None:
        """The same with attributes that exist or not."""
        self._write("set_many", SET, data, expiration, encrypt)

    def get(
        self, name: str, decrypt: bool = True, serialize_dt: bool = False, user_id: str = ""
    ) -> AttrEntity | None:
        """An attribute, None if there is none; an encrypted one as it is stored unless ``decrypt`` says otherwise."""
        del serialize_dt  # which is for to_dict of the entity; Zato's services give it here
        return self._read("get", [name], decrypt, user_id).get(name)

    def get_many(
        self, names: Iterable[str], decrypt: bool = True, serialize_dt: bool = False, user_id: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Those of these attributes that exist, by name, as dictionaries."""
        found = self._read("get_many", names, decrypt, user_id)
        return {name: made.to_dict(serialize_dt) for name, made in found.items()}

    def to_dict(
        self,
        decrypt: bool = True,
        value_to_dict: bool = False,
        serialize_dt: bool = False,
        user_id: str = "",
    ) -> dict[str, Any]:
        """All attributes by name; as dictionaries with ``value_to_dict``."""
        found = self._read("to_dict", None, decrypt, user_id)
        return {name: made.to_dict(serialize_dt) if value_to_dict else made for name, made in found.items()}

    def exists(self, name: str, user_id: str = "") -> bool:
        """Whether there is an attribute of this name."""
        return bool(self._names("exists", [name], user_id))

    def exists_many(self, names: Iterable[str], user_id: str = "") -> dict[str, bool]:
        """The same for several, by name."""
        wanted = list(names) if isinstance(names, Iterable) else []
        found = set(self._names("exists_many", wanted, user_id))
        return {name: name in found for name in wanted}

    def names(self, user_id: str = "") -> list[str]:
        """The names of all attributes, sorted."""
        return self._names("names", None, user_id)

    def delete(self, name: str, user_id: str = "") -> None:
        """Deletes an attribute, which need not exist."""
        self._delete("delete", [name], user_id)

    def delete_many(self, names: Iterable[str], user_id: str = "") -> None:
        """Deletes attributes, which need not exist."""
        self._delete("delete_many", names, user_id)

    def set_expiry(self, name: str, expiration: float | None, user_id: str = "") -> None:
        """Has an attribute, which must exist (E009002), expire so many seconds from now; None = never."""
        self._expire("set_expiry", [{"name": name, "expiration": expiration, "user_id": user_id}])

    def set_expiry_many(self, data: Iterable[Mapping[str, Any]], expiration: float | None = None) -> None:
        """The same for dictionaries of name and expiration; the latter holds for those without their own."""
        self._expire("set_expiry_many", data, expiration)

    def _owner(self, user_id: str, call: Audited) -> Owner:
        """Whose attributes are meant, if the caller may."""
        raise NotImplementedError

    @contextmanager
    def _audited(self, method: str) -> Iterator[Audited]:
        with audited(self._sso, self._caller, f"attr.{method}") as call:
            call.extra = {"of": self.of}
            yield call

    def _write(
        self,
        method: str,
        verb: str,
        data: Iterable[Mapping[str, Any]],
        expiration: float | None,
        encrypt: bool,
    ) -> None:
        with self._audited(method) as call:
            items = items_of(data, expiration, encrypt)
            call.extra["names"] = [item.name for item in items[:MAX_AUDITED]]
            by_owner: dict[Owner, list[Item]] = {}
            owners = {user_id: self._owner(user_id, call) for user_id in {item.user_id for item in items}}
            for item in items:
                by_owner.setdefault(owners[item.user_id], []).append(item)
            with self._changing(call, by_owner) as connection:
                for owner in sorted(by_owner):
                    rows.write(connection, self._sso.protection, owner, by_owner[owner], verb)

    def _expire(
        self, method: str, data: Iterable[Mapping[str, Any]], expiration: float | None = None
    ) -> None:
        with self._audited(method) as call:
            wanted = expiries_of(data, expiration)
            call.extra["names"] = [name for _, name, _ in wanted[:MAX_AUDITED]]
            owners = {user_id: self._owner(user_id, call) for user_id in {item[0] for item in wanted}}
            by_owner: dict[Owner, dict[str, float | None]] = {}
            for user_id, name, seconds in wanted:
                by_owner.setdefault(owners[user_id], {})[name] = seconds
            with self._changing(call, by_owner) as connection:
                for owner in sorted(by_owner):
                    rows.set_expiry(connection, owner, by_owner[owner])

    def _delete(self, method: str, names: Iterable[str], user_id: str) -> None:
        with self._audited(method) as call:
            wanted = _wanted(names, call)
            owner = self._owner(user_id, call)
            with self._changing(call, [owner]) as connection:
                rows.remove(connection, owner, wanted or [])

    @contextmanager
    def _changing(self, call: Audited, owners: Iterable[Owner]) -> Iterator[Connection]:
        """A transaction with the owners locked, always in the same order."""
        with database_errors(), self._sso.store.engine.begin() as connection:
            for owner in sorted(owners):
                owner.lock(connection)
            yield connection
            call.record(connection)

    def _read(
        self, method: str, names: Iterable[str] | None, decrypt: bool, user_id: str
    ) -> dict[str, AttrEntity]:
        with self._audited(method) as call:
            wanted = _wanted(names, call)
            owner = self._owner(user_id, call)
            with database_errors(), self._sso.store.engine.connect() as connection:
                found = rows.find(connection, owner, wanted)
            protection = self._sso.protection
            return {row.name: rows.entity(protection, owner, row, decrypt=decrypt) for row in found}

    def _names(self, method: str, names: Iterable[str] | None, user_id: str) -> list[str]:
        with self._audited(method) as call:
            wanted = _wanted(names, call)
            owner = self._owner(user_id, call)
            with database_errors(), self._sso.store.engine.connect() as connection:
                return [row.name for row in rows.find(connection, owner, wanted)]


class UserAttributes(EntityAttributes):
    """The attributes of a user, '' = the caller."""

    of = "user"

    def __init__(self, sso: SingleSignOn, caller: Caller, user_id: str = "") -> None:
        super().__init__(sso, caller)
        self._user_id = user_id

    def _owner(self, user_id: str, call: Audited) -> Owner:
        session, user, _ = self._sso.gate.own_or_super_user(self._caller, user_id or self._user_id)
        call.by(session)
        call.target = user.user_id
        return Owner(user.id, 0, user.user_id)


class SessionAttributes(EntityAttributes):
    """The attributes of a session, which end with it; '' = the caller's session."""

    of = "session"

    def __init__(self, sso: SingleSignOn, caller: Caller, target_ust: str = "") -> None:
        super().__init__(sso, caller)
        self._target_ust = target_ust

    def _owner(self, user_id: str, call: Audited) -> Owner:
        gate = self._sso.gate
        is_other = self._caller.is_trusted or self._target_ust not in ("", self._caller.current_ust)
        mine = gate.super_user(self._caller) if is_other else gate.session(self._caller)
        call.by(mine)
        found = self._sso.sessions.find(self._target_ust) if is_other else mine
        if found is None:
            raise no_session()
        if user_id not in ("", found.user.user_id):
            raise invalid("user_id", "must be the session's user.")
        call.target = found.user.user_id
        call.extra["session"] = found.public_id
        return Owner(found.user_id, found.id, found.user.user_id)


class Attributes:
    """All attributes."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def of_user(self, caller: Caller, user_id: str = "") -> UserAttributes:
        """The attributes of a user, '' = the caller; whether the caller may is checked by what is done with them."""
        return UserAttributes(self._sso, caller, user_id)

    def of_session(self, caller: Caller, target_ust: str = "") -> SessionAttributes:
        """The attributes of a session, '' = the caller's; likewise."""
        return SessionAttributes(self._sso, caller, target_ust)


def _one(name: str, value: Any, user_id: str) -> dict[str, Any]:
    return {"name": name, "value": value, "user_id": user_id}


def _wanted(names: Iterable[str] | None, call: Audited) -> list[str] | None:
    """Names that a caller gave, for the trail, too; None = all.  Raises ``ValidationError``."""
    if names is None:
        return None
    wanted = names_of(names)
    call.extra["names"] = wanted[:MAX_AUDITED]
    return wanted
