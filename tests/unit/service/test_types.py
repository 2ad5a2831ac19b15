"""server/service/types.py"""

import decimal
import uuid
from datetime import UTC as TZ_UTC
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.service import types
from junctor.server.service.types import (
    CSV,
    UTC,
    UUID,
    AsIs,
    Bool,
    Date,
    DateTime,
    Decimal,
    Dict,
    DictList,
    Float,
    Int,
    List,
    Opaque,
    Plain,
    Secret,
    Text,
    by_convention,
    is_secret_name,
)
from junctor.sql.errors import InvalidInput

ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("elem", "given_value", "parsed"),
    [
        (Int("a"), 5, 5),
        (Int("a"), " -12 ", -12),
        (Int("a"), "", None),
        (Int("a"), 12.0, 12),
        (Bool("a"), "Yes", True),
        (Bool("a"), "0", False),
        (Bool("a"), "", False),
        (Bool("a"), 1, True),
        (Float("a"), "1.5", 1.5),
        (Float("a"), "", None),
        (Decimal("a"), "0.10", decimal.Decimal("0.10")),
        (Decimal("a"), 1.1, decimal.Decimal("1.1")),
        (Decimal("a"), "", None),
        (Text("a"), 5, "5"),
        (Text("a"), b"\xc3\xa9", "é"),
        (Plain("a"), 5, "5"),
        (Plain("a"), [1], [1]),
        (Date("a"), "2024-02-29", date(2024, 2, 29)),
        (Date("a"), "2024-02-29T10:00:00Z", date(2024, 2, 29)),
        (Date("a"), datetime(2024, 2, 29, 5), date(2024, 2, 29)),
        (Date("a", format="%d/%m/%Y"), "29/02/2024", date(2024, 2, 29)),
        (Date("a", format="%d/%m/%Y"), "2024-02-29", date(2024, 2, 29)),
        (Date("a"), "", None),
        (DateTime("a"), "2024-02-29T10:00:00+00:00", datetime(2024, 2, 29, 10, tzinfo=TZ_UTC)),
        (DateTime("a", format="%Y%m%d %H:%M"), "20240229 10:05", datetime(2024, 2, 29, 10, 5)),
        (DateTime("a"), "", None),
        (UTC("a"), "2024-02-29T10:00:00+00:00", "2024-02-29T10:00:00"),
        (UUID("a"), str(ID), ID),
        (UUID("a"), "", None),
        (CSV("a"), "a,b", ["a", "b"]),
        (CSV("a"), 'a,"b,c"', ["a", "b,c"]),
        (CSV("a"), "", []),
        (CSV("a"), ["a"], ["a"]),
        (List("a"), "x", ["x"]),
        (List("a"), ["x"], ["x"]),
        (Dict("a"), {"x": 1}, {"x": 1}),
        (Dict("a"), "", None),
        (Dict("a", "x", "-y"), {"x": 1, "z": 2}, {"x": 1, "y": ""}),
        (Dict("a", Int("x"), default=0), {}, {"x": 0}),
        (Dict("a", Dict("b", Int("c"))), {"b": {"c": "5"}}, {"b": {"c": 5}}),
        (DictList("a", Int("x")), [{"x": "1"}, {"x": 2}], [{"x": 1}, {"x": 2}]),
        (DictList("a"), {"x": 1}, [{"x": 1}]),
        (DictList("a"), "", None),
        (Opaque("a"), {"x": [1]}, {"x": [1]}),
        (AsIs("a"), "x", "x"),
    ],
)
def test_values_of_messages_are_converted(elem, given_value, parsed):
    result = elem.parse(given_value)
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(
    ("elem", "value"),
    [
        (Int("a"), "x"),
        (Int("a"), True),
        (Int("a"), 1.5),
        (Int("a"), float("nan")),
        (Int("a"), "1_000"),
        (Int("a"), "9" * 5000),
        (Int("a"), [1]),
        (Bool("a"), "maybe"),
        (Bool("a"), 2),
        (Bool("a"), []),
        (Float("a"), "x"),
        (Float("a"), "nan"),
        (Float("a"), True),
        (Float("a"), "1_0"),
        (Float("a"), []),
        (Decimal("a"), "x"),
        (Decimal("a"), "Infinity"),
        (Decimal("a"), True),
        (Text("a"), {"x": 1}),
        (Date("a"), "yesterday"),
        (Date("a"), 5),
        (DateTime("a"), "iso"),
        (UTC("a"), 5),
        (UUID("a"), "x"),
        (UUID("a"), 5),
        (CSV("a"), {}),
        (Dict("a"), "x"),
        (DictList("a"), "x"),
        (DictList("a"), 5),
    ],
)
def test_values_that_do_not_convert_are_refused_with_their_field(elem, value):
    with pytest.raises(InvalidInput) as caught:
        elem.parse(value)
    assert [problem.field for problem in caught.value.problems] == ["a"]
    assert len(caught.value.problems[0].message) < 150


@pytest.mark.parametrize(
    ("elem", "value", "rendered"),
    [
        (Int("a"), "5", 5),
        (Bool("a"), "true", True),
        (Float("a"), 1, 1.0),
        (Decimal("a"), decimal.Decimal("1.10"), "1.10"),
        (Decimal("a"), "", None),
        (Text("a"), 5, "5"),
        (Plain("a"), 5, 5),
        (Date("a"), date(2024, 2, 29), "2024-02-29"),
        (Date("a"), datetime(2024, 2, 29, 10), "2024-02-29"),
        (Date("a"), "whenever", "whenever"),
        (DateTime("a"), datetime(2024, 2, 29, 10), "2024-02-29T10:00:00"),
        (DateTime("a", format="%H:%M"), datetime(2024, 2, 29, 10), "10:00"),
        (UTC("a"), datetime(2024, 2, 29, 10, tzinfo=TZ_UTC), "2024-02-29T10:00:00"),
        (UUID("a"), ID, str(ID)),
        (CSV("a"), ["a", 1], "a,1"),
        (CSV("a"), "a,b", "a,b"),
        (List("a"), (1, 2), [1, 2]),
        (List("a"), "x", ["x"]),
        (List("a"), {"a": 1}, [{"a": 1}]),
        (Dict("a", Decimal("x")), {"x": decimal.Decimal("1.0")}, {"x": "1.0"}),
        (DictList("a", "x"), ({"x": i, "y": 0} for i in range(2)), [{"x": 0}, {"x": 1}]),
    ],
)
def test_values_of_services_are_rendered(elem, value, rendered):
    result = elem.render(value)
    assert result == rendered
    assert type(result) is type(rendered)


@pytest.mark.parametrize(("elem", "value"), [(Date("a"), 5), (CSV("a"), 5), (CSV("a"), {}), (Int("a"), "x")])
def test_values_that_cannot_be_rendered_are_refused(elem, value):
    with pytest.raises(InvalidInput):
        elem.render(value)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=("Cs",))), min_size=2)
)
def test_comma_separated_lists_survive_a_round_trip(items):
    assert CSV("a").parse(CSV("a").render(items)) == items


@given(st.integers(-(10**900), 10**900))
def test_integers_survive_as_text(number):
    assert Int("a").parse(str(number)) == number


def test_problems_inside_structures_say_where_they_are():
    elem = DictList("rows", Int("x"), "y", Dict("z", "q"))
    with pytest.raises(InvalidInput) as caught:
        elem.parse([{"x": "a", "y": 1, "z": {"q": 1}}, {"x": 1, "z": {}}, "text"])
    assert [problem.field for problem in caught.value.problems] == [
        "rows[0].x",
        "rows[1].y",
        "rows[1].z.q",
        "rows[2]",
    ]


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(InvalidInput, match=r"`x{60}\.\.\.` to integer"):
        Int("a").parse("x" * 10_000)


def test_the_value_of_a_secret_is_not_in_the_message():
    with pytest.raises(InvalidInput) as caught:
        Secret("a").parse({"key": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("id", Int),
        ("customer_id", Int),
        ("row_count", Int),
        ("pool_size", Int),
        ("read_timeout", Int),
        ("is_active", Bool),
        ("has_password", Bool),
        ("needs_token", Bool),
        ("by_name", Bool),
        ("password", Secret),
        ("api_token", Secret),
        ("name", Plain),
        ("identity", Plain),
        ("-is_active", Bool),
    ],
)
def test_names_without_a_type_get_one_by_convention(name, cls):
    elem = by_convention(name)
    assert type(elem) is cls
    assert elem.required is not name.startswith("-")
    assert elem.name == name.removeprefix("-")


def test_names_of_secrets_are_known_in_any_spelling():
    assert is_secret_name("API-Key")
    assert is_secret_name("user_password")
    assert not is_secret_name("name")
    assert not is_secret_name(5)


def test_old_names_are_the_new_types():
    assert (types.Boolean, types.Integer, types.Unicode) == (Bool, Int, Text)
    assert (types.ForceType, types.ListOfDicts, types.Nested) == (types.Elem, DictList, Opaque)


def test_an_element_made_optional_does_not_change_the_original():
    required = Int("a")
    assert required.with_required(False).required is False
    assert required.required is True
    assert required.with_required(True) is required
    assert repr(required) == "Int(a)"
    assert repr(types.NO_DEFAULT) == "NO_DEFAULT"
