"""Fields of requests: where they are taken from, and what they can be."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.sso.endpoints import Endpoint, Field, Type, Who
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.fields import MAX_DEPTH, check_choices, parse
from junctor.server.sso.http import bearer, plain
from junctor.sql.errors import InvalidInput

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def endpoint(*fields: Field) -> Endpoint:
    """An endpoint that takes these fields."""
    return Endpoint(
        method="POST", path="/a", summary="A", who=Who.ANYBODY, action=lambda _: None, fields=fields
    )


def read(
    field: Field, body: Any = None, query: Mapping[str, Any] | None = None, token: str = ""
) -> dict[str, Any]:
    """What is read of one field."""
    return parse(endpoint(field), body, query or {}, bearer=token, secrets=frozenset({"ust"}))


def one(type_: Type, value: Any, **more: Any) -> Any:
    """A value of a type, as it is read from a body."""
    return read(Field(name="a", help="", type=type_, **more), {"a": value})["a"]


def problem(type_: Type, value: Any, **more: Any) -> str:
    """What is wrong with a value."""
    with pytest.raises(InvalidInput) as caught:
        one(type_, value, **more)
    assert [item.field for item in caught.value.problems] == ["a"]
    return caught.value.problems[0].message


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (Type.TEXT, "ü", "ü"),
        (Type.TEXT, 123456, "123456"),
        (Type.BOOLEAN, True, True),
        (Type.BOOLEAN, "True", True),
        (Type.BOOLEAN, "0", False),
        (Type.INTEGER, 7, 7),
        (Type.INTEGER, " -7 ", -7),
        (Type.TEXTS, ["a", "b"], ["a", "b"]),
        (Type.TEXTS, "a", ["a"]),
        (Type.TEXTS, '["a", "b"]', ["a", "b"]),
        (Type.OBJECTS, '{"name": "a"}', [{"name": "a"}]),
        (Type.OBJECTS, [{"name": "a"}], [{"name": "a"}]),
        (Type.NAMES_OR_OBJECTS, ["a"], ["a"]),
        (Type.NAMES_OR_OBJECTS, [{"name": "a"}], [{"name": "a"}]),
        (Type.OBJECT, '{"a": [1]}', {"a": [1]}),
        (Type.TIME, "2031-01-31T12:00:00", datetime(2031, 1, 31, 12, tzinfo=UTC)),
        (Type.TIME, "2031-01-31T12:00:00+02:00", datetime(2031, 1, 31, 10, tzinfo=UTC)),
        (Type.ANY, {"a": None}, {"a": None}),
    ],
)
def test_a_value_is_read_as_its_type(type_: Type, value: Any, expected: Any) -> None:
    assert one(type_, value, min=-10) == expected


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Type.TEXT, True),
        (Type.TEXT, 1.5),
        (Type.TEXT, ["a"]),
        (Type.TEXT, "a\x00b"),
        (Type.TEXT, "x" * 1001),
        (Type.BOOLEAN, "maybe"),
        (Type.BOOLEAN, 1),
        (Type.INTEGER, True),
        (Type.INTEGER, "1e3"),
        (Type.INTEGER, "\uff11"),
        (Type.INTEGER, 1001),
        (Type.INTEGER, "9" * 30),
        (Type.TEXTS, [1]),
        (Type.TEXTS, ["a"] * 1001),
        (Type.TEXTS, "[broken"),
        (Type.OBJECTS, ["a"]),
        (Type.OBJECTS, "{broken"),
        (Type.NAMES_OR_OBJECTS, ["a", {}]),
        (Type.OBJECT, "text"),
        (Type.OBJECT, []),
        (Type.TIME, "tomorrow"),
        (Type.TIME, "0001-01-01T00:00:00+14:00"),
        (Type.ANY, {"a": ["b\x00"]}),
        (Type.ANY, "x" * 100_001),
    ],
)
def test_a_value_of_another_type_is_a_problem_of_its_field(type_: Type, value: Any) -> None:
    assert problem(type_, value)


def test_json_is_not_nested_without_end() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]

    assert "nested" in problem(Type.ANY, value)


def test_a_value_is_never_in_the_message() -> None:
    assert "geheim" not in problem(Type.INTEGER, "geheim")


def test_null_is_nothing_unless_it_means_something() -> None:
    assert read(Field(name="a", help=""), {"a": None}) == {}
    assert read(Field(name="a", help="", is_nullable=True), {"a": None}) == {"a": None}


def test_what_is_missing_is_listed_with_all_other_problems() -> None:
    fields = (
        Field(name="a", help="", is_required=True),
        Field(name="b", help="", type=Type.BOOLEAN),
        Field(name="c", help="", is_required=True),
    )

    with pytest.raises(InvalidInput) as caught:
        parse(endpoint(*fields), {"b": "maybe"}, {}, bearer="", secrets=frozenset())

    assert [item.field for item in caught.value.problems] == ["a", "b", "c"]


def test_the_documented_name_counts_and_then_the_aliases_in_their_order() -> None:
    field = Field(name="a", help="", aliases=("b", "c"))

    assert read(field, {"b": "2", "a": "1"}) == {"a": "1"}
    assert read(field, {"c": "3", "b": "2"}) == {"a": "2"}
    assert read(field, {"a": None, "c": "3"}) == {"a": "3"}


def test_a_field_may_be_in_both_places_if_it_is_the_same() -> None:
    field = Field(name="a", help="")

    assert read(field, {"a": "1"}, {"a": "1"}) == {"a": "1"}
    with pytest.raises(InvalidInput, match="differ"):
        read(field, {"a": "1"}, {"a": "2"})


def test_a_token_of_the_header_counts_if_no_other_is_given() -> None:
    ust = Field(name="ust", help="", is_required=True, is_secret=True)

    assert read(ust, token="zust1") == {"ust": "zust1"}
    assert read(ust, {"ust": "zust2"}, token="zust1") == {"ust": "zust2"}
    assert read(Field(name="target_ust", help=""), token="zust1") == {}


def test_a_secret_in_a_query_is_refused_even_where_it_means_nothing() -> None:
    with pytest.raises(InvalidInput, match="must not be in a URL"):
        read(Field(name="a", help=""), {}, {"ust": "zust1"})


def test_what_is_no_field_is_left_out() -> None:
    assert read(Field(name="a", help=""), {"a": "1", "z": object()}, {"y": "2"}) == {"a": "1"}


def test_a_text_that_is_no_choice_is_invalid_input() -> None:
    field = Field(name="a", help="", choices=("and", "or"))

    check_choices(endpoint(field), {"a": "and"})
    check_choices(endpoint(field), {})
    with pytest.raises(ValidationError) as caught:
        check_choices(endpoint(field), {"a": "xor"})
    assert caught.value.shown == ["E008002"]


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer zust1", "zust1"),
        ("bearer  zust1 ", "zust1"),
        ("Basic zust1", ""),
        ("Bearer", ""),
        ("", ""),
    ],
)
def test_a_token_is_in_a_header_of_the_scheme_bearer_alone(header: str, token: str) -> None:
    assert bearer(header) == token


def test_times_become_text_at_any_depth() -> None:
    moment = datetime(2031, 1, 31, 12, 0, 0, 5, tzinfo=UTC)

    assert plain({"a": [{"b": moment}, (moment.replace(tzinfo=None),)]}) == {
        "a": [{"b": "2031-01-31T12:00:00.000005"}, ["2031-01-31T12:00:00.000005"]]
    }


@given(body=JSON, query=st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.lists(st.text())))
def test_nothing_but_problems_is_raised_whatever_is_given(body: Any, query: dict[str, Any]) -> None:
    fields = [Field(name=name, help="", type=type_) for name in "ab" for type_ in list(Type)[:9]]
    for field in fields:
        with suppress(InvalidInput):
            parse(endpoint(field), {"a": body}, query, bearer="", secrets=frozenset())
