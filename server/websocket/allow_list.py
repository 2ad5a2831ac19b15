"""Which services the clients of a channel may name."""

from __future__ import annotations

import re
from collections.abc import Iterable


class AllowList:
    """Names, in which ``*`` stands for any characters."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(name for name in names if name)
        wildcards = (name for name in self.names if "*" in name)
        self._patterns = tuple(re.compile(".*".join(map(re.escape, name.split("*")))) for name in wildcards)

    def __bool__(self) -> bool:
        return bool(self.names)

    def has(self, name: str) -> bool:
        """Whether the name itself is listed."""
        return name in self.names

    def matches(self, name: str) -> bool:
        """Whether the name is listed, or a name with a wildcard is that stands for it."""
        return name in self.names or any(pattern.fullmatch(name) for pattern in self._patterns)
