"""Which channel a URL path belongs to.

Paths without placeholders are looked up in a dictionary.  Patterns live in a tree with one level per path
segment, which is changed in place, so adding, replacing or removing a route never rebuilds anything and never
disturbs the others.  The tree only narrows the choice down; ``Pattern.match`` has the last word.

The routes that match are ordered as a scan over all of them would be: static paths first, then channels of
users before internal ones, then by channel name.  The first that takes the method wins.

Nothing here does I/O or yields.  A reader in another thread sees each route either as it was or as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

import msgspec

from junctor.sql.errors import AlreadyExists, InvalidInput, NotFound, Problem

Target = TypeVar("Target")

MAX_PATTERN_LENGTH = 500  # the length of the field of the channel

_NAME = re.compile(r"[\w $.\-|=~^/]+")
_PIECES = re.compile(r"(\{[^{}]*\})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled URL path pattern: its literal pieces and the names between them.

    There is always one literal more than there are names; literals may be empty.
    A name matches one or more characters, ``/`` among them only with ``match_slash``.
    """

    text: str
    literals: tuple[str, ...]
    names: tuple[str, ...]
    match_slash: bool

    @property
    def is_static(self) -> bool:
        """Whether the pattern has no names and so stands for one path only."""
        return not self.names

    def match(self, path: str) -> dict[str, str] | None:
        """The value of each name if the pattern covers the whole of ``path``, or None.

        Where a path can be divided in several ways, the first name takes as much as it can, then the second,
        and so on, as a greedy regular expression would.  Works from the right with one search per literal,
        never going back: the rightmost place of a literal leaves the most to all names before it.
        """
        literals, names = self.literals, self.names
        first, last = literals[0], literals[-1]
        if not names:
            return {} if path == first else None
        start, end = len(first), len(path) - len(last)
        if end <= start or not path.startswith(first) or not path.endswith(last):
            return None
        if len(names) == 1:
            value = path[start:end]
            return None if "/" in value and not self.match_slash else {names[0]: value}
        values = self._divide(path, start, end)
        if values is None or (not self.match_slash and any("/" in value for value in values)):
            return None
        return dict(zip(names, values, strict=True))

    def _divide(self, path: str, start: int, end: int) -> list[str] | None:
        """The values in ``path[start:end]``, which is what is between the outer literals, or None."""
        values = []
        for literal in self.literals[-2:0:-1]:
            place = path.rfind(literal, start + 1, end - 1)
            if place < 0:
                return None
            values.append(path[place + len(literal) : end])
            end = place
        values.append(path[start:end])
        values.reverse()
        return values


def compile_pattern(text: str, *, match_slash: bool = True) -> Pattern:
    """The pattern that ``text`` stands for: literal text with ``{name}`` placeholders.

    A name consists of letters, digits and underscores, blanks and ``$ . - | = ~ ^ /``.  Matching is
    case-sensitive and covers whole paths; a trailing slash counts.  Raises ``InvalidInput`` with all that is
    wrong, under the field ``url_path``.
    """
    pieces = _PIECES.split(text)
    literals, names = pieces[::2], [piece[1:-1] for piece in pieces[1::2]]
    problems = [*_problems_of_text(text, literals), *_problems_of_names(names)]
    if problems:
        raise InvalidInput(Problem("url_path", problem) for problem in problems)
    return Pattern(text, tuple(literals), tuple(names), match_slash)


def _problems_of_text(text: str, literals: list[str]) -> Iterator[str]:
    if not text.startswith("/"):
        yield "A URL path starts with '/'."
    if len(text) > MAX_PATTERN_LENGTH:
        yield f"A URL path has at most {MAX_PATTERN_LENGTH} characters; this one has {len(text)}."
    if _CONTROL.search(text):
        yield "A URL path contains no control characters."
    for literal in literals:
        if "{" in literal or "}" in literal:
            yield f"Each '{{' needs its '}}', and braces do not nest; see {literal[:40]!r}."
        if "?" in literal or "#" in literal:
            yield "A URL path has no query string and no fragment; leave out '?' and '#' and what follows."


def _problems_of_names(names: list[str]) -> Iterator[str]:
    for number, name in enumerate(names, 1):
        if not name.strip():
            yield f"Placeholder {number} has no name; write e.g. {{id}}."
        elif not _NAME.fullmatch(name):
            yield f"The name {{{name}}} may only have letters, digits, blanks and _ $ . - | = ~ ^ / in it."
    for name in dict.fromkeys(names):
        if name.strip() and names.count(name) > 1:
            yield f"The name {{{name}}} is there {names.count(name)} times; each must be different."


@dataclass(frozen=True, eq=False)
class Route(Generic[Target]):
    """What a router is given: requests for ``pattern`` by one of ``methods`` are for ``target``.

    ``id`` stays the same when a channel is edited.  ``name``, the channel's, and ``is_internal`` decide
    which of several matching routes wins.  No methods means that any will do.  Raises ``InvalidInput`` if
    the pattern is wrong.
    """

    id: Hashable
    pattern: str
    target: Target
    methods: tuple[str, ...] | frozenset[str] = ()
    name: str = ""
    is_internal: bool = False
    match_slash: bool = True
    compiled: Pattern = field(init=False, repr=False)
    allowed: frozenset[str] = field(init=False, repr=False)
    order: tuple[bool, bool, str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        compiled = compile_pattern(self.pattern, match_slash=self.match_slash)
        object.__setattr__(self, "compiled", compiled)
        object.__setattr__(self, "allowed", frozenset(method.upper() for method in self.methods))
        object.__setattr__(self, "order", (not compiled.is_static, self.is_internal, self.name, str(self.id)))

    def takes(self, method: str) -> bool:
        """Whether requests with ``method``, in upper case, are for this route."""
        return not self.allowed or method in self.allowed

    def overlaps(self, other: Route[Target]) -> bool:
        """Whether both stand for the same paths, but for the names, and share a method."""
        same = self.compiled.literals == other.compiled.literals
        return same and (not self.allowed or not other.allowed or not self.allowed.isdisjoint(other.allowed))


class Match(msgspec.Struct, Generic[Target]):
    """The route that a request is for, and the value of each placeholder in a new dictionary."""

    target: Target
    params: dict[str, str]
    route: Route[Target]


class NotAllowed(NamedTuple):
    """There are routes for the path, but none for the method; ``allowed`` is sorted, for the Allow header."""

    allowed: tuple[str, ...]


class Router(Generic[Target]):
    """Routes by path and method.

    Looking up a static path takes one dictionary access.  For patterns, the time grows with the segments of
    the path and the routes that agree with it in all segments without placeholders, not with all there are.
    """

    def __init__(self) -> None:
        self._routes: dict[Hashable, Route[Target]] = {}
        self._static: dict[str, tuple[Route[Target], ...]] = {}
        self._root: _Node[Target] = _Node()

    def __len__(self) -> int:
        return len(self._routes)

    def __contains__(self, route_id: object) -> bool:
        return route_id in self._routes

    def __iter__(self) -> Iterator[Route[Target]]:
        """All routes, in no particular order, as they are now."""
        return iter(tuple(self._routes.values()))

    def add(self, route: Route[Target]) -> None:
        """Add a route.  Raises ``AlreadyExists`` if there is one with its id."""
        if route.id in self._routes:
            raise AlreadyExists("Route", route.id)
        self._insert(route)
        self._routes[route.id] = route

    def remove(self, route_id: Hashable) -> Route[Target]:
        """Remove a route and return it.  Raises ``NotFound`` if there is none with this id."""
        if (route := self._routes.pop(route_id, None)) is None:
            raise NotFound("route", route_id)
        self._discard(route)
        return route

    def replace(self, route: Route[Target]) -> None:
        """Put a route in the place of the one with its id, or add it; at no time is there neither."""
        old = self._routes.get(route.id)
        if old is route:
            return
        self._insert(route, instead_of=old)
        self._routes[route.id] = route
        if old is not None:
            self._discard(old)

    def conflicts(self, route: Route[Target]) -> list[Route[Target]]:
        """The other routes that have the same pattern, whatever the names in it, and a method in common."""
        if route.compiled.is_static:
            same: Iterable[Route[Target]] = self._static.get(route.pattern, ())
        else:
            same = [other for steps in _steps_of_both(route.compiled) for other in self._at(steps)]
        return [other for other in same if other.id != route.id and other.overlaps(route)]

    def find(self, method: str, path: str) -> Match[Target] | NotAllowed | None:
        """Where a request goes: to a target, nowhere because of its method, or nowhere.

        ``method`` is in upper case; ``path`` has no query string, and its percent-encoding has been undone.
        """
        for route in self._static.get(path, ()):
            if not route.allowed or method in route.allowed:  # as route.takes, without the call
                return Match(route.target, {}, route)
        allowed: set[str] = set()
        for route in self._candidates(path):
            if route.takes(method):
                if (params := route.compiled.match(path)) is not None:
                    return Match(route.target, params, route)
            elif not route.allowed <= allowed and route.compiled.match(path) is not None:
                allowed |= route.allowed
        for route in self._static.get(path, ()):
            allowed |= route.allowed
        return NotAllowed(tuple(sorted(allowed))) if allowed else None

    def find_all(self, path: str) -> list[Match[Target]]:
        """Every route for the path, whatever its methods, the one that is asked first at the beginning."""
        found = [Match(route.target, {}, route) for route in self._static.get(path, ())]
        for route in self._candidates(path):
            if (params := route.compiled.match(path)) is not None:
                found.append(Match(route.target, params, route))
        return found

    def _at(self, steps: list[_Step]) -> tuple[Route[Target], ...]:
        node = self._root.descend(steps)
        return node.routes if node else ()

    def _candidates(self, path: str) -> Iterable[Route[Target]]:
        """The routes with placeholders that may match, in order."""
        nodes = self._root.leaves(path)
        if len(nodes) == 1:
            return nodes[0].routes
        return sorted((route for node in nodes for route in node.routes), key=_order) if nodes else ()

    def _insert(self, route: Route[Target], instead_of: Route[Target] | None = None) -> None:
        if route.compiled.is_static:
            self._static[route.pattern] = _sorted(self._static.get(route.pattern, ()), route, instead_of)
        else:
            node = self._root.descend(_steps(route.compiled), create=True)
            assert node is not None  # it has just been created
            node.routes = _sorted(node.routes, route, instead_of)

    def _discard(self, route: Route[Target]) -> None:
        if not route.compiled.is_static:
            self._root.discard(_steps(route.compiled), route)
        elif rest := tuple(other for other in self._static.get(route.pattern, ()) if other is not route):
            self._static[route.pattern] = rest
        else:
            self._static.pop(route.pattern, None)


def _order(route: Route[Target]) -> tuple[bool, bool, str, str]:
    return route.order


def _sorted(
    routes: tuple[Route[Target], ...], new: Route[Target], old: Route[Target] | None
) -> tuple[Route[Target], ...]:
    if not routes:
        return (new,)
    return tuple(sorted([*(route for route in routes if route is not old), new], key=_order))


class _Step(NamedTuple):
    """One level of the tree: a whole literal segment, or the literal text before the first name of a segment.

    ``spans``: what follows that text may go on over any number of segments.
    """

    literal: str
    is_exact: bool
    spans: bool


def _steps(pattern: Pattern) -> list[_Step]:
    """The way through the tree to the node of a pattern."""
    steps = []
    # No pattern has a NUL in it, so one can stand for a name here.
    for segment in "\0".join(pattern.literals).split("/")[1:]:
        before, name, _ = segment.partition("\0")
        steps.append(_Step(before, not name, bool(name) and pattern.match_slash))
    return steps


def _steps_of_both(pattern: Pattern) -> tuple[list[_Step], list[_Step]]:
    """The ways to the pattern with and without ``match_slash``."""
    return _steps(replace(pattern, match_slash=True)), _steps(replace(pattern, match_slash=False))


class _Node(Generic[Target]):
    """A place in the tree, reached by as many segments as it is deep, or more where names span segments."""

    __slots__ = ("counts", "exact", "lengths", "routes", "single", "span", "spans")

    def __init__(self, *, spans: bool = False) -> None:
        self.spans = spans
        self.exact: dict[str, _Node[Target]] = {}
        self.single: dict[str, _Node[Target]] = {}
        self.span: dict[str, _Node[Target]] = {}
        self.counts: dict[int, int] = {}  # how many keys of single and span there are of each length
        self.lengths: tuple[int, ...] = ()  # those lengths, shortest first
        self.routes: tuple[Route[Target], ...] = ()

    def children(self, step: _Step) -> dict[str, _Node[Target]]:
        """The children among which the one for ``step`` is."""
        if step.is_exact:
            return self.exact
        return self.span if step.spans else self.single

    def descend(self, steps: list[_Step], *, create: bool = False) -> _Node[Target] | None:
        """The node at the end of the steps, or None if there is none and it is not to be created."""
        node = self
        for step in steps:
            children = node.children(step)
            child = children.get(step.literal)
            if child is None:
                if not create:
                    return None
                child = children[step.literal] = _Node(spans=step.spans)
                node.count(step, 1)
            node = child
        return node

    def discard(self, steps: list[_Step], route: Route[Target]) -> None:
        """Take a route out of the node at the end of the steps, and the nodes out that are empty then."""
        way = []
        node = self
        for step in steps:
            way.append((node, step))
            node = node.children(step)[step.literal]
        node.routes = tuple(other for other in node.routes if other is not route)
        for parent, step in reversed(way):
            if node.routes or node.exact or node.lengths:
                return
            del parent.children(step)[step.literal]
            parent.count(step, -1)
            node = parent

    def count(self, step: _Step, change: int) -> None:
        """Note that a child for ``step`` is there now, or no more."""
        if step.is_exact:
            return
        length = len(step.literal)
        self.counts[length] = self.counts.get(length, 0) + change
        if not self.counts[length]:
            del self.counts[length]
        if len(self.counts) != len(self.lengths):
            self.lengths = tuple(sorted(self.counts))

    def leaves(self, path: str) -> list[_Node[Target]]:
        """The nodes whose routes may match ``path``: where it leads when its segments are taken one by one.

        All ways are followed at the same time and none twice, so the work is at most segments times nodes.
        """
        segments = path.split("/")
        depth, node = self._descend_exactly(segments)
        active = [node]
        for segment in segments[depth:]:
            following: list[_Node[Target]] = []
            for node in active:
                if node.spans:
                    following.append(node)
                if (child := node.exact.get(segment)) is not None:
                    following.append(child)
                if node.lengths:
                    node.enter_names(segment, following)
            if not following:
                return following
            active = list(dict.fromkeys(following)) if len(following) > 1 else following
        return [node for node in active if node.routes]

    def _descend_exactly(self, segments: list[str]) -> tuple[int, _Node[Target]]:
        """How many segments can be taken while there is but one way, and where that leads: the quick part."""
        node = self
        for depth in range(1, len(segments)):
            if node.lengths or node.spans or (child := node.exact.get(segments[depth])) is None:
                return depth, node
            node = child
        return len(segments), node

    def enter_names(self, segment: str, following: list[_Node[Target]]) -> None:
        """Append the children for a segment that has a name in it."""
        size = len(segment)
        for length in self.lengths:
            if length > size:
                return
            before = segment[:length]
            if (child := self.single.get(before)) is not None:
                following.append(child)
            if (child := self.span.get(before)) is not None:
                following.append(child)
