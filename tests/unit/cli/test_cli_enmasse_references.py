import pytest

from junctor.cli import enmasse_references
from junctor.cli.enmasse_references import resolve

ENVIRON = {"NAME": "hunter2", "EMPTY": "", "CHAIN": "$NAME"}


@pytest.mark.parametrize("value", ["$NAME", "${NAME}", "ZatoEnmasseEnv.NAME", "Zato_Enmasse_Env.NAME"])
def test_a_reference_to_a_variable_is_its_value(value, tmp_path):
    assert resolve(value, ENVIRON, tmp_path, is_secret=False) == "hunter2"


@pytest.mark.parametrize(
    "value",
    ["NAME", "/a/${NAME}", "a$NAME", "$ NAME", "${NAME", "$9", "file:x", "", 7, True, ["$NAME"], "/{id}"],
)
def test_what_is_no_reference_stays_as_it_is(value, tmp_path):
    assert resolve(value, ENVIRON, tmp_path, is_secret=False) == value


def test_two_dollars_are_a_text_that_begins_with_one(tmp_path):
    assert resolve("$$NAME", ENVIRON, tmp_path, is_secret=True) == "$NAME"


def test_a_value_is_resolved_once(tmp_path):
    assert resolve("$CHAIN", ENVIRON, tmp_path, is_secret=True) == "$NAME"
    assert resolve("$EMPTY", ENVIRON, tmp_path, is_secret=True) == ""


def test_a_variable_that_is_not_set_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="variable MISSING, which is not set"):
        resolve("${MISSING}", ENVIRON, tmp_path, is_secret=False)


def test_a_secret_is_read_from_a_file_beside_the_document(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "crm").write_text("hunter2\n")
    assert resolve("file:secrets/crm", {}, tmp_path, is_secret=True) == "hunter2"
    assert resolve(f"file:{tmp_path}/secrets/crm", {}, tmp_path, is_secret=True) == "hunter2"


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo", b"\xff\xff", b"x" * 100])
def test_a_file_that_does_not_hold_one_line_is_an_error(content, tmp_path, monkeypatch):
    monkeypatch.setattr(enmasse_references, "MAX_SECRET_FILE", 50)
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold exactly one line|not text"):
        resolve("file:f", {}, tmp_path, is_secret=True)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        resolve("file:none", {}, tmp_path, is_secret=True)
