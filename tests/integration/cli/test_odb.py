import pytest

from junctor.cli.exit_codes import ExitCode
from tests.helpers.command import run


@pytest.fixture
def database_named(empty_database, monkeypatch):
    monkeypatch.setenv("JUNCTOR_ODB_URL", empty_database)


@pytest.mark.usefixtures("database_named")
def test_a_database_is_checked_upgraded_and_downgraded():
    assert run("odb", "check", "--json", code=ExitCode.NO).json["pending"]
    assert "steps to take" in run("odb", "check", code=ExitCode.NO).out
    assert "That is what this version needs." in run("odb", "upgrade").out
    run("odb", "check")
    run("odb", "downgrade", "base", code=ExitCode.USAGE)
    assert run("odb", "downgrade", "base", "--yes", "--json").json["current"] == ""
    assert "no" in run("odb", "history").out


@pytest.mark.usefixtures("database_named")
def test_a_revision_that_does_not_exist_is_refused():
    assert "revision" in run("odb", "upgrade", "nothing", code=ExitCode.INVALID).err


def test_a_database_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setenv("JUNCTOR_ODB_URL", "postgresql://user:hunter2@127.0.0.1:1/x")
    err = run("odb", "check", code=ExitCode.DATABASE).err
    assert "hunter2" not in err
