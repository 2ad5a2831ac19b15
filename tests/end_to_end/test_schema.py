"""The schema of the object database, by commands."""

import subprocess
from contextlib import contextmanager

import requests

from tests.helpers.quickstart import PROGRAM, call
from tests.helpers.waiting import wait_until


def test_a_new_environment_has_the_schema_of_this_version(quickstart):
    state = quickstart.json("odb", "check")

    assert state["up_to_date"]
    assert (state["current"], state["pending"]) == (state["head"], [])
    assert all(step["applied"] for step in quickstart.json("odb", "history"))


def test_upgrading_what_is_up_to_date_changes_nothing(quickstart):
    assert quickstart.json("odb", "upgrade") == quickstart.json("odb", "check")


def test_a_downgrade_is_not_done_by_accident(quickstart):
    message = quickstart.refused(2, "odb", "downgrade", "base")

    assert "--yes" in message
    assert quickstart.json("odb", "check")["up_to_date"]


def test_a_server_without_its_schema_says_what_to_do_and_starts_by_itself_once_it_is_done(own_quickstart):
    own_quickstart.junctor("stop")
    own_quickstart.junctor("start", own_quickstart.path / "postgres")
    kept = own_quickstart.json("odb", "check")["head"]

    down = own_quickstart.json("odb", "downgrade", "base", "--yes")

    assert not down["current"]
    assert own_quickstart.json("odb", "check", code=1)["pending"]
    with in_foreground(own_quickstart, "server1"):
        reason = wait_until(lambda: not_ready(own_quickstart), 30, "The server says nothing at all.")
        assert "odb upgrade" in reason

        assert own_quickstart.json("odb", "upgrade")["current"] == kept

        wait_until(lambda: "odb upgrade" not in not_ready(own_quickstart), 30, "It does not try again.")


def not_ready(quickstart):
    """Why the first server is not ready; '' while it does not answer."""
    try:
        return call(f"http://127.0.0.1:{quickstart.port_base}/health/ready").json()["reason"]
    except requests.ConnectionError:
        return ""


@contextmanager
def in_foreground(quickstart, server):
    """A server as a supervisor such as systemd runs it."""
    command = [PROGRAM, "start", quickstart.path / server, "--fg"]
    with (quickstart.home / "output").open("wb") as output:
        process = subprocess.Popen(command, env=quickstart.environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0
