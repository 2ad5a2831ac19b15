"""Configuration converges whatever is down or paused, and whoever has not got it yet is named."""

import signal

import pytest

from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.chaos


def test_a_paused_worker_is_named_and_catches_up_when_it_goes_on(cluster, near, workers):
    paused = workers["server2"]
    timeout = cluster.new_timeout()
    paused.send_signal(signal.SIGSTOP)

    edit = near("edit-channel-rest", "stock", "--timeout", str(timeout), "--wait", "0.5")
    version = str(edit.json["config_version"])
    waited = near("wait", "--version", version, "--timeout", "0.5")

    assert (edit.code, edit.json["converged"]) == (0, False)
    assert [(item["server"], item["pid"]) for item in edit.json["missing"]] == [("server2", paused.pid)]
    assert waited.code == 6
    assert f"server2 (pid {paused.pid}" in waited.err

    paused.send_signal(signal.SIGCONT)

    assert near("wait", "--version", version, "--timeout", "20").code == 0
    cluster.environment.wait_until_healthy()
    assert cluster.works()


def test_a_change_reaches_all_workers_without_redis(cluster, workers):
    environment = cluster.environment
    environment.kill("redis")

    cluster.edit(cluster.new_timeout())

    assert cluster.works()
    assert environment.worker("server1").pid == workers["server1"].pid
    environment.start()
    cluster.edit(cluster.new_timeout())


def test_a_server_that_was_down_has_what_was_changed_meanwhile(cluster):
    environment = cluster.environment
    environment.kill("server2")
    timeout = cluster.new_timeout()
    answer = environment.json("edit-channel-rest", "stock", "--timeout", str(timeout), "--no-wait")

    environment.start()

    assert environment.json("wait", "--version", str(answer["config_version"]), "--timeout", "20")[
        "converged"
    ]
    environment.wait_until_healthy()
    applied = {
        worker["applied_version"]
        for server in environment.status()["cluster"]["servers"]
        for worker in server["workers"]
    }
    assert applied == {answer["config_version"]}


def test_a_file_that_is_dropped_while_the_database_is_away_is_deployed_when_it_is_back(cluster):
    environment = cluster.environment
    source = "from zato.server.service import Service\nclass Late(Service):\n    name = 'late.one'\n    handle = lambda self: None\n"
    environment.kill("postgres")
    environment.drop("server1", "late.py", source)

    environment.start()

    def is_deployed():
        return environment.json("list-service", "--query", "late.one")["total"] == 1

    wait_until(is_deployed, 20, "The file is forgotten.")
