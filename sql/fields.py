"""The fields of object types: each is declared once, as a column, and carries what SQL cannot say in ``column.info``.

    url_path: Mapped[str] = text("URL path", "Path with {placeholders}, e.g. /orders/{id}.", max=500)

Every surface (admin API, CLI, enmasse, web-admin, JSON Schema, documentation) is derived from these declarations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import MappedColumn, mapped_column

from junctor.sql.errors import Problem

TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})
FALSE = frozenset({"false", "0", "no", "off", "n", "f"})
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LINE_CHARACTERS = re.compile(r"[\t\n\r]")
SURROGATES = re.compile(r"[\ud800-\udfff]")  # JSON can carry them, PostgreSQL and UTF-8 cannot


class FieldType(StrEnum):
    """What kind of value a field holds; decides how it is parsed and shown."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    REFERENCE = "reference"
    SECRET = "secret"  # noqa: S105 - the name of a type, not a secret
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Required:
    """Marks a field that has no default."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = Required()


@dataclass(frozen=True, slots=True)
class Field:
    """What is known of a field beside its column.

    ``aliases`` are names that Zato's API and enmasse files use for it.  ``unit`` is shown beside a number.
    ``large`` values stay out of the change feed, which has their digest.  ``read_only`` ones are set by the server alone.
    Texts are single lines, fit for headers and logs, unless they are ``multiline`` or ``large``.
    """

    type: FieldType
    label: str
    help: str
    default: Any = REQUIRED
    unit: str = ""
    min: int | None = None
    max: int | None = None
    choices: tuple[str, ...] = ()
    reference: str = ""
    aliases: tuple[str, ...] = ()
    large: bool = False
    multiline: bool = False
    read_only: bool = False
    normalise: Callable[[str], str] | None = None

    @property
    def required(self) -> bool:
        """Whether a new object must be given this field."""
        return isinstance(self.default, Required)

    @property
    def is_secret(self) -> bool:
        """Whether the value is encrypted at rest and never shown."""
        return self.type is FieldType.SECRET

    @property
    def optional_reference(self) -> bool:
        """Whether this is a reference that may point nowhere ('')."""
        return self.type is FieldType.REFERENCE and not self.required


def of(column: Column[Any]) -> Field | None:
    """The declaration behind a column; None for the columns that every object has."""
    found: Field | None = column.info.get("field")
    return found


def _column(type_: Any, field: Field, *args: Any, **kwargs: Any) -> MappedColumn[Any]:
    return mapped_column(type_, *args, info={"field": field}, **kwargs)


def text(
    label: str,
    help: str,
    *,
    max: int = 200,
    default: str | Required = REQUIRED,
    **more: Any,
) -> MappedColumn[Any]:
    """A line or a block of text of up to ``max`` characters."""
    field = Field(FieldType.TEXT, label, help, default=default, max=max, **more)
    return _column(Text if field.large else String(max), field, nullable=False)


def integer(label: str, help: str, *, default: int | Required = REQUIRED, **more: Any) -> MappedColumn[Any]:
    """A whole number within ``min`` and ``max``; ``unit`` says of what."""
    return _column(Integer, Field(FieldType.INTEGER, label, help, default=default, **more), nullable=False)


def boolean(label: str, help: str, *, default: bool, **more: Any) -> MappedColumn[Any]:
    """A yes or no."""
    return _column(Boolean, Field(FieldType.BOOLEAN, label, help, default=default, **more), nullable=False)


def choice(
    label: str,
    help: str,
    choices: tuple[str, ...],
    *,
    default: str | Required = REQUIRED,
    **more: Any,
) -> MappedColumn[Any]:
    """One of a few words."""
    field = Field(FieldType.CHOICE, label, help, default=default, choices=choices, **more)
    return _column(String(60), field, nullable=False)


def ref(
    kind: str,
    label: str,
    help: str,
    *,
    column: str,
    default: str | Required = REQUIRED,
    **more: Any,
) -> MappedColumn[Any]:
    """A reference to another object: its name on every surface, a foreign key in the table.

    ``column`` is the name of the key's column, e.g. ``service_id``; the field is named as the attribute is.
    """
    field = Field(FieldType.REFERENCE, label, help, default=default, reference=kind, **more)
    key = ForeignKey(f"{kind}.id", ondelete="RESTRICT")
    return mapped_column(
        column, BigInteger, key, nullable=not field.required, index=True, info={"field": field}
    )


def secret(
    label: str, help: str, *, default: str | Required = "", max: int = 500, **more: Any
) -> MappedColumn[Any]:
    """A password, a key or a token: stored encrypted, shown as a fingerprint only."""
    return _column(
        Text, Field(FieldType.SECRET, label, help, default=default, max=max, **more), nullable=False
    )


def text_list(
    label: str, help: str, *, max: int = 100, default: tuple[str, ...] = (), **more: Any
) -> MappedColumn[Any]:
    """Up to ``max`` lines of text; ``default`` when none is given."""
    field = Field(FieldType.LIST, label, help, default=default, max=max, **more)
    return _column(JSONB, field, nullable=False)


def check(name: str, field: Field, value: Any) -> tuple[Any, Problem | None]:
    """The value as it is stored, or a problem; ``name`` is the field's name in the problem.

    Numbers and booleans may come as strings, as they do from forms, command lines and Zato's clients.
    """
    if value is None:
        value = None if field.required else field.default
    try:
        return _CHECKS[field.type](field, value), None
    except ValueError as error:
        return None, Problem(name, str(error))


def _check_text(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_type_name(value)}.")
    _check_characters(field, value)
    text = field.normalise(value) if field.normalise else value
    if field.required and not text.strip():
        raise ValueError("must not be empty.")
    if field.max is not None and len(text) > field.max:
        raise ValueError(f"must have at most {field.max} characters, has {len(text)}.")
    return text


def _check_characters(field: Field, value: str) -> None:
    if SURROGATES.search(value):
        raise ValueError("must be valid Unicode.")
    if CONTROL_CHARACTERS.search(value):
        raise ValueError("must not have control characters.")
    if LINE_CHARACTERS.search(value) and not (field.multiline or field.large):
        raise ValueError("must be one line, without tabs.")


def _check_integer(field: Field, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {_type_name(value)}.")
    unit = f" {field.unit}" if field.unit else ""
    low = -(2**31) if field.min is None else field.min
    high = 2**31 - 1 if field.max is None else field.max
    if not low <= value <= high:
        raise ValueError(f"must be between {low} and {high}{unit}, is {value}.")
    return value


def _check_boolean(_: Field, value: Any) -> bool:
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in TRUE or lowered in FALSE:
            return lowered in TRUE
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"must be true or false, not {_type_name(value)}.")


def _check_choice(field: Field, value: Any) -> str:
    if value not in field.choices:
        shown = ", ".join(repr(item) for item in field.choices)
        raise ValueError(f"must be one of {shown}.")
    return str(value)


def _check_list(field: Field, value: Any) -> list[str]:
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts.")
    if field.max is not None and len(value) > field.max:
        raise ValueError(f"must have at most {field.max} items, has {len(value)}.")
    for item in value:
        _check_characters(field, item)
    return list(value)


def _check_reference(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be the name of a {field.reference}, not {_type_name(value)}.")
    _check_characters(field, value)
    name: str = field.normalise(value) if field.normalise else value
    if field.required and not name:
        raise ValueError(f"must name a {field.reference}.")
    return name


def _type_name(value: Any) -> str:
    names = {type(None): "nothing", bool: "a boolean", int: "a number", float: "a number", str: "text"}
    return names.get(type(value), "a list or an object")


_CHECKS: Mapping[FieldType, Callable[[Field, Any], Any]] = {
    FieldType.TEXT: _check_text,
    FieldType.INTEGER: _check_integer,
    FieldType.BOOLEAN: _check_boolean,
    FieldType.CHOICE: _check_choice,
    FieldType.REFERENCE: _check_reference,
    FieldType.SECRET: _check_text,
    FieldType.LIST: _check_list,
}


_SCHEMA_TYPES = {
    FieldType.INTEGER: "integer",
    FieldType.BOOLEAN: "boolean",
    FieldType.LIST: "array",
}


def json_schema(field: Field) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a field's value, with its label, help and unit."""
    schema: dict[str, Any] = {"title": field.label, "description": field.help}
    schema["type"] = _SCHEMA_TYPES.get(field.type, "string")
    if field.type is FieldType.LIST:
        schema |= {"items": {"type": "string"}, "maxItems": field.max}
    elif field.type is FieldType.INTEGER:
        schema |= {k: v for k, v in (("minimum", field.min), ("maximum", field.max)) if v is not None}
    elif field.max is not None:
        schema["maxLength"] = field.max
    extra = {"enum": list(field.choices), "x-unit": field.unit, "x-reference": field.reference}
    schema |= {key: value for key, value in extra.items() if value}
    if field.is_secret:
        schema["writeOnly"] = True
    if not field.required and not field.is_secret:
        schema["default"] = list(field.default) if field.type is FieldType.LIST else field.default
    return schema
