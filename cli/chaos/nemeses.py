"""Faults: what is done to the cluster and to the connections with it, and how it is made good again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from junctor.cli import process_table
from junctor.cli.chaos.history import FAULT, INFO, INVOKE, OK, History
from junctor.cli.chaos.plan import (
    CUT_LINKS,
    KILL_POSTGRES,
    KILL_REDIS,
    KILL_SERVER,
    KILL_WORKER,
    LINK_FAULTS,
    PAUSE_WORKER,
    REFUSE_LINKS,
    RELOAD,
    RESTART_POSTGRES,
    Fault,
    Plan,
)
from junctor.cli.chaos.proxy import Proxy
from junctor.cli.cluster import Cluster, start_environment, status_of
from junctor.cli.embedded.store import Store
from junctor.cli.environment import Environment
from junctor.cli.server_process import START_TIMEOUT, ServerProcess
from junctor.sql.errors import ProcessFailed

HEALING = 60.0  # seconds in which everything must run and answer again
RELOADING = 60.0  # seconds in which a server must have new workers
LOOK = 0.1  # seconds
NEEDS: Final[Mapping[str, str]] = {
    KILL_POSTGRES: "postgres",
    RESTART_POSTGRES: "postgres",
    KILL_REDIS: "redis",
}  # faults of a store which the environment may not have

Undo = Callable[[], None]


def possible(environment: Environment | None, *, has_proxy: bool) -> tuple[str, ...]:
    """The kinds of faults that can be brought about here: those of processes need an environment, those of links a proxy."""
    links = LINK_FAULTS if has_proxy else ()
    if environment is None:
        return links
    cluster = Cluster(environment)
    kinds = [KILL_WORKER, PAUSE_WORKER, KILL_SERVER, RELOAD]
    kinds += [kind for kind, store in NEEDS.items() if getattr(cluster, store) is not None]
    return (*kinds, *links)


@dataclass(frozen=True, slots=True)
class _Step:
    at: float
    number: int  # of the fault
    fault: Fault
    is_end: bool


class Nemesis(threading.Thread):
    """Brings about the faults of a plan, each at its time; afterwards ``heal`` makes everything good.

    ``current`` are the faults that there are now, in words; ``problems`` what could not be done.
    """

    def __init__(
        self, plan: Plan, history: History, *, environment: Environment | None, proxy: Proxy | None
    ) -> None:
        super().__init__(name="nemesis", daemon=True)
        self.stopping = threading.Event()
        self.current: dict[int, str] = {}
        self.problems: list[str] = []
        self.done = 0
        self._history = history
        self._steps = _steps(plan.faults)
        self._undo: dict[int, tuple[Fault, Undo]] = {}
        self._operations: dict[int, int] = {}
        self._faults = _Faults(environment, proxy)
        self._environment = environment

    def run(self) -> None:
        """Takes the steps one after the other; what takes long delays those behind it."""
        for step in self._steps:
            if self.stopping.wait(max(0.0, step.at - self._history.now)):
                return
            self._take(step)

    def heal(self) -> None:
        """Nothing is wrong any more, and every part of the environment answers.  Raises ``ProcessFailed``."""
        for number, (fault, _) in list(self._undo.items()):
            self._end(number, fault)
        if self._environment is None:
            return
        start_environment(self._environment, lambda *_: None)
        deadline = time.monotonic() + HEALING
        while not status_of(self._environment).healthy:
            if time.monotonic() > deadline:
                ill = [
                    part.name for part in status_of(self._environment).components if part.state != "running"
                ]
                raise ProcessFailed(
                    f"After the faults, the environment did not become healthy within {HEALING:g} s: {', '.join(ill)}."
                )
            time.sleep(LOOK)

    def _take(self, step: _Step) -> None:
        if step.is_end:
            self._end(step.number, step.fault)
        else:
            self._begin(step.number, step.fault)

    def _begin(self, number: int, fault: Fault) -> None:
        operation = self._operations[number] = self._history.new_operation()
        self._history.add(INVOKE, FAULT, fault.kind, operation=operation)
        self.current[number] = fault.kind
        try:
            text, undo = self._faults.begin(fault)
        except ProcessFailed as error:
            self._failed(number, fault, error)
            return
        self.current[number] = f"{fault.kind} ({text})"
        if undo is None:
            self._over(number, fault, text)
        else:
            self._undo[number] = (fault, undo)

    def _end(self, number: int, fault: Fault) -> None:
        if number not in self._undo:
            return
        _, undo = self._undo.pop(number)
        try:
            undo()
        except ProcessFailed as error:
            self._failed(number, fault, error)
            return
        self._over(number, fault, self.current[number].partition("(")[2].rstrip(")"))

    def _over(self, number: int, fault: Fault, text: str) -> None:
        self._history.add(OK, FAULT, fault.kind, operation=self._operations[number], text=text)
        self.current.pop(number, None)
        self.done += 1

    def _failed(self, number: int, fault: Fault, error: ProcessFailed) -> None:
        text = str(error).partition("\n")[0]
        self._history.add(INFO, FAULT, fault.kind, operation=self._operations[number], text=text)
        self.problems.append(f"{fault.kind}: {text}")
        self.current.pop(number, None)


def _steps(faults: Sequence[Fault]) -> list[_Step]:
    begins = [_Step(fault.at, number, fault, is_end=False) for number, fault in enumerate(faults)]
    ends = [
        _Step(fault.end, number, fault, is_end=True) for number, fault in enumerate(faults) if fault.length
    ]
    return sorted([*begins, *ends], key=lambda step: (step.at, step.is_end))


class _Faults:
    """How each kind of fault is brought about.  ``begin`` returns to what it happened, and what makes it good; None = it is over."""

    def __init__(self, environment: Environment | None, proxy: Proxy | None) -> None:
        self._environment, self._proxy = environment, proxy
        self._ways: Mapping[str, Callable[[Fault], tuple[str, Undo | None]]] = {
            KILL_WORKER: self._kill_worker,
            PAUSE_WORKER: self._pause_worker,
            KILL_SERVER: self._kill_server,
            RELOAD: self._reload,
            KILL_POSTGRES: self._kill_store,
            RESTART_POSTGRES: self._restart_postgres,
            KILL_REDIS: self._kill_store,
            CUT_LINKS: self._cut_links,
            REFUSE_LINKS: self._refuse_links,
        }

    def begin(self, fault: Fault) -> tuple[str, Undo | None]:
        """Brings it about.  Raises ``ProcessFailed``."""
        return self._ways[fault.kind](fault)

    @property
    def _cluster(self) -> Cluster:
        if self._environment is None:
            raise ProcessFailed("There is no environment whose processes could be killed.")
        return Cluster(self._environment)

    def _worker(self, fault: Fault) -> tuple[str, int, str]:
        """A worker that lives: the name of its server, its process, and the identity of that."""
        found = [
            (server.name, pid, known_as)
            for server in self._cluster.servers
            for pid in workers_of(server)
            if (known_as := process_table.identity(pid))
        ]
        if not found:
            raise ProcessFailed("No worker runs.")
        return found[fault.target % len(found)]

    def _kill_worker(self, fault: Fault) -> tuple[str, Undo | None]:
        name, pid, _ = self._worker(fault)
        process_table.send([pid], signal.SIGKILL)
        return f"{name}, process {pid}", None

    def _pause_worker(self, fault: Fault) -> tuple[str, Undo | None]:
        name, pid, known_as = self._worker(fault)
        process_table.send([pid], signal.SIGSTOP)

        def resume() -> None:
            if process_table.is_alive(pid, known_as):
                process_table.send([pid], signal.SIGCONT)

        return f"{name}, process {pid}", resume

    def _kill_server(self, fault: Fault) -> tuple[str, Undo | None]:
        server = self._server(fault)
        server.daemon().kill()
        return server.name, lambda: self._start(server)

    def _reload(self, fault: Fault) -> tuple[str, Undo | None]:
        server = self._server(fault)
        daemon = server.daemon()
        old = set(workers_of(server))
        if not daemon.signal(signal.SIGHUP):
            raise ProcessFailed(f"{server.name} does not run.")

        def replaced() -> bool:
            workers = set(workers_of(server))
            return bool(workers) and not workers & old

        if not process_table.wait_until(replaced, RELOADING):
            raise ProcessFailed(f"{server.name} did not replace its workers within {RELOADING:g} s.")
        return server.name, None

    def _kill_store(self, fault: Fault) -> tuple[str, Undo | None]:
        store = self._store(NEEDS[fault.kind])
        store.kill()
        return store.name, lambda: self._start_store(store)

    def _restart_postgres(self, fault: Fault) -> tuple[str, Undo | None]:
        store = self._store(NEEDS[fault.kind])
        store.stop()
        self._start_store(store)
        return store.name, None

    def _cut_links(self, fault: Fault) -> tuple[str, Undo | None]:
        del fault
        return f"{self._links.cut()} connections", None

    def _refuse_links(self, fault: Fault) -> tuple[str, Undo | None]:
        del fault
        links = self._links
        links.refuse(True)
        return f"{links.cut()} connections", lambda: links.refuse(False)

    @property
    def _links(self) -> Proxy:
        if self._proxy is None:
            raise ProcessFailed("There is no proxy whose connections could be cut.")
        return self._proxy

    def _server(self, fault: Fault) -> ServerProcess:
        servers = self._cluster.servers
        return servers[fault.target % len(servers)]

    def _store(self, name: str) -> Store:
        store: Store | None = getattr(self._cluster, name)
        if store is None:
            raise ProcessFailed(f"The environment has no {name} of its own.")
        return store

    def _start(self, server: ServerProcess) -> None:
        environment = self._cluster.environment
        with environment.locked():
            environment.write_server_file(server.server)
            server.daemon().start(server.ping, START_TIMEOUT)

    def _start_store(self, store: Store) -> None:
        with self._cluster.environment.locked():
            store.start()


def workers_of(server: ServerProcess) -> list[int]:
    """The processes of a server that answer calls: the children of its main one."""
    return server.daemon().processes()[1:]
