"""The fields of users that callers give, checked without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.search_names import LINES, folded, grams, search_names
from junctor.server.sso.user_fields import (
    CREATED,
    MAX_NAME,
    moment,
    must_change,
    person_name,
    person_names,
    require_known,
)
from junctor.server.sso.user_rows import is_storable


@given(st.text(max_size=300))
def test_a_name_of_a_person_is_one_line_that_can_be_stored_or_refused(given_name: str) -> None:
    try:
        name = person_name("first_name", given_name)
    except ValidationError:
        return
    assert len(name) <= MAX_NAME
    assert is_storable(name)
    assert len(name.splitlines()) <= 1
    assert person_name("first_name", name) == name


@given(st.text(max_size=200))
def test_a_folded_name_is_one_line(name: str) -> None:
    assert "\n" not in folded(name)
    assert len(search_names(dict.fromkeys(LINES, name)).split("\n")) == len(LINES)


@given(st.text(alphabet="abcdef", min_size=2, max_size=12), st.data())
def test_a_name_has_the_pieces_of_each_part_of_it(name: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(name) - 2))
    part = name[start : data.draw(st.integers(start + 2, len(name)))]
    pieces = {"b" + name[at : at + size] for size in (2, 3) for at in range(len(name) - size + 1)}
    assert set(grams("first_name", part, is_exact=False)) <= pieces
    assert grams("first_name", name, is_exact=True) == [f"b={name}"]


def test_a_name_to_display_is_made_of_the_others() -> None:
    names = {"first_name": " Anna", "middle_name": None, "last_name": "Smith"}
    assert person_names(names)["display_name"] == "Anna Smith"
    assert person_names({**names, "display_name": "A."})["display_name"] == "A."
    long = person_names(dict.fromkeys(LINES[1:], "x" * MAX_NAME))
    assert len(long["display_name"]) == MAX_NAME


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2030-01-31T12:00:00", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31", datetime(2030, 1, 31, tzinfo=UTC)),
        ("2030-01-31T12:00:00+02:00", datetime(2030, 1, 31, 10, tzinfo=UTC)),
        (datetime(2030, 1, 31, 12), datetime(2030, 1, 31, 12, tzinfo=UTC)),
        (
            datetime(2030, 1, 31, 12, tzinfo=timezone(timedelta(hours=1))),
            datetime(2030, 1, 31, 11, tzinfo=UTC),
        ),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(value: Any, expected: datetime) -> None:
    assert moment("password_expiry", value) == expected


@pytest.mark.parametrize("value", ["", "soon", 5, None, "9999-12-31T23:59:59-10:00"])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        moment("password_expiry", value)


def test_a_field_that_is_not_known_refuses_all() -> None:
    for data in ({"username": "anna", "is_super_user": True}, {7: 8}, [], None, {}):
        with pytest.raises(ValidationError):
            require_known(data, CREATED)  # type: ignore[arg-type]  # what callers may give nevertheless
    assert must_change({"must_change": True}) == {"password_must_change": True}
    assert must_change({}) == {}
