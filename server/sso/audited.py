"""A call of Single Sign-On, audited once with its outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from junctor.server.audit.trail import ERROR, OK, REFUSED, Event
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.sso.records import Session
    from junctor.server.sso.single_sign_on import SingleSignOn

ANONYMOUS: Final = "anonymous"
TRUSTED: Final = "junctor"
log = logging.getLogger(__name__)


class Audited:
    """What is going to be audited of a call.

    ``actor`` and ``target`` are user ids; without an actor, it is the user of the caller's session, if that is known.  ``extra`` is JSON,
    without personal data and secrets.
    """

    def __init__(self, sso: SingleSignOn, caller: Caller, op: str, target: str) -> None:
        self._sso = sso
        self._caller = caller
        self._op = op
        self.actor = ""
        self.target = target
        self.extra: dict[str, Any] = {}
        self.is_recorded = False

    def by(self, session: Session | None) -> None:
        """It is the user of this session who acts; None = the trusted caller."""
        if session is not None:
            self.actor = session.user.user_id

    def record(self, connection: Connection) -> None:
        """Writes that the call succeeded, in the transaction of what it does, with which it stays or goes."""
        self._sso.audit.record(connection, self.event(OK))
        self.is_recorded = True

    def event(self, outcome: str, reason: str = "") -> Event:
        """The event as it is now."""
        caller = self._caller
        return Event(
            cid=caller.cid,
            op=self._op,
            outcome=outcome,
            actor=self.actor or self._actor(),
            target=self.target,
            app=caller.current_app,
            remote_addr=caller.remote_addr,
            user_agent=caller.user_agent,
            reason=reason,
            extra=self.extra,
        )

    def _actor(self) -> str:
        if self._caller.is_trusted:
            return self._caller.who or TRUSTED
        return self._sso.sessions.user_id_of(self._caller.current_ust) or ANONYMOUS


@contextmanager
def audited(sso: SingleSignOn, caller: Caller, op: str, *, target: str = "") -> Iterator[Audited]:
    """Audits what is done within: as refused with the codes as reason for a ``ValidationError``, as an error for any other, else as ok.

    What changes something calls ``record`` in its transaction; of all else, a note is committed when this returns.
    Raises ``StoreUnavailable`` when the call cannot be audited: then its answer must not be given either.
    """
    call = Audited(sso, caller, op, target)
    try:
        yield call
    except ValidationError as refusal:
        codes = ", ".join(refusal.sub_status)
        sso.audit.note(call.event(REFUSED, f"{codes} {refusal.reason}".rstrip()))
        raise
    except Exception as error:
        # boundary of the call: it is raised again, and the trail says that nobody knows how far the call came
        try:
            sso.audit.note(call.event(ERROR, type(error).__name__))
        except JunctorError as problem:
            log.warning("%s failed, which could not be audited: %s", op, problem)
        raise
    if not call.is_recorded:
        sso.audit.note(call.event(OK))
