"""``junctor quickstart``: a whole cluster on this machine, from nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from junctor.cli import output, ports
from junctor.cli.cluster import Cluster, create_stores, start_stores
from junctor.cli.command import ClusterCommand, Group, LocalCommand, pass_session
from junctor.cli.database import opened_engine
from junctor.cli.environment import Environment, Plan, new_password
from junctor.cli.environment_file import (
    DEFAULT_LOAD_BALANCER_PORT,
    DEFAULT_SERVER_PORT,
    EVERY_ADDRESS,
    LoadBalancerAddress,
    ServerAddress,
)
from junctor.cli.environment_layout import SERVER_FILE, State, state_of
from junctor.cli.private_files import replace_file
from junctor.cli.processes import start_all, status, stop_all_parts
from junctor.cli.progress import Progress
from junctor.cli.session import ADMIN_PASSWORD, DEFAULT_USERNAME, Session, http_url
from junctor.cli.store_urls import without_password
from junctor.sql.errors import AlreadyExists, EnvironmentProblem, JunctorError

PUBLIC_USERNAME, PUBLIC_PASSWORD = "pubapi", "pubapi-password"
MAX_SERVERS, MAX_WORKERS = 32, 64
PORT = click.IntRange(1, 65_535)


@click.group(cls=Group)
def quickstart() -> None:
    """Makes and runs a whole cluster on this machine."""


@quickstart.command(cls=LocalCommand)
@click.argument("directory", metavar="ENV", type=click.Path())
@click.option(
    "--servers", type=click.IntRange(1, MAX_SERVERS), default=2, show_default=True, help="How many servers."
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes of each server.",
)
@click.option("--cluster-name", default="quickstart", show_default=True, metavar="NAME")
@click.option(
    "--odb-url",
    metavar="URL",
    envvar="JUNCTOR_ODB_URL",
    help="A PostgreSQL of yours, postgresql://USER:PASSWORD@HOST/DATABASE; better given as $JUNCTOR_ODB_URL.",
)
@click.option(
    "--redis-url",
    metavar="URL",
    envvar="JUNCTOR_REDIS_URL",
    help="A Redis of yours, redis://:PASSWORD@HOST; better given as $JUNCTOR_REDIS_URL.",
)
@click.option(
    "--haproxy", default="auto", metavar="auto|external|PROGRAM", help="The load balancer.  [default: auto]"
)
@click.option(
    "--port-base", type=PORT, default=DEFAULT_SERVER_PORT, show_default=True, help="Port of the first server."
)
@click.option(
    "--lb-port",
    type=PORT,
    default=DEFAULT_LOAD_BALANCER_PORT,
    show_default=True,
    help="Port of the load balancer.",
)
@click.option("--skip-if-exists", is_flag=True, help="Succeed when there is an environment already.")
@pass_session
def create(session: Session, /, directory: str, skip_if_exists: bool, **options: Any) -> None:
    """Makes an environment: a cluster with its servers, stores and load balancer.

    PostgreSQL, Redis and HAProxy are run from the environment itself unless URLs name others.  Nothing runs when the command
    returns; 'junctor quickstart start ENV' starts it.  A creation that was interrupted is begun afresh.
    """
    path = Path(os.path.abspath(os.path.expanduser(directory)))
    if state_of(path) is State.COMPLETE:
        _tell_existing(session, Environment.open(path), skip_if_exists)
        return
    started = time.monotonic()
    plan = _plan(options)
    _warn_of_passwords(session)
    _check_ports(plan)
    environment = _create(session, path, plan, options["workers"])
    took = time.monotonic() - started

    def show() -> None:
        session.say(f"Done in {took:.1f} s.")
        _tell_access(session, environment)
        session.say(f"\nNext: junctor quickstart start {environment.path}")

    session.answer(_access(environment) | {"created": True, "seconds": round(took, 2)}, show)


@quickstart.command(cls=LocalCommand)
@click.argument("directory", metavar="[ENV]", required=False, type=click.Path())
@pass_session
def start(session: Session, directory: str | None) -> None:
    """Starts everything in an environment."""
    started = time.monotonic()
    environment = session.environment(directory)
    start_all(session, environment)
    took = time.monotonic() - started
    urls = _urls(environment)

    def show() -> None:
        session.say(f"Done in {took:.1f} s.")
        for name, url in urls.items():
            session.say(f"{name.replace('_', ' ').capitalize()}: {url}")

    session.answer({"path": str(environment.path), "seconds": round(took, 2), **urls}, show)


@quickstart.command(cls=LocalCommand)
@click.argument("directory", metavar="[ENV]", required=False, type=click.Path())
@pass_session
def stop(session: Session, directory: str | None) -> None:
    """Stops everything in an environment."""
    environment = session.environment(directory)
    stopped = stop_all_parts(session, environment)
    found = {"path": str(environment.path), "stopped": sum(item.was_running for item in stopped)}
    session.answer(found, lambda: None)


@quickstart.command("add-server", cls=LocalCommand)
@click.argument("directory", metavar="[ENV]", required=False, type=click.Path())
@click.option("--name", metavar="NAME", help="Its name and its directory's.  [default: server and a number]")
@click.option("--port", type=PORT, help="Its port.  [default: the next one after the others]")
@click.option("--host", default=EVERY_ADDRESS, show_default=True, help="The address to listen on.")
@pass_session
def add_server(
    session: Session, directory: str | None, name: str | None, port: int | None, host: str
) -> None:
    """Adds a server to an environment and, if the load balancer runs, to what it sends requests to.

    'junctor start ENV/NAME' starts it then; a server tells the cluster about itself when it starts.
    """
    environment = session.environment(directory)
    with environment.locked():
        known = environment.settings.servers
        names = {server.name for server in known}
        number = next(n for n in itertools.count(1) if f"server{n}" not in names)
        added = ServerAddress(
            name or f"server{number}", port or max(server.port for server in known) + 1, host
        )
        environment.add_server(added)
        balancer = Cluster(environment).haproxy
        is_balanced = balancer is not None and balancer.daemon().status().running
        if balancer is not None and is_balanced:
            balancer.reload()
    found = {"name": added.name, "port": added.port, "load_balancer_reloaded": is_balanced}
    session.answer(found, lambda: session.say(f"Next: junctor start {environment.path / added.name}"))


quickstart.add_command(
    ClusterCommand("status", callback=status.callback, params=[status.params[0]], help=status.help)
)


def _plan(options: dict[str, Any]) -> Plan:
    base = options["port_base"]
    if base + options["servers"] - 1 > PORT.max:
        raise click.BadParameter("the last server's port would be above 65535.", param_hint="--port-base")
    return Plan(
        cluster=options["cluster_name"],
        servers=tuple(ServerAddress(f"server{n + 1}", base + n) for n in range(options["servers"])),
        load_balancer=LoadBalancerAddress(options["lb_port"]),
        odb_url=options["odb_url"] or "",
        redis_url=options["redis_url"] or "",
        haproxy=options["haproxy"],
    )


def _warn_of_passwords(session: Session) -> None:
    """A URL with a password that was given as an argument was visible to everybody on this machine."""
    context = click.get_current_context()
    for name, variable in (("odb_url", "JUNCTOR_ODB_URL"), ("redis_url", "JUNCTOR_REDIS_URL")):
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and without_password(context.params[name])[1]:
            session.warn(f"The password was visible to others on this machine; ${variable} is not.")


def _check_ports(plan: Plan) -> None:
    """Raises ``EnvironmentProblem`` for a port that somebody listens on, before anything is made."""
    addresses = [(server.host, server.port, "--port-base") for server in plan.servers]
    if plan.haproxy != "external":
        addresses.append((plan.load_balancer.host, plan.load_balancer.port, "--lb-port"))
    if len({port for _, port, _ in addresses}) < len(addresses):
        raise click.BadParameter("it is the port of a server.", param_hint="--lb-port")
    for host, port, option in addresses:
        if not ports.is_free(host, port):
            raise EnvironmentProblem(
                f"Port {port} is taken by {ports.holder(port)}. Choose another with {option}."
            )


def _create(session: Session, path: Path, plan: Plan, workers: int) -> Environment:
    from junctor.sql.secrets import new_key_line

    embedded = (not plan.odb_url) + (not plan.redis_url)
    progress = Progress(session, 4 + embedded)
    environment = Environment.create(path, plan, new_key_line)
    with _undone_on_failure(environment):
        if environment.interrupted:
            session.warn("An earlier creation was interrupted; what it left has been removed.")
        for name in (ADMIN_PASSWORD, PUBLIC_PASSWORD):
            environment.write_secret(name, new_password())
        _set_workers(environment, workers)
        progress.done(f"Directories, secrets and settings in {environment.path}")
        create_stores(environment)
        start_stores(environment, progress.report)
        _create_cluster(environment, progress)
        for store in reversed(Cluster(environment).stores):
            store.stop()
        environment.complete()
        progress.done("Stores stopped; the environment is complete")
    return environment


@contextlib.contextmanager
def _undone_on_failure(environment: Environment) -> Iterator[None]:
    """After a failure nothing runs, and the next ``create`` begins afresh; files stay, for a look at the logs."""
    try:
        yield
    except BaseException:
        for store in Cluster(environment).stores:
            with contextlib.suppress(JunctorError):  # the first failure is the one to tell
                store.kill()
        environment.abandon()
        raise


def _create_cluster(environment: Environment, progress: Progress) -> None:
    from junctor.server.admin.bootstrap import create_cluster
    from junctor.sql import schema
    from junctor.sql.secrets import Keyring

    settings = environment.settings
    with opened_engine(environment.odb_url()) as engine:
        state = schema.upgrade(engine)
        progress.done(f"Schema {state.current} in the object database")
        create_cluster(
            engine,
            settings.cluster,
            Keyring.load(environment.keyring_path),
            servers=[(s.name, ports.reachable_host(s.host), s.port) for s in settings.servers],
            admin_password=environment.read_secret(ADMIN_PASSWORD),
            public_api_password=environment.read_secret(PUBLIC_PASSWORD),
        )
    progress.done(f"Cluster {settings.cluster} with {len(settings.servers)} servers")


def _set_workers(environment: Environment, workers: int) -> None:
    import tomlkit

    for server in environment.settings.servers:
        path = environment.path / server.name / SERVER_FILE
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
        document["workers"] = workers
        replace_file(path, tomlkit.dumps(document))


def _tell_existing(session: Session, environment: Environment, skip: bool) -> None:
    names = ", ".join(component.name for component in environment.components())
    text = f"{environment.path} is cluster {environment.settings.cluster} already, with {names}."
    if not skip:
        raise _exists(environment, names)
    session.answer(_access(environment, secrets=False) | {"created": False}, lambda: session.say(text))


def _exists(environment: Environment, names: str) -> AlreadyExists:
    error = AlreadyExists("Environment", str(environment.path))
    error.message += (
        f" It is cluster {environment.settings.cluster}, with {names}; 'junctor quickstart start' starts it."
    )
    return error


def _urls(environment: Environment) -> dict[str, str]:
    settings = environment.settings
    first = settings.servers[0]
    balancer = settings.load_balancer
    is_external = settings.haproxy == "external"
    host, port = (first.host, first.port) if is_external else (balancer.host, balancer.port)
    address = http_url(ports.reachable_host(host), port)
    return {
        "address": address,
        "ping": f"{address}/zato/ping",
        "invoke": f"{address}/zato/api/invoke/SERVICE",
    }


def _access(environment: Environment, *, secrets: bool = True) -> dict[str, Any]:
    """Where the cluster will be and how to get in."""
    found: dict[str, Any] = {"path": str(environment.path), "cluster": environment.settings.cluster} | _urls(
        environment
    )
    if secrets:
        found["credentials"] = [
            {"username": username, "password": environment.read_secret(secret)}
            for username, secret in ((DEFAULT_USERNAME, ADMIN_PASSWORD), (PUBLIC_USERNAME, PUBLIC_PASSWORD))
        ]
    return found


def _tell_access(session: Session, environment: Environment) -> None:
    found = _access(environment)
    rows = [(name.capitalize(), found[name]) for name in ("address", "ping", "invoke")]
    uses = {
        DEFAULT_USERNAME: "administrators: the commands and /zato/admin/invoke",
        PUBLIC_USERNAME: "/zato/api/invoke",
    }
    click.echo()
    output.print_table(("What", "URL"), rows)
    click.echo()
    credentials = [
        (item["username"], item["password"], uses[item["username"]]) for item in found["credentials"]
    ]
    output.print_table(("User name", "Password", "For"), credentials)
    session.say(
        f"The passwords are shown this once; files in {environment.path}/secrets, which only you may read, have them."
    )
