"""Topic patterns: what the lines mean, and that the automaton agrees with the plainest definition of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.pubsub import match
from junctor.server.pubsub.match import Patterns

SMALL = st.text("ab/", max_size=8)
PATTERN = st.text("ab/*", max_size=8)


def matches(pattern: str, topic: str) -> bool:
    """The definition: what a star stands for is tried out, one length after the other."""
    if not pattern:
        return not topic
    if pattern[0] != "*":
        return topic[:1] == pattern[0] and matches(pattern[1:], topic[1:])
    rest = pattern.lstrip("*")
    any_run = len(pattern) - len(rest) > 1
    return any(
        matches(rest, topic[length:])
        for length in range(len(topic) + 1)
        if any_run or "/" not in topic[:length]
    )


@pytest.mark.parametrize(
    ("pattern", "topic", "is_match"),
    [
        ("/customer/new", "/customer/new", True),
        ("/customer/new", "/customer/new/", False),
        ("/customer/new", "/Customer/new", False),
        ("/customer/*", "/customer/new", True),
        ("/customer/*", "/customer/", True),
        ("/customer/*", "/customer/new/eu", False),
        ("/customer/**", "/customer/new/eu", True),
        ("/*/new", "/customer/new", True),
        ("/*/new", "/customer/eu/new", False),
        ("/**/new", "/customer/eu/new", True),
        ("/*", "/customer", True),
        ("**", "anything/at all", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("/a.c", "/abc", False),
        ("/[ab]", "/a", False),
        ("/a?", "/ab", False),
    ],
)
def test_a_star_stands_for_a_run_without_slashes_and_two_stars_for_any(
    pattern: str, topic: str, is_match: bool
) -> None:
    line = f"pub={pattern}"
    assert Patterns([line]).publish(topic) == (line if is_match else None)


@given(pattern=PATTERN, topic=SMALL)
def test_the_automaton_agrees_with_the_definition(pattern: str, topic: str) -> None:
    found = Patterns([f"sub={pattern}"]).subscribe(topic)
    assert (found is not None) is matches(pattern, topic)


@given(lines=st.lists(PATTERN, max_size=6), topic=SMALL)
def test_the_first_line_that_matches_is_the_one_that_counts(lines: list[str], topic: str) -> None:
    patterns = Patterns(f"pub={pattern}" for pattern in lines)
    expected = next((f"pub={pattern}" for pattern in lines if matches(pattern, topic)), None)
    assert patterns.publish(topic) == expected
    assert patterns.publish(topic) == expected, "what is remembered is the same"


@given(topic=st.text(max_size=20))
def test_a_topic_without_stars_matches_the_pattern_that_is_spelled_like_it(topic: str) -> None:
    plain = topic.replace("*", "").strip()
    assert Patterns([f"pub={plain}"]).publish(plain) == f"pub={plain}"


def test_directions_do_not_mix_and_other_lines_are_ignored_but_known() -> None:
    patterns = Patterns(["/no/prefix", "  pub=/a/*  ", "", "sub=/b", "publish=/c"])
    assert patterns.publish("/a/x") == "pub=/a/*"
    assert patterns.subscribe("/a/x") is None
    assert patterns.publish("/b") is None
    assert patterns.subscribe("/b") == "sub=/b"
    assert patterns.ignored == ("/no/prefix", "publish=/c")


def test_a_pattern_of_many_stars_takes_no_longer_than_any_other() -> None:
    """With regular expressions this test would not end."""
    patterns = Patterns(["pub=" + "*a" * 60 + "b"])
    assert patterns.publish("a" * 200) is None
    assert patterns.publish("a" * 200 + "b") is not None


def test_no_more_topics_are_remembered_than_the_limit_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "MAX_REMEMBERED", 3)
    patterns = Patterns(["pub=/a/*"])
    for number in range(20):
        assert patterns.publish(f"/a/{number}") == "pub=/a/*"
        assert len(patterns._publish._remembered) <= 3
