"""Fields: which values each type takes, what is stored, and what its problems say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.sql import fields
from junctor.sql.fields import REQUIRED, Field, FieldType, check, json_schema

TEXT = Field(FieldType.TEXT, "Label", "Help.", max=10)
OPTIONAL_TEXT = Field(FieldType.TEXT, "Label", "Help.", default="", max=10)
BLOCK = Field(FieldType.TEXT, "Label", "Help.", default="", max=10, multiline=True)
INTEGER = Field(FieldType.INTEGER, "Label", "Help.", default=5, unit="s", min=1, max=60)
PLAIN_INTEGER = Field(FieldType.INTEGER, "Label", "Help.", default=0)
BOOLEAN = Field(FieldType.BOOLEAN, "Label", "Help.", default=True)
CHOICE = Field(FieldType.CHOICE, "Label", "Help.", default="", choices=("", "json"))
LIST = Field(FieldType.LIST, "Label", "Help.", default=(), max=3)
REFERENCE = Field(FieldType.REFERENCE, "Label", "Help.", reference="service")
OPTIONAL_REFERENCE = Field(FieldType.REFERENCE, "Label", "Help.", default="", reference="service")
SECRET = Field(FieldType.SECRET, "Label", "Help.", default="", max=10)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def accepted(field: Field, value: Any) -> Any:
    stored, problem = check("f", field, value)
    assert problem is None, problem
    return stored


def refused(field: Field, value: Any) -> str:
    stored, problem = check("f", field, value)
    assert stored is None
    assert problem is not None
    assert problem.field == "f"
    return problem.message


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        (TEXT, "abc", "abc"),
        (TEXT, "x" * 10, "x" * 10),
        (TEXT, "zażółć 😀", "zażółć 😀"),
        (OPTIONAL_TEXT, "", ""),
        (OPTIONAL_TEXT, None, ""),
        (BLOCK, "a\n\tb\r\nc", "a\n\tb\r\nc"),
        (INTEGER, 1, 1),
        (INTEGER, 60, 60),
        (INTEGER, "7", 7),
        (INTEGER, " +7 ", 7),
        (INTEGER, None, 5),
        (PLAIN_INTEGER, "-3", -3),
        (PLAIN_INTEGER, 2**31 - 1, 2**31 - 1),
        (PLAIN_INTEGER, -(2**31), -(2**31)),
        (BOOLEAN, None, True),
        (BOOLEAN, False, False),
        (BOOLEAN, 0, False),
        (BOOLEAN, 1, True),
        (CHOICE, "json", "json"),
        (CHOICE, None, ""),
        (LIST, None, []),
        (LIST, ["a", "b"], ["a", "b"]),
        (LIST, ("a",), ["a"]),
        (LIST, "a\n\n  \nb\n", ["a", "b"]),
        (REFERENCE, "orders.get", "orders.get"),
        (OPTIONAL_REFERENCE, None, ""),
        (OPTIONAL_REFERENCE, "", ""),
        (SECRET, "pass word", "pass word"),
        (SECRET, None, ""),
    ],
)
def test_values_that_fit_are_taken(field: Field, value: Any, stored: Any) -> None:
    assert accepted(field, value) == stored


@pytest.mark.parametrize("word", sorted(fields.TRUE | fields.FALSE))
def test_booleans_come_as_words_in_any_case(word: str) -> None:
    expected = word in fields.TRUE
    assert accepted(BOOLEAN, word) is expected
    assert accepted(BOOLEAN, f" {word.upper()} ") is expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (TEXT, None, "must be text, not nothing."),
        (TEXT, 5, "must be text, not a number."),
        (TEXT, True, "must be text, not a boolean."),
        (TEXT, ["a"], "must be text, not a list or an object."),
        (TEXT, b"abc", "must be text, not a list or an object."),
        (TEXT, "", "must not be empty."),
        (TEXT, " \u2003", "must not be empty."),
        (TEXT, "a\x00b", "must not have control characters."),
        (TEXT, "a\x7fb", "must not have control characters."),
        (TEXT, "a\nb", "must be one line, without tabs."),
        (TEXT, "a\rb", "must be one line, without tabs."),
        (TEXT, "a\tb", "must be one line, without tabs."),
        (TEXT, "a\ud800b", "must be valid Unicode."),
        (BLOCK, "a\x1bb", "must not have control characters."),
        (TEXT, "x" * 11, "must have at most 10 characters, has 11."),
        (INTEGER, 0, "must be between 1 and 60 s, is 0."),
        (INTEGER, "61", "must be between 1 and 60 s, is 61."),
        (PLAIN_INTEGER, 2**31, "must be between -2147483648 and 2147483647, is 2147483648."),
        (INTEGER, 1.0, "must be a whole number, not a number."),
        (INTEGER, True, "must be a whole number, not a boolean."),
        (INTEGER, "seven", "must be a whole number, not text."),
        (INTEGER, "٣", "must be a whole number, not text."),
        (INTEGER, "1_0", "must be a whole number, not text."),
        (INTEGER, "9" * 19, "must be a whole number, not text."),
        (BOOLEAN, "maybe", "must be true or false, not text."),
        (BOOLEAN, 2, "must be true or false, not a number."),
        (BOOLEAN, 1.0, "must be true or false, not a number."),
        (CHOICE, "xml", "must be one of '', 'json'."),
        (CHOICE, ["json"], "must be one of '', 'json'."),
        (LIST, 5, "must be a list of texts."),
        (LIST, ["a", 5], "must be a list of texts."),
        (LIST, {"a": "b"}, "must be a list of texts."),
        (LIST, ["a", "b", "c", "d"], "must have at most 3 items, has 4."),
        (LIST, ["a\x00"], "must not have control characters."),
        (LIST, ["a\nb"], "must be one line, without tabs."),
        (LIST, ["\ud800"], "must be valid Unicode."),
        (REFERENCE, 7, "must be the name of a service, not a number."),
        (REFERENCE, None, "must be the name of a service, not nothing."),
        (REFERENCE, "", "must name a service."),
        (REFERENCE, "a\x00", "must not have control characters."),
        (SECRET, "x" * 11, "must have at most 10 characters, has 11."),
    ],
)
def test_values_that_do_not_fit_are_refused_with_a_sentence(field: Field, value: Any, message: str) -> None:
    assert refused(field, value) == message


def test_a_refused_secret_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in refused(SECRET, "hunter2" * 5)


def test_a_normaliser_has_the_last_word() -> None:
    text = Field(FieldType.TEXT, "L", "H.", default="", max=10, normalise=str.upper)
    reference = Field(FieldType.REFERENCE, "L", "H.", reference="service", normalise=lambda _: "")

    assert accepted(text, "get") == "GET"
    assert refused(reference, "none") == "must name a service."


def test_a_normalised_text_that_became_too_long_is_refused() -> None:
    text = Field(FieldType.TEXT, "L", "H.", default="", max=4, normalise=str.upper)
    assert refused(text, "ßßß") == "must have at most 4 characters, has 6."


@dataclass(frozen=True)
class Case:
    field: Field


@pytest.mark.parametrize(
    "field", [TEXT, BLOCK, INTEGER, BOOLEAN, CHOICE, LIST, REFERENCE, OPTIONAL_REFERENCE, SECRET]
)
@given(value=ANYTHING)
def test_any_value_is_taken_or_refused_and_never_raises(field: Field, value: Any) -> None:
    stored, problem = check("f", field, value)

    if problem is not None:
        assert stored is None
        assert problem.message.endswith(".")
    else:
        again, no_problem = check("f", field, stored)
        assert (again, no_problem) == (stored, None), "what is stored is itself a valid value"


@given(st.integers())
def test_integers_are_taken_within_their_range_alone(value: int) -> None:
    stored, problem = check("f", INTEGER, value)
    assert (problem is None) == (1 <= value <= 60)
    assert check("f", INTEGER, str(value)) in ((stored, problem), check("f", INTEGER, "x" * 30))


@given(st.text(max_size=12))
def test_texts_that_are_taken_can_be_stored_and_stay_as_they_are(value: str) -> None:
    stored, problem = check("f", OPTIONAL_TEXT, value)
    if problem is None:
        assert stored == value
        assert "\x00" not in value
        value.encode()


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        (TEXT, {"type": "string", "maxLength": 10}),
        (OPTIONAL_TEXT, {"type": "string", "maxLength": 10, "default": ""}),
        (INTEGER, {"type": "integer", "minimum": 1, "maximum": 60, "x-unit": "s", "default": 5}),
        (PLAIN_INTEGER, {"type": "integer", "default": 0}),
        (BOOLEAN, {"type": "boolean", "default": True}),
        (CHOICE, {"type": "string", "enum": ["", "json"], "default": ""}),
        (LIST, {"type": "array", "items": {"type": "string"}, "maxItems": 3, "default": []}),
        (REFERENCE, {"type": "string", "x-reference": "service"}),
        (SECRET, {"type": "string", "maxLength": 10, "writeOnly": True}),
    ],
)
def test_the_schema_of_a_field_says_what_its_check_does(field: Field, schema: dict[str, Any]) -> None:
    assert json_schema(field) == {"title": "Label", "description": "Help."} | schema


def test_a_field_knows_whether_it_must_be_given_and_whether_it_is_secret() -> None:
    assert TEXT.required
    assert not INTEGER.required
    assert SECRET.is_secret
    assert not TEXT.is_secret
    assert OPTIONAL_REFERENCE.optional_reference
    assert not REFERENCE.optional_reference
    assert repr(REQUIRED) == "REQUIRED"


def test_each_kind_of_column_carries_its_declaration() -> None:
    made = {
        FieldType.TEXT: fields.text("L", "H."),
        FieldType.INTEGER: fields.integer("L", "H."),
        FieldType.BOOLEAN: fields.boolean("L", "H.", default=False),
        FieldType.CHOICE: fields.choice("L", "H.", ("a", "b")),
        FieldType.REFERENCE: fields.ref("service", "L", "H.", column="service_id"),
        FieldType.SECRET: fields.secret("L", "H."),
        FieldType.LIST: fields.text_list("L", "H."),
    }
    for kind, column in made.items():
        declared = fields.of(column.column)
        assert declared is not None
        assert declared.type is kind
        assert not column.column.nullable


def test_an_optional_reference_is_a_key_that_may_be_empty() -> None:
    column = fields.ref("security", "L", "H.", column="security_id", default="").column
    assert column.nullable
    assert column.name == "security_id"
    assert [key.target_fullname for key in column.foreign_keys] == ["security.id"]
