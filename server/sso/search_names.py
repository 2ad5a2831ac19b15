"""Names of users as searches compare them: without a difference between cases, or between one and another form of a letter.

A user's four names are stored once more, folded, each in a line of its own; an index has the pieces of each line (migration 0007).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from junctor.server.sso.protection import username_key

LINES: Final = ("display_name", "first_name", "middle_name", "last_name")
MAX_FOLDED: Final = 400  # characters of a name; folding makes some longer
SHORTEST: Final = 2  # characters
PIECE: Final = 3  # characters of the longest pieces


def folded(name: str) -> str:
    """A name as it is compared."""
    return username_key(name).replace("\n", " ").strip()[:MAX_FOLDED]


def search_names(names: Mapping[str, Any]) -> str:
    """What is stored of the names of a user."""
    return "\n".join(folded(names[line] or "") for line in LINES)


def grams(line: str, needle: str, *, is_exact: bool) -> list[str]:
    """What the index has of every user whose name in ``line`` is, or contains, the folded ``needle``; of others, too, for a long one."""
    letter = chr(ord("a") + LINES.index(line))
    if is_exact:
        return [f"{letter}={needle}"]
    size = min(PIECE, len(needle))
    return sorted({letter + needle[at : at + size] for at in range(len(needle) - size + 1)})
