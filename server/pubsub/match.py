"""Which topics an endpoint may publish to and subscribe to: the lines of its topic patterns (facts sheet, section 4.2).

A line is ``pub=PATTERN`` or ``sub=PATTERN``.  In a pattern, ``*`` is any run of characters without a slash, ``**`` any run at all,
both of them also the empty one; everything else is itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PUBLISH: Final = "pub="
SUBSCRIBE: Final = "sub="
MAX_REMEMBERED = 1_000  # topics whose line is remembered, of each endpoint and each direction
_UNKNOWN: Final = object()


class Patterns:
    """The topic patterns of one endpoint; the first line that matches a topic decides.

    ``ignored`` has the lines that are neither of the two forms, for whoever warns about them.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        kept = [line.strip() for line in lines if line.strip()]
        self._publish = _Matcher([line for line in kept if line.startswith(PUBLISH)])
        self._subscribe = _Matcher([line for line in kept if line.startswith(SUBSCRIBE)])
        self.ignored = tuple(line for line in kept if not line.startswith((PUBLISH, SUBSCRIBE)))

    def publish(self, topic: str) -> str | None:
        """The line that lets the endpoint publish to this topic, e.g. ``pub=/customer/*``; None when there is none."""
        return self._publish.find(topic)

    def subscribe(self, topic: str) -> str | None:
        """The line that lets the endpoint subscribe to this topic; None when there is none."""
        return self._subscribe.find(topic)


class _Matcher:
    """Finds the first of many lines in one pass over a topic, in time linear in its length whatever the patterns are.

    That is a non-deterministic automaton whose states are the bits of one integer: a state for each place between two literal
    characters of each pattern, all patterns side by side.  Regular expressions would go back and forth: a topic of 200 characters, which
    clients choose, can keep a pattern with some stars busy for minutes.
    """

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._remembered: dict[str, str | None] = {}
        self._starts = self._ends = 0  # the first and the last state of each pattern
        self._stays = self._stays_but_for_slash = 0  # states at which a ``**`` or a ``*`` is
        self._advances: dict[str, int] = {}  # the states that a character leads out of, to the next one
        self._line_of: dict[int, str] = {}  # by the number of a last state
        bit = 0
        for line in lines:
            bit = self._add(line, bit)

    def find(self, topic: str) -> str | None:
        """The first line that matches the whole topic."""
        found = self._remembered.get(topic, _UNKNOWN)
        if found is _UNKNOWN:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[topic] = self._search(topic)
        assert found is None or isinstance(found, str)
        return found

    def _add(self, line: str, bit: int) -> int:
        """Adds the states of a line from this bit on; returns the bit after them."""
        pattern = line[len(PUBLISH) :].strip()
        self._starts |= 1 << bit
        position = 0
        while position < len(pattern):
            if pattern[position] != "*":
                self._advances[pattern[position]] = self._advances.get(pattern[position], 0) | 1 << bit
                position, bit = position + 1, bit + 1
                continue
            stars = len(pattern) - position - len(pattern[position:].lstrip("*"))
            if stars > 1:
                self._stays |= 1 << bit
            self._stays_but_for_slash |= 1 << bit
            position += stars
        self._ends |= 1 << bit
        self._line_of[bit] = line
        return bit + 1

    def _search(self, topic: str) -> str | None:
        states = self._starts
        for character in topic:
            stay = self._stays if character == "/" else self._stays_but_for_slash
            states = (states & self._advances.get(character, 0)) << 1 | states & stay
            if not states:
                return None
        ended = states & self._ends
        return self._line_of[(ended & -ended).bit_length() - 1] if ended else None
