"""The load balancer of an environment: HAProxy in master-worker mode, in front of the servers, and the agent that keeps it current."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from junctor.cli import environment_layout, ports, process_table
from junctor.cli.accounts import unprivileged_account
from junctor.cli.embedded import programs, routing
from junctor.cli.embedded.balancer_agent_process import AgentProcess
from junctor.cli.embedded.haproxy_configuration import MOST_CONNECTIONS, Resources, render
from junctor.cli.embedded.haproxy_file import ConfigurationFile
from junctor.cli.embedded.store import Started, store_environment
from junctor.cli.environment import Environment
from junctor.cli.environment_layout import LOAD_BALANCER
from junctor.cli.http_probe import answers
from junctor.cli.process import Daemon, Launch, ProcessStatus, Stopped
from junctor.sql.errors import EnvironmentProblem, JunctorError, ProcessFailed
from junctor.sql.routing import RouteReader, Routes

START_TIMEOUT: Final = 20.0  # seconds
RELOAD_TIMEOUT: Final = 10.0  # seconds
LOCK_TIMEOUT: Final = 60.0  # seconds
ALIVE_PATH: Final = "/zato-lb-alive"
# Soft stop first: it finishes what is under way, but would wait for every WebSocket.  It is asked for twice because a worker
# that has only just started sometimes misses the first (seen with 2.8.25, one time in twenty).
STOP_SIGNALS: Final = ((signal.SIGUSR1, 1.0), (signal.SIGUSR1, 9.0), (signal.SIGTERM, 5.0))


@dataclass(frozen=True, slots=True)
class Configured:
    """Whether ``haproxy.cfg`` has become another one; ``notes`` are sentences for whoever asked for it."""

    changed: bool
    notes: tuple[str, ...] = ()


class HAProxy:
    """The load balancer of one environment."""

    name = "Load balancer (HAProxy)"

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._path = environment.path / LOAD_BALANCER
        self.agent = AgentProcess(environment)

    def install_check(self) -> str:
        """The version of HAProxy; raises ``EnvironmentProblem`` saying what to do when it cannot be run."""
        return programs.first_line([os.fspath(self._program()), "-v"])

    def create(self) -> None:
        """The configuration is there and HAProxy accepts it; raises ``EnvironmentProblem`` with its reasons if not."""
        self.configure()

    def configure(self, routes: Routes | None = None) -> Configured:
        """``haproxy.cfg`` is that of the environment's servers, the cluster's ``routes``, and the administrator's own stanzas.

        Without ``routes``, the object database is asked; while that cannot answer, what it said last holds.

        A file that HAProxy does not accept never replaces one that it does; raises ``EnvironmentProblem`` then.
        """
        notes = []
        if routes is None:
            routes, note = self._routes()
            notes += [note] if note else []
        settings = self._environment.settings
        found = routing.routing(settings.servers, routes)
        resources = Resources(_most_descriptors(), unprivileged_account())
        written = self._file().write(render(found, settings.load_balancer, resources))
        routing.save(self._known_routes, routes)
        if written.set_aside:
            notes.append(
                f"{self._file().path} was changed by hand; that is in {written.set_aside} now. "
                f"What you want to keep of it belongs into {self._file().local}."
            )
        return Configured(written.changed, (*notes, *found.remarks))

    def start(self) -> Started:
        """The load balancer accepts connections; raises ``ProcessFailed`` if not, naming who has its port.

        When HAProxy refuses today's configuration, it starts with the last that it has accepted, and the notes say so.
        """
        notes: tuple[str, ...] = ()
        with self._exclusive():
            daemon = self.daemon()
            if not daemon.status().running:
                notes = self._configure_or_keep()
            fresh = daemon.start(self.ping, START_TIMEOUT)
            if fresh:
                self._file().mark_in_force()
        if self.agent.start() and not fresh:
            notes = (*notes, "Its agent was started.")
        return Started(self.name, self.port, fresh, notes=notes)

    def reload(self) -> Configured:
        """The load balancer works by today's configuration; no connection was refused or broken.

        Raises ``EnvironmentProblem`` when HAProxy does not accept the new one, and ``ProcessFailed`` when it does not run;
        the old one is in force in both cases.
        """
        with self._exclusive():
            return self._reload(None, only_changes=False)

    def refresh(self, routes: Routes) -> Configured:
        """As ``reload``, for the agent, which knows the routes; what has not changed is not reloaded."""
        with self._exclusive():
            return self._reload(routes, only_changes=True)

    def stop(self) -> Stopped:
        """The load balancer does not run; what was under way had 10 seconds to finish."""
        self.agent.stop()
        return self.daemon().stop()

    def kill(self) -> None:
        """The load balancer does not run, and was not asked."""
        self.agent.daemon().kill()
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

    def workers(self) -> list[int]:
        """The processes that have connections: the one that accepts them, and older ones that still have some."""
        master = self.daemon().status().pid
        return process_table.children_of(master) if master else []

    def daemon(self) -> Daemon:
        """The process, as its settings are now."""
        program = self._program()
        address = self._environment.settings.load_balancer
        return Daemon(
            Launch(
                name=self.name,
                command=[os.fspath(program), "-W", "-f", os.fspath(self._path / "haproxy.cfg")],
                directory=self._path,
                pidfile=self._path / "run/pidfile",
                log=self._path / "logs/haproxy.log",
                environment=store_environment(),
                program=program,
                stop_signals=STOP_SIGNALS,
                address=(address.host or "0.0.0.0", address.port),  # noqa: S104 - what no address means
            )
        )

    @property
    def _known_routes(self) -> Path:
        return self._path / "run/routes.json"

    def _file(self) -> ConfigurationFile:
        return ConfigurationFile(self._path, self._program())

    def _program(self) -> Path:
        return programs.haproxy_program(self._environment.settings.haproxy, self._path / "run/program")

    def _routes(self) -> tuple[Routes, str]:
        """What the object database says now, or said last; and a note in the second case."""
        reader = RouteReader(self._environment.odb_url(), self._environment.settings.cluster)
        try:
            return reader.read(), ""
        except JunctorError as error:
            known = routing.load(self._known_routes)
            return (
                known,
                f"WebSocket channels, and servers elsewhere, are as they were last known: {error.message}",
            )
        finally:
            reader.close()

    def _configure_or_keep(self) -> tuple[str, ...]:
        """The notes of ``configure``; if today's configuration is refused, the last one stays and a note says why."""
        try:
            return self.configure().notes
        except EnvironmentProblem as error:
            if not self._file().path.exists():
                raise
            return (f"It works by its last configuration. {error.message}",)

    def _reload(self, routes: Routes | None, *, only_changes: bool) -> Configured:
        daemon = self.daemon()
        if not daemon.status().running:
            raise ProcessFailed(f"{self.name} does not run.")
        file = self._file()
        before = file.text()
        configured = self.configure(routes)
        if only_changes and file.is_in_force():
            return configured
        if not self._renewed(daemon):
            failed = f"{self.name} did not reload. {daemon.last_lines()}"
            if before and configured.changed:  # what it refused only now, such as a port that somebody has
                file.restore(before)
                self._renewed(daemon)
            raise ProcessFailed(failed)
        file.mark_in_force()
        return configured

    def _renewed(self, daemon: Daemon) -> bool:
        """Whether the master has another worker that works by the file as it is now."""
        old = set(self.workers())
        daemon.signal(signal.SIGUSR2)

        def renewed() -> bool:
            return bool(set(self.workers()) - old) and self.ping()

        if not process_table.wait_until(renewed, RELOAD_TIMEOUT):
            return False
        # Asked again: one that had only just started may have missed that it is to end, see STOP_SIGNALS.
        process_table.send(old & set(self.workers()), signal.SIGUSR1)
        return True

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Nobody else writes or applies the configuration inside the block, be it a command or the agent."""
        with environment_layout.open_lock(self._path / "run/lock") as file:
            if not process_table.wait_until(lambda: environment_layout.try_lock(file), LOCK_TIMEOUT):
                raise EnvironmentProblem(
                    f"Another process has been working on {self._path} for {LOCK_TIMEOUT:g} s; try again later."
                )
            yield


def _most_descriptors() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard if hard != resource.RLIM_INFINITY else MOST_CONNECTIONS * 3
