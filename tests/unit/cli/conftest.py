import os
from functools import partial

import pytest

from junctor.cli.session import Session
from tests.helpers import admin_server, command
from tests.helpers.command import run


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path_factory):
    """No variable of the developer's shell reaches a test, and no test writes to the developer's home."""
    for name in [name for name in os.environ if name.startswith(("JUNCTOR_", "XDG_"))]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


@pytest.fixture
def server():
    with admin_server.running() as running:
        yield running


@pytest.fixture
def cluster(server, tmp_path):
    """``run`` with the options that lead to ``server``, given before the command."""
    password = tmp_path / "admin-password"
    password.write_text(admin_server.PASSWORD + "\n")
    return partial(command.run, "--address", server.address, "--password-file", str(password))


@pytest.fixture
def somebody_there(monkeypatch):
    monkeypatch.setattr(Session, "interactive", True)


@pytest.fixture
def junctor():
    return run
