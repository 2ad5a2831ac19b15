"""Verifying the audit trail: is every event that was linked still there, as it was written, in its place?

A verification is a walk along the chain in many short steps, each with the cursor that the one before returned, so that it may take as
long as it must and stops nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from junctor.server.audit.anchor import Anchor, Anchors
from junctor.server.audit.seal import Seals, content, link
from junctor.sql.engine import database_errors
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditEvent

MAX_STEP: Final = 500  # links that one step looks at
MAX_PROBLEMS: Final = 100  # that are listed; all are counted
MAX_UNCHAINED: Final = 1000  # events without a link whose seals are looked at
OVERDUE: Final = 60  # seconds after which an event should have its link

# What may be wrong.
CHANGED: Final = "changed"
MISSING: Final = "missing"
MOVED: Final = "moved"
UNSEALED: Final = "unsealed"
INSERTED: Final = "inserted"
TRUNCATED: Final = "truncated"
ANCHOR: Final = "anchor"
INDEX: Final = "index"
OVERDUE_KIND: Final = "overdue"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, from which position on (None: with an event without one), and in words."""

    kind: str
    position: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a walk has come: the last position, and its chain value, None if nobody knows it."""

    position: int
    chain: bytes | None


@dataclass(slots=True)
class Step:
    """What a step found.  ``cursor`` is where the next one begins, None = this was the last one.

    ``checked`` links fit but for the ``problems``, the first ones of ``problem_count``; ``unknown_keys`` of them have seals
    whose keys have been retired, and only the chain vouches for them.  ``unchained`` events wait for their link, with genuine seals
    unless there is a problem; it is known after the last step.
    """

    cursor: Cursor | None = None
    checked: int = 0
    unknown_keys: int = 0
    unchained: int = 0
    first_position: int = 0
    last_position: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, position: int | None, words: str) -> None:
        """Adds a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, position, words))


class Verifier:
    """Verifies the trail of one cluster."""

    def __init__(self, store: Store, seals: Seals) -> None:
        self._store = store
        self._seals = seals
        self._anchors = Anchors(store)

    def verify(self, progress: Callable[[Step], None] = lambda _step: None) -> Step:
        """The findings of a whole walk; ``progress`` is called after each step with what was found so far."""
        total = Step()
        cursor: Cursor | None = None
        while True:
            step = self.step(cursor)
            total = _sum(total, step)
            progress(total)
            cursor = step.cursor
            if cursor is None:
                return total

    def step(self, cursor: Cursor | None = None, most: int = MAX_STEP) -> Step:
        """Looks at up to ``most`` links after ``cursor``, None = from the beginning.  Raises ``StoreUnavailable`` or ``SchemaOutdated``."""
        step = Step()
        with database_errors(), self._store.engine.begin() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            anchor, is_genuine = self._anchors.read(connection)
            if cursor is None:
                self._begin(connection, anchor, is_genuine, step)
            trusted = anchor if is_genuine else None
            if anchor is not None:
                step.first_position, step.last_position = anchor.first_position, anchor.last_position
            cursor = self._from(connection, cursor, trusted)
            rows = self._rows(connection, cursor.position, most)
            for row in rows:
                cursor = self._look_at(row, cursor, trusted, step)
            if len(rows) == most:
                step.cursor = cursor
            else:
                self._end(connection, cursor, trusted, step)
        return step

    def _begin(
        self, connection: Connection, anchor: Anchor | None, is_genuine: bool | None, step: Step
    ) -> None:
        """What is looked at once."""
        if anchor is None and self._first_position(connection) is not None:
            step.add(ANCHOR, None, "The anchor was deleted, so nobody can say where the chain ends.")
        elif anchor is not None and is_genuine is False:
            step.add(ANCHOR, None, "The anchor was changed, so nobody can say where the chain ends.")
        elif anchor is not None and is_genuine is None:
            step.add(ANCHOR, None, "The key that the anchor was sealed with is missing.")
        first = self._first_position(connection)
        if is_genuine and anchor is not None and first is not None and first < anchor.first_position:
            step.add(
                INSERTED,
                first,
                f"There are events at positions before {anchor.first_position}, the first one.",
            )
        if not self._refuses_copies(connection):
            step.add(
                INDEX,
                None,
                "The unique index uq_audit_event_at_mac, which refuses copies of events, is missing.",
            )

    def _from(self, connection: Connection, cursor: Cursor | None, anchor: Anchor | None) -> Cursor:
        if anchor is not None and (cursor is None or cursor.position < anchor.first_position - 1):
            return Cursor(anchor.first_position - 1, anchor.first_chain)
        if cursor is not None:
            return cursor
        first = self._first_position(connection)
        return Cursor(0 if first is None else first - 1, None)

    def _look_at(self, row: Mapping[str, Any], cursor: Cursor, anchor: Anchor | None, step: Step) -> Cursor:
        """Looks at one link; what is wrong with it is told once, and the next ones are compared with what it says."""
        position, of, chain = row["position"], content(row), bytes(row["chain"] or b"")
        step.checked += 1
        previous = cursor.chain
        if position != cursor.position + 1:
            count = position - cursor.position - 1
            words = f"{count} event{'s are' if count > 1 else ' is'} missing."
            step.add(MISSING, cursor.position + 1, words)
            previous = None
        if anchor is not None and position > anchor.last_position:
            step.add(INSERTED, position, "It is behind the end of the chain.")
        is_sealed = self._seals.check(of, row["key_id"], bytes(row["mac"]))
        if is_sealed is None:
            step.unknown_keys += 1
        is_linked = previous is None or link(previous, position, of) == chain
        if is_linked and is_sealed is False:
            step.add(UNSEALED, position, "It was not written by Junctor, or its seal was changed.")
        elif not is_linked:
            self._tell_unlinked(position, is_sealed, step)
        return Cursor(position, chain)

    @staticmethod
    def _tell_unlinked(position: int, is_sealed: bool | None, step: Step) -> None:
        if is_sealed:
            step.add(
                MOVED,
                position,
                "It is genuine, but not what was linked here; or its chain value was changed.",
            )
        else:
            step.add(CHANGED, position, "It is not what was linked here.")

    def _end(self, connection: Connection, cursor: Cursor, anchor: Anchor | None, step: Step) -> None:
        """What is looked at behind the last link."""
        if anchor is not None:
            missing = anchor.last_position - cursor.position
            if missing > 0:
                words = f"The last {missing} of the chain's events are missing."
                step.add(TRUNCATED, cursor.position + 1, words)
            if missing == 0 and cursor.chain not in (None, anchor.last_chain):
                step.add(CHANGED, cursor.position, "The chain does not end as its anchor says.")
        self._look_at_unchained(connection, step)

    def _look_at_unchained(self, connection: Connection, step: Step) -> None:
        waiting = (AuditEvent.cluster_id == self._store.cluster_id, AuditEvent.position.is_(None))
        step.unchained = connection.execute(select(func.count()).where(*waiting)).scalar_one()
        statement = select(AuditEvent.__table__).where(*waiting).order_by(AuditEvent.id).limit(MAX_UNCHAINED)
        for row in [found._asdict() for found in connection.execute(statement)]:
            if self._seals.check(content(row), row["key_id"], bytes(row["mac"])) is False:
                step.add(
                    UNSEALED,
                    None,
                    f"The event with id {row['id']} was not written by Junctor, or was changed.",
                )
        overdue = func.now() - AuditEvent.at > text(f"interval '{OVERDUE} seconds'")
        late = connection.execute(select(func.count()).where(*waiting, overdue)).scalar_one()
        if late:
            step.add(OVERDUE_KIND, None, f"{late} events should have got their place in the chain by now.")

    def _rows(self, connection: Connection, after: int, most: int) -> Sequence[Mapping[str, Any]]:
        statement = (
            select(AuditEvent.__table__)
            .where(AuditEvent.cluster_id == self._store.cluster_id, AuditEvent.position > after)
            .order_by(AuditEvent.position)
            .limit(most)
        )
        return [row._asdict() for row in connection.execute(statement)]

    def _first_position(self, connection: Connection) -> int | None:
        statement = select(func.min(AuditEvent.position)).where(
            AuditEvent.cluster_id == self._store.cluster_id
        )
        return connection.execute(statement).scalar()

    @staticmethod
    def _refuses_copies(connection: Connection) -> bool:
        found = connection.execute(
            text(
                "SELECT i.indisunique AND i.indisvalid FROM pg_index i"
                " WHERE i.indexrelid = to_regclass('uq_audit_event_at_mac')"
            )
        ).scalar()
        return bool(found)


def _sum(total: Step, step: Step) -> Step:
    return Step(
        cursor=step.cursor,
        checked=total.checked + step.checked,
        unknown_keys=total.unknown_keys + step.unknown_keys,
        unchained=step.unchained,
        first_position=step.first_position,
        last_position=step.last_position,
        problem_count=total.problem_count + step.problem_count,
        problems=(total.problems + step.problems)[:MAX_PROBLEMS],
    )
