"""The administrative services of every object type, derived from its declaration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from junctor.server.admin.service import DEFAULT_WAIT, MAX_WAIT, AdminService
from junctor.sql import base
from junctor.sql.base import Object
from junctor.sql.config import Config
from junctor.sql.errors import InvalidInput
from junctor.sql.shape import public
from junctor.sql.store import MAX_PAGE

DEFAULT_PAGE = 50


class ObjectService(AdminService):
    """A service for objects of one type."""

    zato_dont_import = True
    kind: ClassVar[str]

    def shown(self, config: Config) -> dict[str, Any]:
        """The object as callers see it."""
        return public(config, self.context.store.keyring)

    def key(self, fields: dict[str, Any]) -> str | int:
        """Takes the object's ``id`` or ``name`` out of the fields; an ``id`` leaves ``name`` there, as the new one."""
        if "id" in fields:
            found = fields.pop("id")
            if isinstance(found, bool) or not isinstance(found, int):
                raise InvalidInput.one("id", "must be a whole number.")
            return found
        name = self.text(fields, "name")
        del fields["name"]
        if "new_name" in fields:
            fields["name"] = fields.pop("new_name")
        return name


class Create(ObjectService):
    """Creates an object; answers with it and the version of the configuration that has it."""

    zato_dont_import = True

    def handle(self) -> None:
        """Fields by name; ``wait``: for how many seconds to wait until all workers have it."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        fields.pop("wait", None)
        with self.context.store.transaction(who=self.who, cid=self.cid) as transaction:
            made = transaction.create(self.kind, fields)
        self.response.payload = self.shown(made) | self.committed(transaction.version, wait)


class Edit(ObjectService):
    """Changes the fields that are given; answers with the object and the version of the configuration."""

    zato_dont_import = True

    def handle(self) -> None:
        """``id``, or ``name``; the new fields; ``expected_version``, the version of the object that the caller has seen."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        expected = fields.pop("expected_version", None)
        fields.pop("wait", None)
        if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int)):
            raise InvalidInput.one("expected_version", "must be a whole number.")
        key = self.key(fields)
        with self.context.store.transaction(who=self.who, cid=self.cid) as transaction:
            made = transaction.edit(self.kind, key, fields, expected_version=expected)
        self.response.payload = self.shown(made) | self.committed(transaction.version, wait)


class Delete(ObjectService):
    """Deletes an object that nothing refers to; answers with its id, its name and the version of the configuration."""

    zato_dont_import = True

    def handle(self) -> None:
        """``id``, or ``name``."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        with self.context.store.transaction(who=self.who, cid=self.cid) as transaction:
            gone = transaction.delete(self.kind, self.key(fields))
        self.response.payload = {"id": gone.id, "name": gone.name} | self.committed(transaction.version, wait)


class Get(ObjectService):
    """The object of an ``id`` or a ``name``."""

    zato_dont_import = True

    def handle(self) -> None:
        """``id``, or ``name``."""
        key = self.key(self.fields)
        store = self.context.store
        found = store.get_by_id(self.kind, key) if isinstance(key, int) else store.get(self.kind, key)
        self.response.payload = self.shown(found)


class GetList(ObjectService):
    """The objects of a type, by name."""

    zato_dont_import = True

    def handle(self) -> None:
        """``query``: part of the name; ``offset`` and ``limit``; ``internal``: whether those that come with the server are listed."""
        fields = self.fields
        page = self.context.store.find(
            self.kind,
            query=self.text(fields, "query", ""),
            internal=self.flag(fields, "internal"),
            offset=int(self.number(fields, "offset", 0, high=2**31)),
            limit=int(self.number(fields, "limit", DEFAULT_PAGE, high=MAX_PAGE)),
        )
        self.response.payload = {"items": [self.shown(item) for item in page.objects], "total": page.total}


VERBS: dict[str, type[ObjectService]] = {"create": Create, "edit": Edit, "delete": Delete}
READERS: dict[str, type[ObjectService]] = {"get": Get, "get-list": GetList}

# A type's verbs that have a service of their own: here with the services of the file, see ``admin/deploy.py``.
OVERRIDDEN = frozenset({("service_source", "delete")})


def object_services() -> Iterator[type[AdminService]]:
    """The services of all object types, e.g. ``zato.channel-rest.create``."""
    for kind, cls in base.kinds().items():
        for verb, made in (VERBS | READERS).items():
            if verb in READERS or (verb in cls.verbs and (kind, verb) not in OVERRIDDEN):
                yield _service(kind, cls, verb, made)


def _service(kind: str, cls: type[Object], verb: str, made: type[ObjectService]) -> type[AdminService]:
    name = f"{base.service_prefix(cls)}.{verb}"
    class_name = "".join(part.title() for part in f"{kind}-{verb}".replace("_", "-").split("-"))
    return type(
        class_name,
        (made,),
        {
            "name": name,
            "kind": kind,
            "zato_dont_import": False,
            "__doc__": made.__doc__,
            "__module__": __name__,
        },
    )
