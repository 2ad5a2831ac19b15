"""Options of ``create`` and ``edit`` commands, derived from the fields of an object type.

Values go to the server as they are: it alone decides what is valid, and names every problem at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from junctor.cli.manifest import FieldInfo, TypeInfo
from junctor.cli.passwords import secret_options
from junctor.sql.errors import InvalidInput

RESERVED = frozenset(
    {"help", "json", "verbose", "path", "id", "new-name", "expected-version", "wait", "no-wait", "yes"}
)
BOOLEANS = ("true", "false")
MAX_FILE = 10_000_000  # bytes of a value that is read from a file


class FieldValue(click.ParamType[str]):
    """Text for a field, completed where the words are known."""

    def __init__(self, field: FieldInfo) -> None:
        self._field = field
        self.name = metavar(field).lower()

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The words that the value may be."""
        del ctx, param
        words = BOOLEANS if self._field.type == "boolean" else self._field.choices
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def metavar(field: FieldInfo) -> str:
    """What stands for a field's value in a help text."""
    if field.type == "boolean":
        return "|".join(BOOLEANS)
    if field.choices:
        return "|".join(choice or '""' for choice in field.choices)
    return {"integer": "NUMBER", "reference": "NAME", "secret": "VALUE"}.get(field.type, "TEXT")


def flag(field: FieldInfo) -> str:
    """A field's option; one that a command needs for itself is called ``--field-...``."""
    return f"--field-{field.flag}" if field.flag in RESERVED else f"--{field.flag}"


def settable(info: TypeInfo) -> Iterable[FieldInfo]:
    """The fields of a type that options exist for, but its name."""
    return (field for field in info.fields if field.name != "name" and not field.read_only)


def field_options(info: TypeInfo, *, edit: bool) -> list[click.Parameter]:
    """The options of all fields, with those of Zato's names for them, which no help shows."""
    options: list[click.Parameter] = []
    used = {flag(field) for field in settable(info)} | {"--name"}
    for field in settable(info):
        if field.is_secret:
            options += secret_options(field, flag(field), edit=edit)
            continue
        options.append(_option(field, flag(field), edit=edit))
        for alias in field.aliases:
            name = f"--{alias.replace('_', '-')}"
            if name not in used and name[2:] not in RESERVED:
                used.add(name)
                options.append(_option(field, name, edit=edit, parameter=f"{field.name}__{alias}"))
    return options


def _option(field: FieldInfo, name: str, *, edit: bool, parameter: str = "") -> click.Option:
    return click.Option(
        [parameter or field.name, name],
        type=FieldValue(field),
        metavar=metavar(field),
        help=f"{field.help}{_remarks(field, edit=edit)}",
        multiple=field.type == "list",
        hidden=bool(parameter),
    )


def _remarks(field: FieldInfo, *, edit: bool) -> str:
    """The unit, the limits and the default, in brackets."""
    remarks = []
    if field.unit or field.type == "integer":
        limits = f"{'' if field.min is None else field.min} to {'' if field.max is None else field.max}"
        numbers = limits if field.min is not None or field.max is not None else ""
        remarks.append(f"{numbers} {field.unit}".strip())
    if field.block:
        remarks.append("@FILE reads it from a file")
    if field.type == "list":
        remarks.append("may be repeated; '' empties it" if edit else "may be repeated")
    if field.required and not edit:
        remarks.append("required")
    if not edit and field.default not in (None, "", []):
        default = str(field.default).lower() if field.type == "boolean" else field.default
        remarks.append(f"default: {default}")
    kept = [remark for remark in remarks if remark]
    return f"  [{'; '.join(kept)}]" if kept else ""


def given_values(info: TypeInfo, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given on the command line, but secrets; raises ``InvalidInput`` for files that cannot be read."""
    given = {}
    for field in settable(info):
        if field.is_secret:
            continue
        names = [field.name, *(f"{field.name}__{alias}" for alias in field.aliases)]
        value = next((options[name] for name in names if options.get(name) not in (None, ())), None)
        if value is not None:
            given[field.name] = _value(field, value)
    return given


def _value(field: FieldInfo, value: Any) -> Any:
    if field.type == "list":
        return [] if value == ("",) else list(value)
    if field.block and value.startswith("@"):
        return read_text(value[1:], field.name)
    return value


def read_text(name: str, what: str) -> str:
    """The text of a file; raises ``InvalidInput`` about ``what`` when it cannot be read, or is larger than 10 MB."""
    path = Path(name)
    try:
        if path.stat().st_size > MAX_FILE:
            raise InvalidInput.one(what, f"{name} is larger than {MAX_FILE // 1_000_000} MB.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput.one(what, f"{name} is not UTF-8 text.") from error
    except OSError as error:
        raise InvalidInput.one(what, f"{name} cannot be read: {error.strerror}.") from error
