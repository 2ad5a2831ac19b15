"""A server of an environment as a process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from junctor.cli import ports
from junctor.cli.environment import Environment
from junctor.cli.environment_file import ServerAddress
from junctor.cli.http_probe import answers
from junctor.cli.process import Daemon, Launch

READY_PATH = "/health/ready"
START_TIMEOUT = 60.0  # seconds; a server imports every deployed service
GRACEFUL = (signal.SIGTERM, 40.0)  # longer than a server gives the calls which are under way


class ServerProcess:
    """One server of one environment."""

    def __init__(self, environment: Environment, server: ServerAddress) -> None:
        self.server = server
        self._environment = environment
        self._path: Path = environment.path / server.name

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name

    def ping(self) -> bool:
        """Whether the server says that it is ready for requests."""
        return answers((ports.reachable_host(self.server.host), self.server.port), READY_PATH)

    def daemon(self) -> Daemon:
        """The process; ``signal(SIGHUP)`` reloads it without a lost request."""
        return Daemon(
            Launch(
                name=self.server.name,
                command=[sys.executable, "-m", "junctor.server.main", os.fspath(self._path)],
                directory=self._path,
                pidfile=self._path / "run/pidfile",
                log=self._path / "logs/output.log",
                environment=self._environment.server_variables(),
                stop_signals=(GRACEFUL,),
                address=(self.server.host, self.server.port),
                more_logs=self._path / "logs",
            )
        )
