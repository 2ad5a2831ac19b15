"""The audit trail on a real database, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import gevent
from sqlalchemy import Connection, select, text, update

from junctor.server.audit.event_row import row_of
from junctor.server.audit.rows_sql import insert_rows
from junctor.server.audit.seal import Seals, content
from junctor.server.audit.trail import SEALS, AuditTrail, Event
from junctor.server.context import Context
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.runtime.lease import Lease
from junctor.server.settings import Settings
from junctor.sql.config import Config
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditAnchor, AuditEvent
from tests.helpers.waiting import wait_until


class AuditUnderTest:
    """One worker's audit trail; a second one on the same ``store`` is another worker's.  ``settings`` are those of 'sso'."""

    def __init__(self, store: Store, directory: Path, **settings: Any) -> None:
        logs = Logs(directory, size=1_000_000, count=1)
        self.context = context = Context(Settings(directory=directory, odb_url=""), logs, Metrics())
        self.store = context.store = store
        self.settings = {"audit_retention": 0, **settings}
        context.sso = cast(Any, SimpleNamespace(settings=cast(Config, self.settings)))
        self.trail = context.audit = AuditTrail(context)

    def note(self, count: int, *, at_days_ago: int = 0, **fields: Any) -> None:
        """Writes this many events, cid1, cid2 and so on, as if it were some days ago."""
        events = [
            Event(**{"cid": f"cid{number}", "op": "user.login", **fields}) for number in range(1, count + 1)
        ]
        if not at_days_ago:
            for event in events:
                self.trail.note(event)
            return
        seals = Seals(self.store.keyring, SEALS)
        rows = [row_of(event, self.store.cluster_id, seals) for event in events]
        for row in rows:
            row["at"] -= timedelta(days=at_days_ago)
            row["key_id"], row["mac"] = seals.make(content(row))
        with self.store.engine.begin() as connection:
            insert_rows(connection, rows)

    def record(self, connection: Connection, cid: str) -> None:
        """Writes an event in a transaction."""
        self.trail.record(connection, Event(cid=cid, op="user.login"))

    def invent(self, cid: str, *, position: int | None = None, chain: str | None = None) -> None:
        """Writes an event without the keys of the cluster."""
        self.tamper(
            "INSERT INTO audit_event (cluster_id, at, cid, op, outcome, key_id, mac, position, chain)"
            " SELECT :cluster_id, now(), :cid, 'user.login', 'ok', :key_id, '\\x00', :position, CAST(:chain AS bytea)",
            cluster_id=self.store.cluster_id,
            cid=cid,
            key_id=self.store.keyring.active,
            position=position,
            chain=chain,
        )

    @contextmanager
    def chaining(self) -> Iterator[None]:
        """Has this worker link events meanwhile."""
        lease = Lease("audit.chain")
        self.context.links = cast(
            Any, SimpleNamespace(leases=SimpleNamespace(want=lambda _name: lease, give_up=lambda _name: None))
        )
        self.trail.start()
        lease.granted(1, monotonic() + 60)
        yield
        self.trail.stop()

    def wait_until_linked(self, count: int) -> None:
        """Waits until so many events are links."""
        wait_until(lambda: self._linked() >= count, 10, "events are not linked")

    def _linked(self) -> int:
        gevent.sleep(0.01)  # lets the chainer go on, which is a greenlet of this thread; who waits asks again
        return sum(row["position"] is not None for row in self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """All events, the oldest first; as dictionaries of their columns."""
        statement = select(AuditEvent.__table__).order_by(AuditEvent.id)
        with self.store.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(statement)]

    def anchor(self) -> dict[str, Any]:
        """The anchor."""
        with self.store.engine.connect() as connection:
            return dict(connection.execute(select(AuditAnchor.__table__)).one()._mapping)

    def tamper(self, statement: str, **values: Any) -> int:
        """Does something to the tables behind the server's back; returns how many rows it was done to."""
        with self.store.engine.begin() as connection:
            return connection.execute(text(statement), values).rowcount

    def change(self, of_cid: str, **values: Any) -> None:
        """Changes columns of the event with this CID."""
        with self.store.engine.begin() as connection:
            connection.execute(update(AuditEvent).where(AuditEvent.cid == of_cid).values(values))

    def break_database(self) -> None:
        """Takes the table away, as far as writers can see."""
        self.tamper("ALTER TABLE audit_event RENAME TO audit_event_gone")

    def end_connections(self) -> None:
        """Ends all other connections to the database, as its restart does."""
        self.tamper(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def stop(self) -> None:
        """Ends what goes on by itself."""
        self.trail.stop()
