"""The URL router, against the linear scan that it stands for."""

import re
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from junctor.server.channels.router import Match, NotAllowed, Route, Router, compile_pattern
from junctor.sql.errors import AlreadyExists, InvalidInput, NotFound

METHODS = ("GET", "POST", "PUT")


def router_of(*routes: Route[str]) -> Router[str]:
    router: Router[str] = Router()
    for route in routes:
        router.add(route)
    return router


def route(name: str, pattern: str, *methods: str, **options: object) -> Route[str]:
    return Route(name, pattern, name, methods, name=name, **options)  # type: ignore[arg-type]


def target(router: Router[str], path: str, method: str = "GET") -> str | None:
    found = router.find(method, path)
    return found.target if isinstance(found, Match) else None


def params(pattern: str, path: str, **options: bool) -> dict[str, str] | None:
    return compile_pattern(pattern, **options).match(path)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", {}),
        ("/orders", "/orders", {}),
        ("/orders", "/orders/", None),
        ("/orders/", "/orders", None),
        ("/orders", "/Orders", None),
        ("/orders/{id}", "/orders/1", {"id": "1"}),
        ("/orders/{id}", "/orders/", None),
        ("/orders/{id}", "/orders", None),
        ("/orders/{id}", "/x/orders/1", None),
        ("/orders/{id}/lines", "/orders/1/lines", {"id": "1"}),
        ("/orders/{id}/lines", "/orders//lines", None),
        ("/orders/{id}/lines", "/orders/1/lines/2", None),
        ("/a-{x}.json", "/a-1.json", {"x": "1"}),
        ("/a-{x}.json", "/a-.json", None),
        ("/{a}.{b}", "/x.y.z", {"a": "x.y", "b": "z"}),
        ("/{a}{b}", "/xyz", {"a": "xy", "b": "z"}),
        ("/{a}{b}", "/x", None),
        ("/users/{e mail}", "/users/joe@example.com", {"e mail": "joe@example.com"}),
        ("/t/{$.x-y|z=~^}", "/t/1", {"$.x-y|z=~^": "1"}),
        ("/t/{time}", "/t/12:30,x;y", {"time": "12:30,x;y"}),
        ("/t/{żółw}", "/t/ł\u0141", {"żółw": "ł\u0141"}),
        ("/t/{a/b}", "/t/1", {"a/b": "1"}),
        ("/t/{x}", "/t/\n", {"x": "\n"}),
    ],
)
def test_a_pattern_covers_whole_paths(pattern, path, expected):
    assert params(pattern, path) == expected
    assert params(pattern, path, match_slash=False) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "with_slash"),
    [
        ("/files/{path}", "/files/a/b", {"path": "a/b"}),
        ("/files/{path}", "/files//", {"path": "/"}),
        ("/files/{path}/raw", "/files/a/b/raw", {"path": "a/b"}),
        ("/a-{x}.json", "/a-1/2.json", {"x": "1/2"}),
        ("/{a}/b/{c}", "/1/b/2/b/3", {"a": "1/b/2", "c": "3"}),
    ],
)
def test_a_name_covers_slashes_only_if_it_may(pattern, path, with_slash):
    assert params(pattern, path) == with_slash
    assert params(pattern, path, match_slash=False) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("orders", "starts with '/'"),
        ("", "starts with '/'"),
        ("{id}", "starts with '/'"),
        ("/a/{id", "needs its"),
        ("/a/id}", "needs its"),
        ("/a/{{id}}", "needs its"),
        ("/a/{}", "has no name"),
        ("/a/{ }", "has no name"),
        ("/a/{i@d}", "letters, digits"),
        ("/a/{id}/{id}", "there 2 times"),
        ("/a?b={c}", "query string"),
        ("/a#b", "fragment"),
        ("/a\n", "control characters"),
        ("/a\0{b}", "control characters"),
        ("/" + 500 * "a", "at most 500"),
    ],
)
def test_a_wrong_pattern_is_refused_with_the_reason(pattern, reason):
    with pytest.raises(InvalidInput, match=reason) as error:
        compile_pattern(pattern)
    assert {problem.field for problem in error.value.problems} == {"url_path"}


def test_all_problems_of_a_pattern_are_reported_at_once():
    with pytest.raises(InvalidInput) as error:
        compile_pattern("a/{}/{x}/{x}")
    assert len(error.value.problems) == 3


# Which route wins


def test_a_static_path_wins_over_a_pattern_whatever_the_names():
    router = router_of(route("a", "/orders/{id}"), route("z", "/orders/new"))
    assert target(router, "/orders/new") == "z"
    assert target(router, "/orders/1") == "a"


def test_the_first_name_in_the_alphabet_wins_among_patterns():
    router = router_of(route("c", "/{x}/b"), route("b", "/a/{x}"), route("a", "/{x}"))
    assert target(router, "/a/b") == "a"
    router.remove("a")
    assert target(router, "/a/b") == "b"


def test_channels_of_users_win_over_internal_ones():
    router = router_of(route("a", "/zato/{x}", is_internal=True), route("b", "/{x}"))
    assert target(router, "/zato/1") == "b"


def test_a_path_may_have_a_channel_for_each_method():
    router = router_of(route("read", "/x", "GET"), route("write", "/x", "POST", "PUT"))
    assert [target(router, "/x", method) for method in METHODS] == ["read", "write", "write"]


def test_a_channel_without_methods_takes_all():
    assert target(router_of(route("a", "/x")), "/x", "PROPFIND") == "a"


def test_methods_are_compared_in_upper_case():
    assert target(router_of(route("a", "/x", "get")), "/x") == "a"


def test_another_method_falls_through_to_a_channel_that_takes_it():
    router = router_of(route("a", "/x/y", "GET"), route("b", "/x/{z}", "POST"))
    assert target(router, "/x/y", "POST") == "b"


def test_the_methods_of_all_channels_of_the_path_are_named_if_none_takes_it():
    router = router_of(
        route("a", "/x/y", "PUT"), route("b", "/x/{z}", "GET", "POST"), route("c", "/y", "DELETE")
    )
    assert router.find("PATCH", "/x/y") == NotAllowed(("GET", "POST", "PUT"))


def test_there_is_nothing_for_an_unknown_path():
    router = router_of(route("a", "/x/{y}", "GET"), route("b", "/x"))
    for path in ("/y", "/x/", "", "x", "x/1", "//x", "/y/1", "/X/1"):
        assert router.find("GET", path) is None


def test_the_match_has_the_values_and_the_route():
    [only] = routes = [route("a", "/x/{y}/{z}")]
    found = router_of(*routes).find("GET", "/x/1/2")
    assert found == Match("a", {"y": "1", "z": "2"}, only)


def test_the_values_belong_to_the_caller():
    router = router_of(route("a", "/x"))
    first = router.find("GET", "/x")
    assert isinstance(first, Match)
    first.params["spoiled"] = "1"
    second = router.find("GET", "/x")
    assert isinstance(second, Match)
    assert second.params == {}


def test_names_of_the_same_path_may_differ_between_channels():
    router = router_of(route("a", "/x/{id}", "GET"), route("b", "/x/{number}", "POST"))
    assert [found.params for found in router.find_all("/x/1")] == [{"id": "1"}, {"number": "1"}]


def test_all_channels_of_a_path_are_listed_in_order():
    router = router_of(route("z", "/a/b", "GET"), route("m", "/a/{x}"), route("c", "/{x}", is_internal=True))
    assert [found.target for found in router.find_all("/a/b")] == ["z", "m", "c"]


# Changes


def test_an_id_is_taken_once():
    router = router_of(route("a", "/x"))
    with pytest.raises(AlreadyExists):
        router.add(route("a", "/y"))
    assert target(router, "/y") is None


def test_what_is_not_there_cannot_be_removed():
    with pytest.raises(NotFound):
        router_of().remove("a")


@pytest.mark.parametrize("pattern", ["/x", "/x/{y}"])
def test_removing_a_route_leaves_the_others_of_its_path(pattern):
    router = router_of(route("a", pattern, "GET"), route("b", pattern, "POST"))
    assert router.remove("a").id == "a"
    path = pattern.replace("{y}", "1")
    assert router.find("GET", path) == NotAllowed(("POST",))
    assert target(router, path, "POST") == "b"


@pytest.mark.parametrize("new", ["/x/{y}", "/x/{z}", "/y", "/x/{y}/{z}", "/{x}", "/x/a-{y}"])
@pytest.mark.parametrize("old", ["/x/{y}", "/x", "/{y}/x"])
def test_a_replaced_route_is_found_at_its_new_place_only(old, new):
    router = router_of(route("a", old), route("b", "/x/other/{y}"))
    path = new.replace("{", "").replace("}", "")
    router.replace(route("a", new))
    assert len(router) == 2
    assert target(router, path) == "a"
    assert [found.id for found in router] == ["a", "b"]
    router.remove("a")
    assert target(router, path) is None
    assert target(router, "/x/other/1") == "b"


def test_replacing_a_route_by_itself_changes_nothing():
    mine = route("a", "/x/{y}")
    router = router_of(mine)
    router.replace(mine)
    assert target(router, "/x/1") == "a"


def test_replacing_adds_what_is_not_there():
    router: Router[str] = Router()
    router.replace(route("a", "/x"))
    assert target(router, "/x") == "a"
    assert "a" in router


def test_a_pattern_that_is_wrong_leaves_the_router_as_it_was():
    router = router_of(route("a", "/x/{y}"))
    with pytest.raises(InvalidInput):
        router.replace(route("a", "/x/{"))
    assert target(router, "/x/1") == "a"


def test_same_patterns_with_a_method_in_common_conflict():
    router = router_of(
        route("a", "/x/{y}", "GET"), route("b", "/x/{z}", "POST", match_slash=False), route("c", "/x")
    )

    def conflicts(*args: str) -> list[str]:
        return [other.name for other in router.conflicts(route(*args))]

    assert conflicts("new", "/x/{id}") == ["a", "b"]
    assert conflicts("new", "/x/{id}", "POST") == ["b"]
    assert conflicts("new", "/x/{id}", "PUT") == []
    assert conflicts("new", "/x", "PUT") == ["c"]
    assert conflicts("new", "/x/{id}.json") == []
    assert conflicts("new", "/other/{id}") == []
    assert conflicts("c", "/x") == []


# Hostile input


@pytest.mark.parametrize("match_slash", [True, False])
def test_a_path_made_for_backtracking_takes_no_time(match_slash):
    # With a backtracking engine this pattern and path take longer than the age of the universe.
    pattern = compile_pattern(
        "/" + "".join(f"{{n{number}}}a" for number in range(30)) + "b", match_slash=match_slash
    )
    assert pattern.match("/" + 8000 * "a") is None
    assert pattern.match("/" + 8000 * "a" + "b") is not None


def test_a_path_of_slashes_only_is_looked_up_once_for_each():
    router = router_of(route("deep", "".join(f"/{{n{number}}}" for number in range(30))))
    router.add(route("deeper", "".join(f"/{{n{number}}}/x" for number in range(30))))
    assert target(router, 4000 * "/x") == "deep"
    assert router.find("GET", 4000 * "/") is not None


# The same as a scan over all


@dataclass
class Scan:
    """What the router stands for: every route is tried in order with a regular expression."""

    routes: list[Route[str]]

    def find(self, method: str, path: str) -> tuple[str, dict[str, str]] | tuple[str, ...] | None:
        allowed: set[str] = set()
        for candidate in sorted(
            self.routes, key=lambda item: ("{" in item.pattern, item.is_internal, item.name)
        ):
            if (values := self.match(candidate, path)) is None:
                continue
            if not candidate.methods or method in candidate.methods:
                return candidate.target, values
            allowed.update(candidate.methods)
        return tuple(sorted(allowed)) or None

    @staticmethod
    def match(candidate: Route[str], path: str) -> dict[str, str] | None:
        names = re.findall(r"\{(.*?)\}", candidate.pattern)
        literals = re.split(r"\{.*?\}", candidate.pattern)
        group = "(.+)" if candidate.match_slash else "([^/]+)"
        found = re.fullmatch(group.join(map(re.escape, literals)), path, re.DOTALL)
        return dict(zip(names, found.groups(), strict=True)) if found else None


# Few letters, so that things meet.
literal = st.text("ab.-", max_size=2)
segment = st.lists(st.one_of(literal, st.just("{}")), min_size=1, max_size=4).map("".join)


def named(shape: str) -> str:
    parts = shape.split("{}")
    return parts[0] + "".join(f"{{n{number}}}{part}" for number, part in enumerate(parts[1:]))


patterns = st.lists(segment, min_size=1, max_size=4).map(lambda parts: named("/" + "/".join(parts)))
paths = st.lists(st.text("ab.-", max_size=4), min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))
routes = st.builds(
    lambda name, pattern, methods, internal, slash: Route(
        name, pattern, name, methods, name=name, is_internal=internal, match_slash=slash
    ),
    st.sampled_from([f"c{number}" for number in range(12)]),
    patterns,
    st.frozensets(st.sampled_from(METHODS), max_size=2),
    st.booleans(),
    st.booleans(),
)


def seen(found: Match[str] | NotAllowed | None) -> object:
    return (found.target, found.params) if isinstance(found, Match) else found and found.allowed


@settings(max_examples=300, deadline=None)
@example([Route("c1", "/{n0}a{n1}", "c1", name="c1")], ["/aaa"])
@given(st.lists(routes, max_size=12, unique_by=lambda item: item.id), st.lists(paths, min_size=1, max_size=8))
def test_the_router_finds_what_a_scan_over_all_routes_finds(given_routes, given_paths):
    router, scan = router_of(*given_routes), Scan(given_routes)
    for path in given_paths:
        for method in METHODS:
            assert seen(router.find(method, path)) == scan.find(method, path)


class Changes(RuleBasedStateMachine):
    """Routes come, change and go; at each step the router finds what a scan over those of the moment finds."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.router: Router[str] = Router()
        self.model: dict[object, Route[str]] = {}

    @rule(target=ids, new=routes)
    def put(self, new):
        self.router.replace(new)
        self.model[new.id] = new
        return new.id

    @rule(route_id=ids)
    def remove(self, route_id):
        if self.model.pop(route_id, None):
            self.router.remove(route_id)

    @rule(path=paths, method=st.sampled_from(METHODS))
    def look_up(self, path, method):
        assert seen(self.router.find(method, path)) == Scan(list(self.model.values())).find(method, path)

    @invariant()
    def has_what_it_was_given(self):
        assert {item.id for item in self.router} == set(self.model)

    def teardown(self):
        for route_id in self.model:
            self.router.remove(route_id)
        root = self.router._root  # nothing may be left behind
        left = [root.exact, root.single, root.span, root.lengths, self.router._static]
        assert not any(left)


Changes.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_changes_in_place_leave_what_a_scan_finds = Changes.TestCase
