"""``environment.toml``: what an environment consists of, without a single secret.

Administrators may edit it while the environment is stopped.  Comments and unknown keys stay when Junctor writes it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from junctor.sql.errors import EnvironmentProblem, Problem

FORMAT = 1
DEFAULT_SERVER_PORT = 17010
DEFAULT_LOAD_BALANCER_PORT = 11223
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - what DESIGN section 2 says the public ports listen on
MAX_PORT = 65_535
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED_NAMES = frozenset({"postgres", "redis", "load-balancer", "secrets", "web-admin", "scheduler"})
HOST = re.compile(r"[A-Za-z0-9_.:*-]{0,255}")  # it goes into the load balancer's configuration
HEADING = """\
# A Junctor environment.  Secrets are in secrets/, one file each.
# Edit this file while the environment is stopped.  'junctor quickstart add-server' adds a server to it.
"""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server of the environment: its name, which is also its directory's, and where it listens."""

    name: str
    port: int
    host: str = EVERY_ADDRESS


@dataclass(frozen=True, slots=True)
class LoadBalancerAddress:
    """Where the load balancer listens."""

    port: int = DEFAULT_LOAD_BALANCER_PORT
    host: str = EVERY_ADDRESS


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store: the loopback port of an embedded one, or the URL, without its password, of somebody else's."""

    port: int = 0
    url: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the store is a process of the environment."""
        return not self.url


@dataclass(frozen=True, slots=True)
class Settings:
    """The content of ``environment.toml``.

    ``haproxy`` is 'auto', the path of a program, or 'external' when the load balancer is not the environment's.
    ``created`` is an ISO 8601 time, UTC.
    """

    cluster: str
    junctor: str
    created: str
    servers: tuple[ServerAddress, ...]
    load_balancer: LoadBalancerAddress
    odb: StoreAddress
    redis: StoreAddress
    haproxy: str = "auto"


def default_servers(count: int) -> tuple[ServerAddress, ...]:
    """``count`` servers named server1, server2, ... on ports from 17010."""
    return tuple(ServerAddress(f"server{n}", DEFAULT_SERVER_PORT + n - 1) for n in range(1, count + 1))


def server_problems(servers: Sequence[ServerAddress]) -> list[Problem]:
    """What is wrong with ``servers``: a name that is no directory name or taken, two names or ports that are equal."""
    problems = [
        Problem("servers", f"{server.name!r} is not a name for a server")
        for server in servers
        if not SERVER_NAME.fullmatch(server.name) or server.name in RESERVED_NAMES
    ]
    for attribute in ("name", "port"):
        if len({getattr(server, attribute) for server in servers}) != len(servers):
            problems.append(Problem("servers", f"two have the same {attribute}"))
    return problems


def parse(text: str) -> Settings:
    """The settings in ``text``; raises ``EnvironmentProblem`` with everything that is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise EnvironmentProblem(f"environment.toml is not valid TOML: {e}.") from e
    if document.get("format") != FORMAT:
        raise EnvironmentProblem(
            f"environment.toml has format {document.get('format')!r}, this version of Junctor reads {FORMAT}."
        )
    reader = _Reader()
    settings = reader.settings(document)
    if reader.problems:
        raise EnvironmentProblem("environment.toml: " + "; ".join(str(p) for p in reader.problems))
    return settings


def render(settings: Settings, previous: str = "") -> str:
    """``settings`` as text, in the wording of ``previous`` where that has not changed."""
    import tomlkit  # 30 ms, and most commands only read
    from tomlkit.items import AoT, Table

    document = tomlkit.parse(previous or HEADING)
    for key in ("cluster", "junctor", "created"):
        document[key] = getattr(settings, key)
    document["format"] = FORMAT
    for name, values in _tables(settings):
        table = document.setdefault(name, tomlkit.table())
        if isinstance(table, Table):
            table.update(values)
    servers = document.get("servers")
    unchanged = isinstance(servers, AoT) and [dict(server) for server in servers.unwrap()] == _servers(
        settings
    )
    if not unchanged:
        array = tomlkit.aot()
        for server in _servers(settings):
            array.append(tomlkit.item(server))
        document["servers"] = array
    return tomlkit.dumps(document)


def _tables(settings: Settings) -> Iterator[tuple[str, dict[str, object]]]:
    balancer = settings.load_balancer
    yield "load_balancer", {"host": balancer.host, "port": balancer.port}
    yield "haproxy", {"command": settings.haproxy}
    for name, store in (("odb", settings.odb), ("redis", settings.redis)):
        yield name, {"embedded": True, "port": store.port} if store.embedded else {"url": store.url}


def _servers(settings: Settings) -> list[dict[str, object]]:
    return [{"name": s.name, "host": s.host, "port": s.port} for s in settings.servers]


class _Reader:
    """Reads a document and remembers every problem instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def settings(self, document: Mapping[str, Any]) -> Settings:
        balancer = self._table(document, "load_balancer")
        servers = self._servers(document)
        return Settings(
            cluster=self._text(document, "", "cluster"),
            junctor=self._text(document, "", "junctor", ""),
            created=self._text(document, "", "created", ""),
            servers=servers,
            load_balancer=LoadBalancerAddress(
                self._port(balancer, "load_balancer"),
                self._host(balancer, "load_balancer"),
            ),
            odb=self._store(document, "odb"),
            redis=self._store(document, "redis"),
            haproxy=self._text(
                self._table({"haproxy": {}, **document}, "haproxy"), "haproxy", "command", "auto"
            ),
        )

    def _servers(self, document: Mapping[str, Any]) -> tuple[ServerAddress, ...]:
        tables = document.get("servers")
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self._add("servers", "there must be at least one [[servers]]")
            return ()
        servers = [
            ServerAddress(self._text(table, w, "name"), self._port(table, w), self._host(table, w))
            for w, table in ((f"servers[{n}]", table) for n, table in enumerate(tables))
        ]
        self.problems += server_problems(servers)
        return tuple(servers)

    def _host(self, table: Mapping[str, Any], where: str) -> str:
        host = self._text(table, where, "host", EVERY_ADDRESS)
        if not HOST.fullmatch(host):
            self._add(f"{where}.host", "is neither an address nor a name")
        return host

    def _store(self, document: Mapping[str, Any], name: str) -> StoreAddress:
        table = self._table(document, name)
        if "url" in table:
            return StoreAddress(url=self._text(table, name, "url"))
        return StoreAddress(port=self._port(table, name))

    def _table(self, document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = document.get(name)
        if isinstance(value, dict):
            return value
        self._add(name, "must be a table")
        return {}

    def _text(self, table: Mapping[str, Any], where: str, key: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if isinstance(value, str):
            return value
        self._add(f"{where}.{key}".lstrip("."), "must be a text")
        return ""

    def _port(self, table: Mapping[str, Any], where: str) -> int:
        value = table.get("port")
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_PORT:
            return value
        self._add(f"{where}.port", f"must be a number from 1 to {MAX_PORT}")
        return 0

    def _add(self, field: str, message: str) -> None:
        self.problems.append(Problem(field, message))
