import os
import socket

import pytest

from junctor.cli import ports
from junctor.sql.errors import EnvironmentProblem


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_free_port_is_outside_the_kernels_range_for_outgoing_connections():
    port = ports.free_port()

    assert ports.is_free("127.0.0.1", port)
    assert ports.FIRST_PORT <= port < ports.LAST_PORT


def test_a_machine_that_hands_out_every_port_still_has_free_ones(monkeypatch):
    monkeypatch.setattr(ports, "_ephemeral_start", lambda: 1024)

    assert ports.is_free("127.0.0.1", ports.free_port())


def test_a_machine_without_proc_has_a_range_too(monkeypatch, tmp_path):
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", tmp_path / "none")

    assert ports.FIRST_PORT <= ports.free_port() < ports.LAST_PORT


def test_a_port_with_a_listener_is_not_free_on_any_address(listener):
    assert not ports.is_free("127.0.0.1", listener)
    assert not ports.is_free("0.0.0.0", listener)
    assert ports.accepts("0.0.0.0", listener)


def test_nothing_accepts_on_a_free_port():
    assert not ports.accepts("127.0.0.1", ports.free_port())


def test_an_address_of_another_machine_is_refused_with_the_reason():
    with pytest.raises(EnvironmentProblem, match=r"203.0.113.7:1234: Cannot assign"):
        ports.is_free("203.0.113.7", 1234)


def test_the_holder_of_a_port_is_named(listener):
    assert ports.holder(listener).startswith(f"process {os.getpid()} (")


def test_a_holder_that_cannot_be_seen_is_another_process():
    assert ports.holder(ports.free_port()) == "another process"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")],
)
def test_every_address_is_reached_over_loopback(host, expected):
    assert ports.reachable_host(host) == expected
