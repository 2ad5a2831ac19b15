"""What callers do with sessions: verify, renew, look at and end them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.sso import session_rows as rows
from junctor.server.sso.audited import ANONYMOUS, TRUSTED, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError, not_allowed
from junctor.server.sso.gate import no_session
from junctor.server.sso.protection import MAX_TOKEN
from junctor.server.sso.records import Session
from junctor.server.sso.session_cache import SessionCache, rests_until
from junctor.server.sso.session_upkeep import SessionUpkeep
from junctor.server.sso.user_view import iso
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.live import Application
    from junctor.server.sso.single_sign_on import SingleSignOn

PURPOSE: Final = "sso.session"
MAX_LIST: Final = 1000  # sessions
MAX_WRONG_SECRETS: Final = 100  # from one address, within
WRONG_SECRETS_SECONDS: Final = 600


class SessionCalls:
    """The sessions of the cluster, for those who call; valid ones are remembered in the worker for up to a second.

    What a caller may not do is refused with ``ValidationError``, and any method may raise ``StoreUnavailable``.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._cache = SessionCache(self._read)
        self._upkeep = SessionUpkeep(sso)

    def find(self, ust: str) -> Session | None:
        """The session of a token, if it has not expired; of a user who may be locked by now, which ``Gate.account`` tells."""
        return self._cache.find(ust)

    def user_id_of(self, ust: str) -> str:
        """Whose token it is, '' if this worker does not know without asking the database."""
        found = self._cache.peek(ust)
        return found.user.user_id if found is not None else ""

    def touch(self, session: Session) -> Session:
        """The session, whose idle time begins anew; what a worker writes of that is a minute old at the most."""
        if self._cache.is_resting(session):
            return session
        now = datetime.now(UTC)
        if now.timestamp() < rests_until(session):
            return session
        expires = rows.expiration(now, session.idle_minutes, session.absolute_time)
        moved = replace(session, last_used=now, expiration_time=expires)
        self._cache.replace(moved)
        self._upkeep.used(session.id, now)
        return moved

    def log_out(self, caller: Caller) -> bool:
        """Ends the caller's session; whether there was one.  Nothing but the token is asked for."""
        if self._read(caller.current_ust) is None:
            self._upkeep.verifications.refused(caller, "user.logout", ANONYMOUS, no_session())
            return False
        with audited(self._sso, caller, "user.logout") as call:
            macs = self._sso.protection.macs(PURPOSE, caller.current_ust)
            with database_errors(), self._sso.store.engine.begin() as connection:
                ended = rows.end_by_token(connection, self._sso.store.cluster_id, macs)
                if ended is None:  # another call was faster
                    return False
                call.actor = call.target = ended[1]
                call.record(connection)
            self._ended([ended[0]])
            return True

    def verify(self, caller: Caller, target_ust: str) -> bool:
        """Whether a token is one of a session that is valid, for the caller's application and from the caller's address.

        For super-users.  It moves no session on but the caller's.
        """
        try:
            session = self._sso.gate.super_user(caller)
        except ValidationError as error:
            actor = self.user_id_of(caller.current_ust) or ANONYMOUS
            self._upkeep.verifications.refused(caller, "session.verify", actor, error)
            raise
        actor = session.user.user_id if session is not None else caller.who or TRUSTED
        return self._verified(caller, actor, target_ust) is not None

    def verify_for_application(self, caller: Caller, secret: str, target_ust: str) -> bool:
        """The same for an application that may introspect, which proves who it is with its secret."""
        return self.introspect(caller, secret, target_ust) is not None

    def introspect(self, caller: Caller, secret: str, target_ust: str) -> Session | None:
        """The valid session of a token, for the application that the caller names; raises ``ValidationError`` unless it may know."""
        actor = f"app:{caller.current_app}"
        try:
            application = self._sso.gate.application(caller)
            if application is None or not _may_introspect(application, secret):
                place = f"{caller.current_app} {caller.remote_addr}"
                self._sso.throttle.take("introspect", place, MAX_WRONG_SECRETS, WRONG_SECRETS_SECONDS)
                raise not_allowed("The application may not introspect, or its secret is wrong.")
        except ValidationError as error:
            self._upkeep.verifications.refused(caller, "session.verify", ANONYMOUS, error)
            raise
        return self._verified(caller, actor, target_ust)

    def refused(self, caller: Caller, op: str, actor: str, error: ValidationError) -> None:
        """Audits a refusal of a call that may come again and again: by itself, or counted if there are many."""
        self._upkeep.verifications.refused(caller, op, actor, error)

    def renew(self, caller: Caller) -> datetime:
        """When the caller's session ends, whose idle time begins anew; never after its absolute time."""
        with audited(self._sso, caller, "session.renew") as call:
            session = self._sso.gate.session(caller)
            if session is None:
                raise no_session()
            call.by(session)
            call.target = session.user.user_id
            call.extra = {"session": session.public_id}
            now = datetime.now(UTC)
            change = orjson.dumps(change_of(caller, now, "renew")).decode()
            with database_errors(), self._sso.store.engine.begin() as connection:
                expires = rows.renew(connection, session.id, now, change)
                if expires is None:
                    raise no_session()
                call.record(connection)
            self._cache.replace(replace(session, last_used=now, expiration_time=expires))
            return expires

    def get(self, caller: Caller, target_ust: str, *, checks_password_expiry: bool = True) -> Session:
        """A session, which stays as it is; for super-users."""
        with audited(self._sso, caller, "session.get") as call:
            call.by(self._sso.gate.super_user(caller))
            found = self.find(target_ust)
            if found is None:
                raise no_session()
            call.target = found.user.user_id
            call.extra = {"session": found.public_id}
            self._sso.gate.account(
                found.user, caller.remote_addr, checks_password_expiry=checks_password_expiry
            )
            return found

    def get_list(self, caller: Caller, target_ust: str = "", *, user_id: str = "") -> list[dict[str, Any]]:
        """The sessions of the caller, or for a super-user of whose token or id is given; the newest first, a thousand at the most."""
        with audited(self._sso, caller, "session.get_list", target=user_id) as call:
            gate = self._sso.gate
            is_other = bool(user_id) or (bool(target_ust) and target_ust != caller.current_ust)
            mine = gate.super_user(caller) if is_other else gate.session(caller)
            call.by(mine)
            if user_id:
                user = gate.user(user_id)
            else:
                of = self.find(target_ust) if is_other else mine
                if of is None:
                    raise no_session()
                user = of.user
            call.target = user.user_id
            with database_errors(), self._sso.store.engine.connect() as connection:
                found = rows.of_user(connection, user.id, datetime.now(UTC), MAX_LIST)
            return [_view(row, mine) for row in found]

    def end(self, caller: Caller, public_id: str) -> None:
        """Ends one of the caller's sessions, or anybody's for a super-user."""
        with audited(self._sso, caller, "session.end") as call:
            mine = self._sso.gate.session(caller)
            call.by(mine)
            owner = None if mine is None or mine.user.is_super_user else mine.user_id
            with database_errors(), self._sso.store.engine.begin() as connection:
                cluster, wanted = self._sso.store.cluster_id, rows.cleaned(public_id, MAX_TOKEN)
                ended = rows.end_by_public_id(connection, cluster, wanted, owner)
                if ended is None:
                    raise no_session()
                call.target = ended[1]
                call.extra = {"session": wanted}
                call.record(connection)
            self._ended([ended[0]])

    def end_others(self, caller: Caller) -> int:
        """Ends all sessions of the caller but the one that calls; how many."""
        with audited(self._sso, caller, "session.end_others") as call:
            mine = self._sso.gate.session(caller)
            if mine is None:
                raise no_session()
            call.by(mine)
            call.target = mine.user.user_id
            with database_errors(), self._sso.store.engine.begin() as connection:
                rows.lock_user(connection, mine.user_id)
                ended = rows.end_others(connection, mine.user_id, mine.id)
                call.extra = {"ended": ended}
                call.record(connection)
            self._ended([mine.user_id])
            return ended

    def _verified(self, caller: Caller, actor: str, target_ust: str) -> Session | None:
        """The session of a token if it is valid in every respect; counted for the audit trail either way."""
        found, gate = self.find(target_ust), self._sso.gate
        if found is not None:
            try:
                gate.valid(found, caller)
                self._upkeep.verifications.verified(caller, actor, found.user.user_id, found.public_id)
                return found
            except ValidationError as error:
                self._upkeep.verifications.refused(caller, "session.verify", actor, error)
                return None
        self._upkeep.verifications.refused(caller, "session.verify", actor, no_session())
        return None

    def _read(self, ust: str) -> Session | None:
        if not 0 < len(ust) <= MAX_TOKEN:
            return None
        macs = self._sso.protection.macs(PURPOSE, ust)
        with database_errors(), self._sso.store.engine.connect() as connection:
            return rows.find(connection, self._sso.store.cluster_id, macs, datetime.now(UTC))

    def _ended(self, users: list[int]) -> None:
        self._cache.forget(users)
        self._upkeep.changed(users)


def _may_introspect(application: Application, secret: str) -> bool:
    return application.is_secret(secret) and application.introspection_allowed


def change_of(caller: Caller, now: datetime, source: str) -> dict[str, Any]:
    """An entry of a session's history."""
    return {
        "remote_addr": rows.cleaned(caller.remote_addr, rows.MAX_ADDRESS),
        "user_agent": rows.cleaned(caller.user_agent, rows.MAX_USER_AGENT),
        "timestamp_utc": iso(now),
        "ctx_source": source,
    }


def _view(row: Any, mine: Session | None) -> dict[str, Any]:
    """What lists show of a session: never its token."""
    return {
        "public_id": row.public_id,
        "app": row.app,
        "auth_type": row.auth_type,
        "auth_principal": row.auth_principal,
        "auth_factors": row.auth_factors,
        "creation_time": iso(row.creation_time),
        "expiration_time": iso(row.expiration_time),
        "last_used": iso(row.last_used),
        "remote_addr": row.remote_addr,
        "user_agent": row.user_agent,
        "is_current": mine is not None and row.id == mine.id,
        "session_state_change_list": row.state_changes,
    }
