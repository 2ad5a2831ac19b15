# ruff: noqa: D102 - an element's class says what its parse() and render() do
"""The elements that services declare their input and output with: names with a type.

``parse`` turns a value of a message into what the service sees and ``render`` turns what the service set into what goes
into a message (JSON types only).  Both raise ``InvalidInput`` for a value that is not of the type.  None and, on input, a
missing value never reach an element: ``service/io.py`` deals with them.
"""

from __future__ import annotations

import copy
import csv
import io
import math
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal as DecimalValue
from decimal import InvalidOperation
from typing import Any, Final, Self

from junctor.sql.errors import InvalidInput, Problem

NO_DEFAULT: Final = type("NoDefault", (), {"__repr__": lambda _: "NO_DEFAULT", "__slots__": ()})()

_MAX_SHOWN = 60
_TRUE = frozenset(("true", "yes", "on", "y", "t", "1"))
_FALSE = frozenset(("false", "no", "off", "n", "f", "0", ""))
_ISO_FORMATS = frozenset(("iso", "%Y-%m-%d"))
_INT = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*", re.ASCII)


class Elem:
    """An element of any type: the value is passed on untouched.

    A leading '-' in ``name`` makes it optional.  ``default`` is what an optional element is when it is missing.
    """

    type_name = "any"
    is_secret = False
    __slots__ = ("default", "name", "required")

    def __init__(self, name: str, *, default: Any = NO_DEFAULT) -> None:
        self.required = not name.startswith("-")
        self.name = name.removeprefix("-")
        self.default = default

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.required else '-'}{self.name})"

    def with_required(self, required: bool) -> Self:
        """The same element, required or optional."""
        if required is self.required:
            return self
        other = copy.copy(self)
        other.required = required
        return other

    def parse(self, value: Any) -> Any:
        """What the service sees of ``value``.  Raises ``InvalidInput``."""
        return value

    def render(self, value: Any) -> Any:
        """What goes into a message for ``value``.  Raises ``InvalidInput``."""
        return value

    def refuse(self, value: Any, message: str = "") -> InvalidInput:
        """The error for a value that is not of this type; long values are cut, those of secrets left out."""
        if self.is_secret:
            shown = "the value"
        else:
            text = str(value)[: _MAX_SHOWN + 1]
            shown = f"`{text[:_MAX_SHOWN]}{'...' if len(text) > _MAX_SHOWN else ''}`"
        return InvalidInput.one(self.name, message or f"Cannot convert {shown} to {self.type_name}")


class AsIs(Elem):
    """A value passed on untouched; for names which would be converted by convention."""

    __slots__ = ()


class Opaque(Elem):
    """A value of any structure, passed on untouched."""

    __slots__ = ()


class Plain(Elem):
    """What a name without a type is: scalars become text on input; lists, dictionaries and all output stay as they are."""

    type_name = "text"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if type(value) is str:
            return value
        return value if isinstance(value, str | list | dict) else _text(value)


class Text(Elem):
    """Text; numbers and booleans are turned into it, structures refused."""

    type_name = "text"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if type(value) is str:
            return value
        if isinstance(value, list | dict | tuple | set):
            raise self.refuse(value)
        return _text(value)

    render = parse


class Secret(Text):
    """Text that is never logged or shown in an error."""

    is_secret = True
    __slots__ = ()


class Int(Elem):
    """A whole number; text is converted and '' is None.  Fractions and booleans are refused rather than changed."""

    type_name = "integer"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        kind = type(value)
        if kind is int:
            return value
        if kind is str:
            if value == "":
                return None
            if _INT.fullmatch(value):
                return int(value)
        elif kind is float or kind is DecimalValue:
            if math.isfinite(value) and value == int(value):
                return int(value)
        elif isinstance(value, int) and kind is not bool:
            return int(value)
        raise self.refuse(value)

    render = parse


class Bool(Elem):
    """A boolean; of text, true, yes, on, y, t and 1 are true, and false, no, off, n, f, 0 and '' false, in any case."""

    type_name = "boolean"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if value is True or value is False:
            return value
        if isinstance(value, str):
            word = value.strip().lower()
            if word in _TRUE:
                return True
            if word in _FALSE:
                return False
        elif isinstance(value, int | float) and value in (0, 1):
            return bool(value)
        raise self.refuse(value)

    render = parse


class Float(Elem):
    """A finite floating-point number; '' is None."""

    type_name = "float"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if type(value) is float and math.isfinite(value):
            return value
        if isinstance(value, str):
            if not value:
                return None
            if "_" in value:
                raise self.refuse(value)
        elif isinstance(value, bool):
            raise self.refuse(value)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.refuse(value) from None
        if math.isfinite(number):
            return number
        raise self.refuse(value)

    render = parse


class Decimal(Elem):
    """A finite ``decimal.Decimal``; '' is None.  Rendered as text, so that no digit is lost on the way."""

    type_name = "decimal"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if value == "":
            return None
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise self.refuse(value)
        try:
            number = value if isinstance(value, DecimalValue) else DecimalValue(str(value))
        except InvalidOperation:
            raise self.refuse(value) from None
        if not number.is_finite():
            raise self.refuse(value)
        return number

    def render(self, value: Any) -> Any:
        number = self.parse(value)
        return number if number is None else str(number)


class UUID(Elem):
    """A ``uuid.UUID``; '' is None.  Rendered as text."""

    type_name = "UUID"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if value == "" or isinstance(value, uuid.UUID):
            return value or None
        try:
            return uuid.UUID(value)
        except (TypeError, ValueError, AttributeError):
            raise self.refuse(value) from None

    def render(self, value: Any) -> Any:
        return str(value)


class _Formatted(Elem):
    """A date or time with a format of ``strftime``, or 'iso'.  ISO 8601 is understood whatever the format; '' is None."""

    __slots__ = ("format",)
    default_format = "iso"

    def __init__(self, name: str, *, format: str = "", default: Any = NO_DEFAULT) -> None:
        super().__init__(name, default=default)
        self.format = format or self.default_format

    def _read(self, value: Any) -> datetime:
        if not isinstance(value, str):
            raise self.refuse(value)
        if self.format not in _ISO_FORMATS:
            with suppress(ValueError):
                return datetime.strptime(value, self.format)
        with suppress(ValueError):
            return datetime.fromisoformat(value)  # twenty times as fast as strptime
        raise self.refuse(value)

    def render(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, date):
            raise self.refuse(value)
        if self.format == "iso" or (self.format == "%Y-%m-%d" and type(value) is date):
            return value.isoformat()
        return value.strftime(self.format)


class Date(_Formatted):
    """A ``datetime.date``; its format is '%Y-%m-%d' by default.  Text set by a service is rendered untouched."""

    type_name = "date"
    default_format = "%Y-%m-%d"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if value == "":
            return None
        read = value if isinstance(value, date) else self._read(value)
        return read.date() if isinstance(read, datetime) else read


class DateTime(_Formatted):
    """A ``datetime.datetime``; its format is 'iso' by default.  Text set by a service is rendered untouched."""

    type_name = "date and time"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if value == "":
            return None
        return value if isinstance(value, datetime) else self._read(value)


class UTC(Elem):
    """A time in UTC as text, without its '+00:00'."""

    type_name = "time in UTC"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        text = value.isoformat() if isinstance(value, date) else value
        if not isinstance(text, str):
            raise self.refuse(value)
        return text.removesuffix("+00:00")

    render = parse


class CSV(Elem):
    """A list, which is comma-separated text in messages; an item with a comma or a quote is quoted in it."""

    type_name = "comma-separated list"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, dict):
            raise self.refuse(value)
        text = _text(value)
        if '"' in text:
            return next(csv.reader([text]))
        return text.split(",") if text else []

    def render(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping) or not hasattr(value, "__iter__"):
            raise self.refuse(value)
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([_text(item) for item in value])
        return line.getvalue()


class List(Elem):
    """A list; any other value becomes the only item of one."""

    type_name = "list"
    __slots__ = ()

    def parse(self, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    def render(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return (
            [value]
            if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__")
            else list(value)
        )


class Dict(Elem):
    """A dictionary; '' is None.  With ``keys`` (names, '-optional' names or elements) it has exactly these.

    A key that is missing is ``default``; without one, that is an error for a required key and '' for an optional one.
    """

    type_name = "dictionary"
    __slots__ = ("keys",)

    def __init__(self, name: str, *keys: str | Elem, default: Any = NO_DEFAULT) -> None:
        super().__init__(name, default=default)
        self.keys = tuple(Opaque(key) if isinstance(key, str) else key for key in keys)

    def parse(self, value: Any) -> Any:
        return self._convert(value, "parse")

    def render(self, value: Any) -> Any:
        return self._convert(value, "render")

    def _convert(self, value: Any, verb: str) -> Any:
        if value == "":
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(value)
        if not self.keys:
            return value if isinstance(value, dict) else dict(value)
        result: dict[str, Any] = {}
        problems: list[Problem] = []
        for key in self.keys:
            try:
                result[key.name] = self._key(key, value, verb)
            except InvalidInput as error:
                problems += [
                    Problem(f"{self.name}.{problem.field}", problem.message) for problem in error.problems
                ]
        if problems:
            raise InvalidInput(problems)
        return result

    def _key(self, key: Elem, value: Mapping[str, Any], verb: str) -> Any:
        item = value.get(key.name, NO_DEFAULT)
        if item is not NO_DEFAULT:
            return item if item is None else getattr(key, verb)(item)
        for default in (key.default, self.default):
            if default is not NO_DEFAULT:
                return copy.copy(default)
        if key.required:
            raise InvalidInput.one(key.name, "Missing required key")
        return ""


class DictList(Dict):
    """A list of dictionaries, each like ``Dict``; a single dictionary becomes a list of one."""

    type_name = "list of dictionaries"
    __slots__ = ()

    def _convert(self, value: Any, verb: str) -> Any:
        if value == "":
            return None
        items = [value] if isinstance(value, Mapping) else value
        if isinstance(items, str | bytes) or not hasattr(items, "__iter__"):
            raise self.refuse(value)
        result: list[Any] = []
        problems: list[Problem] = []
        for index, item in enumerate(items):
            try:
                result.append(super()._convert(item, verb))
            except InvalidInput as error:
                prefix = f"{self.name}[{index}]"
                problems += [
                    Problem(prefix + p.field.removeprefix(self.name), p.message) for p in error.problems
                ]
        if problems:
            raise InvalidInput(problems)
        return result


Boolean = Bool
ForceType = Elem
Integer = Int
ListOfDicts = DictList
Nested = Opaque
Unicode = Text

_INT_SUFFIXES = ("_count", "_id", "_size", "_timeout")
_BOOL_PREFIXES = ("by_", "has_", "is_", "may_", "needs_", "should_")
_SECRET_NAMES = frozenset(
    ("password", "passwd", "secret", "secret_key", "token", "api_key", "apikey", "private_key")
)
_SECRET_SUFFIXES = ("_password", "_passwd", "_secret", "_token", "_api_key", "_private_key", "_secret_key")


def by_convention(name: str) -> Elem:
    """The element for a name without a type (facts sheet, section 3.7).

    ``by_*``, ``has_*``, ``is_*``, ``may_*``, ``needs_*`` and ``should_*`` are booleans, names of secrets are secrets,
    ``id``, ``*_count``, ``*_id``, ``*_size`` and ``*_timeout`` integers, and all others plain.
    """
    plain = name.removeprefix("-")
    if plain.startswith(_BOOL_PREFIXES):
        return Bool(name)
    if is_secret_name(plain):
        return Secret(name)
    if plain == "id" or plain.endswith(_INT_SUFFIXES):
        return Int(name)
    return Plain(name)


def is_secret_name(name: object) -> bool:
    """Is what goes by this name never to be logged?"""
    plain = name.lower().replace("-", "_") if isinstance(name, str) else ""
    return plain in _SECRET_NAMES or plain.endswith(_SECRET_SUFFIXES)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
