"""Objects as they are read."""

from __future__ import annotations

import pytest

from junctor.sql.config import Config
from junctor.sql.secrets import Secret

INDEX = {"id": 0, "version": 1, "name": 2, "password": 3}


def config() -> Config:
    return Config("security_basic_auth", INDEX, (7, 2, "CRM", Secret("hunter2")))


def test_an_object_is_read_like_a_dictionary() -> None:
    found = config()
    assert (found.id, found.name, found["version"], len(found)) == (7, "CRM", 2, 4)
    assert list(found) == ["id", "version", "name", "password"]
    assert found.get("nothing") is None
    with pytest.raises(KeyError):
        found["nothing"]


def test_an_object_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        config()["name"] = "ERP"  # type: ignore[index]


def test_a_copy_with_another_value_leaves_the_original() -> None:
    original = config()
    changed = original.replaced("name", "ERP")
    assert (original.name, changed.name) == ("CRM", "ERP")
    assert changed.kind == original.kind
    assert changed["password"] == original["password"]


def test_an_object_shows_what_it_is_and_no_secret() -> None:
    assert repr(config()) == "Config(security_basic_auth 'CRM', version 2)"
    assert "hunter2" not in f"{config()} {dict(config())}"
