"""Which WebSocket clients there are in the cluster, and which worker has each of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
from sqlalchemy import ColumnElement, Row, Select, func, select

from junctor.server.runtime.status import LOST_AFTER
from junctor.server.websocket.clients import ClientSession
from junctor.sql.engine import database_errors
from junctor.sql.errors import InvalidInput
from junctor.sql.objects.cluster import Server
from junctor.sql.objects.websocket import ChannelWebSocket
from junctor.sql.tables.process import Worker
from junctor.sql.tables.websocket import WebSocketClient

if TYPE_CHECKING:
    from junctor.server.context import Context

MAX_FOUND: Final = 10_000  # clients of one answer
TURN: Final = 200  # clients that are looked at before others have their turn
MAX_WORKERS: Final = 10_000
MAX_OFFSET: Final = 10_000_000
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """Where a worker is: ``id`` is that of its row, ``host`` and ``port`` are its server's, '' and 0 if unknown."""

    id: int
    pid: int
    server: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class FoundClient:
    """A connected client, as services see it.  ``worker`` is None for one of the worker that was asked."""

    pub_client_id: str
    ext_client_id: str
    ext_client_name: str
    attributes: Mapping[str, Any]
    channel: str
    channel_id: int
    local_address: str
    peer_address: str
    forwarded_for: str
    connected: datetime
    server: str
    pid: int
    worker: WorkerAddress | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which clients are looked for: those for which all that is given is so.  ``attributes`` are some of the client's."""

    pub_client_id: str | None = None
    ext_client_id: str | None = None
    attributes: Mapping[str, Any] | None = None
    channel_id: int | None = None

    def fits(self, session: ClientSession) -> bool:
        """Whether a client of this worker is one of them."""
        return (
            self.pub_client_id in (None, session.pub_client_id)
            and self.ext_client_id in (None, session.ext_client_id)
            and self.channel_id in (None, session.channel_id)
            and (self.attributes is None or _has(session.attributes, self.attributes))
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for the rows."""
        row = WebSocketClient
        return [
            *([row.pub_client_id == self.pub_client_id] if self.pub_client_id is not None else []),
            *([row.ext_client_id == self.ext_client_id] if self.ext_client_id is not None else []),
            *([row.channel_id == self.channel_id] if self.channel_id is not None else []),
            *([row.attributes.contains(dict(self.attributes))] if self.attributes is not None else []),
        ]


def wanted_attributes(given: object) -> Mapping[str, Any]:
    """Attributes to look for.  Raises ``InvalidInput``: none at all would mean everybody."""
    if not isinstance(given, dict) or not given:
        raise InvalidInput.one("attrs", "must be an object with at least one attribute.")
    for key, value in given.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str | int | float | bool)):
            raise InvalidInput.one("attrs", f"{key!r} must be a text, a number or a flag.")
        if "\0" in f"{key}{value}":
            raise InvalidInput.one("attrs", "must not have a NUL.")
    return given


def _has(have: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """What @> does in PostgreSQL, for flat objects: 1 is 1.0, and true is not 1."""
    return all(
        key in have and have[key] == value and isinstance(have[key], bool) is isinstance(value, bool)
        for key, value in wanted.items()
    )


def _in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """The items; others have their turn in between, however many there are."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % TURN == 0:
            gevent.sleep(0)


class Directory:
    """Finds clients: those of this worker in its memory, all others by their rows.

    A client is found elsewhere once its row is written, which takes a tenth of a second or so.  Methods may raise ``StoreUnavailable``.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def find(self, wanted: Wanted) -> list[FoundClient]:
        """The clients that are wanted, up to ``MAX_FOUND``, those first that connected last."""
        if "\0" in f"{wanted.pub_client_id}{wanted.ext_client_id}":
            return []
        here = [self._local(session) for session in _in_turns(self._here(wanted)) if wanted.fits(session)]
        statement = self._clients(*wanted.conditions(), WebSocketClient.worker_id != self._worker_id)
        with database_errors(), self._context.store.engine.connect() as connection:
            rows = connection.execute(statement.limit(MAX_FOUND))
            there = [self._found(row) for row in _in_turns(rows)]
        return sorted([*here, *there], key=lambda client: client.connected, reverse=True)[:MAX_FOUND]

    def page(
        self, channel_id: int | None, *, query: str = "", offset: int, limit: int
    ) -> tuple[Sequence[FoundClient], int]:
        """A part of the rows, those first that connected last, and how many there are; ``query`` is a part of an id or of the name."""
        row = WebSocketClient
        where = Wanted(channel_id=channel_id).conditions()
        if "\0" in query:
            return [], 0
        if query:
            columns = (row.pub_client_id, row.ext_client_id, row.ext_client_name)
            where.append(func.concat_ws("\n", *columns).icontains(query, autoescape=True))
        statement = self._clients(*where)
        count = select(func.count()).select_from(statement.order_by(None).subquery())
        paged = statement.offset(min(offset, MAX_OFFSET)).limit(min(limit, MAX_FOUND))
        with database_errors(), self._context.store.engine.connect() as connection:
            found = [self._found(row) for row in connection.execute(paged)]
            return found, connection.execute(count).scalar_one()

    def workers(self) -> list[WorkerAddress]:
        """The other workers that live."""
        statement = (
            select(Worker.id, Worker.pid, Worker.server, Server.host, Server.port)
            .outerjoin(Server, (Server.name == Worker.server) & (Server.cluster_id == Worker.cluster_id))
            .where(self._lives(), Worker.id != self._worker_id)
            .order_by(Worker.id)
            .limit(MAX_WORKERS)
        )
        with database_errors(), self._context.store.engine.connect() as connection:
            rows = connection.execute(statement)
            return [WorkerAddress(row.id, row.pid, row.server, row.host or "", row.port or 0) for row in rows]

    def _here(self, wanted: Wanted) -> list[ClientSession]:
        clients = self._context.clients
        if wanted.pub_client_id is None:
            return clients.sessions()
        session = clients.get(wanted.pub_client_id)
        return [] if session is None else [session]

    @property
    def _worker_id(self) -> int:
        return self._context.status.worker_id or 0

    def _lives(self) -> ColumnElement[bool]:
        silent = func.clock_timestamp() - Worker.seen
        is_recent = silent < func.make_interval(0, 0, 0, 0, 0, 0, LOST_AFTER)
        return (Worker.cluster_id == self._context.store.cluster_id) & is_recent

    def _clients(self, *where: ColumnElement[bool]) -> Select[Any]:
        row = WebSocketClient
        columns = (
            row.pub_client_id,
            row.ext_client_id,
            row.ext_client_name,
            row.attributes,
            ChannelWebSocket.name.label("channel"),
            row.channel_id,
            row.local_address,
            row.peer_address,
            row.forwarded_for,
            row.connected,
            Worker.id.label("worker_id"),
            Worker.pid,
            Worker.server,
            Server.host,
            Server.port,
        )
        return (
            select(*columns)
            .join(Worker, Worker.id == row.worker_id)
            .join(ChannelWebSocket, ChannelWebSocket.id == row.channel_id)
            .outerjoin(Server, (Server.name == Worker.server) & (Server.cluster_id == Worker.cluster_id))
            .where(self._lives(), *where)
            .order_by(row.connected.desc(), row.id.desc())
        )

    def _found(self, row: Row[Any]) -> FoundClient:
        values = dict(row._mapping)
        host, port, worker = values.pop("host"), values.pop("port"), values.pop("worker_id")
        address = WorkerAddress(worker, row.pid, row.server, host or "", port or 0)
        return FoundClient(**values, worker=None if worker == self._worker_id else address)

    def _local(self, session: ClientSession) -> FoundClient:
        settings = self._context.settings
        return FoundClient(
            session.pub_client_id,
            session.ext_client_id,
            session.ext_client_name,
            session.attributes,
            session.channel_name,
            session.channel_id,
            session.local_address,
            session.peer_address,
            session.forwarded_for,
            session.connected,
            settings.server_name,
            os.getpid(),
            None,
        )
