"""server/service/declaration.py"""

import logging
from dataclasses import dataclass

import pytest

from junctor.server.service.declaration import compile_io
from junctor.server.service.types import Bool, Dict, Int, Plain, Secret
from junctor.sql.errors import DeploymentRefused


def compiled(cls):
    declared = compile_io(cls, "orders.Get")
    assert declared is not None
    return declared


def shown(elements):
    return [repr(elem) for elem in elements]


def test_a_class_without_a_declaration_has_none():
    assert compile_io(type("Get", (), {}), "orders.Get") is None


def test_the_lists_of_required_and_optional_names_are_understood():
    class Get:
        class SimpleIO:
            input_required = "id", "name"
            input_optional = ("is_active", Int("age"))
            output_required = "status"
            output_optional = ("password",)

    declared = compiled(Get)
    assert shown(declared.input) == ["Int(id)", "Plain(name)", "Bool(-is_active)", "Int(-age)"]
    assert shown(declared.output) == ["Plain(status)", "Secret(-password)"]


@pytest.mark.parametrize("nested", [True, False])
def test_input_and_output_are_understood_in_the_class_and_in_simpleio(nested):
    attributes = {"input": ("id", "-name", Dict("x")), "output": "status"}
    cls = type("Get", (), {"SimpleIO": type("SimpleIO", (), attributes)} if nested else attributes)
    declared = compiled(cls)
    assert shown(declared.input) == ["Int(id)", "Plain(-name)", "Dict(x)"]
    assert shown(declared.output) == ["Plain(status)"]


def test_a_string_with_commas_is_several_names():
    assert shown(compiled(type("Get", (), {"input": "a, -b,"})).input) == ["Plain(a)", "Plain(-b)"]


def test_an_element_with_a_default_is_optional():
    assert compiled(type("Get", (), {"input": (Int("a", default=5),)})).input[0].required is False


def test_a_shared_element_can_be_required_here_and_optional_there():
    shared = Int("a")

    class Get:
        class SimpleIO:
            input_required = (shared,)
            output_optional = (shared,)

    declared = compiled(Get)
    assert (declared.input[0].required, declared.output[0].required) == (True, False)


def test_a_subclass_changes_what_it_inherits():
    class Base:
        class SimpleIO:
            input = "a"
            output = "b"

    class Get(Base):
        input = "c"

    declared = compiled(Get)
    assert shown(declared.input) == ["Plain(c)"]
    assert shown(declared.output) == ["Plain(b)"]
    assert shown(compiled(type("Other", (Get,), {"SimpleIO": type("S", (), {"input": "d"})})).input) == [
        "Plain(d)"
    ]


def test_a_method_that_is_called_input_is_not_a_declaration():
    class Get:
        def input(self):
            """Something else."""

    assert compile_io(Get, "orders.Get") is None


@dataclass
class Model:
    name: str


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"input": 5}, "input must be a name, an element or a tuple"),
        ({"input": (5,)}, "has 5, which is neither a name nor an element"),
        ({"input": (Int,)}, r"write Int\('name'\)"),
        ({"input": ("a", "-a")}, "'a' is declared twice in the input"),
        ({"output": ("a", Int("a"))}, "'a' is declared twice in the output"),
        ({"input": ("-",)}, "which is not a name"),
        ({"input": (" a",)}, "is not a name"),
        ({"input": ("a\nb",)}, "is not a name"),
        ({"input": Model}, "models are not supported"),
        ({"input": [f"a{i}" for i in range(1001)]}, "more than 1000"),
        ({"input": "a", "input_required": "b"}, "both input and input_required or input_optional"),
        ({"input": "a", "response_elem": 5}, "response_elem must be text or None"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_told(attributes, reason):
    with pytest.raises(DeploymentRefused, match=reason):
        compile_io(type("Get", (), {"SimpleIO": type("SimpleIO", (), attributes)}), "orders.Get")


def test_one_side_declared_in_both_places_is_refused():
    class Get:
        input = "a"

        class SimpleIO:
            input_required = "b"

    with pytest.raises(DeploymentRefused, match="both the class and its SimpleIO declare the input"):
        compile_io(Get, "orders.Get")


def test_the_options_of_simpleio_are_read():
    class Get:
        class SimpleIO:
            input_optional = "a", "b"
            output_optional = "c", "d"
            response_elem = "answer"
            default_value = None
            skip_empty_keys = True
            force_empty_keys = "c"
            allow_empty_required = True
            use_channel_params_only = True
            output_repeated = True

    options = compiled(Get).options
    assert options.response_elem == "answer"
    assert options.default_input_value is None
    assert options.default_output_value is None
    assert options.skip_empty_input == frozenset()
    assert options.skip_empty_output == {"d"}
    assert options.allow_empty_required
    assert options.use_channel_params_only
    assert options.output_repeated


def test_skip_empty_is_read():
    class Get:
        class SimpleIO:
            input = "-a", "-b"
            output = "-c", "-d"

            class SkipEmpty:
                input = "a"
                output_def = True
                force_empty_output = ("d",)
                empty_output_value = None

    options = compiled(Get).options
    assert options.skip_empty_input == {"a"}
    assert options.skip_empty_output == {"c"}
    assert options.default_output_value is None


def test_by_default_there_is_no_response_elem():
    assert compiled(type("Get", (), {"output": "a"})).options.response_elem is None


def test_an_attribute_without_a_meaning_is_warned_of(caplog):
    class Get:
        class SimpleIO:
            input_requird = "a"
            namespace = "urn:x"
            output = "b"

    with caplog.at_level(logging.WARNING):
        compiled(Get)
    assert "have no meaning: input_requird" in caplog.text


def test_the_types_of_conventions_are_in_the_declaration():
    declared = compiled(type("Get", (), {"input": ("id", "is_x", "token", "name")}))
    assert [type(elem) for elem in declared.input] == [Int, Bool, Secret, Plain]
