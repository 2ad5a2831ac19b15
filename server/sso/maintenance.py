"""What has to be done from time to time: deleting what has expired."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event
from sqlalchemy import Connection, TextClause, text

from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.runtime.lease import Lease
    from junctor.server.sso.single_sign_on import SingleSignOn

LEASE: Final = "sso.maintenance"
INTERVAL: Final = 300.0  # seconds
BATCH: Final = 1000  # rows in one transaction
MAX_BATCHES: Final = 1000  # of a table at a time; the rest has to wait for the next one
PAUSE: Final = 0.01  # seconds between two batches
_EXPIRED: Final = {
    # A session that has expired a moment ago by this clock may be one that a worker is moving on.
    "sso_session": "expiration_time < now() - interval '1 minute'",
    "sso_challenge": "expiration_time < now()",
    "sso_throttle": "expires < now()",
    "sso_grant": "expiration_time < now()",
    "sso_signing_key": "verifies_until < now()",
    "sso_attribute": "expiration_time < now()",
    "sso_token": "expiration_time < now()",
}
_OF_USERS: Final = frozenset({"sso_attribute", "sso_token"})  # which say nothing of their cluster
log = logging.getLogger(__name__)


def _statement(table: str) -> TextClause:
    mine = "cluster_id = :cluster"
    if table in _OF_USERS:
        mine = f"user_id IN (SELECT id FROM sso_user WHERE {mine})"  # noqa: S608 - constants
    # What somebody else has locked is in use, or is being deleted.
    return text(f"""
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE {_EXPIRED[table]} AND {mine} LIMIT {BATCH} FOR UPDATE SKIP LOCKED))
    """)  # noqa: S608 - constants


_DELETE: Final = {table: _statement(table) for table in _EXPIRED}


class Maintenance:
    """Deletes what has expired, in one worker of the cluster; it is invisible before, so it does not matter when."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._lease: Lease | None = None
        self._greenlet: gevent.Greenlet | None = None
        self._is_failing = False

    def start(self) -> None:
        """Begins."""
        self._lease = self._sso.context.links.leases.want(LEASE)
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends; what is being deleted is deleted later."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None
            self._sso.context.links.leases.give_up(LEASE)

    def clean(self) -> dict[str, int]:
        """Deletes what has expired, and sign-ups that were not confirmed in time; how many rows, by table.  Raises ``StoreUnavailable``."""
        deleted = {table: self._in_batches(partial(self._delete, table)) for table in _EXPIRED}
        deleted["sign-ups"] = self._in_batches(self._sso.signup.purge)
        return deleted

    def _delete(self, table: str, connection: Connection) -> int:
        given = {"cluster": self._sso.store.cluster_id}
        return connection.execute(_DELETE[table], given).rowcount

    def _run(self) -> None:
        wake = Event()
        while True:
            wake.wait(INTERVAL)
            if self._lease is None or not self._lease.is_held:
                continue
            try:
                deleted = {what: count for what, count in self.clean().items() if count}
                if deleted:
                    log.info("Deleted what had expired: %s.", deleted)
                self._is_failing = False
            except JunctorError as error:
                if not self._is_failing:
                    log.warning("What has expired cannot be deleted now: %s", error)
                self._is_failing = True
            except Exception:  # boundary: without this greenlet, tables would grow for ever
                log.exception("What has expired could not be deleted; trying again.")

    def _in_batches(self, delete: Callable[[Connection], int]) -> int:
        total = 0
        for _ in range(MAX_BATCHES):
            with database_errors(), self._sso.store.engine.begin() as connection:
                deleted = delete(connection)
            total += deleted
            if deleted < BATCH:
                break
            gevent.sleep(PAUSE)
        return total
