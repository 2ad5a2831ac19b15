"""One transaction for what many callers publish at the same time, and what each of them is told when it does not succeed.

Everything that fails before COMMIT is sent has stored nothing, and callers are told so.  If the answer to COMMIT is missing, the database
is asked, once it is there again, what became of the transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import gevent
import psycopg2
from psycopg2 import errorcodes
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from junctor.server.pubsub import parked, writer_sql
from junctor.server.pubsub.partitions import Partitions
from junctor.server.pubsub.unit import Unit
from junctor.sql.engine import READ_ONLY, UNDEFINED
from junctor.sql.errors import (
    DuplicateMessage,
    InvalidInput,
    JunctorError,
    ResourceNotFound,
    SchemaOutdated,
    ServiceUnavailable,
    StoreUnavailable,
)

TRIES: Final = 3  # of a transaction that had no fault of its own
STATEMENT_TIMEOUT: Final = 20  # seconds; less than callers wait, so that they get to know what happened
SETTLE_TIMEOUT: Final = 20.0  # seconds in which it must turn out whether a transaction was committed
SETTLE_INTERVAL: Final = 0.1  # seconds between two attempts to find out
NO_SUCH_TOPIC: Final = "No such topic"
AGAIN: Final = "publish again with the same msg_id, which does not store a message twice"
_DATA_ERRORS: Final = ("22", "23", "54")  # classes of SQLSTATE: data exceptions, constraints, limits
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of some units: the owners of the queues with something new, and the errors of those that were not stored.

    A queue below zero is that of a topic; the owner is the id of a worker, or None.
    """

    owners: dict[int, int | None] = field(default_factory=dict)
    refused: dict[Unit, JunctorError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """By what a transaction is recognised later: the first of its messages, and its own id; None if it has stored nothing."""

    message_id: int | None
    msg_id: str
    transaction: str


class _BadDataError(Exception):
    """The database does not take one of the messages; the argument says why."""


class Committer:
    """Stores units, on a connection of its own that is used by one greenlet at a time."""

    def __init__(self, engine: Engine, cluster_id: int) -> None:
        self._engine = engine
        self._cluster_id = cluster_id
        self._pooled: Any = None
        self._cursor: Any = None

    def commit(self, units: Sequence[Unit]) -> Outcome:
        """Stores units in one transaction.  Only what the database does not take is left out, and stops no other.

        Messages get their ids in the order in which they are given.  Raises nothing that has to do with the database: see ``Outcome``.
        """
        outcome = Outcome()
        try:
            self._commit(units, outcome)
        except BaseException:
            self.close()  # killed in the middle: whatever the connection is about, nobody is to have it
            raise
        return outcome

    def close(self) -> None:
        """Gives the connection up.  Never raises."""
        pooled, self._pooled, self._cursor = self._pooled, None, None
        if pooled is not None:
            pooled.invalidate()

    def _commit(self, units: Sequence[Unit], outcome: Outcome) -> None:
        try:
            self._persist(units, outcome)
        except _BadDataError as error:
            if len(units) > 1:
                middle = len(units) // 2
                self._commit(units[:middle], outcome)
                self._commit(units[middle:], outcome)
                return
            refused = InvalidInput.one("", f"The message cannot be stored: {error}.")
            outcome.refused.update(dict.fromkeys(units, refused))
        except (
            JunctorError
        ) as error:  # also for those that seemed to be duplicates: of something that is not stored either
            outcome.refused.update(dict.fromkeys(units, error))

    def _persist(self, units: Sequence[Unit], outcome: Outcome) -> None:
        """Tries as often as it makes sense; nothing is stored by an attempt that is repeated."""
        for attempt in range(1, TRIES + 1):
            try:
                self._attempt(units, outcome)
                return
            except psycopg2.Error as error:
                was_lost = self._roll_back()
                if attempt == TRIES or not (was_lost or self._is_curable(error)):
                    raise _explained(error) from error

    def _is_curable(self, error: psycopg2.Error) -> bool:
        """Whether another attempt may succeed; does what it can for that."""
        if error.pgcode == READ_ONLY:
            self.close()  # a server that is the standby now; a new connection finds its successor
            return True
        if error.pgcode == errorcodes.CHECK_VIOLATION:  # the only check there is: no partition for the ids
            try:
                Partitions(self._engine).ensure()
            except StoreUnavailable as reason:
                raise ServiceUnavailable(msg=f"Nothing was stored: {reason}") from error
            return True
        return error.pgcode in (errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED)

    def _attempt(self, units: Sequence[Unit], outcome: Outcome) -> None:
        for unit in units:
            outcome.refused.pop(unit, None)  # what an attempt found that was undone
        self._connect()
        is_relaxed = all(unit.is_relaxed for unit in units)
        begin = "BEGIN; SET LOCAL synchronous_commit TO off; " if is_relaxed else "BEGIN; "
        accepted = list(units)
        if any(unit.own_ids for unit in units):
            accepted, begin = self._claim(units, begin, outcome), ""
        if not accepted:
            self._cursor.execute("ROLLBACK")
            return
        rows = self._write(accepted, begin)
        if gone := frozenset(rows[0][3]):  # topics that somebody has deleted just now
            self._cursor.execute("ROLLBACK")
            lost = [unit for unit in units if unit.topic_ids & gone]
            outcome.refused.update(dict.fromkeys(lost, ResourceNotFound(msg=NO_SUCH_TOPIC)))
            if rest := [unit for unit in units if unit not in lost]:
                self._attempt(rest, outcome)
            return
        owners = self._look_again({row[4]: row[5] for row in rows if row[4] is not None})
        self._end(_Ticket(*rows[0][:3]))
        outcome.owners.update(owners)

    def _write(self, units: Iterable[Unit], begin: str) -> list[tuple[Any, ...]]:
        document = b"[" + b",".join(unit.document for unit in units) + b"]"
        self._cursor.execute(f"{begin}EXECUTE pubsub_write (%s, %s)", (document.decode(), self._cluster_id))
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def _claim(self, units: Sequence[Unit], begin: str, outcome: Outcome) -> list[Unit]:
        """Those units whose own ids are new; of two with the same id, the first one."""
        wanted = [own_id for unit in units for own_id in unit.own_ids]
        self._cursor.execute(f"{begin}EXECUTE pubsub_claim (%s, %s)", (self._cluster_id, wanted))
        free = {row[0] for row in self._cursor.fetchall()}
        accepted = []
        for unit in units:
            if free.issuperset(unit.own_ids):
                free.difference_update(unit.own_ids)
                accepted.append(unit)
            else:
                outcome.refused[unit] = DuplicateMessage()
        if free:  # of units with other ids that are taken
            self._cursor.execute(writer_sql.RELEASE, (self._cluster_id, sorted(free)))
        return accepted

    def _look_again(self, owners: dict[int, int | None]) -> dict[int, int | None]:
        """Has subscriptions that are being made just now take what was parked; see ``parked``."""
        topics = [-sub_id for sub_id in owners if sub_id < 0]
        if not topics:
            return owners
        self._cursor.execute(parked.LOOK_AGAIN, {"topics": topics})
        return owners | dict(self._cursor.fetchall())

    def _end(self, ticket: _Ticket) -> None:
        """Commits.  Raises ``ServiceUnavailable`` when nothing was stored, and when nobody can tell."""
        try:
            self._cursor.execute("COMMIT")
            return
        except psycopg2.Error as error:
            if not self._roll_back():
                raise ServiceUnavailable(
                    msg=f"Nothing was stored: the database refuses to commit ({_name(error)})."
                ) from error
            log.warning(
                "The connection was lost while messages were being stored; it is being found out whether they are."
            )
        if ticket.message_id is None:
            return
        was_stored = self._settle(ticket)
        if was_stored is None:
            raise ServiceUnavailable(
                msg=f"The connection to the database was lost: the messages may have been stored; {AGAIN}."
            )
        if not was_stored:
            raise ServiceUnavailable(
                msg="Nothing was stored: the connection to the database was lost; publish again."
            )

    def _settle(self, ticket: _Ticket) -> bool | None:
        """Whether a transaction was committed; None if that does not turn out in time, or if the database has lost its memory of it."""
        deadline = monotonic() + SETTLE_TIMEOUT
        while monotonic() < deadline:
            try:
                self._connect()
                self._cursor.execute(
                    writer_sql.SETTLED, (ticket.message_id, ticket.msg_id, ticket.transaction)
                )
                is_there, status = self._cursor.fetchone()
            except JunctorError as error:
                log.debug("It cannot be found out yet: %s", error)
            except psycopg2.Error as error:
                self._roll_back()
                if error.pgcode == errorcodes.INVALID_PARAMETER_VALUE:
                    return (
                        None  # to this database the transaction is of the future: a standby that was promoted
                    )
            else:
                if is_there or status == "aborted":
                    return bool(is_there)
                if status != "in progress":
                    return None
            gevent.sleep(SETTLE_INTERVAL)
        return None

    def _connect(self) -> None:
        """Makes sure that there is a connection.  Raises ``ServiceUnavailable``."""
        if self._cursor is not None:
            return
        try:
            self._pooled = self._engine.raw_connection()
            connection = self._pooled.driver_connection
            connection.rollback()
            connection.autocommit = True  # BEGIN and COMMIT are among the statements
            cursor = connection.cursor()
            for statement in (
                f"SET statement_timeout = '{STATEMENT_TIMEOUT}s'",
                writer_sql.WRITE,
                writer_sql.CLAIM,
            ):
                cursor.execute(statement)
        except (DBAPIError, PoolTimeout, psycopg2.Error) as error:
            self.close()
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise _explained(cause) from error
        self._cursor = cursor

    def _roll_back(self) -> bool:
        """Whether the connection is lost; if not, the transaction is undone."""
        if self._cursor is None:
            return True
        if not self._cursor.connection.closed:
            try:
                self._cursor.execute("ROLLBACK")
                return False
            except psycopg2.Error as error:
                log.debug("The connection is lost: %s", _name(error))
        self.close()
        return True


def _explained(error: BaseException | None) -> Exception:
    """What an error of the database, before COMMIT, means for those who published.  Never says what they published."""
    code = getattr(error, "pgcode", None) or ""
    if code in UNDEFINED:
        return SchemaOutdated()
    if code.startswith(_DATA_ERRORS) and code != errorcodes.CHECK_VIOLATION:
        return _BadDataError(_name(error))
    log.warning("Messages cannot be stored: %s", _name(error))
    return ServiceUnavailable(msg=f"Nothing was stored: the database cannot be used ({_name(error)}).")


def _name(error: BaseException | None) -> str:
    """An error of the database without its text, which may have data in it, e.g. ``UniqueViolation 23505``."""
    code = getattr(error, "pgcode", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
