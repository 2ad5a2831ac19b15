"""``junctor chaos verify`` on a real environment: messages flow, things fail, and every promise is kept."""

import re
import signal
import subprocess

import pytest

from tests.helpers.quickstart import PROGRAM
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.chaos
SECONDS = 10
RUN = re.compile(r"chaos[0-9a-f]{8}")


def left_behind(environment):
    """The lines of an export of everything which name objects of runs."""
    exported = environment.junctor("enmasse", "--export", "--internal")
    return [line.strip() for line in exported.splitlines() if RUN.search(line)]


# Together they kill a worker, a server, the database and Redis, pause a worker, reload a server and cut all connections.
@pytest.mark.parametrize("seed", [18, 21])
def test_whatever_fails_nothing_that_was_acknowledged_is_lost(cluster, tmp_path, seed):
    environment = cluster.environment
    history, report = tmp_path / "history.jsonl", tmp_path / "report.html"
    files = ("--history", history, "--report", report)

    ran = environment.run(
        "--json", "chaos", "verify", environment.path, "--seed", str(seed), "--seconds", str(SECONDS), *files
    )

    assert ran.code == 0, ran
    found = ran.json
    assert (found["kept"], found["problems"]) == (True, []), ran.out
    assert found["acknowledged"] > 50
    assert found["faults"] > 2
    assert "Every promise was kept" in report.read_text(encoding="utf-8")
    assert environment.run("chaos", "check", history).code == 0
    assert left_behind(environment) == []
    environment.wait_until_healthy()


def test_a_run_that_is_interrupted_removes_what_it_has_made(cluster, tmp_path):
    environment = cluster.environment
    command = [PROGRAM, "chaos", "verify", environment.path, "--faults", "pause-worker", "--seconds", "600"]
    with (tmp_path / "output").open("wb") as output:
        run = subprocess.Popen(
            [*command, "--history", tmp_path / "history.jsonl"],
            env=environment.environment,
            stdout=output,
            stderr=output,
        )

    def receives():
        path = tmp_path / "history.jsonl"
        return path.exists() and b'"f":"receive"' in path.read_bytes()

    wait_until(receives, 30, "No message flows.")
    assert left_behind(environment)
    run.send_signal(signal.SIGINT)

    assert run.wait(60) == 130
    assert left_behind(environment) == []
    environment.wait_until_healthy()
