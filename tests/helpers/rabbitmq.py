"""A real RabbitMQ for benchmarks: a single node on free ports, with everything of it in one directory.

It is the package ``rabbitmq-server`` of the machine, whose own service need not run and is not touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from junctor.cli.accounts import unprivileged_account
from tests.helpers.ports import LOOPBACK, free_port, listens
from tests.helpers.waiting import wait_until

TIMEOUT = 60.0  # seconds to start or to stop
HOW_TO_INSTALL = (
    "RabbitMQ is not installed: apt-get install --no-install-recommends rabbitmq-server (where that starts a service: "
    "systemctl disable --now rabbitmq-server epmd.socket)"
)
# The scripts themselves: /usr/sbin/rabbitmq-server works in the service's own directories whatever it is told.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_LOG_LINES_SHOWN = 20


class RabbitMQServer:
    """A broker of one node with one user; it syncs to the disk what it confirms, as in production."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.user = "bench"
        self.password = secrets.token_urlsafe(12)
        self._epmd_port = free_port()
        self._account = unprivileged_account()
        self._processes: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def is_installed() -> bool:
        """Whether there is a RabbitMQ to start; if not, ``HOW_TO_INSTALL`` says what to do."""
        return _SCRIPT.exists() and shutil.which("epmd") is not None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://{self.user}:{self.password}@{LOOPBACK}:{self.port}//"

    def start(self) -> None:
        """The node accepts connections."""
        for name in ("data", "logs", "home"):
            (self.directory / name).mkdir(exist_ok=True)
        config = self.directory / "rabbitmq.conf"
        config.write_text(self._configuration(), encoding="ascii")
        config.chmod(0o600)
        if self._account:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, self._account.uid, self._account.gid)
        self._run("epmd", "-address", LOOPBACK, "-port", str(self._epmd_port))
        wait_until(lambda: listens(self._epmd_port), TIMEOUT, "epmd did not start")
        self._run(str(_SCRIPT))
        wait_until(self._is_ready_or_ended, TIMEOUT, f"RabbitMQ did not start: {self._output()}")
        assert self._processes[-1].poll() is None, f"RabbitMQ ended: {self._output()}"

    def stop(self) -> None:
        """Nothing of the node is left; what does not end in time is killed."""
        for process in reversed(self._processes):
            members = _family(process.pid)
            process.terminate()
            _, left = psutil.wait_procs(members, TIMEOUT)
            for member in left:
                member.kill()
            process.wait(TIMEOUT)
        self._processes.clear()

    def processes(self) -> list[psutil.Process]:
        """The processes of the node that run."""
        return [member for process in self._processes for member in _family(process.pid)]

    def _configuration(self) -> str:
        lines = {
            "listeners.tcp.default": f"{LOOPBACK}:{self.port}",
            "default_user": self.user,
            "default_pass": self.password,
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
        }
        return "".join(f"{name} = {value}\n" for name, value in lines.items())

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.directory / "home"),  # where Erlang keeps its cookie
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"bench-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "none"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _run(self, *command: str) -> None:
        account = self._account
        with (self.directory / "logs" / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=dict(self._environment()),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self._processes.append(process)

    def _is_ready_or_ended(self) -> bool:
        return self._processes[-1].poll() is not None or listens(self.port)

    def _output(self) -> str:
        path = self.directory / "logs" / "output"
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-_LOG_LINES_SHOWN:])


def _family(process: int) -> list[psutil.Process]:
    """A process and its descendants; none if it has ended."""
    try:
        root = psutil.Process(process)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
