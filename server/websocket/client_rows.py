"""The rows of a worker's WebSocket clients, by which the rest of the cluster finds them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
import orjson
from sqlalchemy import Connection, delete, select, text
from sqlalchemy.exc import SQLAlchemyError

from junctor.server.websocket.clients import Changes, ClientSession, ConnectedClients
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError
from junctor.sql.store import Store
from junctor.sql.tables.process import Worker
from junctor.sql.tables.websocket import WebSocketClient

BATCH: Final = 1000  # clients in a transaction
PAUSE: Final = 0.1  # seconds between two transactions, unless there is more to write than fits into one
RETRY_PAUSE: Final = 1.0  # seconds after one that failed
LOOK_INTERVAL: Final = (
    1.0  # seconds after which a new row of the worker is noticed, even when no client comes or goes
)
MAX_ADDRESS: Final = 200  # characters, as the columns have them
MAX_FORWARDED: Final = 500
log = logging.getLogger(__name__)

# Clients of a channel that was deleted a moment ago are left out.  Who has a row already has changed its names.
_INSERT: Final = text("""
    INSERT INTO web_socket_client (cluster_id, worker_id, channel_id, pub_client_id, ext_client_id, ext_client_name,
                                   attributes, local_address, peer_address, forwarded_for, connected)
    SELECT :cluster_id, :worker_id, c.channel_id, c.pub_client_id, c.ext_client_id, c.ext_client_name,
           c.attributes, c.local_address, c.peer_address, c.forwarded_for, c.connected
    FROM jsonb_to_recordset(CAST(:clients AS jsonb)) AS c (
        channel_id bigint, pub_client_id text, ext_client_id text, ext_client_name text, attributes jsonb,
        local_address text, peer_address text, forwarded_for text, connected timestamptz
    )
    JOIN channel_websocket ON channel_websocket.id = c.channel_id
    ON CONFLICT (pub_client_id) DO UPDATE SET
        worker_id = excluded.worker_id, ext_client_id = excluded.ext_client_id,
        ext_client_name = excluded.ext_client_name, attributes = excluded.attributes
""")


class ClientRows:
    """Keeps the rows as the clients of this worker are.

    ``worker_id`` tells the id of the worker's row.  When the row was lost and made anew, the rows of its clients went with it, and are made
    anew, too.  While the database is away, changes wait.  At the end of the worker, its own row takes those of its clients with it.

    The life cycle: ``start`` once the worker has its row, ``stop`` before it deletes it; neither blocks nor raises.
    """

    def __init__(self, store: Store, clients: ConnectedClients, worker_id: Callable[[], int | None]) -> None:
        self._store = store
        self._clients = clients
        self._worker_id = worker_id
        self._written_for: int | None = None
        self._is_failing = False
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins to write."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Writes no more."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def write(self) -> bool:
        """Writes a batch; whether there is more.  Raises ``StoreUnavailable``; then nothing of the batch was forgotten."""
        worker = self._worker_id()
        if worker is None:
            return False
        if worker != self._written_for:
            self._clients.rewrite()
            self._written_for = worker
        changes = self._clients.take(BATCH)
        if not changes:
            return False
        try:
            is_known = self._write(worker, changes)
        except BaseException:
            self._clients.put_back(changes)
            raise
        if not is_known:  # the worker's next heartbeat makes a row again
            self._clients.put_back(changes)
            return False
        return bool(self._clients.changed.is_set())

    def _run(self) -> None:
        while True:
            self._clients.changed.wait(LOOK_INTERVAL)
            try:
                if self.write():
                    continue
                self._says(failing=False)
                gevent.sleep(PAUSE)
            except JunctorError as error:
                self._says(failing=True, error=error)
                gevent.sleep(RETRY_PAUSE)
            except Exception:  # boundary: without this greenlet, nobody would find this worker's clients
                log.exception("The rows of WebSocket clients cannot be written; it is tried again.")
                gevent.sleep(RETRY_PAUSE)

    def _says(self, *, failing: bool, error: JunctorError | None = None) -> None:
        """Logs the beginning and the end of a time in which nothing can be written."""
        if failing and not self._is_failing:
            log.warning("Other workers do not find new WebSocket clients of this one for now: %s", error)
        elif self._is_failing and not failing:
            log.info("Other workers find the WebSocket clients of this one again.")
        self._is_failing = failing

    def _write(self, worker: int, changes: Changes) -> bool:
        """Whether the worker has its row, without which nothing can be written."""
        try:
            return self._write_together(worker, changes)
        except SQLAlchemyError as error:
            if not changes.come:
                raise
            log.warning("Clients are written one by one, as not all of them can be: %s", _reason(error))
        others = Changes([], changes.gone, changes.is_anew)
        return self._write_together(worker, others) and all(
            self._write_one(worker, session) for session in changes.come
        )

    def _write_one(self, worker: int, session: ClientSession) -> bool:
        """The same for one client, who is given up when the database refuses the client's data."""
        try:
            return self._write_together(worker, Changes([session], []))
        except SQLAlchemyError as error:
            log.error("Client %s cannot be found by other workers: %s", session.pub_client_id, _reason(error))
            return True

    def _write_together(self, worker: int, changes: Changes) -> bool:
        with database_errors(), self._store.engine.begin() as connection:
            return self._apply(connection, worker, changes)

    def _apply(self, connection: Connection, worker: int, changes: Changes) -> bool:
        known = select(Worker.id).where(Worker.id == worker).with_for_update(read=True, key_share=True)
        if connection.scalar(known) is None:
            return False
        if changes.is_anew:
            connection.execute(delete(WebSocketClient).where(WebSocketClient.worker_id == worker))
        elif changes.gone:
            gone = WebSocketClient.pub_client_id.in_(changes.gone)
            connection.execute(delete(WebSocketClient).where(gone))
        if changes.come:
            values = {
                "cluster_id": self._store.cluster_id,
                "worker_id": worker,
                "clients": _rows(changes.come),
            }
            connection.execute(_INSERT, values)
        return True


def _reason(error: SQLAlchemyError) -> str:
    """What the database says, without the values that it says it of."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


def _rows(sessions: Sequence[ClientSession]) -> str:
    return orjson.dumps([_row(session) for session in sessions]).decode()


def _row(session: ClientSession) -> dict[str, Any]:
    return {
        "channel_id": session.channel_id,
        "pub_client_id": session.pub_client_id,
        "ext_client_id": session.ext_client_id,
        "ext_client_name": session.ext_client_name,
        "attributes": session.attributes,
        "local_address": session.local_address[:MAX_ADDRESS],
        "peer_address": session.peer_address[:MAX_ADDRESS],
        "forwarded_for": session.forwarded_for[:MAX_FORWARDED],
        "connected": session.connected,
    }
