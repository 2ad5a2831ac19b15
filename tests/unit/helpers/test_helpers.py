"""What tests rely on: no network but this machine's, waiting with a limit, ports of one's own."""

from __future__ import annotations

import itertools
import socket

import pytest

from tests.helpers.network import NetworkRefused, is_local
from tests.helpers.ports import LOOPBACK, free_port, listens
from tests.helpers.waiting import succeeds, wait_until


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "", "no.invalid", None]
)
def test_this_machine_is_local(host: str | None) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "169.254.169.254", "2001:db8::1", "example.com"])
def test_other_machines_are_not(host: str) -> None:
    assert not is_local(host)


def test_connecting_to_another_machine_is_refused_at_once() -> None:
    with socket.socket() as client, pytest.raises(NetworkRefused, match=r"tried to reach 192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))
    with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(NetworkRefused):
        client.sendto(b"x", ("192.0.2.1", 53))
    for look_up in (
        lambda: socket.getaddrinfo(b"example.com", 80),
        lambda: socket.gethostbyname("example.com"),
    ):
        with pytest.raises(NetworkRefused, match=r"tried to reach example\.com"):
            look_up()


def test_connecting_to_this_machine_works() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert listens(server.getsockname()[1])
    left, right = socket.socketpair()
    left.close()
    right.close()


def test_ports_are_given_once_and_nothing_listens_on_them() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert not any(listens(port) for port in ports)


def test_waiting_returns_what_the_condition_found() -> None:
    looks = itertools.count()
    assert wait_until(lambda: next(looks) // 3) == 1


def test_waiting_ends_with_the_message() -> None:
    with pytest.raises(AssertionError, match="the moon is not blue"):
        wait_until(lambda: False, 0.05, "the moon is not blue")


def test_an_action_succeeds_or_raises_what_it_may() -> None:
    assert succeeds(lambda: None, ValueError)
    assert not succeeds(lambda: int("x"), ValueError)
    with pytest.raises(ZeroDivisionError):
        succeeds(lambda: 1 // 0, ValueError)
