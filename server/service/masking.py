"""Messages as they may be logged: without the values of secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junctor.server.service.types import is_secret_name

MASK = "******"
MAX_DEPTH = 20
MAX_TEXT = 2_000
MAX_ITEMS = 100


def masked(value: Any, hidden: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """A copy of ``value`` in which the values of keys that name secrets, or are in ``hidden``, are '******'.

    It is bounded: 20 levels, 100 items a level, 2,000 characters a text.
    """
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {
            key: MASK if key in hidden or is_secret_name(key) else masked(item, hidden, depth + 1)
            for key, item in pairs
        }
    if isinstance(value, list | tuple | set):
        return [masked(item, hidden, depth + 1) for item in list(value)[:MAX_ITEMS]]
    if isinstance(value, str | bytes) and len(value) > MAX_TEXT:
        return value[:MAX_TEXT]
    return value
