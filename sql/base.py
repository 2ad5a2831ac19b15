"""The base class of object types, and the register of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    String,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from junctor.sql import fields
from junctor.sql.errors import Problem, UnknownKind

NAME = fields.Field(
    fields.FieldType.TEXT,
    "Name",
    "The object's name, unique among those of its type.",
    max=200,
    normalise=str.strip,
)
METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class Reader(Protocol):
    """What a type's own check may look up: the objects as the transaction sees them."""

    def others(self, kind: str, exclude_id: int | None, **equal: Any) -> Iterable[Mapping[str, Any]]:
        """The objects of a type, except one, that have these values in these fields; references are given by id, or by name."""


class Base(DeclarativeBase):
    """Everything that is stored."""

    metadata = METADATA


class Object(Base):
    """Something an administrator makes, names, changes and deletes.

    ``kind`` names the type everywhere; ``label`` is what people read.  ``verbs`` are the changes that surfaces offer.
    ``service_prefix`` is the name of its administrative services without the verb.  The aliases are Zato's own names:
    ``enmasse_aliases`` for keys of enmasse files and ``command_aliases`` for the part of commands behind the verb.
    ``needs_live`` says whether workers keep a live counterpart; objects that are not ``is_renamable`` are known to
    code by their names.
    """

    __abstract__ = True

    kind: ClassVar[str]
    label: ClassVar[str]
    verbs: ClassVar[frozenset[str]] = frozenset({"create", "edit", "delete"})
    service_prefix: ClassVar[str] = ""
    enmasse_aliases: ClassVar[tuple[str, ...]] = ()
    command_aliases: ClassVar[tuple[str, ...]] = ()
    needs_live: ClassVar[bool] = True
    is_renamable: ClassVar[bool] = True
    is_family: ClassVar[bool] = False

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200), info={"field": NAME})
    version: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    is_internal: Mapped[bool] = mapped_column(Boolean, default=False, server_default="false")
    owner: Mapped[str] = mapped_column(String(200), default="", server_default="")
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    modified: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """What is wrong with a whole object beyond its single fields; ``values`` are complete and checked one by one."""
        del values, reader, object_id
        return ()

    @classmethod
    def generated(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values of read-only fields that a new object with these ``values`` gets, unless the server gives others."""
        del values
        return {}


SYSTEM_COLUMNS = ("id", "version", "is_internal", "owner")


def _load_declarations() -> None:
    import junctor.sql.objects as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for point in entry_points(group="junctor.objects"):
        point.load()


def _subclasses(cls: type[Object]) -> Iterable[type[Object]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


@cache
def kinds() -> Mapping[str, type[Object]]:
    """Every object type by its kind, those of other packages (entry points ``junctor.objects``) included.

    The order is that of their references: a type comes after the ones it refers to.
    """
    _load_declarations()
    found = {
        cls.kind: cls
        for cls in _subclasses(Object)
        if not cls.is_family and not cls.__dict__.get("__abstract__")
    }
    ordered: dict[str, type[Object]] = {}

    def place(kind: str) -> None:
        if kind in ordered:
            return
        for target in sorted(references(found[kind]).values()):
            for member in members(target):
                if member != kind:
                    place(member)
        ordered[kind] = found[kind]

    for kind in sorted(found):
        place(kind)
    return ordered


def kind_class(kind: str) -> type[Object]:
    """The class of an object type; raises ``UnknownKind``."""
    try:
        return kinds()[kind]
    except KeyError:
        raise UnknownKind(kind, sorted(kinds())) from None


@cache
def members(kind: str) -> tuple[str, ...]:
    """The types that a reference to ``kind`` may point at: itself, or each of a family such as ``security``."""
    _load_declarations()
    family = [cls for cls in _subclasses(Object) if cls.is_family and cls.kind == kind]
    if not family:
        return (kind,)
    return tuple(sorted(cls.kind for cls in _subclasses(family[0]) if not cls.is_family))


@cache
def declared(cls: type[Object]) -> Mapping[str, fields.Field]:
    """The fields of a type by name, ``name`` first, then in the order of their declaration."""
    found: dict[str, fields.Field] = {"name": NAME}
    for base in reversed(cls.__mro__):
        for key in vars(base):
            column = columns(cls).get(key)
            field = fields.of(column) if column is not None else None
            if field is not None:
                found.setdefault(key, field)
    return found


@cache
def columns(cls: type[Object]) -> Mapping[str, Column[Any]]:
    """The columns of a type by attribute name; those of its family come from the family's table."""
    mapper = cls.__mapper__
    return {prop.key: prop.columns[-1 if prop.key != "id" else 0] for prop in mapper.column_attrs}  # type: ignore[misc]  # Column, not any expression


@cache
def references(cls: type[Object]) -> Mapping[str, str]:
    """The reference fields of a type: field name -> kind (or family) referred to."""
    return {name: field.reference for name, field in declared(cls).items() if field.reference}


def secrets(cls: type[Object]) -> Sequence[str]:
    """The names of a type's secret fields."""
    return [name for name, field in declared(cls).items() if field.is_secret]


def service_prefix(cls: type[Object]) -> str:
    """The first part of the names of a type's administrative services, e.g. ``zato.channel-rest``."""
    return cls.service_prefix or f"zato.{cls.kind.replace('_', '-')}"


def json_schema(cls: type[Object]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an object of this type, as surfaces take it."""
    given = {name: field for name, field in declared(cls).items() if not field.read_only}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.label,
        "description": cls.__doc__ or "",
        "type": "object",
        "properties": {name: fields.json_schema(field) for name, field in given.items()},
        "required": [name for name, field in given.items() if field.required],
        "additionalProperties": False,
    }
