"""Which requests the load balancer sends where: from what the environment and the object database say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from junctor.cli import ports
from junctor.cli.environment_file import HOST, SERVER_NAME, ServerAddress
from junctor.cli.private_files import replace_file
from junctor.server.websocket.address import Address
from junctor.sql.routing import ChannelRoute, Routes, ServerRoute

HTTP_BACKEND: Final = "bck_http_plain"
WEBSOCKET_BACKEND: Final = "websockets"  # the first one; others have their ports behind it
EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - names of what channels listen on


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend for the WebSocket channels of one port: the names of servers, and where each has the port."""

    name: str
    servers: tuple[ServerAddress, ...]
    is_secure: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """WebSockets whose path is ``path``, or below it, go to ``backend``."""

    path: str
    backend: str

    @property
    def below(self) -> str:
        """What paths below ``path`` begin with: /ws/ and not /ws, for /wsx is another path."""
        return self.path.rstrip("/") + "/"

    def covers(self, path: str) -> bool:
        """Whether it holds for a path."""
        return path == self.path or path.startswith(self.below)


@dataclass(frozen=True, slots=True)
class Routing:
    """Where requests go: ``rules`` are tried one after the other, and what none holds for goes to ``servers``.

    ``remarks`` are sentences about what cannot be reached through the load balancer.
    """

    servers: tuple[ServerAddress, ...]
    backends: tuple[Backend, ...] = ()
    rules: tuple[Rule, ...] = ()
    remarks: tuple[str, ...] = ()


def routing(local: Sequence[ServerAddress], routes: Routes) -> Routing:
    """Where requests go in a cluster with the servers ``local`` of this environment and what the object database knows.

    Of channels with the same path, the oldest is reached through the load balancer.
    """
    remarks: list[str] = []
    servers = _servers(local, routes.servers, remarks)
    groups: dict[tuple[str, int, bool], Backend] = {}
    rules: dict[str, Rule] = {}
    owners: dict[str, str] = {}
    for channel in routes.channels:
        address = Address.parse(channel.address)
        if problem := _problem(address, owners):
            remarks.append(
                f"WebSocket channel {channel.name!r} is not reached through the load balancer: {problem}."
            )
            continue
        owners[address.path] = channel.name
        if not address.is_own:
            rules[address.path] = Rule(address.path, HTTP_BACKEND)
            continue
        key = (address.host, address.port, address.is_secure)
        if key not in groups:
            groups[key] = Backend(
                _name(address.port, groups.values()), _at(address, servers), address.is_secure
            )
        rules[address.path] = Rule(address.path, groups[key].name)
        if not groups[key].servers:
            remarks.append(
                f"WebSocket channel {channel.name!r} is not reached through the load balancer: "
                f"{address.host} is an address of the servers' own machines."
            )
    return Routing(servers, tuple(groups.values()), _needed(rules.values()), tuple(remarks))


def load(path: Path) -> Routes:
    """What ``save`` has written to ``path``; nothing if that cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Routes(
            int(kept["version"]),
            tuple(ServerRoute(**server) for server in kept["servers"]),
            tuple(ChannelRoute(**channel) for channel in kept["channels"]),
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # none yet, or damaged: the next answer of the database mends it
        return Routes()


def save(path: Path, routes: Routes) -> None:
    """``path`` holds ``routes``, for when the object database cannot be asked.  Raises ``EnvironmentProblem``."""
    if load(path) != routes:
        replace_file(path, json.dumps(asdict(routes)) + "\n")


def _servers(
    local: Sequence[ServerAddress], known: Iterable[ServerRoute], remarks: list[str]
) -> tuple[ServerAddress, ...]:
    """The environment's own servers, and those of the cluster that are elsewhere."""
    found = [ServerAddress(s.name, s.port, ports.reachable_host(s.host)) for s in local]
    names = {server.name for server in found}
    addresses = {(server.host, server.port) for server in found}
    for server in known:
        if server.name in names or (server.host, server.port) in addresses:
            continue
        if not SERVER_NAME.fullmatch(server.name) or not server.host or not HOST.fullmatch(server.host):
            remarks.append(
                f"Server {server.name!r} at {server.host!r} gets no requests: HAProxy does not take such a name or host."
            )
            continue
        found.append(ServerAddress(server.name, server.port, server.host))
        addresses.add((server.host, server.port))
    return tuple(found)


def _problem(address: Address, owners: dict[str, str]) -> str:
    if address.is_own and not HOST.fullmatch(address.host):
        return f"HAProxy does not take {address.host!r} as a host"
    if not address.path.isprintable() or "\ufffd" in address.path:
        return "its path has characters that are no text"
    if owner := owners.get(address.path):
        return f"{owner!r} has its path, {address.path}"
    return ""


def _name(port: int, others: Iterable[Backend]) -> str:
    taken = {backend.name for backend in others}
    if not taken:
        return WEBSOCKET_BACKEND
    name = f"{WEBSOCKET_BACKEND}--{port}"
    number = 2
    while name in taken:  # the same port of another address
        name = f"{WEBSOCKET_BACKEND}--{port}--{number}"
        number += 1
    return name


def _at(address: Address, servers: Iterable[ServerAddress]) -> tuple[ServerAddress, ...]:
    """The servers at the port of a channel; those whose machine is another are left out if it listens to its own machine alone."""
    found = []
    for server in servers:
        host = server.host if address.host in EVERY_ADDRESS else address.host
        if not _is_loopback(host) or _is_loopback(server.host):
            found.append(ServerAddress(server.name, address.port, host))
    return tuple(found)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _needed(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules in the order in which they are tried: the longest path first, and none that says what holds anyway."""
    listed = sorted(rules, key=lambda rule: (-len(rule.path), rule.path))
    own = [rule for rule in listed if rule.backend != HTTP_BACKEND]
    return tuple(
        rule for rule in listed if rule.backend != HTTP_BACKEND or any(o.covers(rule.path) for o in own)
    )
