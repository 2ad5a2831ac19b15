"""TCP ports for what tests start."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
_given: set[int] = set()


def free_port() -> int:
    """A port of the loopback address that nothing listens on and that no other test of this run was given."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections on the port now."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
