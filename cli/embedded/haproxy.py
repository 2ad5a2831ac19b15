"""The load balancer of an environment: HAProxy in master-worker mode, in front of the environment's servers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from junctor.cli import ports, process_table
from junctor.cli.accounts import Account, unprivileged_account
from junctor.cli.embedded import programs
from junctor.cli.embedded.store import Started, store_environment
from junctor.cli.environment import Environment
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.cli.environment_layout import LOAD_BALANCER
from junctor.cli.http_probe import answers
from junctor.cli.private_files import replace_file
from junctor.cli.process import Daemon, Launch, ProcessStatus, Stopped
from junctor.sql.errors import EnvironmentProblem, ProcessFailed

START_TIMEOUT = 20.0  # seconds
CHECK_TIMEOUT = 20.0
RELOAD_TIMEOUT = 10.0
ALIVE_PATH = "/zato-lb-alive"
# Soft stop first: it finishes what is under way, but would wait for every WebSocket.  It is asked for twice because a worker
# that has only just started sometimes misses the first (seen with 2.8.25, one time in twenty).
STOP_SIGNALS = ((signal.SIGUSR1, 1.0), (signal.SIGUSR1, 9.0), (signal.SIGTERM, 5.0))
MOST_CONNECTIONS = 10_000  # 2 file descriptors and 35 KB each
SPARE_DESCRIPTORS = 200

# What HAProxy answers itself, in the form of the servers' errors.  What it cannot even parse, HAProxy answers with a page of its own
# (haproxy#3032; fixed in later series).
ERRORS = {
    400: "The request is malformed",
    408: "The request did not arrive in time",
    500: "The load balancer failed",
    502: "The server's answer is malformed or incomplete",
    503: "No server is available",
    504: "The server did not answer in time",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What HAProxy may use: file descriptors, and the account of its workers if that is not ours."""

    descriptors: int
    account: Account | None = None


def render_haproxy(servers: Sequence[ServerAddress], bind: LoadBalancerAddress, resources: Resources) -> str:
    """The configuration of a load balancer at ``bind`` in front of ``servers``."""
    from importlib.resources import files  # not for every command

    template = Template(files("junctor.cli.embedded").joinpath("haproxy.cfg").read_text(encoding="utf-8"))
    account = resources.account
    return template.substitute(
        maxconn=max(100, min(MOST_CONNECTIONS, (resources.descriptors - SPARE_DESCRIPTORS) // 2)),
        privileges=f"    uid {account.uid}\n    gid {account.gid}\n" if account else "",
        errors="\n".join(_error_line(status, details) for status, details in ERRORS.items()),
        bind=_socket_address(bind.host or "*", bind.port),
        servers="\n".join(
            f"    server http_plain--{s.name} {_socket_address(ports.reachable_host(s.host), s.port)}"
            for s in servers
        ),
    )


class HAProxy:
    """The load balancer of one environment."""

    name = "Load balancer (HAProxy)"

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._path = environment.path / LOAD_BALANCER
        self._file = self._path / "haproxy.cfg"

    def install_check(self) -> str:
        """The version of HAProxy; raises ``EnvironmentProblem`` saying what to do when it cannot be run."""
        return programs.first_line([os.fspath(self._program()), "-v"])

    def create(self) -> None:
        """The configuration is there and HAProxy accepts it; raises ``EnvironmentProblem`` with its reasons if not."""
        self.configure()

    def configure(self) -> None:
        """``haproxy.cfg`` is that of the environment's servers today.

        A file that HAProxy does not accept never replaces one that it does; raises ``EnvironmentProblem`` then.
        """
        settings = self._environment.settings
        resources = Resources(_most_descriptors(), unprivileged_account())
        candidate = self._path / "haproxy.cfg.new"
        replace_file(candidate, render_haproxy(settings.servers, settings.load_balancer, resources))
        command = [os.fspath(self._program()), "-c", "-q", "-f", os.fspath(candidate)]
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=CHECK_TIMEOUT,
                check=False,
                stdin=subprocess.DEVNULL,
                env=store_environment(),
                cwd=self._path,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise EnvironmentProblem(f"{command[0]} cannot be run: {e}.") from e
        if result.returncode:
            raise EnvironmentProblem(f"HAProxy does not accept {candidate}:\n{result.stderr.strip()}")
        candidate.replace(self._file)

    def start(self) -> Started:
        """The load balancer accepts connections; raises ``ProcessFailed`` if not, naming who has its port."""
        daemon = self.daemon()
        if not daemon.status().running:
            self.configure()
        fresh = daemon.start(self.ping, START_TIMEOUT)
        return Started(self.name, self.port, fresh)

    def reload(self) -> None:
        """The load balancer works by today's configuration; no connection was refused or broken.

        Raises ``EnvironmentProblem`` when HAProxy does not accept the new one, and ``ProcessFailed`` when it does not run;
        the old one is in force in both cases.
        """
        daemon = self.daemon()
        master = daemon.status().pid
        if not master:
            raise ProcessFailed(f"{self.name} does not run.")
        self.configure()
        old = set(process_table.children_of(master))
        daemon.signal(signal.SIGUSR2)

        def renewed() -> bool:
            return bool(set(process_table.children_of(master)) - old) and self.ping()

        if not process_table.wait_until(renewed, RELOAD_TIMEOUT):
            raise ProcessFailed(f"{self.name} did not reload. {daemon.last_lines()}")

    def stop(self) -> Stopped:
        """The load balancer does not run; what was under way had 10 seconds to finish."""
        return self.daemon().stop()

    def kill(self) -> None:
        """The load balancer does not run, and was not asked."""
        self.daemon().kill()

    def status(self) -> ProcessStatus:
        """Whether the load balancer runs; it is not asked."""
        return self.daemon().status()

    def ping(self) -> bool:
        """Whether the load balancer itself, whatever its servers do, answers."""
        address = self._environment.settings.load_balancer
        return answers((ports.reachable_host(address.host), address.port), ALIVE_PATH)

    def wait_ready(self, timeout: float) -> None:
        """Returns when ``ping()`` says so; raises ``ProcessFailed`` after ``timeout`` seconds."""
        self.daemon().wait_ready(self.ping, timeout)

    @property
    def port(self) -> int:
        """The public port."""
        return self._environment.settings.load_balancer.port

    def daemon(self) -> Daemon:
        """The process, as its settings are now."""
        program = self._program()
        address = self._environment.settings.load_balancer
        return Daemon(
            Launch(
                name=self.name,
                command=[os.fspath(program), "-W", "-f", os.fspath(self._file)],
                directory=self._path,
                pidfile=self._path / "run/pidfile",
                log=self._path / "logs/haproxy.log",
                environment=store_environment(),
                program=program,
                stop_signals=STOP_SIGNALS,
                address=(address.host or "0.0.0.0", address.port),  # noqa: S104 - what no address means
            )
        )

    def _program(self) -> Path:
        return programs.haproxy_program(self._environment.settings.haproxy, self._path / "run/program")


def _error_line(status: int, details: str) -> str:
    body = f'{{"result":"Error","cid":"%[unique-id]","details":"{details}"}}'
    return (
        f"    http-error status {status} content-type application/json hdr X-Zato-CID %[unique-id] "
        f"lf-string {_quoted(body)}"
    )


def _socket_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _most_descriptors() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard if hard != resource.RLIM_INFINITY else MOST_CONNECTIONS * 3


def _quoted(value: str) -> str:
    """``value`` as one word of HAProxy's configuration, in which nothing is special within single quotes."""
    return "'" + value.replace("'", "'\\''") + "'"
