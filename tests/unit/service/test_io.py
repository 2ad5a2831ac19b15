"""server/service/io.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.service.bunch import Input
from junctor.server.service.channel import PARAMS_PRIORITY
from junctor.server.service.declaration import compile_io
from junctor.server.service.payload import OutputPayload
from junctor.server.service.types import Date, Dict, Int, List
from junctor.sql.errors import InvalidInput, InvalidOutput


def declare(**simple_io):
    declared = compile_io(type("Get", (), {"SimpleIO": type("SimpleIO", (), simple_io)}), "orders.Get")
    assert declared is not None
    return declared


def rendered(declared, value):
    return declared.render(OutputPayload.of(declared.output_names, value))


def test_an_input_has_what_was_declared_and_nothing_else():
    declared = declare(input=("id", "name", "-is_active"))
    result = declared.parse({"id": "5", "name": 7, "is_active": "no", "extra": 1})
    assert result == {"id": 5, "name": "7", "is_active": False}
    assert result.id == 5
    assert type(result) is Input


def test_all_problems_are_reported_at_once():
    declared = declare(input=("id", "name", "-customer_id", Dict("x", Int("y"))))
    with pytest.raises(InvalidInput) as caught:
        declared.parse({"id": "abc", "name": "", "customer_id": "z", "x": {"y": "q"}})
    assert {problem.field: problem.message for problem in caught.value.problems} == {
        "id": "Cannot convert `abc` to integer",
        "name": "Required element is empty",
        "customer_id": "Cannot convert `z` to integer",
        "x.y": "Cannot convert `q` to integer",
    }


@pytest.mark.parametrize("nothing", [None, "", b"", {}])
def test_without_a_message_every_required_element_is_missing(nothing):
    with pytest.raises(InvalidInput) as caught:
        declare(input=("a", "b", "-c")).parse(nothing)
    assert [str(problem) for problem in caught.value.problems] == [
        "a: Missing required element",
        "b: Missing required element",
    ]


@pytest.mark.parametrize("message", ["text", b"bytes", 5, True])
def test_a_message_that_is_not_an_object_is_refused(message):
    with pytest.raises(InvalidInput, match="must be an object or a list of objects"):
        declare(input="-a").parse(message)


def test_a_missing_optional_element_is_its_default_or_an_empty_string():
    declared = declare(input=("-a", Int("-b", default=5), List("-c", default=[])))
    first = declared.parse({})
    assert first == {"a": "", "b": 5, "c": []}
    first.c.append(1)
    assert declared.parse({}).c == []


def test_the_default_value_of_the_declaration_counts_where_an_element_has_none():
    assert declare(input=("-a", Int("-b", default=5)), default_value=None).parse({}) == {"a": None, "b": 5}


def test_null_stays_null_and_empty_text_is_converted():
    declared = declare(input=("-id", "-name", "-is_active", Date("-day")))
    empty = dict.fromkeys(("id", "name", "is_active", "day"), "")
    assert declared.parse(dict.fromkeys(empty)) == dict.fromkeys(empty)
    assert declared.parse(empty) == {"id": None, "name": "", "is_active": False, "day": None}


def test_a_required_element_may_be_empty_if_that_is_allowed():
    assert declare(input="id", allow_empty_required=True).parse({"id": ""}) == {"id": None}
    for empty in ("", None):
        with pytest.raises(InvalidInput, match="id: Required element is empty"):
            declare(input="id").parse({"id": empty})
    assert declare(input=("count", "is_x", List("y"))).parse({"count": 0, "is_x": False, "y": []})


def test_empty_input_is_skipped_if_that_is_declared():
    class SkipEmpty:
        input = True
        force_empty_input = "c"

    declared = declare(input=("-a", "-b", "-c"), SkipEmpty=SkipEmpty)
    assert declared.parse({"a": "", "b": None}) == {"c": ""}


@pytest.mark.parametrize(
    ("priority", "winner"),
    [(PARAMS_PRIORITY.CHANNEL_PARAMS_OVER_MSG, "url"), (PARAMS_PRIORITY.MSG_OVER_CHANNEL_PARAMS, "body")],
)
def test_parameters_of_the_url_are_part_of_the_input(priority, winner):
    declared = declare(input=("a", "b", "c"))
    result = declared.parse({"a": "body", "b": "body"}, {"b": "url", "c": "url", "d": "url"}, priority)
    assert result == {"a": "body", "b": winner, "c": "url"}
    assert declared.parse("", {"a": 1, "b": 2, "c": 3}, priority) == {"a": "1", "b": "2", "c": "3"}


def test_a_service_may_use_the_parameters_of_the_url_only():
    declared = declare(input="-a", use_channel_params_only=True)
    assert declared.parse({"a": "body"}, {"a": "url"}) == {"a": "url"}
    assert declared.parse({"a": "body"}) == {"a": ""}


def test_a_list_makes_a_list_of_inputs():
    declared = declare(input=("id", "lang"))
    assert declared.parse([{"id": "1"}, {"id": 2}], {"lang": "en"}) == [
        {"id": 1, "lang": "en"},
        {"id": 2, "lang": "en"},
    ]
    with pytest.raises(InvalidInput) as caught:
        declared.parse([{"id": 1, "lang": "en"}, 5, {"id": "x"}])
    assert [problem.field for problem in caught.value.problems] == ["[1]", "[2].id", "[2].lang"]


def test_the_number_of_problems_is_bounded():
    with pytest.raises(InvalidInput) as caught:
        declare(input="id").parse([{}] * 100_000)
    assert len(caught.value.problems) == 100


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_is_parsed_or_refused(value):
    declared = declare(input=("-id", "-is_x", "-name", Date("-day"), Dict("-d", Int("-e")), List("-f")))
    for message in (value, dict.fromkeys(("id", "is_x", "name", "day", "d", "f"), value)):
        try:
            declared.parse(message)
        except InvalidInput as error:
            assert error.problems  # noqa: PT017 - either outcome is right


def test_an_output_has_what_was_declared_in_its_order():
    declared = declare(output=("id", "name", "-note"))
    result = rendered(declared, {"note": "x", "name": 5, "id": "7", "extra": 1})
    assert list(result.items()) == [("id", 7), ("name", 5), ("note", "x")]


def test_missing_optional_output_is_an_empty_string_or_its_default():
    assert rendered(declare(output=("-a", Int("-b", default=1))), {}) == {"a": "", "b": 1}
    assert rendered(declare(output="-a", default_value=None), {}) == {"a": None}


def test_missing_required_output_and_wrong_values_are_the_services_fault():
    with pytest.raises(InvalidOutput) as caught:
        rendered(declare(output=("a", "id", "-row_count")), {"id": "x", "row_count": []})
    assert str(caught.value).startswith(
        "orders.Get: a: Required element of the output was not set; id: Cannot"
    )
    assert [problem.field for problem in caught.value.problems] == ["a", "id", "row_count"]
    assert not isinstance(caught.value, InvalidInput)


def test_null_and_empty_text_are_values():
    assert rendered(declare(output=("a", "b")), {"a": None, "b": ""}) == {"a": None, "b": ""}


def test_empty_output_is_skipped_if_that_is_declared():
    declared = declare(
        output_required="a", output_optional=("b", "c", "d"), skip_empty_keys=True, force_empty_keys="d"
    )
    assert rendered(declared, {"a": "", "b": "", "c": 0}) == {"a": "", "c": 0, "d": ""}


def test_a_list_is_repeated_output():
    declared = declare(output="id")
    assert rendered(declared, [{"id": 1}, {"id": "2"}]) == [{"id": 1}, {"id": 2}]
    assert rendered(declared, []) == []
    with pytest.raises(InvalidOutput):
        rendered(declared, [{"id": 1}, {}])


def test_output_declared_as_repeated_is_always_a_list():
    declared = declare(output="id", output_repeated=True)
    assert rendered(declared, {"id": 1}) == [{"id": 1}]
    assert declared.render(OutputPayload(declared.output_names)) == []


def test_the_response_is_wrapped_if_that_is_declared():
    assert rendered(declare(output="id", response_elem="response"), {"id": 1}) == {"response": {"id": 1}}
    assert rendered(declare(output="id", response_elem="rows"), [{"id": 1}]) == {"rows": [{"id": 1}]}


def test_a_declaration_cannot_be_changed():
    with pytest.raises(AttributeError):
        declare(input="a").input = ()


def test_whatever_an_element_is_named_it_is_only_a_name():
    names = ("it's", 'a"b', "back\\slash", "x'] = 1; raise SystemExit #", "class", "{0}")
    message = dict.fromkeys(names, "v")
    assert declare(input_required=names).parse(message) == message


def test_elements_are_in_the_order_of_the_declaration_whatever_is_missing():
    declared = declare(input_required=("b", Int("a")), input_optional=("d", "c"))
    for message in (
        {"a": 1, "b": "x", "c": "y", "d": "z"},
        {"c": "y", "a": "1", "b": "x"},
        {"a": 2, "b": "x"},
    ):
        assert list(declared.parse(message)) == ["b", "a", "d", "c"]
