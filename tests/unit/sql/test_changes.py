"""What a change says about itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from junctor.sql.changes import Change

VALUES = st.dictionaries(st.sampled_from(["name", "port", "host", "version"]), st.integers(0, 3))


def change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Change:
    return Change("server", 1, "s1", "edit", before, after)


def test_an_edit_tells_the_fields_that_it_changed() -> None:
    edit = change({"name": "s1", "port": 1, "version": 1}, {"name": "s1", "port": 2, "version": 2})
    assert edit.differences() == {"port": (1, 2)}


def test_a_creation_tells_all_fields_and_a_deletion_too() -> None:
    assert change(None, {"name": "s1", "version": 1}).differences() == {"name": (None, "s1")}
    assert change({"name": "s1", "version": 1}, None).differences() == {"name": ("s1", None)}


def test_fields_that_came_or_went_with_a_new_release_are_told() -> None:
    assert change({"old": 1}, {"new": 2}).differences() == {"new": (None, 2), "old": (1, None)}


@given(VALUES, VALUES)
def test_differences_turn_before_into_after(before: dict[str, int], after: dict[str, int]) -> None:
    found = change(before, after).differences()
    assert "version" not in found
    for name in before.keys() | after.keys():
        expected = (before.get(name), after.get(name))
        if name != "version":
            assert found.get(name, (before.get(name), before.get(name))) == expected
    assert all(old != new for old, new in found.values())
