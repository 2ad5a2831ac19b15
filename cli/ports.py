"""TCP ports of this machine: free ones, and who holds the others."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

from junctor.sql.errors import EnvironmentProblem

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_200, 31_500  # between Junctor's own ports: 11223, 17010, 20151 and 31530
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768
ATTEMPTS = 50


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on ``host``:``port`` now.

    Raises ``EnvironmentProblem`` when it could not for another reason than that somebody else does: the address
    is not this machine's, or ports below 1024 need a privilege.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                return False
            raise EnvironmentProblem(f"No server can listen on {host}:{port}: {e.strerror}.") from e
        return True


def free_port() -> int:
    """A free loopback port outside the range from which the kernel takes ports for outgoing connections.

    So a port kept for a store is not lost, while the store is down, to whoever happens to connect somewhere.
    """
    end = min(_ephemeral_start(), LAST_PORT)
    for _ in range(ATTEMPTS if end > FIRST_PORT else 0):
        port = random.randrange(FIRST_PORT, end)  # noqa: S311 - a port number is no secret
        if is_free(LOOPBACK, port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def accepts(host: str, port: int, *, timeout: float = 1.0) -> bool:
    """Whether something accepts a connection on ``host``:``port`` within ``timeout`` seconds."""
    try:
        with socket.create_connection((reachable_host(host), port), timeout=timeout):
            return True
    except OSError:
        return False


def reachable_host(host: str) -> str:
    """The address by which this machine reaches what listens on ``host``, which may mean 'every address'."""
    return {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1", "*": LOOPBACK}.get(host, host)  # noqa: S104 - a key


def holder(port: int) -> str:
    """Who listens on ``port``, as words for a message: 'process 4711 (nginx)', or 'another process' if hidden."""
    import psutil  # costs 20 ms, which only the unlucky pay

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return "another process"
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
        if not listens or not connection.pid:
            continue
        try:
            return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
        except psutil.Error:
            return f"process {connection.pid}"
    return "another process"


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
