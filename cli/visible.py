"""Text as it may be shown on a terminal."""

from __future__ import annotations

import re

# A terminal obeys escape sequences, whoever wrote them: an object's name must not be able to repaint the screen.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: object) -> str:
    """``text`` with control characters, other than tabs and line ends, written as escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
