"""What an environment finds in its way when it starts: foreign processes under its pids and on its ports, damaged files."""

import os
import socket
import subprocess
from contextlib import contextmanager

import psutil
import pytest

from tests.helpers.quickstart import COMPONENTS
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.chaos


@pytest.fixture
def down(cluster):
    """The cluster after a power failure."""
    cluster.environment.kill()
    return cluster


@pytest.fixture
def stranger():
    """A process of somebody else, which must come to no harm."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    is_alive = process.poll() is None
    process.kill()
    process.wait(10)
    assert is_alive


@contextmanager
def listening(port, host="127.0.0.1"):
    """Somebody else has the port."""
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((host, port))
        thief.listen()
        yield


def test_pidfiles_whose_pids_have_been_given_to_others_are_recognised(down, stranger):
    for component in COMPONENTS:
        pidfile = down.environment.path / component / "run" / "pidfile"
        _, known_as = pidfile.read_text().split()
        pidfile.write_text(f"{stranger.pid}\n{known_as}\n")

    down.environment.start()

    assert down.works()


def test_damaged_pidfiles_are_no_obstacle(down):
    for component, damage in zip(COMPONENTS, ["", "x", "0\n", "-1 a\n", "99999999 b\n"], strict=True):
        (down.environment.path / component / "run" / "pidfile").write_text(damage)

    down.environment.start()

    assert down.works()


def test_a_database_whose_process_nobody_has_collected_yet_is_started(down):
    lock = down.environment.path / "postgres" / "data" / "postmaster.pid"
    parent = psutil.Popen(["sh", "-c", "true & exec sleep 600"])
    try:
        wait_until(lambda: [child.status() for child in parent.children()] == [psutil.STATUS_ZOMBIE])
        [zombie] = parent.children()
        lock.write_text(lock.read_text().replace(lock.read_text().split("\n")[0], str(zombie.pid), 1))

        down.environment.start()
    finally:
        parent.kill()
        parent.wait(10)

    assert down.works()


def test_stopping_after_a_power_failure_leaves_an_environment_that_starts(down, stranger):
    pidfile = down.environment.path / "server1" / "run" / "pidfile"
    pidfile.write_text(f"{stranger.pid}\n{pidfile.read_text().split()[1]}\n")

    down.environment.stop()
    down.environment.start()

    assert down.works()


@pytest.mark.parametrize("store", ["object_database", "redis"])
def test_a_store_whose_port_is_taken_moves_to_another_and_the_servers_follow(down, store):
    environment = down.environment
    address = environment.json("info")[store]
    port = int(address.rpartition(":")[2].partition("/")[0])

    with listening(port):
        environment.start()
        assert down.works()
        down.edit(down.new_timeout())

    assert environment.json("info")[store] != address


@pytest.mark.parametrize("component", ["server2", "load-balancer"])
def test_a_public_port_that_is_taken_is_told_with_who_has_it(down, component):
    environment = down.environment
    port = environment.lb_port if component == "load-balancer" else environment.port_base + 1

    with listening(port, "0.0.0.0"):
        ran = environment.run("quickstart", "start", environment.path)

    assert ran.code == 9
    assert f":{port} is taken by process {os.getpid()} (" in ran.err
    environment.start()
    assert down.works()


def test_a_configuration_that_somebody_has_damaged_is_told_with_its_line(cluster):
    path = cluster.environment.path / "environment.toml"
    text = path.read_text()
    try:
        path.write_text(text + "\n[broken\n")

        message = cluster.environment.refused(8, "status")

        assert "environment.toml" in message
        assert "line" in message
    finally:
        path.write_text(text)
