"""One component after the other is killed; what is left goes on as far as it can, and ``start`` brings the one back alone."""

import os
import signal

import psutil
import pytest

from tests.helpers.load import Request, load
from tests.helpers.quickstart import COMPONENTS
from tests.helpers.waiting import wait_until

from .conftest import AUTH

pytestmark = pytest.mark.chaos
NAMES = dict(
    zip(
        COMPONENTS,
        ["PostgreSQL", "Redis (Valkey)", "server1", "server2", "Load balancer (HAProxy)"],
        strict=True,
    )
)
GET = Request("/stock/7", auth=AUTH)
POST = Request("/stock/7", "POST", b"{}", AUTH)


def fresh(ran):
    """The components that a command has started, by what it said."""
    return [
        line.partition("] ")[2].partition(" started")[0]
        for line in ran.out.splitlines()
        if " started " in line
    ]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_whose_processes_are_killed_counts_as_crashed_and_is_started_alone(cluster, component):
    environment = cluster.environment

    environment.kill(component)

    states = {item["name"]: item["state"] for item in environment.status()["components"]}
    assert states[NAMES[component]] == "crashed"
    assert fresh(environment.start()) == [NAMES[component]]
    assert cluster.works()
    cluster.edit(cluster.new_timeout())


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_a_killed_main_process_leaves_behind_is_no_obstacle(cluster, component):
    environment = cluster.environment

    os.kill(environment.pid(component), signal.SIGKILL)

    assert fresh(environment.start()) == [NAMES[component]]
    assert cluster.works()
    environment.wait_until_healthy()


def test_a_killed_worker_is_replaced_while_the_other_server_goes_on(cluster, workers):
    environment = cluster.environment

    with load(environment.address, [GET, GET]) as calls:
        workers["server1"].kill()
        wait_until(
            lambda: {child.pid for child in master(environment).children()} - {workers["server1"].pid},
            message="The worker is not replaced.",
        )
        calls.wait_for_more()

    assert calls.failures == []
    assert environment.worker("server2").pid == workers["server2"].pid
    environment.wait_until_healthy()


def master(environment):
    return psutil.Process(environment.pid("server1"))


def test_channels_go_on_without_the_database_and_changes_work_when_it_is_back(cluster):
    environment = cluster.environment
    timeout = cluster.new_timeout()

    with load(environment.address, [GET, POST]) as calls:
        environment.kill("postgres")
        calls.wait_for_more()
        message = environment.refused(10, "edit-channel-rest", "stock", "--timeout", str(timeout))
        assert "database" in message
        calls.wait_for_more()

        environment.start()
        cluster.edit(timeout)

    assert calls.failures == []
    environment.wait_until_healthy()
    assert cluster.timeout() == timeout


def test_workers_stay_the_same_through_a_restart_of_the_database(cluster, workers):
    environment = cluster.environment

    environment.junctor("stop", environment.path / "postgres")
    environment.junctor("start", environment.path / "postgres")

    cluster.edit(cluster.new_timeout())
    assert {server: environment.worker(server).pid for server in workers} == {
        server: worker.pid for server, worker in workers.items()
    }


def test_a_full_disk_below_the_logs_stops_no_request(cluster):
    logs = cluster.environment.path / "server1" / "logs"
    kept = {name: logs / f"{name}.kept" for name in ("access.log", "server.log")}
    for name, path in kept.items():
        (logs / name).rename(path)
        (logs / name).symlink_to("/dev/full")
    try:
        with load(f"http://127.0.0.1:{cluster.environment.port_base}", [GET, POST]) as calls:
            calls.wait_for_more(300)
        assert calls.failures == []
    finally:
        for name, path in kept.items():
            (logs / name).unlink()
            path.rename(logs / name)
    output = logs / "output.log"
    wait_until(
        lambda: "access.log cannot be written: [Errno 28]" in output.read_text(), message="It is not told."
    )

    cid = cluster.environment.call("GET", "/stock/7", auth=AUTH).headers["X-Zato-CID"]

    def is_logged():
        return any(
            cid in path.read_text() for path in cluster.environment.path.glob("server*/logs/access.log")
        )

    wait_until(is_logged, message="The log is not written any more.")
