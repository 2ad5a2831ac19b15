"""The agent of a load balancer: it makes what changes in the cluster hold for HAProxy, within seconds and by itself.

It watches the servers and WebSocket channels in the object database, ``environment.toml`` and the administrator's
``haproxy.local.cfg``.  ``python -m junctor.cli.embedded.balancer_agent ENV`` runs it, until SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from junctor.cli.embedded import routing
from junctor.cli.embedded.balancer_agent_process import AgentState
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.embedded.haproxy_file import LOCAL_FILE
from junctor.cli.environment import Environment
from junctor.cli.environment_layout import FILE, LOAD_BALANCER
from junctor.sql.errors import JunctorError
from junctor.sql.routing import RouteReader

INTERVAL: Final = 1.0  # seconds between two looks
SETTLED: Final = 1.0  # seconds for which the administrator's file must have been left alone
RETRY: Final = 60.0  # seconds until what was refused is tried again, though nothing has changed
RESTART_PAUSES: Final = (
    1.0,
    30.0,
)  # seconds until a watcher that died is replaced: at first, and at the most
LASTING: Final = 60.0  # seconds after which a watcher counts as one that works
FileState = tuple[int, int, int]
log = logging.getLogger(__name__)


class Watcher:
    """Looks, and does what is to be done, once a second.

    Connections outlive a reload in old processes of HAProxy, so reloads become the rarer the more of those there are: one
    second must have passed for each since the last.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._state = AgentState.of(path)
        self._reader: RouteReader | None = None
        self._routes = routing.load(path / LOAD_BALANCER / "run/routes.json")
        self._is_current = False
        self._files: tuple[FileState, ...] = ()
        self._applied: Any = None  # what the configuration in force was made from
        self._refused: Any = None
        self._not_before = 0.0
        self._problems = {"database": "", "configuration": ""}
        self._remarks: tuple[str, ...] = ()

    def run(self, is_wanted: Callable[[], bool]) -> None:
        """Looks until ``is_wanted`` is false, or somebody has removed the environment."""
        while is_wanted() and self._state.path.parent.is_dir():
            self._state.report(" ".join(filter(None, self._problems.values())))
            self.look()
            time.sleep(INTERVAL)

    def look(self) -> None:
        """What has changed since the last look is in force now, or soon; what stands against it is logged and reported."""
        self._ask()
        self._files = tuple(self._file_state(path) for path in (self._path / FILE, self._local))
        if not self._routes.version:
            return  # nothing is known yet, which is not the same as that there is nothing
        found = (self._routes.servers, self._routes.channels, self._files)
        if found == self._applied:
            self._refused = None
            self._note("configuration", "")
        elif self._is_due(found):
            try:
                self._apply(found)
            except JunctorError as error:
                self._note("configuration", error.message)
                self._refused, self._not_before = found, self._clock() + RETRY

    def _is_due(self, found: Any) -> bool:
        """Whether what was found may be applied now; what differs from what was refused may, for it is likely to mend that."""
        return self._clock() >= self._not_before or (self._refused is not None and found != self._refused)

    def _apply(self, found: Any) -> None:
        balancer = HAProxy(Environment.open(self._path))
        if not balancer.status().running:
            return  # 'start' makes its configuration
        configured = balancer.refresh(self._routes)
        self._applied, self._refused = found, None
        self._note("configuration", "")
        if configured.changed:
            self._not_before = self._clock() + max(1, len(balancer.workers()) - 1)
            log.info("The load balancer works by version %d of the configuration.", self._routes.version)
        for note in configured.notes:
            if note not in self._remarks:
                log.warning("%s", note)
        self._remarks = configured.notes

    def _ask(self) -> None:
        """Learns what the object database has; what it said last holds while it does not answer."""
        try:
            if self._reader is None:
                environment = Environment.open(self._path)
                self._reader = RouteReader(environment.odb_url(), environment.settings.cluster)
            if not self._is_current or self._reader.version() != self._routes.version:
                self._routes = self._reader.read()
                self._is_current = True
            self._note("database", "")
        except JunctorError as error:
            self._note("database", error.message)
            if self._reader is not None:
                self._reader.close()
            self._reader, self._is_current = None, False  # it may come back as another, on another port

    def _note(self, what: str, problem: str) -> None:
        before = self._problems[what]
        if problem == before:
            return
        if problem:
            log.warning("%s", problem)
        elif what == "database":
            log.info("The object database answers.")
        self._problems[what] = problem

    def _file_state(self, path: Path) -> FileState:
        """What tells another content of a file; of one that somebody is writing, what it was."""
        try:
            found = path.stat()
        except OSError:
            return (0, 0, 0)
        known = dict(zip((self._path / FILE, self._local), self._files, strict=False))
        if path in known and 0 <= time.time() - found.st_mtime < SETTLED:
            return known[path]
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    @property
    def _local(self) -> Path:
        return self._path / LOAD_BALANCER / LOCAL_FILE


def supervise(work: Callable[[Callable[[], bool]], None]) -> None:
    """Has ``work`` done in a child, and in another when that dies; its argument says whether we still live.

    Ends when the work does, and with SIGTERM, which ends the child, too.
    """
    signal.signal(signal.SIGTERM, _end)
    pause, longest = RESTART_PAUSES
    parent = os.getpid()
    while True:
        started = time.monotonic()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work(lambda: os.getppid() == parent)
            return
        try:
            _, status = os.waitpid(child, 0)
        except SystemExit:
            os.kill(child, signal.SIGTERM)  # it is there still, or a zombie of ours
            raise
        if not status:
            return
        if time.monotonic() - started > LASTING:
            pause = RESTART_PAUSES[0]
        log.error("The watcher ended with status %d; another one starts in %g s.", status, pause)
        time.sleep(pause)
        pause = min(pause * 2, longest)


def main(arguments: list[str]) -> None:
    """Runs the agent of the environment that ``arguments`` name."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)sZ %(levelname)s %(message)s"
    )
    watcher = Watcher(Path(arguments[0]))
    supervise(watcher.run)


def _end(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
