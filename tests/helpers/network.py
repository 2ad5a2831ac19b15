"""Tests reach this machine alone: whatever connects elsewhere fails at once, and says so."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

LOCAL_NAMES = frozenset({"", "localhost", "0.0.0.0", "::"})
NEVER_RESOLVED = (".invalid", ".localhost")  # RFC 6761: no name server knows these


class NetworkRefused(RuntimeError):
    """A test tried to reach another machine; no ``OSError``, lest the code under test take it for a broken connection."""


def is_local(host: str | None) -> bool:
    """Whether a host name or an address is this machine."""
    if host is None or host.lower() in LOCAL_NAMES or host.lower().endswith(NEVER_RESOLVED):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def refuse_other_machines() -> None:
    """From now on this process, gevent included, connects, sends and looks names up only on this machine.

    Sockets of C libraries and of other processes are out of reach.
    """
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    target = arguments[0] if event.startswith("socket.get") else arguments[1]
    host = target[0] if isinstance(target, tuple) else target
    if event in ("socket.connect", "socket.sendto") and not isinstance(target, tuple):
        return  # a Unix or a netlink socket
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not is_local(name):
        raise NetworkRefused(f"Tests only use this machine's network; this one tried to reach {name}.")
