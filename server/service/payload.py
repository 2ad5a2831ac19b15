"""``self.response.payload`` of a service that declares its output: filled attribute by attribute, or from an object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final

MISSING: Final = object()


class OutputPayload:
    """The declared elements as attributes; once items are appended or assigned (``payload[:] = rows``), a list of such.

    Values come from attributes, keys, dictionaries, objects, ORM rows, named tuples or dataclasses; they are read when
    they are assigned, so a database session may be closed afterwards.  What is not declared is left out.
    """

    __slots__ = ("_names", "_rows", "_values")
    _names: frozenset[str]
    _rows: list[dict[str, Any]] | None
    _values: dict[str, Any]

    def __init__(self, names: frozenset[str]) -> None:
        _set(self, "_names", names)
        _set(self, "_rows", None)
        _set(self, "_values", {})

    @classmethod
    def of(cls, names: frozenset[str], value: Any) -> OutputPayload:
        """The payload filled from ``value``: an object of any kind, or an iterable of such."""
        payload = cls(names)
        if isinstance(value, OutputPayload):
            value = content(value)
        if _is_iterable_of_rows(value):
            payload[:] = value
        else:
            payload._values.update(_fields(names, value))
        return payload

    def __setattr__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return self._values.get(name, "")
        raise AttributeError(
            f"{name!r} is not in the service's declared output: {', '.join(sorted(self._names))}."
        )

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key in self._names:
                return self._values.get(key, "")
            raise KeyError(key)
        return (self._rows or [])[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, str):
            self._values[key] = value
        else:
            rows = self._rows or []
            rows[key] = (
                [_fields(self._names, row) for row in value]
                if isinstance(key, slice)
                else _fields(self._names, value)
            )
            _set(self, "_rows", rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values if self._rows is None else self._rows)

    def __len__(self) -> int:
        return len(self._values if self._rows is None else self._rows)

    def __bool__(self) -> bool:
        return bool(self._rows or self._values)

    def append(self, row: Any) -> None:
        """Adds one item to the list that the payload now is."""
        self[len(self._rows or []) :] = (row,)

    def extend(self, rows: Iterable[Any]) -> None:
        """Adds items to the list that the payload now is."""
        self[len(self._rows or []) :] = rows

    def update(self, values: Mapping[str, Any]) -> None:
        """Sets several elements."""
        self._values.update(values)


_set: Final = object.__setattr__


def content(payload: OutputPayload) -> dict[str, Any] | list[dict[str, Any]]:
    """What was set: the values by element, or the list of them once there is one."""
    return payload._values if payload._rows is None else payload._rows


def _is_iterable_of_rows(value: Any) -> bool:
    if isinstance(value, list | set | frozenset):
        return True
    if isinstance(value, Mapping) or hasattr(value, "_asdict") or is_dataclass(value):
        return False
    return hasattr(value, "__iter__")


def _fields(names: frozenset[str], source: Any) -> dict[str, Any]:
    """The declared elements that ``source`` has."""
    get = _getter(source)
    return {name: value for name in names if (value := get(name, MISSING)) is not MISSING}


def _getter(source: Any) -> Callable[[str, Any], Any]:
    if isinstance(source, Mapping):
        return source.get
    if hasattr(
        source, "_asdict"
    ):  # a row or a named tuple: as attributes, ``count`` and ``index`` are methods
        values: dict[str, Any] = source._asdict()
        return values.get
    return lambda name, default: getattr(source, name, default)
