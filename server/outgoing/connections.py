"""What services find connections of a type in: ``self.out.rest``, ``self.out.wsx``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import ClassVar, TypeVar

from junctor.sql.errors import ConnectionNotFound

Connection = TypeVar("Connection")


class Connections(Mapping[str, Connection]):
    """The outgoing connections of a type by name: a view, always current; ``what`` they are, in messages.

    Names that are identifiers are attributes as well, except those of the methods of a mapping.
    Raises ``ConnectionNotFound`` for unknown items and ``AttributeError`` for unknown attributes; both suggest
    names that are close.
    """

    what: ClassVar[str]

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections

    def __getitem__(self, name: str) -> Connection:
        if (found := self._connections.get(name)) is None:
            similar = difflib.get_close_matches(name, tuple(self._connections), n=3)
            raise ConnectionNotFound(self.what, name, similar)
        return found

    def __getattr__(self, name: str) -> Connection:
        if name.startswith("_"):  # asked for by copy, pickle and the like before there is anything to look in
            raise AttributeError(name)
        try:
            return self[name]
        except ConnectionNotFound as error:
            raise AttributeError(error.message) from None

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._connections))

    def __len__(self) -> int:
        return len(self._connections)
