"""One object as it is read from the object database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Config(Mapping[str, Any]):
    """The fields of one object, read-only, by name.

    Beside the declared fields there are ``id``, ``version``, ``is_internal``, ``owner`` and, for each reference field,
    the id of what it refers to as ``<field>_id``.  Secrets are ``Secret`` objects.
    Rows of one type share the index of their fields, which keeps 10,000 of them small.
    """

    __slots__ = ("_index", "_row", "kind")

    def __init__(self, kind: str, index: Mapping[str, int], row: Sequence[Any]) -> None:
        self.kind = kind
        self._index = index
        self._row = row

    @property
    def id(self) -> int:
        """The key of the object's row, the same for its whole life."""
        found: int = self["id"]
        return found

    @property
    def name(self) -> str:
        """The object's name."""
        found: str = self["name"]
        return found

    def __getitem__(self, field: str) -> Any:
        return self._row[self._index[field]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def replaced(self, field: str, value: Any) -> Config:
        """The same object with another value in one field."""
        row = list(self._row)
        row[self._index[field]] = value
        return Config(self.kind, self._index, tuple(row))

    def __repr__(self) -> str:
        return f"Config({self.kind} {self.name!r}, version {self['version']})"
