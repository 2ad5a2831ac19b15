"""The fields of a request: taken from its body and its query string, and checked as the table of endpoints says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from junctor.server.sso.endpoints.declaration import MAX_ITEMS, Endpoint, Field, Type
from junctor.server.sso.errors import invalid
from junctor.sql.errors import InvalidInput, Problem

BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
MAX_DIGITS: Final = 20
MAX_JSON: Final = 100_000  # characters of an item of a list, or of an object
MAX_DEPTH: Final = 20
MISSING: Final = "is required."
Reader = Callable[[Any, Field], Any]


class _Bad(ValueError):
    """What is wrong with a value; the message continues the name of the field."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What of an endpoint is the same for all of its requests, found out once."""

    endpoint: Endpoint
    wanted: tuple[tuple[Field, tuple[str, ...], Reader], ...]
    open_names: frozenset[str]
    with_choices: tuple[Field, ...]
    kept: frozenset[str]


_PLANS: Final[dict[int, Plan]] = {}


def plan_of(endpoint: Endpoint) -> Plan:
    """The plan of an endpoint, by its identity: to compare endpoints would cost more than to make a plan."""
    plan = _PLANS.get(id(endpoint))
    if plan is None:
        fields = endpoint.fields
        plan = _PLANS[id(endpoint)] = Plan(
            endpoint,  # kept, so that its identity is never another's
            tuple((field, field.names, _READ[field.type]) for field in fields),
            frozenset(name for field in fields if not field.is_secret for name in field.names),
            tuple(field for field in fields if field.choices),
            frozenset(output.name for output in endpoint.outputs if output.is_kept),
        )
    return plan


def parse(
    endpoint: Endpoint,
    body: Any,
    query: Mapping[str, Any],
    *,
    bearer: str,
    secrets: frozenset[str],
) -> dict[str, Any]:
    """The fields that were given, by their documented names; others are left out.

    ``bearer`` is the token of the header Authorization, for an endpoint that needs one and is given none.  ``secrets`` are the names
    that a query string must not have, unless the endpoint has another use for them.  Raises ``InvalidInput`` for what cannot be read
    or is missing, with all problems at once.
    """
    if not isinstance(body, Mapping):
        if body not in ("", b"", None):
            raise InvalidInput.one("", "The body must be a JSON object.")
        body = {}
    plan = plan_of(endpoint)
    if query and (refused := sorted(secrets.intersection(query) - plan.open_names)):
        raise InvalidInput(
            [
                Problem(name, "must not be in a URL, which ends up in logs: send it in the body or a header.")
                for name in refused
            ]
        )
    values: dict[str, Any] = {}
    problems = _read(plan, body, query, bearer, values)
    if problems:
        raise InvalidInput(problems)
    return values


def check_choices(endpoint: Endpoint, values: Mapping[str, Any]) -> None:
    """Raises ``ValidationError`` (E008002) for a text that is none of those that a field may have."""
    for field in plan_of(endpoint).with_choices:
        value = values.get(field.name)
        if value is not None and value not in field.choices:
            raise invalid(field.name, f"must be one of: {', '.join(field.choices)}.")


def _read(
    plan: Plan,
    body: Mapping[str, Any],
    query: Mapping[str, Any],
    bearer: str,
    values: dict[str, Any],
) -> list[Problem]:
    problems = []
    for field, names, read in plan.wanted:
        try:
            found, value = _find(field, names, body, query)
            if not found and bearer and field.name in ("ust", "current_ust"):
                found, value = True, bearer
            if not found:
                if field.is_required:
                    raise _Bad(MISSING)
                continue
            values[field.name] = None if value is None else read(value, field)
        except _Bad as error:
            problems.append(Problem(field.name, str(error)))
    return problems


def _find(
    field: Field, names: tuple[str, ...], body: Mapping[str, Any], query: Mapping[str, Any]
) -> tuple[bool, Any]:
    """Whether a field is given, and its value; null is as nothing for those that cannot be null."""
    if not query:
        for name in names:
            if name in body and (body[name] is not None or field.is_nullable):
                return True, body[name]
        return False, None
    for name in names:
        if name in body and name in query and body[name] != query[name]:
            raise _Bad("is in the body and in the URL, and they differ.")
        for source in (body, query):
            if name in source and (source[name] is not None or field.is_nullable):
                return True, source[name]
    return False, None


def _text(value: Any, field: Field) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _Bad("must be text.")
    if len(value) > field.max:
        raise _Bad(f"must not have more than {field.max} characters.")
    if "\x00" in value:
        raise _Bad("has a character that is not allowed.")
    return value


def _boolean(value: Any, _: Field) -> bool:
    if isinstance(value, str):
        value = BOOLEANS.get(value.lower())
    if not isinstance(value, bool):
        raise _Bad("must be true or false.")
    return value


def _integer(value: Any, field: Field) -> int:
    if isinstance(value, str):
        digits = value.strip()
        if not (digits.isascii() and digits.removeprefix("-").isdecimal() and len(digits) <= MAX_DIGITS):
            raise _Bad("must be a whole number.")
        value = int(digits)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Bad("must be a whole number.")
    if not field.min <= value <= field.max:
        raise _Bad(f"must be from {field.min} to {field.max}.")
    return value


def _time(value: Any, field: Field) -> datetime:
    """A time, in UTC unless it says otherwise."""
    text = _text(value, field)
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Bad("must be a time, such as 2027-01-31T12:00:00.") from None


def _list(value: Any) -> list[Any]:
    """A list; from a URL, one that is JSON, or one item."""
    if isinstance(value, str) and value.startswith("["):
        value = _json(value)
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_ITEMS:
        raise _Bad(f"must not have more than {MAX_ITEMS} items.")
    return items


def _texts(value: Any, field: Field) -> list[str]:
    items = _list(value)
    if len(items) > field.max or not all(isinstance(item, str) for item in items):
        raise _Bad(f"must be a list of up to {min(field.max, MAX_ITEMS)} texts.")
    return [_text(item, Field(name=field.name, help="")) for item in items]


def _objects(value: Any, _: Field) -> list[dict[str, Any]]:
    if isinstance(value, str) and value.startswith("{"):
        value = _json(value)
    items = _list(value)
    if not all(isinstance(item, dict) for item in items):
        raise _Bad("must be a list of objects.")
    return [_any(item) for item in items]


def _names_or_objects(value: Any, field: Field) -> list[Any]:
    items = _list(value)
    if all(isinstance(item, str) for item in items):
        return _texts(items, field)
    return _objects(items, field)


def _object(value: Any, _: Field) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, dict):
        raise _Bad("must be an object.")
    found: dict[str, Any] = _any(value)
    return found


def _any(value: Any, depth: int = 0) -> Any:
    """JSON as it is, if it is not too deep, and if all of its texts can be stored."""
    if depth > MAX_DEPTH:
        raise _Bad(f"must not be nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str) and ("\x00" in value or len(value) > MAX_JSON):
        raise _Bad(f"has a character that is not allowed, or a text of more than {MAX_JSON} characters.")
    if isinstance(value, dict):
        for name, item in value.items():
            _any(name, depth + 1)
            _any(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _any(item, depth + 1)
    return value


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _Bad("must be JSON.") from None


_READ: Final[Mapping[Type, Reader]] = {
    Type.TEXT: _text,
    Type.BOOLEAN: _boolean,
    Type.INTEGER: _integer,
    Type.TEXTS: _texts,
    Type.OBJECTS: _objects,
    Type.NAMES_OR_OBJECTS: _names_or_objects,
    Type.OBJECT: _object,
    Type.TIME: _time,
    Type.ANY: lambda value, _: _any(value),
}
