"""Which tokens were logged out: in the database for all workers, in memory for each request.

A worker knows of a log-out that it did itself at once, of others' when a message on Redis wakes it, and without Redis within
``POLL_INTERVAL``.  While the database is away nothing can be logged out, and what was stays so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import gevent
from gevent.event import Event
from gevent.lock import Semaphore
from sqlalchemy import Connection, Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError, TooManyRequests
from junctor.sql.store import Store
from junctor.sql.tables.security import RevokedToken

POLL_INTERVAL: Final = 2.0  # seconds
PURGE_INTERVAL: Final = 300.0  # seconds
GRACE: Final = 600.0  # seconds that a row outlives its token: clocks differ
BATCH: Final = 5000  # rows
MAX_REVOKED: Final = 50_000  # of a definition at a time; some 200 bytes each in every worker
log = logging.getLogger(__name__)


class RevokedTokens:
    """The revoked tokens of a cluster, by the digest of what is signed.

    ``announce`` is called after each log-out, and tells the other workers to ``wake``.  Nothing is read before ``load``, which the first
    definition calls that needs it, so a cluster without such definitions never asks the database.
    """

    def __init__(
        self, store: Store, announce: Callable[[], None], *, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._announce = announce
        self._now = now
        self._expiry: dict[bytes, tuple[float, int]] = {}
        self._counts: Counter[int] = Counter()
        self._generations: Counter[int] = Counter()
        self._last = 0
        self._is_loaded = False
        self._is_down = False
        self._turn = Semaphore()
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._expiry

    def generation(self, security_id: int) -> int:
        """A number that grows whenever a token of this definition is revoked."""
        return self._generations[security_id]

    def load(self) -> None:
        """Makes sure that everything is known that was revoked so far.  Raises ``StoreUnavailable``."""
        if not self._is_loaded:
            self.catch_up()
            self._is_loaded = True

    def start(self) -> None:
        """Begins to follow what other workers revoke; returns at once."""
        self._greenlet = gevent.spawn(self._follow)

    def stop(self) -> None:
        """Ends it."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def wake(self) -> None:
        """Makes the worker look now.  Neither blocks nor raises."""
        self._wake.set()

    def revoke(self, security_id: int, digest: bytes, expires: float) -> None:
        """Revokes a token of a definition, for all workers, until it ``expires``, in seconds since 1970.

        When this returns, it is committed.  Raises ``StoreUnavailable``, and ``TooManyRequests`` when ``MAX_REVOKED`` tokens of the
        definition are revoked that have not expired.
        """
        if self._counts[security_id] >= MAX_REVOKED:
            self._forget()
            if self._counts[security_id] >= MAX_REVOKED:
                raise TooManyRequests(
                    msg=f"{MAX_REVOKED} tokens of this definition were logged out and have not expired; try again later."
                )
        values = {
            "cluster_id": self._store.cluster_id,
            "security_id": security_id,
            "digest": digest,
            "expires": datetime.fromtimestamp(expires, UTC),
        }
        try:
            with database_errors(), self._store.engine.begin() as connection:
                self._lock(connection)
                connection.execute(insert(RevokedToken).values(values).on_conflict_do_nothing())
        except IntegrityError:
            log.info("A token was logged out whose definition has been deleted in the meantime.")
        self._add(security_id, digest, expires)
        self._announce()

    def catch_up(self) -> None:
        """Learns what was revoked since the last time.  Raises ``StoreUnavailable``."""
        with self._turn, database_errors(), self._store.engine.connect() as connection:
            if self._newest(connection) < self._last:
                self._last = 0  # the newest ones were purged, or an old state of the database was restored
            while rows := self._rows_after(connection, self._last):
                for row in rows:
                    self._add(row.security_id, bytes(row.digest), row.expires.timestamp())
                self._last = rows[-1].id

    def purge(self) -> None:
        """Forgets what has expired, here and in the database.  Raises ``StoreUnavailable``."""
        self._forget()
        with database_errors(), self._store.engine.begin() as connection:
            connection.execute(
                delete(RevokedToken).where(
                    RevokedToken.cluster_id == self._store.cluster_id,
                    RevokedToken.expires < func.now() - timedelta(seconds=GRACE),
                )
            )

    def _newest(self, connection: Connection) -> int:
        statement = select(func.max(RevokedToken.id)).where(RevokedToken.cluster_id == self._store.cluster_id)
        return connection.execute(statement).scalar_one() or 0

    def _rows_after(self, connection: Connection, last: int) -> Sequence[Row[int, int, bytes, datetime]]:
        statement = (
            select(RevokedToken.id, RevokedToken.security_id, RevokedToken.digest, RevokedToken.expires)
            .where(RevokedToken.cluster_id == self._store.cluster_id, RevokedToken.id > last)
            .order_by(RevokedToken.id)
            .limit(BATCH)
        )
        return connection.execute(statement).all()

    def _lock(self, connection: Connection) -> None:
        """Has other log-outs wait until this one is committed, so that whoever sees its id has seen all that are smaller."""
        name = f"junctor.revoked_token:{self._store.cluster_id}"
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    def _add(self, security_id: int, digest: bytes, expires: float) -> None:
        if digest not in self._expiry:
            self._expiry[digest] = (expires, security_id)
            self._counts[security_id] += 1
        self._generations[security_id] += 1

    def _forget(self) -> None:
        """Forgets what nobody would be let in with anyway."""
        past = self._now() - GRACE
        for digest, (expires, security_id) in list(self._expiry.items()):
            if expires < past:
                del self._expiry[digest]
                self._counts[security_id] -= 1

    def _follow(self) -> None:
        next_purge = self._now() + PURGE_INTERVAL
        while True:
            self._wake.wait(POLL_INTERVAL)
            self._wake.clear()
            if not self._is_loaded:
                continue
            try:
                self.catch_up()
                if self._now() >= next_purge:
                    next_purge = self._now() + PURGE_INTERVAL
                    self.purge()
                if self._is_down:
                    log.info("Tokens that were logged out can be read again.")
                self._is_down = False
            except JunctorError as error:
                if not self._is_down:
                    log.warning(
                        "Tokens that were logged out cannot be read: %s Those known stay refused.", error
                    )
                self._is_down = True
            except Exception:  # boundary: without this greenlet, no worker would hear of another's log-outs
                log.exception("Reading which tokens were logged out failed; trying again.")
                gevent.sleep(POLL_INTERVAL)
