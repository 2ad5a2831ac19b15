"""The agent of a load balancer as a process: start, stop, and what it says of itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from junctor.cli.environment import Environment
from junctor.cli.environment_layout import LOAD_BALANCER
from junctor.cli.private_files import replace_file
from junctor.cli.process import Daemon, Launch

START_TIMEOUT: Final = 20.0  # seconds
SILENT: Final = 60.0  # seconds without a sign of life; a reload that fails takes it 20, a database that does not answer 10
OURS: Final = ("JUNCTOR_REDIS_URL", "JUNCTOR_SECRET_KEYS")  # what the agent has no use for
START_IT: Final = "'junctor start' starts it; until then, changes of servers and WebSocket channels do not reach the load balancer."


@dataclass(frozen=True, slots=True)
class AgentState:
    """What the agent says of itself: a file whose time is that of the last sign of life, and whose text is its problem, if any."""

    path: Path

    @classmethod
    def of(cls, environment: Path) -> AgentState:
        """That of the environment at a path."""
        return cls(environment / LOAD_BALANCER / "run/agent.json")

    def report(self, problem: str) -> None:
        """The agent is alive and has this problem, '' = none.  Raises ``EnvironmentProblem``."""
        if self.path.exists() and self.problem() == problem:
            os.utime(self.path)
        else:
            replace_file(self.path, json.dumps({"problem": problem}) + "\n")

    def problem(self) -> str:
        """What does not work, '' = nothing."""
        try:
            return str(json.loads(self.path.read_text(encoding="utf-8"))["problem"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{self.path} cannot be read: {error}."

    def is_fresh(self) -> bool:
        """Whether there was a sign of life lately."""
        try:
            return abs(time.time() - self.path.stat().st_mtime) < SILENT
        except FileNotFoundError:
            return False


class AgentProcess:
    """The agent of one environment's load balancer, which may or may not run now."""

    name = "Load balancer agent"

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._path = environment.path / LOAD_BALANCER
        self._state = AgentState.of(environment.path)

    def start(self) -> bool:
        """Whether the agent had to be started; it runs.  Raises ``ProcessFailed`` with the end of its log if it does not."""
        daemon = self.daemon()
        if not daemon.status().running:
            self._state.path.unlink(missing_ok=True)
        return daemon.start(self._state.is_fresh, START_TIMEOUT)

    def stop(self) -> None:
        """The agent does not run."""
        self.daemon().stop()

    def problem(self) -> str:
        """What is wrong with the agent, or what it says does not work; '' = nothing."""
        if not self.daemon().status().running:
            return f"Its agent does not run: {START_IT}"
        if not self._state.is_fresh():
            return f"Its agent has been silent for {SILENT:g} s; see {self.daemon().launch.log}."
        return self._state.problem()

    def daemon(self) -> Daemon:
        """The process."""
        variables = {name: value for name, value in os.environ.items() if name not in OURS}
        return Daemon(
            Launch(
                name=self.name,
                command=[
                    sys.executable,
                    "-m",
                    "junctor.cli.embedded.balancer_agent",
                    os.fspath(self._environment.path),
                ],
                directory=self._path,
                pidfile=self._path / "run/agent.pidfile",
                log=self._path / "logs/agent.log",
                environment=variables,
                stop_signals=((signal.SIGTERM, 5.0),),
            )
        )
