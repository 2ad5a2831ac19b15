"""Where the chain of a cluster begins and ends: one row, sealed, that whoever changes the chain holds for the whole transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from junctor.server.audit.errors import ChainBroken
from junctor.server.audit.seal import START, Seals
from junctor.sql.engine import database_errors
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditAnchor, AuditEvent

SEALS: Final = "audit.anchor"
"""What the keys of anchors' seals are derived for."""
VERIFY: Final = "'junctor audit verify' tells more, 'junctor audit begin-chain' begins a new one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The chain goes from ``first_position`` to ``last_position``; ``first_chain`` is the link before the first.

    An empty chain has a ``last_position`` of one less than the first one, and then both links are the same.
    """

    first_position: int = 1
    first_chain: bytes = START
    last_position: int = 0
    last_chain: bytes = START


class Anchors:
    """The anchor of a cluster."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seals = Seals(store.keyring, SEALS)

    def lock(self, connection: Connection) -> Anchor:
        """The anchor, which no other transaction changes before the end of this one; made if there is no chain yet.

        Raises ``ChainBroken`` if it is not as Junctor wrote it.
        """
        row = self._row(connection, lock=True)
        if row is None:
            if not self._has_chain(connection):
                first = insert(AuditAnchor).values(self._columns(Anchor()))
                connection.execute(first.on_conflict_do_nothing())
            row = self._row(
                connection, lock=True
            )  # now it is there, by whoever made it, unless it was deleted
        if row is None:
            raise ChainBroken(f"The anchor of the audit trail was deleted: {VERIFY}.")
        is_genuine = self._is_genuine(row)
        if is_genuine is None:
            raise ChainBroken(
                f"The anchor of the audit trail is sealed with the key {row['key_id']}, which this server does not have."
            )
        if not is_genuine:
            raise ChainBroken(f"The anchor of the audit trail was changed: {VERIFY}.")
        return _anchor(row)

    def read(self, connection: Connection) -> tuple[Anchor | None, bool | None]:
        """The anchor, None if there is none; and whether it is as Junctor wrote it, None if the key for telling is missing."""
        row = self._row(connection, lock=False)
        return (None, None) if row is None else (_anchor(row), self._is_genuine(row))

    def write(self, connection: Connection, anchor: Anchor) -> None:
        """Moves the anchor, which is there."""
        columns = self._columns(anchor)
        columns["changed"] = func.now()
        connection.execute(
            insert(AuditAnchor)
            .values(columns)
            .on_conflict_do_update(index_elements=[AuditAnchor.cluster_id], set_=columns)
        )

    def begin_anew(self, connection: Connection) -> tuple[Anchor | None, Anchor]:
        """Begins a new chain behind everything that was in the old one, whatever became of that; returns the old and the new anchor."""
        row = self._row(connection, lock=True)
        old = None if row is None else _anchor(row)
        of_rows = select(func.max(AuditEvent.position)).where(AuditEvent.cluster_id == self._store.cluster_id)
        last = max(connection.execute(of_rows).scalar() or 0, old.last_position if old else 0)
        new = Anchor(first_position=last + 1, last_position=last)
        self.write(connection, new)
        return old, new

    def _row(self, connection: Connection, *, lock: bool) -> Mapping[str, Any] | None:
        statement = select(AuditAnchor.__table__).where(AuditAnchor.cluster_id == self._store.cluster_id)
        row = connection.execute(statement.with_for_update() if lock else statement).first()
        return None if row is None else row._asdict()

    def _has_chain(self, connection: Connection) -> bool:
        chained = select(AuditEvent.id).where(
            AuditEvent.cluster_id == self._store.cluster_id, AuditEvent.position.is_not(None)
        )
        return connection.execute(chained.limit(1)).first() is not None

    def _columns(self, anchor: Anchor) -> dict[str, Any]:
        key_id, mac = self._seals.make(self._content(anchor))
        return {
            "cluster_id": self._store.cluster_id,
            "first_position": anchor.first_position,
            "first_chain": anchor.first_chain,
            "last_position": anchor.last_position,
            "last_chain": anchor.last_chain,
            "key_id": key_id,
            "mac": mac,
        }

    def _is_genuine(self, row: Mapping[str, Any]) -> bool | None:
        return self._seals.check(self._content(_anchor(row)), row["key_id"], row["mac"])

    def _content(self, anchor: Anchor) -> bytes:
        return orjson.dumps(
            [
                self._store.cluster_id,
                anchor.first_position,
                anchor.first_chain.hex(),
                anchor.last_position,
                anchor.last_chain.hex(),
            ]
        )


def reseal(store: Store) -> bool:
    """Seals the anchor of the cluster with the newest key, so that older ones may go; whether it could be believed.

    What chains was sealed with them does not need them: the anchor vouches for the chain.  Raises ``StoreUnavailable``.
    """
    anchors = Anchors(store)
    with database_errors(), store.engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        try:
            anchors.write(connection, anchors.lock(connection))
        except ChainBroken:
            return False
    return True


def _anchor(row: Mapping[str, Any]) -> Anchor:
    return Anchor(
        first_position=row["first_position"],
        first_chain=bytes(row["first_chain"]),
        last_position=row["last_position"],
        last_chain=bytes(row["last_chain"]),
    )
