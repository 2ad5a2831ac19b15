"""The worker of the cluster that links events to the chain, soon after they are committed, and deletes the old ones once a day."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event as Signal

from junctor.server.audit.chain import BATCH, Chain
from junctor.server.audit.log_lines import write_head
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.runtime.lease import Lease

LEASE: Final = "audit.chain"
LOOK_INTERVAL: Final = 1.0  # seconds between two looks for new events, if nobody says that there are some
GATHERING: Final = 0.1  # seconds that events are let come together for one transaction
PAUSE: Final = 0.01  # seconds between two transactions while there is a backlog
HEAD_INTERVAL: Final = 60.0  # seconds after which the log is told where the chain ends, if it has grown
HEAD_EVENTS: Final = 1000  # or after so many events
FIGURES_INTERVAL: Final = 10.0  # seconds
PURGE_INTERVAL: Final = 24 * 3600.0  # seconds
FIRST_PURGE: Final = 60.0  # seconds after this worker has become the one
RETRY_PAUSE: Final = 5.0  # seconds
log = logging.getLogger(__name__)


class Chainer:
    """Owns the lease of the chain, or waits for it.  Writers never wait for it: what they commit is linked afterwards."""

    def __init__(self, context: Context, chain: Chain) -> None:
        self._context = context
        self._chain = chain
        self._lease: Lease | None = None
        self._wake = Signal()
        self._greenlet: gevent.Greenlet | None = None
        self._problem = ""
        self._unchained = context.metrics.gauge("junctor_audit_unchained")
        self._unsealed = context.metrics.counter("junctor_audit_unsealed_total")
        self._broken = context.metrics.gauge("junctor_audit_chain_broken")
        self._head_at, self._head_position = 0.0, 0
        self._figures_due = self._purge_due = 0.0

    def start(self) -> None:
        """Begins to ask for the lease; returns at once."""
        self._lease = self._context.links.leases.want(LEASE)
        self._lease.on_change = self._changed
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Links no more.  What a step was doing is undone by the database.  Neither blocks nor raises."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None
        if self._lease is not None:
            self._context.links.leases.give_up(LEASE)

    def wake(self) -> None:
        """There are new events."""
        if self._greenlet is not None and not self._wake.is_set():
            self._wake.set()

    def _changed(self, is_held: bool) -> None:
        self._unchained.set(0)  # the owner's figure counts
        self._broken.set(0)
        self._figures_due, self._purge_due = 0.0, monotonic() + FIRST_PURGE
        if is_held:
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(LOOK_INTERVAL)
            self._wake.clear()
            if self._lease is None or not self._lease.is_held:
                continue
            try:
                gevent.sleep(GATHERING)
                self._pass()
                self._heal()
            except JunctorError as error:
                self._tell(error)
                gevent.sleep(RETRY_PAUSE)
            except Exception:  # boundary: without this greenlet, nothing would be linked any more
                log.exception("Audit events could not be linked to their chain.")
                gevent.sleep(RETRY_PAUSE)

    def _pass(self) -> None:
        """Links what is there, and does what else is due."""
        while self._lease is not None and self._lease.is_held:
            linked = self._chain.link_next()
            self._unsealed.inc(linked.unsealed)
            self._tell_head(linked.anchor.last_position, linked.anchor.last_chain)
            if linked.count < BATCH:
                break
            gevent.sleep(PAUSE)
        if monotonic() >= self._figures_due:
            self._unchained.set(self._chain.unchained())
            self._figures_due = monotonic() + FIGURES_INTERVAL
        if monotonic() >= self._purge_due:
            self._purge_due = monotonic() + PURGE_INTERVAL
            self._context.audit.purge_as_configured()

    def _tell_head(self, position: int, chain: bytes) -> None:
        grown = position - self._head_position
        if grown >= HEAD_EVENTS or (grown > 0 and monotonic() >= self._head_at + HEAD_INTERVAL):
            write_head(position, chain)
            self._head_at, self._head_position = monotonic(), position

    def _tell(self, error: JunctorError) -> None:
        """Logs a problem when it begins, not each time it is met."""
        if str(error) != self._problem:
            log.error("Audit events cannot be linked to their chain now: %s", error)
        self._problem = str(error)
        self._broken.set(1)

    def _heal(self) -> None:
        if self._problem:
            log.info("Audit events are linked to their chain again.")
            self._problem = ""
        self._broken.set(0)
