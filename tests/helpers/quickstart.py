"""A real environment, made and run by the command ``junctor`` itself, as a user would: stores, servers, load balancer.

Tests talk to it through its load balancer, with commands, through its files and with signals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from junctor.cli.ports import is_free
from tests.helpers.ports import LOOPBACK, ports_in_a_row
from tests.helpers.waiting import succeeds, wait_until

PROGRAM = Path(sys.executable).parent / "junctor"
COMMAND_TIMEOUT = 120.0  # seconds
CALL_TIMEOUT = 30.0  # seconds
KILL_TIMEOUT = 20.0  # seconds
SERVERS = ("server1", "server2")
COMPONENTS = ("postgres", "redis", *SERVERS, "load-balancer")
ADMIN = "admin.invoke"


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    command: Sequence[str]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which is one JSON document and nothing else."""
        return json.loads(self.out)


class QuickstartUnderTest:
    """One environment with two servers of one worker each; ``home`` is where the crashes of commands are recorded."""

    def __init__(self, path: Path, *, home: Path) -> None:
        self.path = path
        self.home = home
        self.port_base = ports_in_a_row(len(SERVERS))
        self.lb_port = ports_in_a_row(1)
        self.created: Any = None

    @property
    def address(self) -> str:
        """Where the load balancer is."""
        return f"http://{LOOPBACK}:{self.lb_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of commands: a user's, with ``junctor`` in the path and nothing of Junctor's own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JUNCTOR_")}
        path = f"{PROGRAM.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return kept | {"PATH": path, "XDG_STATE_HOME": str(self.home)}

    # Commands

    def run(
        self,
        *arguments: str | Path,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ran:
        """What a command came to, whatever its exit code; a traceback fails the test.  Nothing is added to ``arguments``."""
        command = [str(PROGRAM), *map(str, arguments)]
        done = subprocess.run(
            command,
            input=stdin,
            env=self.environment | dict(env or {}),
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        ran = Ran(command[1:], done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in ran.out + ran.err, ran
        return ran

    def junctor(self, *arguments: str | Path, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        """What a command on this environment printed; it must have worked."""
        ran = self.run("--path", self.path, *arguments, stdin=stdin, env=env)
        assert ran.code == 0, ran
        return ran.out

    def json(
        self,
        *arguments: str | Path,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        code: int = 0,
    ) -> Any:
        """What a command on this environment answered as JSON."""
        ran = self.run("--json", "--path", self.path, *arguments, stdin=stdin, env=env)
        assert ran.code == code, ran
        return ran.json

    def refused(self, code: int, *arguments: str | Path, stdin: str = "") -> str:
        """The message with which a command on this environment ended, with this exit code."""
        ran = self.run("--path", self.path, *arguments, stdin=stdin)
        assert ran.code == code, ran
        assert not ran.out, ran
        return ran.err

    def create(self) -> None:
        """Makes the environment; nothing runs yet."""
        ports = ("--port-base", str(self.port_base), "--lb-port", str(self.lb_port))
        ran = self.run("--json", "quickstart", "create", self.path, *ports)
        assert ran.code == 0, ran
        self.created = ran.json

    def start(self) -> Ran:
        """What starting everything came to; it must have worked."""
        ran = self.run("quickstart", "start", self.path)
        assert ran.code == 0, ran
        return ran

    def stop(self) -> None:
        """Everything has been stopped in good order, and nothing is left."""
        ran = self.run("quickstart", "stop", self.path)
        assert ran.code == 0, ran
        assert not self.processes()
        assert not any(self.listening().values()), self.listening()

    # Calls

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer to a request through the load balancer, on a connection of its own."""
        return call(f"{self.address}{path}", method, **options)

    def secret(self, name: str) -> str:
        """A password of the environment, from its file."""
        return (self.path / "secrets" / name).read_text(encoding="utf-8").strip()

    @property
    def admin(self) -> tuple[str, str]:
        """The credentials of the administrator."""
        return ADMIN, self.secret("admin-invoke-password")

    @property
    def public(self) -> tuple[str, str]:
        """The credentials for ``/zato/api/invoke``."""
        return "pubapi", self.secret("pubapi-password")

    def answers(self) -> bool:
        """Whether a call through the load balancer reaches a server."""
        found: list[requests.Response] = []
        reached = succeeds(lambda: found.append(self.call("GET", "/zato/ping")), requests.ConnectionError)
        return reached and found[0].ok

    # Files

    def pickup_directory(self, server: str) -> Path:
        """Where service files for a server are dropped."""
        return self.path / server / "pickup" / "incoming" / "services"

    def drop(self, server: str, name: str, text: str) -> Path:
        """A service file that has been put into the pickup directory of a server, whole."""
        target = self.pickup_directory(server) / name
        scratch = target.with_suffix(".copying")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(target)
        return target

    def file(self, name: str, text: str) -> Path:
        """A file outside of the environment, for a command to read."""
        path = self.home / name
        path.write_text(text, encoding="utf-8")
        return path

    def logs(self) -> list[Path]:
        """Every log file of every component."""
        return [path for path in self.path.glob("*/log*/*") if path.is_file()]

    # Processes

    def status(self) -> dict[str, Any]:
        """What ``junctor status`` says, healthy or not."""
        ran = self.run("--json", "status", self.path)
        assert ran.code in (0, 1), ran
        found: dict[str, Any] = ran.json
        return found

    def workers(self) -> dict[int, str]:
        """The server of each live worker, by its process id, as the cluster knows it."""
        servers = self.status()["cluster"]["servers"]
        return {worker["pid"]: server["name"] for server in servers for worker in server["workers"]}

    def wait_until_healthy(self) -> None:
        """Every component runs and answers, and each server has the worker that it runs with."""
        wait_until(self._is_healthy, CALL_TIMEOUT, "The environment did not become healthy.")

    def _is_healthy(self) -> bool:
        status = self.status()
        return status["healthy"] and all(server["workers"] for server in status["cluster"]["servers"])

    def pid(self, component: str) -> int:
        """The main process of a component, by its pidfile."""
        return int((self.path / component / "run" / "pidfile").read_text(encoding="ascii").split()[0])

    def worker(self, server: str) -> psutil.Process:
        """The only worker of a server."""
        [worker] = psutil.Process(self.pid(server)).children()
        return worker

    def processes(self, component: str = "") -> list[psutil.Process]:
        """Every process that works in the environment, or in one of its components, whoever its parent is."""
        directory = os.path.join(self.path, component, "")
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd().startswith(directory) or process.cwd() + "/" == directory:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                continue  # it has ended meanwhile
        return [process for process in found if process.pid != os.getpid()]

    def command_lines(self) -> list[str]:
        """What the process list of the machine shows of the environment's processes."""
        found = []
        for process in self.processes():
            try:
                found.append(" ".join(process.cmdline()))
            except psutil.NoSuchProcess:
                continue  # it has ended meanwhile
        return found

    def kill(self, component: str = "") -> None:
        """Every process of the environment, or of one component, is gone, and none was asked."""

        def gone() -> bool:
            left = self.processes(component)
            for process in left:
                succeeds(process.kill, psutil.NoSuchProcess)
            return not left

        wait_until(gone, KILL_TIMEOUT, "There are processes that cannot be killed.")

    def listening(self) -> dict[int, bool]:
        """The public ports, and whether somebody listens there."""
        ports = [*range(self.port_base, self.port_base + len(SERVERS)), self.lb_port]
        return {port: not is_free("0.0.0.0", port) for port in ports}

    def crashes(self) -> str:
        """The tracebacks of commands that failed unexpectedly; there should be none."""
        path = self.home / "junctor" / "crashes.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def call(url: str, method: str = "GET", **options: Any) -> requests.Response:
    """The answer to one request, on a connection that is closed then."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, **{"timeout": CALL_TIMEOUT, **options})


def running(directory: Path) -> Iterator[QuickstartUnderTest]:
    """An environment below ``directory``, created and started; at the end nothing of it runs, whatever a test did to it."""
    (directory / "home").mkdir(parents=True)
    environment = QuickstartUnderTest(directory / "env", home=directory / "home")
    try:
        environment.create()
        environment.start()
        yield environment
        environment.stop()
        assert not environment.crashes()
    finally:
        environment.kill()
