"""Writing to the audit trail."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import gevent
from sqlalchemy import Connection

from junctor.server.audit.after_commit import AfterCommit
from junctor.server.audit.chain import Chain
from junctor.server.audit.chainer import Chainer
from junctor.server.audit.event_row import row_of
from junctor.server.audit.log_lines import write_line
from junctor.server.audit.query import Page, Wanted, find
from junctor.server.audit.rows_sql import insert_rows
from junctor.server.audit.seal import Seals
from junctor.server.audit.verify import Verifier
from junctor.server.audit.writer import Writer
from junctor.server.metrics import Counter
from junctor.server.service.call import new_cid
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.context import Context

OK: Final = "ok"
REFUSED: Final = "refused"
ERROR: Final = "error"
PURGE_PAUSE: Final = 0.01  # seconds between two transactions
SYSTEM: Final = "junctor"
"""Who does what nobody asked for."""
SEALS: Final = "audit"
"""What the keys of the rows' seals are derived for."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that somebody did or tried.

    ``op`` is a label such as 'user.login'; ``actor`` and ``target`` are user ids, or who else it was; ``reason`` says why it was refused,
    for administrators.  ``extra`` is JSON; neither has personal data or secrets.
    """

    cid: str
    op: str
    outcome: str = OK
    actor: str = ""
    target: str = ""
    app: str = ""
    remote_addr: str = ""
    user_agent: str = ""
    reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class AuditTrail:
    """The audit trail of the cluster; ``context.audit``."""

    def __init__(self, context: Context) -> None:
        store = context.store
        self._context = context
        self._seals = Seals(store.keyring, SEALS)
        self._after_commit = AfterCommit()
        self._writer = Writer(lambda: store.engine, self._written)
        self._counters: dict[str, Counter] = {}
        self.chain = Chain(store, self._seals)
        self.verifier = Verifier(store, self._seals)
        self._chainer = Chainer(context, self.chain)

    def start(self) -> None:
        """Begins to chain what was written, if this is the worker that does it; returns at once."""
        self._chainer.start()

    def stop(self) -> None:
        """Ends it, once everything that was noted is written."""
        self._chainer.stop()
        self._writer.stop()

    def record(self, connection: Connection, event: Event) -> None:
        """Writes an event in the caller's transaction, with which it stays or goes; the log line follows the commit."""
        row = row_of(event, self._context.store.cluster_id, self._seals)
        insert_rows(connection, [row])
        self._after_commit.add(connection, partial(self._written, [row]))

    def note(self, event: Event) -> None:
        """Writes an event in a transaction of its own, together with those of other greenlets; it is committed when this returns.

        Raises ``StoreUnavailable`` or ``SchemaOutdated``.
        """
        self._writer.write(row_of(event, self._context.store.cluster_id, self._seals))

    def find(self, wanted: Wanted) -> Page:
        """A page of events.  Raises ``InvalidInput``, ``StoreUnavailable`` or ``SchemaOutdated``."""
        return find(self._context.store, wanted)

    def purge(self, days: int) -> int:
        """Deletes events that are older than ``days``, from the beginning of the chain on, a few at a time; returns how many.

        What is not linked yet stays.  Each transaction leaves an event, 'audit.purge', that says what is gone.
        Raises ``ChainBroken``, ``StoreUnavailable`` or ``SchemaOutdated``.
        """
        cid, total = new_cid(), 0

        def recorded(connection: Connection, gone: Mapping[str, Any]) -> None:
            extra = {"days": days, **gone}
            self.record(connection, Event(cid=cid, op="audit.purge", actor=SYSTEM, extra=extra))

        while count := self.chain.purge_next(days, recorded):
            total += count
            gevent.sleep(PURGE_PAUSE)
        return total

    def purge_as_configured(self) -> None:
        """Deletes what is older than the settings of Single Sign-On say; nothing if they say so, or if there are none."""
        settings = getattr(self._context.sso, "settings", None)
        days = 0 if settings is None else settings["audit_retention"]
        if days and (count := self.purge(days)):
            log.info("%d audit events were deleted that were older than %d days.", count, days)

    def begin_chain(self, cid: str, actor: str) -> None:
        """Begins a new chain behind the old one, which can be verified no more.  Raises ``StoreUnavailable`` or ``SchemaOutdated``."""
        with database_errors(), self._context.store.engine.begin() as connection:
            old, new = self.chain.anchors.begin_anew(connection)
            extra: dict[str, Any] = {"first_position": new.first_position}
            if old is not None:
                extra |= {"old_last_position": old.last_position, "old_last_chain": old.last_chain.hex()}
            self.record(connection, Event(cid=cid, op="audit.begin_chain", actor=actor, extra=extra))

    def _written(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            write_line(row)
            self._counter(row["outcome"]).inc()
        self._chainer.wake()

    def _counter(self, outcome: str) -> Counter:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._context.metrics.counter("junctor_audit_events_total", outcome=outcome)
            self._counters[outcome] = counter
        return counter
