"""A whole environment: start, stop, kill and status of all its processes in their order.

Stores first, then the servers, all at once, then the load balancer; the other way round to stop.  Each verb tells what it does
through ``report(step, total, text)`` and holds the environment's lock, so two commands never work on it at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from junctor.cli import ports, process_table, store_urls
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.embedded.postgres import Postgres
from junctor.cli.embedded.store import Started, Store
from junctor.cli.embedded.valkey import Valkey
from junctor.cli.environment import Environment
from junctor.cli.process import Daemon, ProcessStatus, Stopped, stop_all
from junctor.cli.server_process import START_TIMEOUT, ServerProcess
from junctor.sql.errors import ProcessFailed

POSTGRES_PORT, REDIS_PORT = 5432, 6379

Report = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One part of an environment, as it is now.

    ``memory`` is in bytes, over ``processes`` processes.  ``started`` is in seconds since the epoch.  'unresponsive' means that
    the process runs but does not answer; 'external' that the part belongs to somebody else, and answers.  ``problem`` is a sentence
    about what does not work although the part runs; '' = nothing.
    """

    name: str
    kind: Literal["postgres", "redis", "server", "load-balancer"]
    state: Literal["running", "unresponsive", "stopped", "crashed", "external", "unreachable"]
    address: str
    pid: int = 0
    started: float = 0.0
    memory: int = 0
    processes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentStatus:
    """An environment as it is now."""

    path: str
    cluster: str
    components: tuple[ComponentStatus, ...]

    @property
    def healthy(self) -> bool:
        """Whether every part runs, answers and has no problem."""
        return all(part.state in ("running", "external") and not part.problem for part in self.components)


class Cluster:
    """All processes of one environment."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        settings = environment.settings
        self.postgres = Postgres(environment) if settings.odb.embedded else None
        self.redis = Valkey(environment) if settings.redis.embedded else None
        self.haproxy = HAProxy(environment) if settings.haproxy != "external" else None

    @property
    def stores(self) -> list[Store]:
        """The embedded stores."""
        return [store for store in (self.postgres, self.redis) if store]

    @property
    def servers(self) -> list[ServerProcess]:
        """The servers, as ``environment.toml`` lists them."""
        return [ServerProcess(self.environment, server) for server in self.environment.settings.servers]

    def daemons(self) -> list[Daemon]:
        """Every process of the environment, in the order of starting."""
        stores = [store.daemon() for store in (self.postgres, self.redis) if store]
        balancers = [self.haproxy.daemon()] if self.haproxy else []
        return [*stores, *(server.daemon() for server in self.servers), *balancers]


def create_stores(environment: Environment) -> None:
    """What the embedded stores need on disk is there; none of them runs.  Raises ``EnvironmentProblem``."""
    for store in Cluster(environment).stores:
        store.install_check()
        store.create()


def start_stores(environment: Environment, report: Report) -> list[Started]:
    """What starting each embedded store came to; they answer now.  Raises ``ProcessFailed`` for the first that fails."""
    with environment.locked():
        return _start_stores(Cluster(environment), _Steps(report, len(Cluster(environment).stores)))


def start_environment(environment: Environment, report: Report) -> list[Started]:
    """What starting each part came to; everything answers now.

    What runs already stays as it is, except that servers are restarted when a store had to move to another port.
    Raises ``ProcessFailed`` for the first part that does not start; what was started before it goes on running.
    """
    with environment.locked():
        cluster = Cluster(environment)
        steps = _Steps(report, len(cluster.daemons()))
        started = _start_stores(cluster, steps)
        if any(store.moved_from for store in started):
            stop_all([server.daemon() for server in cluster.servers])
        started += _start_servers(cluster, steps)
        if cluster.haproxy:
            started.append(_announce(steps, cluster.haproxy.start()))
        return started


def stop_environment(environment: Environment, report: Report) -> list[Stopped]:
    """What stopping each part came to, in the order of stopping; nothing runs any more.

    Raises ``ProcessFailed`` for the first part that cannot be ended.
    """
    with environment.locked():
        cluster = Cluster(environment)
        steps = _Steps(report, len(cluster.daemons()))
        stopped = []
        # The load balancer and the servers at once: it waits for WebSockets, which they end, and they for connections that it has.
        names = [server.name for server in cluster.servers]
        daemons = [server.daemon() for server in cluster.servers]
        if cluster.haproxy:
            cluster.haproxy.agent.stop()
            names.insert(0, cluster.haproxy.name)
            daemons.insert(0, cluster.haproxy.daemon())
        for name, result in zip(names, stop_all(daemons), strict=True):
            stopped.append(_announce_stop(steps, name, result))
        for store in reversed(cluster.stores):
            stopped.append(_announce_stop(steps, store.name, store.stop()))
        return stopped


def kill_environment(environment: Environment) -> None:
    """Nothing of the environment runs any more, and nothing was asked: what a power failure would do."""
    cluster = Cluster(environment)
    if cluster.haproxy:
        cluster.haproxy.kill()
    for daemon in cluster.daemons():
        daemon.kill()


def status_of(environment: Environment) -> EnvironmentStatus:
    """The state of every part, external stores included.  Never changes anything and needs no lock."""
    cluster = Cluster(environment)
    settings = environment.settings
    components = [
        _store_status(cluster.postgres)
        if cluster.postgres
        else _external("Object database", "postgres", settings.odb.url, POSTGRES_PORT),
        _store_status(cluster.redis)
        if cluster.redis
        else _external("Redis", "redis", settings.redis.url, REDIS_PORT),
    ]
    for server in cluster.servers:
        address = f"{server.server.host}:{server.server.port}"
        components.append(_status(server.daemon(), server.ping, "server", address))
    if cluster.haproxy:
        address = f"{settings.load_balancer.host}:{settings.load_balancer.port}"
        components.append(_balancer_status(cluster.haproxy, address))
    return EnvironmentStatus(str(environment.path), settings.cluster, tuple(components))


class _Steps:
    """Counts the steps of one command for its report."""

    def __init__(self, report: Report, total: int) -> None:
        self._report = report
        self._total = total
        self._step = 0

    def done(self, text: str) -> None:
        self._step += 1
        self._report(self._step, self._total, text)


def _start_stores(cluster: Cluster, steps: _Steps) -> list[Started]:
    return [_announce(steps, store.start()) for store in cluster.stores]


def _start_servers(cluster: Cluster, steps: _Steps) -> list[Started]:
    waiting: list[tuple[ServerProcess, Daemon, bool]] = []
    for server in cluster.servers:
        cluster.environment.write_server_file(server.server)
        daemon = server.daemon()
        waiting.append((server, daemon, daemon.spawn()))
    started, failures = [], []
    for server, daemon, fresh in waiting:
        try:
            done = daemon.finish_start(fresh, server.ping, START_TIMEOUT)
        except ProcessFailed as e:
            failures.append(e.message)
            continue
        started.append(_announce(steps, Started(server.name, server.server.port, done)))
    if failures:
        raise ProcessFailed("\n".join(failures))
    return started


def _announce(steps: _Steps, started: Started) -> Started:
    state = "started" if started.fresh else "runs already"
    steps.done(" ".join((f"{started.name} {state} (port {started.port})", *started.notes)))
    return started


def _announce_stop(steps: _Steps, name: str, stopped: Stopped) -> Stopped:
    state = "stopped" if stopped.was_running else "was not running"
    steps.done(f"{name} {state}{' (it had to be killed)' if stopped.forced else ''}")
    return stopped


def _store_status(store: Postgres | Valkey) -> ComponentStatus:
    kind: Literal["postgres", "redis"] = "postgres" if isinstance(store, Postgres) else "redis"
    return _status(store.daemon(), store.ping, kind, f"{ports.LOOPBACK}:{store.port}")


def _balancer_status(haproxy: HAProxy, address: str) -> ComponentStatus:
    """HAProxy and its agent as one part: the agent is what keeps the other current."""
    status = _status(haproxy.daemon(), haproxy.ping, "load-balancer", address)
    if not status.pid:
        return status
    agent = haproxy.agent.daemon().processes()
    return replace(
        status,
        memory=status.memory + process_table.memory_of(agent),
        processes=status.processes + len(agent),
        problem=haproxy.agent.problem(),
    )


def _status(
    daemon: Daemon,
    ping: Callable[[], bool],
    kind: Literal["postgres", "redis", "server", "load-balancer"],
    address: str,
) -> ComponentStatus:
    status: ProcessStatus = daemon.status()
    if not status.running:
        state: Literal["stopped", "crashed"] = "crashed" if status.state == "crashed" else "stopped"
        return ComponentStatus(daemon.launch.name, kind, state, address)
    pids = daemon.processes()
    return ComponentStatus(
        daemon.launch.name,
        kind,
        "running" if ping() else "unresponsive",
        address,
        status.pid,
        status.started,
        process_table.memory_of(pids),
        len(pids),
    )


def _external(name: str, kind: Literal["postgres", "redis"], url: str, default_port: int) -> ComponentStatus:
    host, port = store_urls.host_and_port(url, default_port)
    reachable = ports.accepts(host, port)
    return ComponentStatus(name, kind, "external" if reachable else "unreachable", f"{host}:{port}")
