"""Linking committed events to the chain, and deleting the oldest ones; each step is one transaction that holds the anchor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, text

from junctor.server.audit.anchor import Anchor, Anchors
from junctor.server.audit.seal import Seals, content, link
from junctor.sql.engine import database_errors
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditEvent

BATCH: Final = 200  # rows that are linked in a transaction, which takes some milliseconds
PURGE_BATCH: Final = 500  # rows that are deleted in a transaction
MAX_COUNTED: Final = 100_000  # rows that wait for their link; more are not counted
log = logging.getLogger(__name__)

_LINK: Final = text("""
    UPDATE audit_event AS e SET position = v.position, chain = v.chain
    FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS bigint[]), CAST(:chains AS bytea[])) AS v(id, position, chain)
    WHERE e.id = v.id
""")


@dataclass(frozen=True, slots=True)
class Linked:
    """What a step has linked: how many rows, how many of them nobody had sealed, and the anchor after it."""

    count: int
    unsealed: int
    anchor: Anchor


class Chain:
    """The chain of a cluster.  All that it does raises ``ChainBroken``, ``StoreUnavailable`` or ``SchemaOutdated``, and is then undone."""

    def __init__(self, store: Store, seals: Seals) -> None:
        self._store = store
        self._seals = seals
        self.anchors = Anchors(store)

    def link_next(self) -> Linked:
        """Links the next rows, up to ``BATCH``, in the order of their ids."""
        with database_errors(), self._store.engine.begin() as connection:
            anchor = self.anchors.lock(connection)
            rows = self._rows(connection, AuditEvent.position.is_(None), order=AuditEvent.id, most=BATCH)
            if not rows:
                return Linked(0, 0, anchor)
            unsealed, chain, chains = 0, anchor.last_chain, []
            for position, row in enumerate(rows, anchor.last_position + 1):
                of = content(row)
                if not self._seals.check(of, row["key_id"], bytes(row["mac"])):
                    unsealed += 1
                    log.error(
                        "The audit event %d at position %d was not written by Junctor, or was changed.",
                        row["id"],
                        position,
                    )
                chain = link(chain, position, of)
                chains.append(chain)
            last = anchor.last_position + len(rows)
            given = {
                "ids": [row["id"] for row in rows],
                "positions": list(range(anchor.last_position + 1, last + 1)),
                "chains": chains,
            }
            connection.execute(_LINK, given)
            anchor = replace(anchor, last_position=last, last_chain=chain)
            self.anchors.write(connection, anchor)
        return Linked(len(rows), unsealed, anchor)

    def purge_next(self, days: int, record: Callable[[Connection, dict[str, Any]], None]) -> int:
        """Deletes the oldest links, up to ``PURGE_BATCH``, that are older than ``days``; returns how many.

        ``record`` is given what is deleted, to write it in the same transaction.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        with database_errors(), self._store.engine.begin() as connection:
            anchor = self.anchors.lock(connection)
            in_chain = AuditEvent.position.between(anchor.first_position, anchor.last_position)
            rows = self._rows(connection, in_chain, order=AuditEvent.position, most=PURGE_BATCH)
            old = _older(rows, before)
            if not old:
                return 0
            self._look_at(anchor, old)
            last = old[-1]
            gone = AuditEvent.position.between(anchor.first_position, last["position"])
            connection.execute(
                delete(AuditEvent).where(AuditEvent.cluster_id == self._store.cluster_id, gone)
            )
            moved = replace(anchor, first_position=last["position"] + 1, first_chain=bytes(last["chain"]))
            self.anchors.write(connection, moved)
            record(
                connection,
                {
                    "first_position": anchor.first_position,
                    "last_position": last["position"],
                    "chain": moved.first_chain.hex(),
                },
            )
        return len(old)

    def unchained(self) -> int:
        """How many rows wait for their link, up to ``MAX_COUNTED``."""
        waiting = (
            select(AuditEvent.id)
            .where(AuditEvent.cluster_id == self._store.cluster_id, AuditEvent.position.is_(None))
            .limit(MAX_COUNTED)
            .subquery()
        )
        with database_errors(), self._store.engine.begin() as connection:
            return connection.execute(select(func.count()).select_from(waiting)).scalar_one()

    def _rows(
        self, connection: Connection, where: Any, *, order: Any, most: int
    ) -> Sequence[Mapping[str, Any]]:
        statement = (
            select(AuditEvent.__table__)
            .where(AuditEvent.cluster_id == self._store.cluster_id, where)
            .order_by(order)
            .limit(most)
        )
        return [row._asdict() for row in connection.execute(statement)]

    def _look_at(self, anchor: Anchor, rows: Sequence[Mapping[str, Any]]) -> None:
        """Says so if rows that are about to be deleted are not those that were linked: it is the last chance."""
        chain, position = anchor.first_chain, anchor.first_position
        for row in rows:
            of = content(row)
            if row["position"] != position or link(chain, position, of) != bytes(row["chain"]):
                log.error(
                    "The audit trail was tampered with before its oldest events were deleted, at position %d.",
                    position,
                )
                return
            chain, position = bytes(row["chain"]), position + 1


def _older(rows: Sequence[Mapping[str, Any]], before: datetime) -> list[Mapping[str, Any]]:
    """The rows up to the first one that is not older."""
    older = []
    for row in rows:
        if row["at"] >= before:
            break
        older.append(row)
    return older
