"""TCP ports for what tests start.

Whoever runs tests on this machine shares one file, in which each port that somebody was given is locked for as long as that process
lives: so several runs, and the suites of one run, never give the same port to two servers, one of which happens to be down.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Neither where the kernel takes ports for outgoing connections, lest one of these has a port just when its server is started
# again, nor where Junctor looks for ports of its own accord (20,200 to 31,500), nor any that it has by default.
FIRST, LAST = 11_300, 16_999
_ATTEMPTS = 1000


def free_port() -> int:
    """A port of the loopback address that nothing listens on and that no other test was given."""
    return ports_in_a_row(1)


def ports_in_a_row(count: int) -> int:
    """The first of several ports that nothing listens on, on any address, and that no other test was given."""
    for _ in range(_ATTEMPTS):
        first = random.randrange(FIRST, LAST + 2 - count)
        ports = range(first, first + count)
        if all(_is_free(port) for port in ports) and _reserve(first, count):
            return first
    raise AssertionError(f"There are no {count} free ports in a row.")


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections on the port now."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


_given: set[int] = set()  # locks do not keep a process from taking its own ports again


def _reserve(first: int, count: int) -> bool:
    if not _given.isdisjoint(range(first, first + count)):
        return False
    try:
        fcntl.lockf(_locks(os.getpid()), fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
    except BlockingIOError:
        return False
    _given.update(range(first, first + count))
    return True


@cache
def _locks(process: int) -> int:
    """The file whose bytes are the ports, one for each account; closing it in any way would give them all up."""
    del process  # a child after a fork has no locks; it makes its own
    path = Path(tempfile.gettempdir(), f"junctor-tests-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
            probe.listen(1)
        except OSError:
            return False
        return True
