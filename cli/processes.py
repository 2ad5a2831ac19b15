"""The processes of an environment: ``start``, ``stop``, ``reload``, ``status``."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, NoReturn

import click

from junctor.cli.cluster import Cluster, start_environment, status_of, stop_environment
from junctor.cli.command import ClusterCommand, LocalCommand, pass_session
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.embedded.store import Started, Store
from junctor.cli.environment import Environment
from junctor.cli.environment_layout import LOAD_BALANCER, Component
from junctor.cli.exit_codes import ExitCode
from junctor.cli.process import Stopped
from junctor.cli.process_table import wait_until
from junctor.cli.progress import Progress
from junctor.cli.server_process import START_TIMEOUT, ServerProcess
from junctor.cli.session import Session
from junctor.cli.status import cluster_status, show_status
from junctor.sql.errors import EnvironmentProblem, ProcessFailed

RELOAD_TIMEOUT = 90.0  # seconds until the old workers have finished their calls and are gone
DIRECTORY = click.Argument(["directory"], metavar="[ENV|ENV/COMPONENT]", required=False, type=click.Path())


@click.command(cls=LocalCommand, params=[DIRECTORY])
@click.option(
    "--fg", is_flag=True, help="A server only: become it, instead of starting it in the background."
)
@pass_session
def start(session: Session, directory: str | None, fg: bool) -> None:
    """Starts an environment, or one component of it.

    What runs already stays as it is.  The command returns when everything answers.
    """
    environment, component = session.locate(directory)
    if fg:
        become_server(environment, component)
    started_at = time.monotonic()
    if component is None:
        started = start_all(session, environment)
    else:
        with environment.locked():
            started = [_start_one(environment, component)]
        state = "started" if started[0].fresh else "runs already"
        session.say(" ".join((f"{component.name} {state}.", *started[0].notes)))
    found = [
        {"name": item.name, "port": item.port, "started": item.fresh, "notes": item.notes} for item in started
    ]
    took = time.monotonic() - started_at
    session.answer(
        {"path": str(environment.path), "components": found, "seconds": round(took, 2)},
        lambda: session.say(f"Done in {took:.1f} s."),
    )


def start_all(session: Session, environment: Environment) -> list[Started]:
    """What starting each part of an environment came to, with progress; raises ``ProcessFailed``."""
    progress = Progress(session, len(Cluster(environment).daemons()))
    return start_environment(environment, progress.report)


def become_server(environment: Environment, component: Component | None) -> NoReturn:
    """This process becomes the server, for supervisors such as systemd.

    Raises ``EnvironmentProblem`` for anything but a server, and ``ProcessFailed`` when it runs already.
    """
    server = _server(environment, component) if component else None
    if server is None:
        raise EnvironmentProblem("--fg needs the directory of a server, e.g. ENV/server1.")
    daemon = server.daemon()
    if daemon.status().running:
        raise ProcessFailed(f"{server.name} runs already.")
    environment.write_server_file(server.server)
    daemon.adopt(os.getpid())  # 'status' and 'stop' know it, as they know one in the background
    launch = daemon.launch
    os.chdir(launch.directory)
    os.execve(launch.command[0], list(launch.command), dict(launch.environment))  # noqa: S606 - this is the server's own command


@click.command(cls=LocalCommand, params=[DIRECTORY])
@pass_session
def stop(session: Session, directory: str | None) -> None:
    """Stops an environment, or one component of it.

    Servers finish the calls that are under way first.  The command returns when the processes are gone.
    """
    environment, component = session.locate(directory)
    if component is None:
        stopped = stop_all_parts(session, environment)
    else:
        with environment.locked():
            stopped = [_stop_one(environment, component)]
        session.say(f"{component.name} {'stopped' if stopped[0].was_running else 'was not running'}.")
    found = {"path": str(environment.path), "stopped": sum(item.was_running for item in stopped)}
    session.answer(found, lambda: None)


def stop_all_parts(session: Session, environment: Environment) -> list[Stopped]:
    """What stopping each part of an environment came to, with progress; raises ``ProcessFailed``."""
    progress = Progress(session, len(Cluster(environment).daemons()))
    return stop_environment(environment, progress.report)


@click.command("reload", cls=LocalCommand, params=[DIRECTORY])
@pass_session
def reload_(session: Session, directory: str | None) -> None:
    """Replaces the workers of running servers without losing a request.

    One server after the other: new workers start, then the old ones finish their calls and end.  ENV/load-balancer is told of
    today's servers, WebSocket channels and haproxy.local.cfg, which happens by itself, too; it keeps all connections.
    """
    environment, component = session.locate(directory)
    balancer = Cluster(environment).haproxy
    if component is not None and component.kind == LOAD_BALANCER and balancer is not None:
        _reload_balancer(session, environment, balancer)
        return
    servers = Cluster(environment).servers
    if component is not None:
        server = _server(environment, component)
        if server is None:
            raise EnvironmentProblem(
                f"{component.name} is neither a server nor the load balancer, which alone are reloaded."
            )
        servers = [server]
    progress = Progress(session, len(servers))
    with environment.locked():
        reloaded = [_reload(server, progress) for server in servers]
    if not any(reloaded):
        raise ProcessFailed("No server is running.")
    names = [server.name for server, done in zip(servers, reloaded, strict=True) if done]
    session.answer({"reloaded": names}, lambda: None)


def _reload_balancer(session: Session, environment: Environment, balancer: HAProxy) -> None:
    with environment.locked():
        configured = balancer.reload()
    for note in configured.notes:
        session.warn(note)
    session.say("load-balancer reloaded")
    session.answer({"reloaded": [LOAD_BALANCER], "notes": configured.notes}, lambda: None)


def _reload(server: ServerProcess, progress: Progress) -> bool:
    daemon = server.daemon()
    old = set(daemon.processes()[1:])
    if not daemon.signal(signal.SIGHUP):
        progress.done(f"{server.name} is not running")
        return False

    def replaced() -> bool:
        workers = set(daemon.processes()[1:])
        return bool(workers) and not workers & old and server.ping()

    if not wait_until(replaced, RELOAD_TIMEOUT):
        raise ProcessFailed(
            f"{server.name} did not replace its workers within {RELOAD_TIMEOUT:g} s. {daemon.last_lines()}"
        )
    progress.done(f"{server.name} reloaded")
    return True


@click.command(cls=ClusterCommand, params=[DIRECTORY])
@pass_session
@click.pass_context
def status(context: click.Context, session: Session, directory: str | None) -> None:
    """Shows servers, workers, what they have applied, and what does not work.

    The exit code is 0 when everything runs and answers, and 1 otherwise.
    """
    session.path = directory or session.path
    local = None if session.remote else status_of(session.environment())
    remote, reason = cluster_status(session)
    healthy = (local is None or local.healthy) and remote is not None and _lags_nowhere(remote)

    def show() -> None:
        show_status(session, local, remote, reason)

    components = None if local is None else local.components
    session.answer(
        {
            "healthy": healthy,
            "components": None if components is None else [_as_dict(item) for item in components],
            "cluster": remote,
            "reason": reason,
        },
        show,
    )
    if not healthy:
        context.exit(ExitCode.NO)


def _as_dict(item: Any) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__slots__}


def _lags_nowhere(remote: dict[str, Any]) -> bool:
    return not any(worker.get("problems") for server in remote["servers"] for worker in server["workers"])


def _server(environment: Environment, component: Component) -> ServerProcess | None:
    return next((server for server in Cluster(environment).servers if server.name == component.name), None)


def _start_one(environment: Environment, component: Component) -> Started:
    server = _server(environment, component)
    if server is not None:
        environment.write_server_file(server.server)
        fresh = server.daemon().start(server.ping, START_TIMEOUT)
        return Started(server.name, server.server.port, fresh)
    return _part(environment, component).start()


def _stop_one(environment: Environment, component: Component) -> Stopped:
    server = _server(environment, component)
    return _part(environment, component).stop() if server is None else server.daemon().stop()


def _part(environment: Environment, component: Component) -> Store | HAProxy:
    """The store or load balancer that a component is; raises ``EnvironmentProblem`` when the environment does not have it."""
    cluster = Cluster(environment)
    parts = {"postgres": cluster.postgres, "redis": cluster.redis, LOAD_BALANCER: cluster.haproxy}
    part = parts.get(component.kind)
    if part is None:
        raise EnvironmentProblem(f"environment.toml does not have {component.name}.")
    return part
