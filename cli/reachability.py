"""Questions to a cluster or an environment as a whole: ``ping``, ``wait``, ``info``, ``version``."""

from __future__ import annotations

import http.client
import time
from typing import Any
from urllib.parse import urlsplit

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, Command, LocalCommand, pass_session
from junctor.cli.session import PING_PATH, Session
from junctor.cli.written import MAX_WAIT, workers
from junctor.sql.errors import NotInTime

ATTEMPT_TIMEOUT = 2.0  # seconds
INTERVAL = 0.1  # seconds between two attempts


def _get(address: str, path: str, timeout: float) -> tuple[int, str]:
    """The status of GET ``path`` at ``address`` and why there is none ('' = there is one)."""
    parts = urlsplit(address)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port or (443 if secure else 80), timeout=timeout)
    try:
        connection.request("GET", parts.path + path)
        return connection.getresponse().status, ""
    except (OSError, http.client.HTTPException) as error:
        return 0, str(getattr(error, "strerror", None) or error or type(error).__name__)
    finally:
        connection.close()


@click.command(cls=ClusterCommand)
@click.option("--url-path", default=PING_PATH, show_default=True, help="The path to ask for.")
@pass_session
def ping(session: Session, url_path: str) -> None:
    """Says whether a cluster answers, and how fast."""
    address = session.web_address()
    started = time.perf_counter()
    status, reason = _get(address, url_path, ATTEMPT_TIMEOUT)
    took = (time.perf_counter() - started) * 1000
    if status != http.client.OK:
        raise NotInTime(f"{address}{url_path} does not answer: {reason or f'HTTP status {status}'}.")
    found = {"address": address, "milliseconds": round(took, 2)}
    session.answer(found, lambda: session.say(f"{address} answers in {took:.1f} ms."))


@click.command(cls=ClusterCommand)
@click.option(
    "--version", type=click.IntRange(1), metavar="NUMBER", help="Until every worker has applied this version."
)
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS")
@click.option(
    "--interval", type=click.FloatRange(0.01, 60), default=INTERVAL, show_default=True, metavar="SECONDS"
)
@click.option(
    "--url-path",
    default=PING_PATH,
    show_default=True,
    help="Without --version: the path that must answer 200.",
)
@click.option("--silent", is_flag=True, help="Say nothing; the exit code tells.")
@pass_session
def wait(
    session: Session, version: int | None, timeout: float, interval: float, url_path: str, silent: bool
) -> None:
    """Waits until a cluster answers, or has applied a version.

    Without --version, until the cluster's address answers with 200.  With it, until every live worker has applied that version of the
    configuration; those that have not in time are named.
    """
    found = (
        _until_applied(session, version, timeout)
        if version
        else _until_up(session, url_path, timeout, interval)
    )
    if not silent:
        session.answer(found, lambda: session.say(found["text"]))


def _until_applied(session: Session, version: int, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        left = min(max(0.0, deadline - time.monotonic()), MAX_WAIT)
        answer: dict[str, Any] = session.invoke(
            "junctor.cluster.wait", {"version": version, "timeout": left}, wait=left
        )
        if answer["converged"]:
            return answer | {"text": f"Version {version} is live on all workers."}
        if time.monotonic() >= deadline:
            raise NotInTime(
                f"Version {version} is not live on {workers(answer['missing'])} after {timeout:g} s."
            )


def _until_up(session: Session, url_path: str, timeout: float, interval: float) -> dict[str, Any]:
    address = session.web_address()
    started = time.monotonic()
    while True:
        status, reason = _get(address, url_path, ATTEMPT_TIMEOUT)
        waited = time.monotonic() - started
        if status == http.client.OK:
            return {"address": address, "seconds": round(waited, 2), "text": f"{address} answers."}
        if waited >= timeout:
            raise NotInTime(
                f"{address}{url_path} does not answer after {timeout:g} s: {reason or f'HTTP status {status}'}."
            )
        time.sleep(min(interval, max(0.0, timeout - waited)))


@click.command(cls=LocalCommand)
@click.argument("directory", metavar="[ENV]", required=False, type=click.Path())
@pass_session
def info(session: Session, directory: str | None) -> None:
    """Shows what an environment consists of, and where."""
    session.path = directory or session.path
    environment = session.environment()
    settings = environment.settings
    servers = {server.name: f"{server.host}:{server.port}" for server in settings.servers}
    found = {
        "path": str(environment.path),
        "cluster": settings.cluster,
        "created": settings.created,
        "created_with": settings.junctor,
        "junctor": installed_version(),
        "address": session.web_address(),
        "object_database": environment.odb_address(),
        "redis": environment.redis_address(),
        "servers": servers,
        "load_balancer": f"{settings.load_balancer.host}:{settings.load_balancer.port}",
    }
    rows = [
        (name.replace("_", " ").capitalize(), value)
        for name, value in found.items()
        if isinstance(value, str)
    ]
    rows += list(servers.items())
    session.answer(found, lambda: output.print_table(("What", "Value"), rows))


@click.command(cls=Command)
@pass_session
def version(session: Session) -> None:
    """Shows the version of Junctor."""
    found = installed_version()
    session.answer({"junctor": found}, lambda: click.echo(found))


def installed_version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import version as version_of  # 10 ms

    return version_of("junctor")
