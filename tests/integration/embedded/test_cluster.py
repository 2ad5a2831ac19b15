import os
import signal
import socket
from pathlib import Path

import pytest

from junctor.cli import cluster
from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.cli.http_probe import answers
from junctor.sql.errors import EnvironmentProblem, ProcessFailed
from tests.helpers.ports import free_port

pytestmark = pytest.mark.usefixtures("stand_in")


class Steps(list):
    """A report that keeps what it was told."""

    def __call__(self, step, total, text):
        self.append((step, total, text))


@pytest.fixture
def steps():
    return Steps()


def names(components, state):
    return [c.name for c in components if c.state == state]


ALL = ["PostgreSQL", "Redis (Valkey)", "server1", "server2", "Load balancer (HAProxy)"]


def test_everything_starts_in_its_order_and_each_step_is_told(environment, steps):
    started = cluster.start_environment(environment, steps)

    assert [one.name for one in started] == ALL
    assert all(one.fresh for one in started)
    assert [(step, total) for step, total, _ in steps] == [(n, 5) for n in range(1, 6)]
    assert steps[2][2] == f"server1 started (port {environment.settings.servers[0].port})"


def test_what_runs_is_told_with_its_process_memory_and_address(environment, steps):
    cluster.start_environment(environment, steps)

    status = cluster.status_of(environment)

    assert status.healthy
    assert names(status.components, "running") == ALL
    assert all(c.pid and c.started and c.memory > 0 and c.processes for c in status.components)
    assert status.components[3].address == f"127.0.0.1:{environment.settings.servers[1].port}"


def test_the_load_balancer_reaches_the_servers(environment, steps):
    cluster.start_environment(environment, steps)

    assert answers(("127.0.0.1", environment.settings.load_balancer.port), "/orders")


def test_starting_again_changes_nothing(environment, steps):
    cluster.start_environment(environment, steps)
    before = [c.pid for c in cluster.status_of(environment).components]

    started = cluster.start_environment(environment, steps)

    assert not any(one.fresh for one in started)
    assert [c.pid for c in cluster.status_of(environment).components] == before
    assert steps[-1][2].startswith("Load balancer (HAProxy) runs already")


def test_everything_stops_and_stopping_again_is_no_error(environment, steps):
    cluster.start_environment(environment, steps)
    steps.clear()

    assert all(one.was_running and not one.forced for one in cluster.stop_environment(environment, steps))

    assert [text for _, _, text in steps] == [
        f"{name} stopped" for name in [ALL[4], ALL[2], ALL[3], ALL[1], ALL[0]]
    ]
    assert names(cluster.status_of(environment).components, "stopped") == ALL
    assert not any(one.was_running for one in cluster.stop_environment(environment, steps))


def test_after_a_power_failure_everything_comes_back_every_time(environment, steps):
    for _ in range(3):
        cluster.start_environment(environment, steps)
        cluster.kill_environment(environment)

    assert all(one.fresh for one in cluster.start_environment(environment, steps))


def test_what_was_killed_counts_as_crashed_and_starts_alone(environment, steps):
    cluster.start_environment(environment, steps)
    victim = cluster.Cluster(environment).servers[0].daemon()
    victim.signal(signal.SIGKILL)
    victim.kill()
    victim.launch.pidfile.write_text("1\nlong-ago:1\n")
    assert names(cluster.status_of(environment).components, "crashed") == ["server1"]

    started = cluster.start_environment(environment, steps)

    assert [one.name for one in started if one.fresh] == ["server1"]


def test_what_hangs_is_told_apart_from_what_answers(environment, steps):
    cluster.start_environment(environment, steps)
    server = cluster.Cluster(environment).servers[1].daemon()
    server.signal(signal.SIGSTOP)
    try:
        status = cluster.status_of(environment)
    finally:
        server.signal(signal.SIGCONT)

    assert names(status.components, "unresponsive") == ["server2"]
    assert not status.healthy


def test_a_server_that_does_not_start_is_told_with_its_reason_and_the_others_run(environment, steps):
    (environment.path / "server1/broken").touch()

    with pytest.raises(
        ProcessFailed, match=r"server1 stopped right after its start[\s\S]*no module named orders"
    ):
        cluster.start_environment(environment, steps)

    assert names(cluster.status_of(environment).components, "running") == [
        "PostgreSQL",
        "Redis (Valkey)",
        "server2",
    ]
    (environment.path / "server1/broken").unlink()
    assert [one.name for one in cluster.start_environment(environment, steps) if one.fresh] == [
        "server1",
        ALL[4],
    ]


def test_a_port_of_a_server_that_is_taken_is_told_with_who_has_it(environment, steps):
    port = environment.settings.servers[0].port
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", port))
        thief.listen()

        with pytest.raises(
            ProcessFailed, match=rf"server1 cannot start: .*:{port} is taken by process {os.getpid()}"
        ):
            cluster.start_environment(environment, steps)


def test_servers_are_restarted_when_a_store_had_to_move(environment, steps):
    cluster.start_environment(environment, steps)
    cluster.Cluster(environment).redis.stop()
    old = environment.settings.redis.port
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", old))
        thief.listen()

        started = cluster.start_environment(environment, steps)

    assert [one.name for one in started if one.fresh] == ["Redis (Valkey)", "server1", "server2"]
    assert environment.settings.redis.port != old
    server = cluster.Cluster(environment).servers[0].daemon().status().pid
    assert f":{environment.settings.redis.port}/0" in Path(f"/proc/{server}/environ").read_text()


def test_stores_can_be_started_alone(environment, steps):
    started = cluster.start_stores(environment, steps)

    assert [one.name for one in started] == ALL[:2]
    assert [(step, total) for step, total, _ in steps] == [(1, 2), (2, 2)]


def test_two_commands_never_start_the_same_environment(environment, steps, monkeypatch):
    monkeypatch.setattr("junctor.cli.environment.LOCK_TIMEOUT", 0.05)

    with environment.locked(), pytest.raises(EnvironmentProblem, match="Another command"):
        cluster.start_environment(Environment.open(environment.path), steps)

    assert steps == []


def test_stores_of_somebody_else_are_neither_started_nor_stopped(path, steps):
    with socket.socket() as database:
        database.bind(("127.0.0.1", 0))
        database.listen()
        plan = Plan(
            servers=(ServerAddress("server1", free_port(), "127.0.0.1"),),
            load_balancer=LoadBalancerAddress(free_port(), "127.0.0.1"),
            odb_url=f"postgresql://u:p@127.0.0.1:{database.getsockname()[1]}/x",
            redis_url=f"redis://127.0.0.1:{free_port()}/0",
            haproxy="external",
        )
        environment = Environment.create(path, plan, lambda: "k:1\n")
        environment.complete()
        try:
            assert [one.name for one in cluster.start_environment(environment, steps)] == ["server1"]

            components = cluster.status_of(environment).components
            assert [(c.kind, c.state) for c in components] == [
                ("postgres", "external"),
                ("redis", "unreachable"),
                ("server", "running"),
            ]
            assert "p@" not in components[0].address
        finally:
            environment.remove()
