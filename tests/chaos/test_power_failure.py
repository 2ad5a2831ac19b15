"""Everything is killed at once, again and again; it comes back with one command, and nothing that was acknowledged is lost."""

import subprocess

import pytest

from tests.helpers.quickstart import PROGRAM, QuickstartUnderTest
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.chaos


def states(environment):
    return {component["state"] for component in environment.status()["components"]}


def test_after_each_of_five_power_failures_everything_is_there_again(cluster):
    environment = cluster.environment
    objects = environment.junctor("enmasse", "--export", "--internal")
    listed = environment.json("list-service", "--internal")

    for _ in range(5):
        environment.kill()
        assert states(environment) == {"crashed"}

        environment.start()

        assert cluster.works()
        assert environment.junctor("enmasse", "--export", "--internal") == objects
        assert environment.json("list-service", "--internal") == listed
    environment.wait_until_healthy()


def test_a_change_that_was_acknowledged_survives_a_power_failure_right_after_it(cluster):
    for _ in range(2):
        timeout = cluster.new_timeout()
        version = cluster.edit(timeout)
        cluster.environment.kill()

        cluster.environment.start()

        assert cluster.timeout() == timeout
        assert cluster.environment.json("wait", "--version", str(version))["converged"]


def test_starting_twice_at_once_starts_everything_once(cluster):
    environment = cluster.environment
    environment.kill()

    command = [PROGRAM, "quickstart", "start", environment.path]
    with (environment.home / "output").open("wb") as output:
        commands = [
            subprocess.Popen(command, env=environment.environment, stdout=output, stderr=output)
            for _ in range(2)
        ]
    codes = [process.wait(60) for process in commands]

    assert codes == [0, 0], (environment.home / "output").read_text()
    assert cluster.works()
    environment.wait_until_healthy()
    assert len(environment.workers()) == 2


def test_a_creation_that_was_cut_off_is_explained_and_begun_afresh(environment, public_directory):
    half = QuickstartUnderTest(public_directory / "half", home=environment.home)
    ports = ("--port-base", str(half.port_base), "--lb-port", str(half.lb_port))
    command = [PROGRAM, "quickstart", "create", half.path, *ports]
    try:
        with (environment.home / "output").open("wb") as output:
            creation = subprocess.Popen(command, env=half.environment, stdout=output, stderr=output)
        wait_until((half.path / "postgres" / "data").exists, 30, "The creation does not begin.")
        creation.kill()
        creation.wait(10)
        half.kill()
        assert "interrupted" in half.refused(8, "status")

        half.create()

        half.start()
        assert half.answers()
        half.stop()
    finally:
        half.kill()
