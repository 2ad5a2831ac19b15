"""Attributes as callers give and get them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from junctor.server.sso.errors import ValidationError, invalid, missing

MAX_NAME: Final = 200  # characters
MAX_VALUE: Final = 65_536  # bytes of JSON
MAX_ATTRIBUTES: Final = 1000  # of a user, or of a session, and in one call
MAX_SECONDS: Final = 100 * 366 * 86_400
_KEYS: Final = frozenset({"name", "value", "expiration", "encrypt", "user_id"})


@dataclass(frozen=True, slots=True)
class AttrEntity:
    """An attribute; times are in UTC, without a zone.  Without an ``expiration_time``, it stays until it is deleted."""

    name: str
    value: Any = field(repr=False)
    creation_time: datetime
    last_modified: datetime
    expiration_time: datetime | None
    is_encrypted: bool

    def to_dict(self, serialize_dt: bool = False) -> dict[str, Any]:
        """As a dictionary; times as ISO 8601 with ``serialize_dt``."""
        made: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        if serialize_dt:
            made |= {name: value.isoformat() for name, value in made.items() if isinstance(value, datetime)}
        return made


@dataclass(frozen=True, slots=True)
class Item:
    """An attribute to be written: ``value`` as JSON, ``seconds`` until it expires, None = never; ``user_id`` '' = whose else is meant."""

    name: str
    value: str = field(repr=False)
    seconds: float | None
    encrypt: bool
    user_id: str


def item_of(given: Mapping[str, Any], expiration: float | None, encrypt: bool) -> Item:
    """An item out of a dictionary of name, value, expiration, encrypt and user_id; the others say what is meant without the middle two.

    Raises ``ValidationError`` (E008002, E008003).
    """
    if not isinstance(given, Mapping):
        raise invalid("data", "must be a list of objects with name and value.")
    if unknown := sorted(str(key) for key in given if key not in _KEYS):
        raise invalid("data", f"may not have {', '.join(unknown)[:MAX_NAME]}.")
    if "value" not in given:
        raise missing("value")
    is_encrypted, user_id = given.get("encrypt"), given.get("user_id") or ""
    if is_encrypted is None:
        is_encrypted = encrypt
    if not isinstance(is_encrypted, bool):
        raise invalid("encrypt", "must be true or false.")
    if not isinstance(user_id, str):
        raise invalid("user_id", "must be text.")
    seconds = given.get("expiration")
    return Item(
        name_of(given.get("name")),
        _json(given["value"]),
        seconds_of(expiration if seconds is None else seconds),
        is_encrypted,
        user_id,
    )


def name_of(given: Any) -> str:
    """A name that an attribute can have.  Raises ``ValidationError``."""
    if given is None or given == "":
        raise missing("name")
    if not isinstance(given, str) or len(given) > MAX_NAME or not given.isprintable():
        raise invalid("name", f"must be printable text of {MAX_NAME} characters at the most.")
    return given


def names_of(given: Any) -> list[str]:
    """Names, each once.  Raises ``ValidationError``."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise invalid("data", "must be a list of names.")
    names = list(dict.fromkeys(name_of(name) for name in given))
    few(names)
    return names


def seconds_of(given: Any) -> float | None:
    """A time from now.  Raises ``ValidationError``."""
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given <= MAX_SECONDS:
        raise invalid("expiration", "must be a number of seconds from now, greater than 0.")
    return float(given)


def expiries_of(given: Any, expiration: float | None) -> list[tuple[str, str, float | None]]:
    """User ids, names and seconds out of a list of dictionaries with name, expiration and user_id.  Raises ``ValidationError``."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise invalid("data", "must be a list of objects with name and expiration.")
    items = list(given)
    few(items)
    found = []
    for item in items:
        if not isinstance(item, Mapping):
            raise invalid("data", "must be a list of objects with name and expiration.")
        user_id, seconds = item.get("user_id") or "", item.get("expiration", expiration)
        if not isinstance(user_id, str):
            raise invalid("user_id", "must be text.")
        found.append((user_id, name_of(item.get("name")), seconds_of(seconds)))
    return found


def items_of(given: Any, expiration: float | None, encrypt: bool) -> list[Item]:
    """The items in a list of dictionaries.  Raises ``ValidationError``."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise invalid("data", "must be a list of objects with name and value.")
    items = list(given)
    few(items)
    return [item_of(item, expiration, encrypt) for item in items]


def few(items: list[Any]) -> None:
    """Raises ``ValidationError`` if there are too many."""
    if len(items) > MAX_ATTRIBUTES:
        raise too_many()


def too_many() -> ValidationError:
    """The refusal of more attributes than there can be."""
    return invalid("data", f"may be {MAX_ATTRIBUTES} attributes at the most.")


def _json(value: Any) -> str:
    try:
        encoded = orjson.dumps(value)
    except (orjson.JSONEncodeError, RecursionError):  # its message has parts of the value
        raise invalid("value", "must be what JSON can have.") from None
    if len(encoded) > MAX_VALUE:
        raise invalid("value", f"may have {MAX_VALUE} bytes of JSON at the most.")
    return encoded.decode()
