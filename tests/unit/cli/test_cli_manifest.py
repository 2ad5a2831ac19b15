import json
import os

import pytest

from junctor.cli import manifest
from junctor.sql import base


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "junctor"


@pytest.fixture
def load():
    """The manifest as a fresh process loads it."""
    yield manifest.load.__wrapped__
    manifest.load.cache_clear()


@pytest.fixture
def declared(monkeypatch):
    """How often the declarations were read."""
    calls = []
    original = manifest._declared

    def counted():
        calls.append(1)
        return original()

    monkeypatch.setattr(manifest, "_declared", counted)
    return calls


def test_the_manifest_says_what_the_declarations_say(cache, load):
    types = {info.kind: info for info in load()}
    assert list(types) == list(base.kinds())
    for kind, cls in base.kinds().items():
        info = types[kind]
        assert info.service == base.service_prefix(cls)
        assert set(info.verbs) == cls.verbs
        assert [field.name for field in info.fields] == list(base.declared(cls))
        for field in info.fields:
            declared = base.declared(cls)[field.name]
            assert (field.help, field.unit, field.choices) == (declared.help, declared.unit, declared.choices)
            assert field.is_secret == declared.is_secret
            assert field.required == declared.required


def test_what_is_read_from_the_cache_is_what_was_put_there(cache, load, declared):
    first = load()
    assert load() == first
    assert len(declared) == 1


def test_a_changed_declaration_is_read_again(cache, load, declared, monkeypatch, tmp_path):
    file = tmp_path / "thing.py"
    file.write_text("1")
    own = manifest._own_files()
    monkeypatch.setattr(manifest, "_own_files", lambda: [*own, str(file)])
    load()
    os.utime(file, ns=(1, 1))
    load()
    assert len(declared) == 2


def test_a_declaration_of_another_package_is_read_again_when_it_changes(
    cache, load, declared, monkeypatch, tmp_path
):
    # given a type of another package
    file = tmp_path / "elsewhere.py"
    file.write_text("1")
    counted = manifest._declared
    monkeypatch.setattr(manifest, "_declared", lambda: (counted()[0], [str(file)]))
    load()
    # when
    file.write_text("22")
    load()
    # then
    assert len(declared) == 2
    # and when it is gone
    file.unlink()
    load()
    assert len(declared) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stamps": {}}', '{"stamps": {}, "types": [1]}', "\xff"])
def test_a_damaged_cache_is_written_anew(cache, load, declared, content):
    first = load()
    (path,) = cache.iterdir()
    path.write_bytes(content.encode("latin-1"))
    assert load() == first
    assert json.loads(path.read_text())["types"]


def test_a_cache_with_wrong_types_but_right_stamps_is_not_believed(cache, load, declared):
    first = load()
    (path,) = cache.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"types": [["too", "short"]]}))
    assert load() == first


def test_without_a_cache_directory_everything_works(load, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load()


def test_the_cache_of_another_user_is_not_read(cache, load, declared, monkeypatch):
    load()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    load()
    assert len(declared) == 2


def test_no_scratch_file_stays(cache, load):
    load()
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_type_is_found_by_each_of_its_names():
    for name in ("security_basic_auth", "security-basic-auth", "basic-auth", "basic_auth"):
        info = manifest.find(name)
        assert info is not None
        assert info.kind == "security_basic_auth"
        assert info.family == "security"
    assert manifest.find("nothing") is None


def test_a_field_is_found_by_its_alias_unless_another_has_that_name():
    info = manifest.find("channel-rest")
    assert info is not None
    assert info.field("service_name").name == "service"
    assert info.field("nothing") is None
