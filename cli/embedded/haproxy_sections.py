"""HAProxy's configuration as sections of lines, each of which knows where it comes from; and how an administrator's come into ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from junctor.sql.errors import EnvironmentProblem

SECTIONS: Final = frozenset(
    """
    acme backend cache crt-store defaults fcgi-app frontend global http-errors listen log-forward log-profile mailers peers program
    resolvers ring traces userlist
    """.split()  # noqa: SIM905 - a list of words is read more easily than one of strings
)
UNNAMED: Final = frozenset({"defaults", "global"})
# What HAProxy takes once in a section: a line of the administrator's takes the place of ours.
SINGLE: Final = frozenset(
    """
    balance default_backend gid hard-stop-after http-reuse log-format maxconn monitor-uri mworker-max-reloads retries retry-on uid
    unique-id-format
    """.split()  # noqa: SIM905 - see above
)
ROUTING: Final = "use_backend"
MAX_SIZE: Final = 1_000_000  # characters
PLACE: Final = re.compile(r"\[(?P<file>[^\[\]]+):(?P<line>\d+)\]")
REPORT: Final = re.compile(r"\[(?P<level>[A-Z]+)\]\s+\(\d+\) : (?:config : )?(?:parsing )?(?P<text>.*)")
LAST_WORDS: Final = ("Error(s) found in configuration file", "Fatal errors found in configuration")
MAX_REPORTED: Final = 20  # errors


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a configuration; ``source`` is the file that it comes from, '' = ours, and ``number`` its number there."""

    text: str
    source: str = ""
    number: int = 0

    @property
    def words(self) -> list[str]:
        """The words of the line, none if it is blank or a comment; quotes are left as they are."""
        return self.text.partition("#")[0].split()


@dataclass(slots=True)
class Section:
    """A section: its header, and its lines."""

    header: Line
    lines: list[Line] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, ...]:
        """What two parts of one section have in common: its kind and its name."""
        kind, *rest = self.header.words
        return (kind, *rest[:1])


def parse(text: str, source: str = "") -> list[Section]:
    """The sections in ``text``, which comes from the file ``source``.  Comments before a section belong to the one before.

    Raises ``EnvironmentProblem`` for what stands in no section, and for what is no configuration at all.
    """
    if len(text) > MAX_SIZE or "\0" in text:
        raise EnvironmentProblem(
            f"{source} is not a configuration of HAProxy: it has NUL or over {MAX_SIZE} characters."
        )
    found: list[Section] = []
    for number, content in enumerate(
        text.removesuffix("\n").split("\n"), 1
    ):  # no other character ends a line for HAProxy
        line = Line(content.removesuffix("\r"), source, number if source else 0)
        words = line.words
        if words and words[0] in SECTIONS:
            found.append(Section(line))
        elif found:
            found[-1].lines.append(line)
        elif words:
            raise EnvironmentProblem(
                f"{source}, line {number}: {content.strip()!r} is in no section. Write it below 'global', 'defaults', "
                "'frontend front_http_plain' or another."
            )
    return found


def merge(ours: Iterable[Section], theirs: Iterable[Section]) -> list[Section]:
    """``ours`` with the lines of ``theirs``: in the section of the same name if there is one, in one of their own otherwise.

    In a section of ours, their lines come last, but before our choice of a backend, so that theirs is first; a line that HAProxy
    takes only once replaces ours.
    """
    merged = [Section(section.header, list(section.lines)) for section in ours]
    known = {section.key: section for section in merged}
    for section in theirs:
        target = known.get(section.key)
        if target is None:
            merged.append(section)
            continue
        taken = {key for line in section.lines if (key := _single(line))}
        target.lines = [line for line in target.lines if line.source or _single(line) not in taken]
        at = next(
            (n for n, line in enumerate(target.lines) if not line.source and line.words[:1] == [ROUTING]),
            len(target.lines),
        )
        target.lines[at:at] = [Line(f"    # From {section.header.source}:"), *section.lines]
    return merged


def flatten(sections: Iterable[Section]) -> Iterator[Line]:
    """All lines of a configuration in their order."""
    for section in sections:
        yield section.header
        yield from section.lines


def explain(report: str, lines: Sequence[Line], candidate: str) -> str:
    """What HAProxy has against the file ``candidate``, made of ``lines``: the errors alone, with places that their writers know.

    ``report`` is what HAProxy has printed.
    """
    told = []
    for line in report.splitlines():
        found = REPORT.match(line)
        if found is None or found["level"] != "ALERT" or found["text"].startswith(LAST_WORDS):
            continue
        told.append(PLACE.sub(lambda place: _place(place, lines, candidate), found["text"]))
    if len(told) > MAX_REPORTED:
        told[MAX_REPORTED:] = [f"... and {len(told) - MAX_REPORTED} more"]
    return "\n".join(f"  {text}" for text in told or [report.strip() or "it does not say why"])


def _place(place: re.Match[str], lines: Sequence[Line], candidate: str) -> str:
    number = int(place["line"])
    if place["file"] != candidate or not 0 < number <= len(lines):
        return place[0]
    line = lines[number - 1]
    where = f"{line.source}, line {line.number}" if line.source else f"{candidate}, line {number}"
    return f"{where} ({line.text.strip()})"


def _single(line: Line) -> str:
    """What the line sets, if it is something that can be set only once; '' otherwise."""
    words = line.words
    if not words:
        return ""
    if words[0] == "timeout":
        return " ".join(words[:2])
    return words[0] if words[0] in SINGLE else ""
