"""The audit of verified sessions: an event for each would cost more than what it tells, so they are counted."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from junctor.server.audit.trail import REFUSED, Event
from junctor.server.sso.errors import ValidationError
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.sso.caller import Caller
    from junctor.server.sso.single_sign_on import SingleSignOn

INTERVAL: Final = 60.0  # seconds that one event covers
MAX_KEYS: Final = 10_000  # that are counted at a time
MAX_REFUSALS: Final = 20  # from one address that are events of their own, in an interval
BATCH: Final = 500  # events in one transaction
log = logging.getLogger(__name__)


class Verifications:
    """Successes, counted by who verified whose session through which application, and refusals beyond those that are told one by one.

    The ``extra`` of such an event says how many there were, ``count``, since it was written last, a minute at the most before; its ``cid``
    is that of the first one.  While the trail cannot be written, counting goes on.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._counts: Counter[tuple[Any, ...]] = Counter()
        self._first: dict[tuple[Any, ...], Event] = {}
        self._refusals: Counter[str] = Counter()
        self._since = monotonic()
        self._is_failing = False

    def verified(self, caller: Caller, actor: str, target: str, public_id: str) -> None:
        """Counts that a session, which ``public_id`` names, was valid."""
        key = (actor, public_id, caller.current_app)
        if key in self._first:
            self._counts[key] += 1
        else:
            self._begin(key, _event(caller, actor, target, {"session": public_id}))

    def refused(self, caller: Caller, op: str, actor: str, error: ValidationError) -> None:
        """Audits a refusal by itself, or counts it if there were many from the same address."""
        reason = f"{', '.join(error.sub_status)} {error.reason}".rstrip()
        event = replace(_event(caller, actor, "", {}), op=op, outcome=REFUSED, reason=reason)
        if len(self._refusals) < MAX_KEYS or caller.remote_addr in self._refusals:
            self._refusals[caller.remote_addr] += 1
            if self._refusals[caller.remote_addr] <= MAX_REFUSALS:
                self._sso.audit.note(event)
                return
        key = (op, reason, actor, caller.current_app, caller.remote_addr)
        if key in self._first:
            self._counts[key] += 1
        else:
            self._begin(key, event)

    def flush_if_due(self) -> None:
        """Writes what was counted if a minute has passed."""
        if monotonic() - self._since >= INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Writes what was counted.  Does not raise: what cannot be written stays for the next time."""
        self._since = monotonic()
        self._refusals.clear()
        waiting = list(self._first)
        for start in range(0, len(waiting), BATCH):
            keys = waiting[start : start + BATCH]
            counts = [(key, self._first[key], self._counts[key]) for key in keys]
            try:
                with database_errors(), self._sso.store.engine.begin() as connection:
                    for _, event, count in counts:
                        counted = replace(event, extra={**event.extra, "count": count})
                        self._sso.audit.record(connection, counted)
            except JunctorError as error:
                if not self._is_failing:
                    log.warning("Verifications of sessions cannot be audited now: %s", error)
                self._is_failing = True
                return
            self._is_failing = False
            for key, _, count in counts:
                self._written(key, count)

    def _begin(self, key: tuple[Any, ...], event: Event) -> None:
        if len(self._first) >= MAX_KEYS:
            self.flush()
        if len(self._first) >= MAX_KEYS:
            self._sso.audit.note(event)  # raises StoreUnavailable: what cannot be audited is not done
            return
        self._first[key] = event
        self._counts[key] = 1

    def _written(self, key: tuple[Any, ...], count: int) -> None:
        self._counts[key] -= count
        if self._counts[key] <= 0:  # otherwise, there were more while it was written
            del self._counts[key], self._first[key]


def _event(caller: Caller, actor: str, target: str, extra: dict[str, Any]) -> Event:
    return Event(
        cid=caller.cid,
        op="session.verify",
        actor=actor,
        target=target,
        app=caller.current_app,
        remote_addr=caller.remote_addr,
        user_agent=caller.user_agent,
        extra=extra,
    )
