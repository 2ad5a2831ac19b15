"""Leases: what one worker of the cluster does for all of them, until it ends, or until it cannot say any more that it lives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Interval,
    Text,
    case,
    cast,
    delete,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError
from junctor.sql.store import Store
from junctor.sql.tables.process import Worker
from junctor.sql.tables.websocket import Lease as Row

TTL = 12.0  # seconds; with RENEW_INTERVAL, who dies unseen is followed within 15 s
RENEW_INTERVAL = 3.0  # seconds between two statements, each for all leases of this worker
STATEMENT_TIMEOUT = 5.0  # seconds
TICK = 0.25  # seconds; how late an owner may be told that its time has run out
MARGIN = 0.5  # seconds before the end of a lease at which its owner stops acting
MAX_LEASES = 10_000  # that a worker may ask for
FORGOTTEN_AFTER = "1 day"  # after which the row of a lease that nobody wants is deleted
log = logging.getLogger(__name__)


def _ignore(_is_held: bool) -> None:
    """Nobody wants to know."""


class Lease:
    """Something that this worker would do for the cluster, and does while ``is_held``.

    ``fence`` is larger with each owner: who stores it beside its work can tell when a later owner has taken over.  ``on_change`` is
    called with ``is_held`` when that changes; it must neither block nor raise.  ``decided`` is set once it is known for the first time
    who holds it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.fence = 0
        self.on_change: Callable[[bool], None] = _ignore
        self.decided = Event()
        self._held_until = 0.0
        self._is_granted = False

    @property
    def is_held(self) -> bool:
        """Whether this worker may act as the owner now; never longer than the database says so, even if the worker was suspended."""
        return self._is_granted and monotonic() < self._held_until - MARGIN

    def granted(self, fence: int, until: float) -> None:
        """It is this worker's until ``until``, on the clock of ``time.monotonic``."""
        self.fence, self._held_until = fence, until
        self._set(True)

    def refused(self) -> None:
        """It is another worker's."""
        self._set(False)

    def look(self) -> None:
        """Tells when its time has run out."""
        if self._is_granted and not self.is_held:
            log.warning(
                "The lease %s has run out: the object database could not be reached in time.", self.name
            )
            self._set(False)

    def _set(self, is_held: bool) -> None:
        changed = is_held is not self._is_granted
        self._is_granted = is_held
        self.decided.set()
        if changed:
            log.info("This worker %s the lease %s.", "has" if is_held else "no longer has", self.name)
            self.on_change(is_held)


class Leases:
    """The leases that this worker wants.

    ``worker`` tells the id of its row, None while it has none.  Whatever happens, two workers never hold a lease at a time: an owner gives
    up by its own clock before the database lets another one have it.  A lease whose owner's row is gone is free at once.
    """

    def __init__(self, store: Store, worker: Callable[[], int | None]) -> None:
        self._store = store
        self._worker = worker
        self._wanted: dict[str, Lease] = {}
        self._returned: set[str] = set()
        self._wake = Event()
        self._greenlets: list[gevent.Greenlet] = []

    def want(self, name: str) -> Lease:
        """The lease of this name, from now on asked for again and again; the same one for whoever asks for the name.

        Raises ValueError if too many are wanted.
        """
        if name not in self._wanted:
            if len(self._wanted) >= MAX_LEASES:
                raise ValueError(f"A worker may want {MAX_LEASES} leases, and has them.")
            self._wanted[name] = Lease(name)
            self._returned.discard(name)
            self._wake.set()
        return self._wanted[name]

    def give_up(self, name: str) -> None:
        """It is not wanted any more, and another worker may have it at once.  Never blocks, never raises."""
        if (lease := self._wanted.pop(name, None)) is not None:
            lease.on_change = _ignore
            lease.refused()
            self._returned.add(name)
            self._wake.set()

    def start(self) -> None:
        """Begins to ask for them."""
        self._greenlets = [gevent.spawn(self._run), gevent.spawn(self._watch)]

    def stop(self) -> None:
        """Gives all of them up.  Waits for the database for a few seconds at the most; never raises."""
        gevent.killall(self._greenlets, block=False)
        for name in list(self._wanted):
            self.give_up(name)
        self._bounded(self.return_)

    def return_(self) -> None:
        """Lets others have what was given up.  Raises ``StoreUnavailable``."""
        worker, names = self._worker(), sorted(self._returned)
        if worker is None or not names:
            return
        mine = (Row.cluster_id == self._store.cluster_id, Row.name.in_(names), Row.worker_id == worker)
        with database_errors(), self._store.engine.begin() as connection:
            connection.execute(update(Row).where(*mine).values(expires=func.clock_timestamp()))
        self._returned.difference_update(names)

    def renew(self) -> None:
        """Asks for all that are wanted, in one statement.  Raises ``StoreUnavailable``."""
        worker, wanted = self._worker(), dict(self._wanted)
        if worker is None or not wanted:
            return
        until = monotonic() + TTL  # taken before the statement, so it ends before the database says so
        granted = self._ask(worker, sorted(wanted))
        for name, lease in wanted.items():
            if self._wanted.get(name) is not lease:
                continue  # it was given up meanwhile, and is returned next time
            if name in granted:
                lease.granted(granted[name], until)
            else:
                lease.refused()

    def _run(self) -> None:
        self._bounded(self._forget)
        while True:
            self._wake.clear()
            self._bounded(self.return_)
            self._bounded(self.renew)
            self._wake.wait(RENEW_INTERVAL)

    def _watch(self) -> None:
        while True:
            gevent.sleep(TICK)
            for lease in list(self._wanted.values()):
                lease.look()

    def _bounded(self, action: Callable[[], None]) -> None:
        limit = gevent.Timeout(STATEMENT_TIMEOUT)
        try:
            with limit:
                action()
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            log.debug("The object database did not answer within %g s about leases.", STATEMENT_TIMEOUT)
        except JunctorError as error:
            log.debug("Leases cannot be renewed now: %s", error)
        except Exception:  # boundary: without this greenlet, the worker would own nothing any more
            log.exception("Leases cannot be renewed.")

    def _ask(self, worker: int, names: list[str]) -> dict[str, int]:
        """Takes what is free and keeps what is this worker's; returns the fences of both.

        Rows are locked in the order of their names, by every worker: so none waits for another in a circle.
        """
        expires = func.clock_timestamp() + cast(f"{TTL} seconds", Interval)
        name = func.unnest(cast(names, ARRAY(Text))).column_valued("name")
        cluster = self._store.cluster_id
        rows = select(
            literal(cluster), name, literal(worker), literal(1), cast(expires, DateTime(timezone=True))
        )
        statement = insert(Row).from_select(
            ["cluster_id", "name", "worker_id", "fence", "expires"], rows.order_by(name)
        )
        given = statement.excluded
        is_mine = Row.worker_id == given.worker_id
        is_over = Row.expires <= func.clock_timestamp()
        kept = statement.on_conflict_do_update(
            index_elements=[Row.cluster_id, Row.name],
            set_={
                "worker_id": given.worker_id,
                "fence": case((is_mine & ~is_over, Row.fence), else_=Row.fence + 1),
                "expires": given.expires,
            },
            where=is_mine | is_over | _owner_is_gone(),
        ).returning(Row.name, Row.fence)
        with database_errors(), self._store.engine.begin() as connection:
            return {found.name: found.fence for found in connection.execute(kept)}

    def _forget(self) -> None:
        long_ago = Row.expires < func.clock_timestamp() - cast(FORGOTTEN_AFTER, Interval)
        mine = Row.cluster_id == self._store.cluster_id
        with database_errors(), self._store.engine.begin() as connection:
            connection.execute(delete(Row).where(mine, long_ago))


def _owner_is_gone() -> ColumnElement[bool]:
    # SQLAlchemy would list the table in FROM here, and then it would be any row of it, not the one in conflict.
    owner: ColumnElement[int] = literal_column(f"{Row.__tablename__}.worker_id")
    return ~select(Worker.id).where(Worker.id == owner).exists()
