"""Configuration in bulk: out of the database as one document, and into it in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from junctor.server.admin.cluster import shown
from junctor.server.admin.service import DEFAULT_WAIT, MAX_WAIT, AdminService
from junctor.sql import base
from junctor.sql.base import Object
from junctor.sql.config import Config
from junctor.sql.errors import AlreadyExists, EditConflict, InUse, InvalidInput, Problem
from junctor.sql.fields import FieldType
from junctor.sql.transaction import Transaction, given_fields

MAX_OBJECTS = 100_000


def bulk_kinds() -> dict[str, type[Object]]:
    """The object types that documents have, those that others refer to first."""
    return {kind: cls for kind, cls in base.kinds().items() if "create" in cls.verbs}


def exported(config: Config) -> dict[str, Any]:
    """An object as a document has it: its name and the fields that differ from their defaults, without secrets."""
    made: dict[str, Any] = {}
    for name, field in base.declared(base.kind_class(config.kind)).items():
        value = config[name] if config[name] is not None else ""
        default = list(field.default) if field.type is FieldType.LIST else field.default
        if not field.is_secret and not field.read_only and (field.required or value != default):
            made[name] = value
    return made


class Export(AdminService):
    """All objects as one document, sorted, defaults left out."""

    name = "junctor.enmasse.export"

    def handle(self) -> None:
        """``kinds``: the types to export, all by default; ``internal``: whether objects that come with the server are included."""
        fields = self.fields
        wanted = set(fields.get("kinds") or bulk_kinds())
        if unknown := wanted - set(bulk_kinds()):
            raise InvalidInput.one("kinds", f"there are no types {', '.join(sorted(unknown))} to export.")
        internal = self.flag(fields, "internal")
        snapshot = self.context.store.snapshot()
        document = {}
        for kind in bulk_kinds():
            objects = [item for item in snapshot.objects[kind] if internal or not item["is_internal"]]
            if kind in wanted and objects:
                document[kind] = [exported(item) for item in sorted(objects, key=lambda item: item.name)]
        self.response.payload = {"config_version": snapshot.version, "document": document}


class Import(AdminService):
    """Makes the objects of a document what it says, all or nothing; objects that it does not name stay as they are.

    Fields that an object does not name get their defaults; secrets that it does not name stay.
    """

    name = "junctor.enmasse.import"

    def handle(self) -> None:
        """``document``: type -> objects; ``dry_run``; ``base_version``: refuse when the configuration has changed since.

        ``owner``: a label for what is created; ``prune``: delete what has this label and is not in the document.
        """
        fields = self.fields
        document = fields.get("document")
        if not isinstance(document, dict):
            raise InvalidInput.one("document", "must be an object with a list of objects for each type.")
        owner = self.text(fields, "owner", "")
        prune, is_dry = self.flag(fields, "prune"), self.flag(fields, "dry_run")
        if prune and not owner:
            raise InvalidInput.one("owner", "is required for pruning: only what has its label is deleted.")
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        with self.context.store.transaction(who=self.who, cid=self.cid, dry_run=is_dry) as transaction:
            _expect(transaction, fields.get("base_version"))
            _Importer(transaction, owner).run(document, prune=prune)
        answer = {"changes": [shown(change) for change in transaction.changes], "dry_run": is_dry}
        if is_dry or not transaction.changes:
            self.response.payload = answer | {"config_version": transaction.version}
        else:
            self.response.payload = answer | self.committed(transaction.version, wait)


class Schema(AdminService):
    """The JSON Schema of documents."""

    name = "junctor.enmasse.schema"

    def handle(self) -> None:
        """No input."""
        self.response.payload = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Junctor configuration",
            "type": "object",
            "properties": {
                kind: {"type": "array", "items": base.json_schema(cls)} for kind, cls in bulk_kinds().items()
            },
            "additionalProperties": False,
        }


class _Importer:
    def __init__(self, transaction: Transaction, owner: str) -> None:
        self._transaction = transaction
        self._owner = owner
        self._problems: list[Problem] = []

    def run(self, document: Mapping[str, Any], *, prune: bool) -> None:
        """Raises ``InvalidInput`` with the problems of all objects; each field is named 'type[position].field'."""
        if unknown := set(document) - set(bulk_kinds()):
            known = ", ".join(bulk_kinds())
            self._problems += [
                Problem(kind, f"is not a type of objects; there are {known}.") for kind in sorted(unknown)
            ]
        for kind in bulk_kinds():
            self._import(kind, document.get(kind) or [])
        if self._problems:
            raise InvalidInput(self._problems)
        if prune:
            for kind in reversed(bulk_kinds()):
                self._prune(kind, {item["name"].strip() for item in document.get(kind) or []})

    def _import(self, kind: str, objects: Iterable[Any]) -> None:
        if not isinstance(objects, list) or len(objects) > MAX_OBJECTS:
            self._problems.append(Problem(kind, f"must be a list of up to {MAX_OBJECTS} objects."))
            return
        seen: set[str] = set()
        for position, item in enumerate(objects):
            where = f"{kind}[{position}]"
            name = item.get("name") if isinstance(item, dict) else None
            name = name.strip() if isinstance(name, str) else ""  # as the object will have it
            if not name:
                self._problems.append(Problem(where, "must be an object with a name."))
            elif name in seen:
                self._problems.append(Problem(where, f"there is another {name!r} before it."))
            else:
                seen.add(name)
                self._import_one(kind, name, item, where)

    def _import_one(self, kind: str, name: str, item: dict[str, Any], where: str) -> None:
        transaction = self._transaction
        try:
            # Both check everything before they write anything, so a problem leaves the transaction usable.
            if transaction.find(kind, name) is None:
                transaction.create(kind, item, system={"owner": self._owner})
            else:
                complete = _absent_as_defaults(kind) | given_fields(base.kind_class(kind), item)
                transaction.edit(kind, name, complete)
        except InvalidInput as error:
            self._problems += [
                Problem(f"{where}.{problem.field}", problem.message) for problem in error.problems
            ]
        except AlreadyExists as error:
            self._problems.append(Problem(where, str(error)))

    def _prune(self, kind: str, keep: set[str]) -> None:
        for config in list(self._transaction.others(kind, None, owner=self._owner)):
            if config.name not in keep and not config["is_internal"]:
                try:
                    self._transaction.delete(kind, config.name)
                except InUse as error:
                    raise InvalidInput.one(kind, f"cannot be pruned: {error}") from error


def _absent_as_defaults(kind: str) -> dict[str, Any]:
    fields = base.declared(base.kind_class(kind)).items()
    return {n: f.default for n, f in fields if not (f.required or f.is_secret or f.read_only)}


def _expect(transaction: Transaction, base_version: Any) -> None:
    if base_version is not None and base_version != transaction.version:
        raise EditConflict("The configuration", "as a whole", given=base_version, current=transaction.version)
