"""Changes to objects that are made together: checked, resolved, written, and recorded for the change feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from junctor.sql import base, changes, fields
from junctor.sql.base import Object
from junctor.sql.changes import CREATE, DELETE, EDIT, Change
from junctor.sql.config import Config
from junctor.sql.errors import AlreadyExists, EditConflict, InUse, InvalidInput, NotFound, Problem
from junctor.sql.secrets import Keyring, Secret, UnreadableSecret
from junctor.sql.shape import Shape, can_exist, find_id, logged, name_space, shape

MAX_USERS_NAMED = 1000


class Transaction:
    """What a ``with store.transaction(...)`` block changes; made by ``Store.transaction`` alone.

    ``changes`` are the changes so far, and ``version`` is the version that they are about to become, once the block has ended.
    """

    def __init__(self, connection: Connection, cluster_id: int, keyring: Keyring) -> None:
        self.connection = connection
        self.cluster_id = cluster_id
        self.keyring = keyring
        self.version = changes.lock_version(connection, cluster_id)
        self.changes: list[Change] = []
        self._ids: dict[tuple[str, str], int] = {}

    def create(
        self, kind: str, data: Mapping[str, Any], *, system: Mapping[str, Any] | None = None
    ) -> Config:
        """The new object.

        ``data`` are its fields by name, references as names; ``system`` are those that only the server may set:
        read-only ones, ``is_internal``, ``owner``.
        Raises ``InvalidInput`` with every problem, ``AlreadyExists``.
        """
        cls = base.kind_class(kind)
        given = given_fields(cls, data)
        complete = {name: given.get(name) for name in base.declared(cls)}
        complete |= {**cls.generated(complete), **_own(cls, system)}
        values = self._checked(cls, complete, object_id=None)
        if find_id(self.connection, self.cluster_id, name_space(cls), values["name"]) is not None:
            raise AlreadyExists(cls.label, values["name"])
        row = self._row(cls, values) | {"cluster_id": self.cluster_id, "version": 1}
        row |= {name: value for name, value in (system or {}).items() if name in base.SYSTEM_COLUMNS}
        made = self.read(kind, self._insert(shape(cls), row))
        self._record(CREATE, None, made)
        return made

    def edit(
        self,
        kind: str,
        key: str | int,
        data: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        system: Mapping[str, Any] | None = None,
    ) -> Config:
        """The object with the fields in ``data`` changed and all others as they are; ``key`` is its name or id.

        An edit that changes nothing is no change.  Raises ``NotFound``, ``InvalidInput``, ``AlreadyExists`` (a new name
        that is taken) and, when ``expected_version`` is given and not the object's version any more, ``EditConflict``.
        """
        cls = base.kind_class(kind)
        before = self._find(kind, key)
        self._expect(cls, before, expected_version)
        given = given_fields(cls, data)
        current = {name: before[name] for name in base.declared(cls)}
        complete = current | given | _own(cls, system)
        values = self._checked(cls, complete, object_id=before.id)
        if values["name"] != before.name:
            if not cls.is_renamable:
                raise InvalidInput.one(
                    "name", f"of a {cls.label} cannot be changed: code knows it by this name."
                )
            self._free_name(cls, values["name"])
        row = self._row(cls, {n: v for n, v in values.items() if not _same(before, n, v)})
        row |= {n: v for n, v in (system or {}).items() if n in base.SYSTEM_COLUMNS and before[n] != v}
        if not row:
            return before
        self._update(shape(cls), before.id, row | {"version": before["version"] + 1})
        after = self.read(kind, before.id)
        self._record(EDIT, before, after)
        return after

    def delete(self, kind: str, key: str | int, *, expected_version: int | None = None) -> Config:
        """The object that was deleted; raises ``NotFound``, ``EditConflict`` and, when other objects refer to it, ``InUse``."""
        cls = base.kind_class(kind)
        before = self._find(kind, key)
        self._expect(cls, before, expected_version)
        users = list(self.users(kind, before.id))
        if users:
            raise InUse(cls.label, before.name, [f"{base.kind_class(k).label} {name!r}" for k, name in users])
        table = shape(cls).tables[0]
        self.connection.execute(delete(table).where(table.c.id == before.id))
        self._record(DELETE, before, None)
        return before

    def users(self, kind: str, object_id: int) -> Iterable[tuple[str, str]]:
        """The (kind, name) of the objects that refer to this one."""
        for other in base.kinds().values():
            for field, target in base.references(other).items():
                if kind in base.members(target):
                    columns = base.columns(other)
                    statement = select(columns["name"]).where(columns[field] == object_id)
                    rows = self.connection.scalars(statement.order_by(columns["name"]).limit(MAX_USERS_NAMED))
                    yield from ((other.kind, name) for name in rows)

    def read(self, kind: str, object_id: int) -> Config:
        """The object of this id, as this transaction sees it; raises ``NotFound``."""
        return self._find(kind, object_id)

    def read_named(self, kind: str, name: str) -> Config:
        """The object of this name, as this transaction sees it; raises ``NotFound``."""
        return self._find(kind, name)

    def find(self, kind: str, name: str) -> Config | None:
        """The object of this name, as this transaction sees it."""
        try:
            return self._find(kind, name)
        except NotFound:
            return None

    def others(self, kind: str, exclude_id: int | None, **equal: Any) -> Iterable[Config]:
        """The objects of a type but the excluded one, with these values in these fields; see ``base.Reader``."""
        cls = base.kind_class(kind)
        columns = base.columns(cls)
        for name, target in base.references(cls).items():
            if isinstance(equal.get(name), str):
                equal[name] = self._reference(target, equal[name])
        where = [
            columns["cluster_id"] == self.cluster_id,
            *(columns[name] == value for name, value in equal.items()),
        ]
        for row in self.connection.execute(shape(cls).select.where(*where)):
            config = shape(cls).config(row, self.keyring)
            if config.id != exclude_id:
                yield config

    def _find(self, kind: str, key: str | int) -> Config:
        cls = base.kind_class(kind)
        columns = base.columns(cls)
        column = columns["id"] if isinstance(key, int) else columns["name"]
        where = (columns["cluster_id"] == self.cluster_id, column == key)
        row = self.connection.execute(shape(cls).select.where(*where)).first() if can_exist(key) else None
        if row is None:
            raise NotFound(cls.label, key)
        return shape(cls).config(row, self.keyring)

    def _checked(
        self, cls: type[Object], complete: Mapping[str, Any], object_id: int | None
    ) -> dict[str, Any]:
        """Complete values as they are stored, references still as names; raises ``InvalidInput`` with every problem."""
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, field in base.declared(cls).items():
            value = complete.get(name)
            if isinstance(value, UnreadableSecret):
                values[name] = value  # stays as it is stored
                continue
            value = value.reveal() if isinstance(value, Secret) else value
            if value is None and field.required:
                problems.append(Problem(name, "is required."))
                continue
            values[name], problem = fields.check(name, field, value)
            problems += [problem] if problem else []
        for name, kind in base.references(cls).items():
            if values.get(name) and self._reference(kind, values[name]) is None:
                problems.append(Problem(name, f"there is no {kind.replace('_', ' ')} {values[name]!r}."))
        if not problems:
            problems += cls.check(values, self, object_id)
        if problems:
            raise InvalidInput(problems)
        return values

    def _row(self, cls: type[Object], values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the columns have them: references as ids, secrets encrypted."""
        row: dict[str, Any] = {}
        for name, value in values.items():
            field = base.declared(cls)[name]
            if field.reference:
                row[name] = self._reference(field.reference, value) if value else None
            elif field.is_secret:
                row[name] = self.keyring.encrypt(value, f"{cls.kind}.{name}")
            else:
                row[name] = value
        return row

    def _reference(self, kind: str, name: str) -> int | None:
        """The id of what a reference names; remembered, since the objects of a document refer to the same few."""
        key = (kind, name)
        if (
            key not in self._ids
            and (found := find_id(self.connection, self.cluster_id, kind, name)) is not None
        ):
            self._ids[key] = found
        return self._ids.get(key)

    def _free_name(self, cls: type[Object], name: str) -> None:
        if find_id(self.connection, self.cluster_id, name_space(cls), name) is not None:
            raise AlreadyExists(cls.label, name)

    def _expect(self, cls: type[Object], config: Config, expected: int | None) -> None:
        if expected is not None and config["version"] != expected:
            raise EditConflict(cls.label, config.name, given=expected, current=config["version"])

    def _insert(self, target: Shape, row: Mapping[str, Any]) -> int:
        made: int | None = None
        if len(target.tables) > 1:
            row = {**row, "type": target.cls.kind}
        for table, part in target.split(row):
            values = part if made is None else {**part, "id": made}
            result = self.connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one()
            made = result if made is None else made
        assert made is not None
        return made

    def _update(self, target: Shape, object_id: int, row: Mapping[str, Any]) -> None:
        for table, part in target.split(row):
            if "modified" in table.c:
                part["modified"] = func.now()
            if part:
                self.connection.execute(update(table).where(table.c.id == object_id).values(part))

    def _record(self, verb: str, before: Config | None, after: Config | None) -> None:
        config = after or before
        assert config is not None
        if before is not None and (after is None or after.name != before.name):
            self._ids.clear()
        old = logged(before, self.keyring) if before else None
        new = logged(after, self.keyring) if after else None
        self.changes.append(Change(config.kind, config.id, config.name, verb, old, new, self.version + 1))


def given_fields(cls: type[Object], data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` under the fields' own names; raises ``InvalidInput`` for names that are no fields, or not to be set."""
    declared = base.declared(cls)
    names = {alias: name for name, field in declared.items() for alias in field.aliases} | {
        n: n for n in declared
    }
    problems, given = [], {}
    for key, value in data.items():
        name = names.get(key)
        if name is None:
            known = ", ".join(name for name, field in declared.items() if not field.read_only)
            problems.append(Problem(key, f"is not a field of a {cls.label}; there are {known}."))
        elif declared[name].read_only:
            problems.append(Problem(key, "is set by the server and cannot be given."))
        elif name not in given or key == name:
            given[name] = value
    if problems:
        raise InvalidInput(problems)
    return given


def _own(cls: type[Object], system: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of the server's own values that are declared fields."""
    return {name: value for name, value in (system or {}).items() if name in base.declared(cls)}


def _same(before: Config, name: str, value: Any) -> bool:
    old = before[name]
    if isinstance(old, Secret):
        return old is value or old.matches(value)
    return bool((old or "") == (value or "")) if old is None or value is None else bool(old == value)
