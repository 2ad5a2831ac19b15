"""server/service/bunch.py"""

import copy
import pickle

import pytest

from junctor.server.service.bunch import Bunch, Input, bunchify
from junctor.sql.errors import InvalidInput


def test_keys_are_attributes():
    bunch = Bunch(a=1)
    bunch.b = 2
    del bunch.a
    assert bunch == {"b": 2}
    assert bunch.b == 2


def test_nested_dictionaries_and_lists_of_them_have_attributes_too():
    ctx = Bunch(data={"id": 7, "items": [{"name": "x"}]})
    assert ctx.data.id == 7
    assert ctx.data["items"][0]["name"] == "x"
    assert Bunch(rows=[{"name": "x"}]).rows[0].name == "x"


def test_what_is_changed_through_an_attribute_is_changed_in_the_bunch():
    ctx = Bunch(data={})
    ctx.data.id = 1
    assert ctx["data"] == {"id": 1}


def test_a_missing_key_is_an_attribute_error_that_says_what_there_is():
    with pytest.raises(AttributeError, match="no 'c'; there are: a, b"):
        _ = Bunch(a=1, b=2).c
    with pytest.raises(AttributeError):
        del Bunch().a


@pytest.mark.parametrize("cls", [Bunch, Input])
def test_copies_and_pickles_are_of_the_same_class(cls):
    bunch = cls(a={"b": [1]})
    for other in (copy.copy(bunch), copy.deepcopy(bunch), pickle.loads(pickle.dumps(bunch)), bunch.copy()):
        assert type(other) is cls
        assert other == bunch


def test_a_deep_copy_shares_nothing():
    original = Input(a=[1])
    original.deepcopy().a.append(2)
    assert original.a == [1]


def test_require_any_passes_if_one_of_the_names_has_a_value():
    given = Input(a="", b=None, c=0)
    given.require_any("a", "c")
    with pytest.raises(InvalidInput, match="At least one of these is required: a, b, missing"):
        given.require_any("a", "b", "missing")


def test_bunchify_goes_all_the_way_down():
    result = bunchify([{"a": {"b": [{"c": 1}]}}])
    assert result[0].a.b[0].c == 1
    assert bunchify("text") == "text"


def test_the_repr_names_the_class():
    assert repr(Input(a=1)) == "Input({'a': 1})"
