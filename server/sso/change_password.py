"""Changing passwords."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, update

from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, invalid, missing, not_allowed
from junctor.server.sso.passwords import encoded
from junctor.server.sso.records import Session, User
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoToken, SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

RESETS: Final = ("reset", "reset-key")
MAX_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPassword:
    """A new password; ``user_id`` '' = the caller's own.  ``expiry`` is in days, None or negative = as the settings say, 0 = never.

    ``must_change`` None leaves it as it is, unless users change their own: then it is done.
    """

    new_password: str = field(repr=False)
    old_password: str = field(default="", repr=False)
    user_id: str = ""
    expiry: int | None = None
    must_change: bool | None = None


class ChangePassword:
    """New passwords, by their users and by super-users."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def change(self, caller: Caller, wanted: NewPassword) -> str:
        """Changes a password; ends other sessions.  Returns the caller's new token if it was the caller's own, '' otherwise.

        Whoever changes one's own, super-users included, gives the old one; for another user's, a super-user must have logged in a short
        while ago.  Raises ``ValidationError``.
        """
        sso = self._sso
        with audited(sso, caller, "user.change_password", target=wanted.user_id) as event:
            session, user, is_super_user = sso.gate.own_or_super_user(caller, wanted.user_id)
            event.by(session)
            event.target = user.user_id
            _require_allowed(wanted, is_super_user=is_super_user)
            own = session if session is not None and session.user_id == user.id else None
            if own is None:
                sso.gate.fresh(session)
            else:
                self._require_old(caller, user, wanted.old_password)
            stored = self.prepared(user, wanted.new_password, current=wanted.old_password)
            must_change = False if own is not None and wanted.must_change is None else wanted.must_change
            with database_errors(), sso.store.engine.begin() as connection:
                self._require_unchanged(connection, user)
                but = own.id if own is not None else None
                self.store(
                    connection,
                    user,
                    stored,
                    expiry=wanted.expiry,
                    must_change=must_change,
                    but_session=but,
                )
                ust = self._rotated(connection, own)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "password")
        return ust

    def prepared(self, user: User, password: str, *, current: str = "") -> str:
        """What to store of a new password of a user, which is checked; it takes long, so nobody should have a connection meanwhile.

        ``current`` is the password until now, if it is known, which cannot be the new one.  Raises ``ValidationError`` (E00300x).
        """
        problems = self._sso.policy.password_problems(password, about=self._about(user))
        if not problems and current and encoded(current) == encoded(password):
            problems = [status_code.password.invalid]
        if problems:
            raise ValidationError(
                problems,
                bool(self._sso.settings["password_inform_if_invalid"]),
                reason="The new password is not good enough.",
                field="new_password",
            )
        return self._sso.passwords.hashed(password)

    def store(
        self,
        connection: Connection,
        user: User,
        stored: str,
        *,
        expiry: int | None = None,
        must_change: bool | None = False,
        but_session: int | None = None,
    ) -> None:
        """Stores what ``prepared`` returned, in the caller's transaction; ends sessions, password resets and what was throttled.

        ``expiry`` is as in ``NewPassword``; ``must_change`` None leaves it as it is.  The session of the id ``but_session`` goes on; all do
        if the settings say so.  ``sso.sessions.announce(user)`` is to be called after the commit.
        """
        now = datetime.now(UTC)
        values: dict[Any, Any] = {
            SsoUser.password: stored,
            SsoUser.password_is_set: True,
            SsoUser.password_last_set: now,
            SsoUser.password_expiry: self._expires(expiry, now),
            # Who is about to log in with the password until now must not get a session any more.
            SsoUser.generation: SsoUser.generation + 1,
        }
        if must_change is not None:
            values[SsoUser.password_must_change] = must_change
        connection.execute(update(SsoUser).where(SsoUser.id == user.id).values(values))
        connection.execute(delete(SsoToken).where(SsoToken.user_id == user.id, SsoToken.purpose.in_(RESETS)))
        self._sso.throttle.succeeded(user.username, connection=connection)
        if self._sso.settings["session_revoke_on_change"]:
            self._sso.sessions.end_all(connection, user, but=but_session)

    def set(
        self,
        connection: Connection,
        user: User,
        password: str,
        *,
        expiry: int | None = None,
        must_change: bool | None = False,
        but_session: int | None = None,
    ) -> None:
        """Checks and stores a password in the caller's transaction; the caller has checked who may.  See ``prepared`` and ``store``.

        Raises ``ValidationError``.  ``sso.sessions.announce(user)`` is to be called after the commit.
        """
        stored = self.prepared(user, password)
        self.store(connection, user, stored, expiry=expiry, must_change=must_change, but_session=but_session)

    def _require_old(self, caller: Caller, user: User, old_password: str) -> None:
        """Raises ``ValidationError`` unless this is the user's password."""
        if not old_password:
            raise missing("old_password")
        attempt = self._sso.throttle.begin(user.username, caller)
        if not self._sso.passwords.verify(user, old_password).is_right:
            attempt.failed()
            raise not_allowed("The old password is wrong.")
        with database_errors(), self._sso.store.engine.begin() as connection:
            is_granted = attempt.is_granted(connection)
        if not is_granted:
            attempt.failed()
            raise not_allowed("The old password was right, after too many that were wrong.")

    def _require_unchanged(self, connection: Connection, user: User) -> None:
        """Locks the user's row; raises ``ValidationError`` if somebody else changed the password meanwhile."""
        now = self._sso.users.rows.locked(connection, user.id)
        if now is None or now.generation != user.generation:
            raise not_allowed("The user has changed meanwhile.")

    def _rotated(self, connection: Connection, own: Session | None) -> str:
        return self._sso.sessions.rotate(connection, own, ("pwd",)).ust if own is not None else ""

    def _about(self, user: User) -> list[str]:
        names = [user.username, user.display_name, user.first_name, user.middle_name, user.last_name]
        return [*names, self._sso.users.email_of(user)]

    def _expires(self, days: int | None, now: datetime) -> datetime | None:
        if days is None or days < 0:
            days = int(self._sso.settings["password_expiry"])
        return now + timedelta(days=days) if days else None


def _require_allowed(wanted: NewPassword, *, is_super_user: bool) -> None:
    if not wanted.new_password:
        raise missing("new_password")
    if wanted.expiry is not None and wanted.expiry > MAX_DAYS:
        raise invalid("password_expiry", f"must be at most {MAX_DAYS} days.")
    if not is_super_user and wanted.expiry is not None:
        raise invalid("password_expiry", "can be given by super-users alone.")
    if not is_super_user and wanted.must_change is not None:
        raise invalid("must_change", "can be given by super-users alone.")
