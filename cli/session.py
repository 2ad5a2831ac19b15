"""What one run of the command works with: an environment, a cluster, and the way in which it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from junctor.cli import output
from junctor.cli.visible import visible
from junctor.sql.errors import EnvironmentProblem, InvalidInput

if TYPE_CHECKING:
    from junctor.cli.environment import Environment
    from junctor.cli.environment_layout import Component
    from junctor.server.client import AdminClient

ADMIN_PASSWORD = "admin-invoke-password"  # noqa: S105 - the name of the secret, not the secret
PING_PATH = "/zato/ping"
DEFAULT_USERNAME = "admin.invoke"
DEFAULT_TIMEOUT = 30.0  # seconds that a server may take beyond what it is asked to wait
PATH_VARIABLE, ADDRESS_VARIABLE = "JUNCTOR_ENV", "JUNCTOR_ADDRESS"
USERNAME_VARIABLE, PASSWORD_FILE_VARIABLE = "JUNCTOR_USERNAME", "JUNCTOR_PASSWORD_FILE"


@dataclass(slots=True)
class Session:
    """The common options of a command line, and what follows from them; everything is opened when it is first needed."""

    path: str | None = None
    address: str | None = None
    username: str | None = None
    password_file: str | None = None
    as_json: bool = False
    verbose: bool = False
    _client: AdminClient | None = field(default=None, repr=False)

    def locate(self, path: str | None = None) -> tuple[Environment, Component | None]:
        """The environment of this command, and the component in it that was named, if one was.

        ``path``, the option --path, $JUNCTOR_ENV and the current directory are tried in this order; each may be a
        component's directory, too.  Raises ``EnvironmentProblem``.
        """
        from junctor.cli.environment import Environment

        given = path or self.path or os.environ.get(PATH_VARIABLE)
        if given:
            return Environment.locate(Path(given))
        try:
            return Environment.locate(Path.cwd())
        except EnvironmentProblem as error:
            raise EnvironmentProblem(
                "There is no environment here. Name one with --path ENV or $JUNCTOR_ENV, or a cluster with --address URL."
            ) from error

    def environment(self, path: str | None = None) -> Environment:
        """The environment of this command; see ``locate``."""
        return self.locate(path)[0]

    def client(self) -> AdminClient:
        """The administrative services of the cluster; raises ``EnvironmentProblem`` when nothing says which cluster."""
        if self._client is None:
            from junctor.server.client import AdminClient

            address, password = self._remote() if self._given_address else self._local()
            username = self.username or os.environ.get(USERNAME_VARIABLE) or DEFAULT_USERNAME
            self.note(f"Asking {address} as {username}.")
            self._client = AdminClient(address, password, username=username, timeout=DEFAULT_TIMEOUT)
            context = click.get_current_context(silent=True)
            if context is not None:
                context.call_on_close(self._client.close)
        return self._client

    def invoke(self, service: str, payload: Any = None, *, wait: float = 0) -> Any:
        """What a service answers, which may take ``wait`` seconds more than usual; raises what ``AdminClient.invoke`` raises."""
        return self.client().invoke(service, payload, timeout=DEFAULT_TIMEOUT + wait)

    def web_address(self) -> str:
        """The URL at which clients reach the cluster, without a slash at its end."""
        if self._given_address:
            return checked_address(self._given_address)
        from junctor.cli.ports import reachable_host

        environment = self.environment()
        balancer = environment.settings.load_balancer
        if environment.settings.haproxy != "external":
            return http_url(reachable_host(balancer.host), balancer.port)
        server = environment.settings.servers[0]
        return http_url(reachable_host(server.host), server.port)

    def answer(self, data: Any, show: Callable[[], None]) -> None:
        """Writes ``data`` when JSON is wanted, and calls ``show`` otherwise."""
        if self.as_json:
            output.print_json(data)
        else:
            show()

    def say(self, text: str) -> None:
        """Writes a sentence for people; nothing when JSON is wanted."""
        if not self.as_json:
            click.echo(visible(text))

    def warn(self, text: str) -> None:
        """Writes a warning to standard error."""
        click.echo(f"Warning: {visible(text)}", err=True)

    def note(self, text: str) -> None:
        """Writes what is being done to standard error, with --verbose only."""
        if self.verbose:
            click.echo(visible(text), err=True)

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to answer questions."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def remote(self) -> bool:
        """Whether a cluster is named by its address, so that no environment is looked for."""
        return bool(self._given_address)

    @property
    def _given_address(self) -> str:
        if self.address or self.path:  # what the command line says comes before the environment variables
            return self.address or ""
        return "" if os.environ.get(PATH_VARIABLE) else os.environ.get(ADDRESS_VARIABLE, "")

    def _remote(self) -> tuple[str, str]:
        return checked_address(self._given_address), self._password()

    def _local(self) -> tuple[str, str]:
        environment = self.environment()
        password = self._given_password()
        return local_address(environment), (
            environment.read_secret(ADMIN_PASSWORD) if password is None else password
        )

    def _password(self) -> str:
        given = self._given_password()
        if given is not None:
            return given
        if self.path:
            return self.environment().read_secret(ADMIN_PASSWORD)
        if self.interactive:
            asked: str = click.prompt("Password", hide_input=True, err=True)
            return asked
        raise EnvironmentProblem(
            "There is no password: give --password-file FILE, or --path ENV of an environment that has it."
        )

    def _given_password(self) -> str | None:
        name = self.password_file or os.environ.get(PASSWORD_FILE_VARIABLE)
        return read_secret_file(name) if name else None


def checked_address(address: str) -> str:
    """``address`` as a URL, ``http://`` being added when it has no scheme; raises ``InvalidInput``."""
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query:
        raise InvalidInput.one("address", "must be of the form http://HOST:PORT or https://HOST:PORT.")
    return url.rstrip("/")


def local_address(environment: Environment) -> str:
    """Where an environment's administrative services are: at its load balancer, or at a server when nothing answers there.

    The load balancer comes first because it knows which servers are well; it takes seconds to notice one that came back.
    """
    from junctor.cli.http_probe import answers
    from junctor.cli.ports import reachable_host

    settings = environment.settings
    listeners = [(server.host, server.port) for server in settings.servers]
    if settings.haproxy != "external":
        listeners.insert(0, (settings.load_balancer.host, settings.load_balancer.port))
    candidates = [(reachable_host(host), port) for host, port in listeners]
    return http_url(*next((found for found in candidates if answers(found, PING_PATH)), candidates[0]))


def http_url(host: str, port: int) -> str:
    """The URL of a host name or address, IPv6 ones included, and a port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def read_secret_file(name: str) -> str:
    """The only line of a file, '-' being standard input; raises ``InvalidInput``."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidInput.one("", f"{name} cannot be read: {reason}.") from error
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0]:
        raise InvalidInput.one("", f"{name} must hold exactly one line, the secret.")
    return lines[0]
