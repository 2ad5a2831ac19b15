import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.cli import enmasse_nodes
from junctor.cli.enmasse_nodes import parse, render
from junctor.sql.errors import InvalidInput

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
VALUES = st.one_of(WORDS, st.booleans(), st.integers(-(2**31), 2**31), st.lists(WORDS, max_size=3))
DOCUMENTS = st.dictionaries(
    st.sampled_from(["channel_rest", "outgoing_rest", "security_basic_auth"]),
    st.lists(st.dictionaries(WORDS.filter(bool), VALUES, min_size=1, max_size=4), min_size=1, max_size=3),
)


def yaml(text):
    return parse(text, "f.yml", is_json=False)


def problem(text, *, is_json=False):
    with pytest.raises(InvalidInput) as caught:
        parse(text, "f", is_json=is_json)
    (found,) = caught.value.problems
    return str(found)


@given(DOCUMENTS, st.booleans())
def test_what_is_rendered_is_read_as_it_was(document, is_json):
    assert parse(render(document, is_json=is_json), "f", is_json=is_json).plain() == document


def test_values_know_their_lines():
    root = yaml("channel_rest:\n  - name: a\n    url_path: /a\n  - {name: b,\n     url_path: /b}\n")
    first, second = root.value["channel_rest"].value
    assert (first.line, first.value["url_path"].line) == (2, 3)
    assert (second.line, second.value["url_path"].line) == (4, 5)


def test_values_of_json_know_their_lines_too():
    root = parse('{\n"a": [\n{"name": "x",\n"n": "\\ud83d\\ude00"}]}', "f", is_json=True)
    (item,) = root.value["a"].value
    assert (item.line, item.value["n"].line, item.value["n"].value) == (3, 4, "\U0001f600")


def test_json_that_is_not_yaml_has_no_lines_but_its_values():
    root = parse('{\t"a":\t["x"]}', "f", is_json=True)
    assert root.plain() == {"a": ["x"]}


def test_a_large_json_file_is_read_without_lines(monkeypatch):
    monkeypatch.setattr(enmasse_nodes, "MAX_LOCATED_JSON", 3)
    assert parse('{"a": [1]}', "f", is_json=True).value["a"].line == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("yes", "yes"), ("0x1f", 31), ("1_000", 1000), ("1.5", 1.5), ("~", None), ("", None),
        ("2026-01-01", "2026-01-01"), ("'true'", "true"), ("007", 7), ("a b", "a b"), ("[1, a]", [1, "a"]),
    ],
)  # fmt: skip
def test_scalars_are_what_yaml_1_2_says_and_dates_stay_text(text, value):
    assert yaml(f"a: {text}").plain() == {"a": value}


def test_an_empty_file_is_an_empty_document():
    assert yaml("# nothing\n").plain() == {}


def test_merge_keys_fill_in_what_a_mapping_does_not_have():
    root = yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 5}, *a]}\n")
    assert root.plain()["b"] == {"x": 1, "y": 3}
    assert root.plain()["c"] == {"x": 5, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", "f:3: is not valid YAML"),
        ("a: 1\na: 2\n", "f:2: has the key 'a' twice."),
        ("a:\n  - ? [x]\n    : 1\n", "f:2: has a key that is not a word."),
        ("a: !!python/object:os.system x\n", "f:1: has a value of the unknown kind"),
        ("a: {<<: 5}\n", "f:1: has a merge key"),
        ("a: !!int x\n", "f:1: has a value that is not valid: 'x'."),
        ("a: \x07\n", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "f:2: is not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, message):
    assert message in problem(text)


def test_json_that_is_wrong_is_told_with_its_line():
    assert problem('{\n"a": }', is_json=True).startswith("f:2: is not valid JSON")
    assert problem('{"a": 1, "a": 2}', is_json=True) == "f: has the key 'a' twice."


def test_a_small_file_cannot_stand_for_billions_of_values(monkeypatch):
    monkeypatch.setattr(enmasse_nodes, "MAX_NODES", 1000)
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert "stands for too many values" in problem("\n".join(lines))


def test_a_value_that_contains_itself_is_refused():
    assert "nested too deeply" in problem("a: &a [*a]\n")


@pytest.mark.parametrize("is_json", [True, False])
def test_nesting_is_bounded(is_json):
    assert "nested too deeply" in problem("[" * 2_000 + "]" * 2_000, is_json=is_json)
