"""What a worker tells the cluster about itself, and what it can tell about the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from junctor.sql import changes
from junctor.sql.engine import database_errors
from junctor.sql.store import Store
from junctor.sql.tables.process import Worker

LOST_AFTER = 30  # seconds without a heartbeat, after which a worker does not count as live any more
FORGOTTEN_AFTER = 600  # seconds without a heartbeat, after which its row is deleted


class WorkerStatus:
    """The row of this worker.

    ``problems`` says what does not work in it, and ``states`` how those of its parts are that have a state.
    Every method may raise ``StoreUnavailable``.
    """

    def __init__(
        self,
        store: Store,
        server: str,
        problems: Callable[[], Mapping[str, str]],
        states: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._store = store
        self._server = server
        self._host = socket.gethostname()
        self._problems = problems
        self._states = states
        self._id: int | None = None
        self.applied_version = 0

    @property
    def worker_id(self) -> int | None:
        """The id of the row, which is another one when it had to be made anew; None before there is one."""
        return self._id

    def register(self, applied_version: int) -> None:
        """Makes the row, once the worker serves with ``applied_version``."""
        self.applied_version = applied_version
        values = self._values() | {
            "cluster_id": self._store.cluster_id,
            "server": self._server,
            "host": self._host,
            "pid": os.getpid(),
        }
        with database_errors(), self._store.engine.begin() as connection:
            self._id = connection.execute(insert(Worker).values(values).returning(Worker.id)).scalar_one()

    def applied(self, version: int) -> None:
        """Records that the worker has applied ``version``."""
        self.applied_version = version
        self.beat()

    def beat(self) -> None:
        """Says that the worker is alive, and in which state."""
        with database_errors(), self._store.engine.begin() as connection:
            result = connection.execute(update(Worker).where(Worker.id == self._id).values(self._values()))
        if result.rowcount == 0:
            self.register(self.applied_version)

    def leave(self) -> None:
        """Deletes the row."""
        with database_errors(), self._store.engine.begin() as connection:
            connection.execute(delete(Worker).where(Worker.id == self._id))

    def clean(self) -> None:
        """Deletes the rows of workers of this server that are dead, and of all that have been silent for very long."""
        mine = (
            Worker.cluster_id == self._store.cluster_id,
            Worker.server == self._server,
            Worker.host == self._host,
        )
        with database_errors(), self._store.engine.begin() as connection:
            rows = connection.execute(select(Worker.id, Worker.pid).where(*mine)).all()
            dead = [row.id for row in rows if not _is_alive(row.pid)]
            silent = func.now() - Worker.seen > func.make_interval(0, 0, 0, 0, 0, 0, FORGOTTEN_AFTER)
            connection.execute(delete(Worker).where(Worker.id.in_(dead) | silent))

    def _values(self) -> dict[str, Any]:
        return {
            "seen": func.now(),
            "applied_version": self.applied_version,
            "memory": psutil.Process().memory_info().rss,
            "problems": dict(self._problems()),
            "states": dict(self._states()),
        }

    def behind(self, version: int) -> list[dict[str, object]]:
        """The live workers of the cluster that have not applied ``version``."""
        with database_errors(), self._store.engine.connect() as connection:
            workers = _workers(connection, self._store.cluster_id)
        return [
            {key: worker[key] for key in ("server", "pid", "host", "applied_version", "seen_seconds_ago")}
            for worker in workers
            if worker["applied_version"] < version and self._may_be_live(worker)
        ]

    def _may_be_live(self, worker: Mapping[str, Any]) -> bool:
        """Whether a worker was heard of lately; of those on this host, the process itself tells."""
        is_gone = worker["host"] == self._host and not _is_alive(worker["pid"])
        return not is_gone and bool(worker["seen_seconds_ago"] < LOST_AFTER)

    def cluster(self) -> tuple[int, list[dict[str, Any]]]:
        """The current version of the configuration, and every worker of the cluster."""
        with database_errors(), self._store.engine.connect() as connection:
            version = changes.current_version(connection, self._store.cluster_id)
            return version, _workers(connection, self._store.cluster_id)


def _workers(connection: Connection, cluster_id: int) -> list[dict[str, Any]]:
    statement = (
        select(
            Worker.id,
            Worker.server,
            Worker.host,
            Worker.pid,
            Worker.started,
            Worker.state,
            Worker.applied_version,
            Worker.memory,
            Worker.problems,
            Worker.states,
            func.extract("epoch", func.clock_timestamp() - Worker.seen).label("seen_seconds_ago"),
        )
        .where(Worker.cluster_id == cluster_id)
        .order_by(Worker.server, Worker.id)
    )
    return [_shown(row) for row in connection.execute(statement)]


def _shown(row: Row[Any]) -> dict[str, Any]:
    shown = dict(row._mapping)
    silent = max(0.0, float(shown["seen_seconds_ago"]))
    state = shown["state"] if silent < LOST_AFTER else "lost"
    return shown | {"started": row.started.isoformat(), "seen_seconds_ago": round(silent, 1), "state": state}


def _is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which whoever must collect it has not collected yet, does not."""
    try:
        return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
