"""Whether a user can use anything at all: sign-up, approval, lock, deletion; and that a super-user is left who can."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, select, text

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import AUTO, const, status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import Session, User
from junctor.sql.tables.sso import SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

MAX_BY: Final = 60  # characters that the columns of who did something have room for
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('sso.super-users', :cluster_id))")


def is_usable(user: User) -> bool:
    """Whether the user signed up, is approved and not locked."""
    return (
        user.sign_up_status == const.signup_status.final
        and user.approval_status == const.approval_status.approved
        and not user.is_locked
    )


def done_by(session: Session | None, caller: Caller) -> str:
    """Who is stored as having done something: a user's id, or what the cluster's own administrators are called."""
    return session.user.user_id if session else (caller.who or AUTO)[:MAX_BY]


def lock_columns(is_locked: bool, by: str) -> dict[str, Any]:
    """The columns of a user who is locked now, or is not any more."""
    if not is_locked:
        return {"is_locked": False, "locked_time": None, "locked_by": None}
    return {"is_locked": True, "locked_time": datetime.now(UTC), "locked_by": by}


def approval_columns(status: str, by: str) -> dict[str, Any]:
    """The columns of a user who was decided on now."""
    return {
        "approval_status": status,
        "approval_status_mod_by": by,
        "approval_status_mod_time": datetime.now(UTC),
    }


def sign_up_columns(status: str) -> dict[str, Any]:
    """The columns of a user whose sign-up is so far now."""
    if status != const.signup_status.final:
        return {
            "sign_up_status": status
        }  # when it was confirmed stays known: such a user is not an abandoned sign-up
    return {"sign_up_status": status, "sign_up_confirm_time": datetime.now(UTC)}


class UserState:
    """Changes of what users can do, in the caller's transaction."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def lock(self, connection: Connection, user: User) -> User:
        """The user as he or she is now, which stays so until the transaction ends; of super-users, one at a time.

        Raises ``ValidationError`` (E001100) if the user was deleted a moment ago.
        """
        if (
            user.is_super_user
        ):  # which never changes; and before the row, so that two never wait for each other
            connection.execute(_ONE_AT_A_TIME, {"cluster_id": self._sso.store.cluster_id})
        found = self._sso.users.rows.locked(connection, user.id)
        if found is None:
            raise unknown_user()
        return found

    def change(
        self, connection: Connection, user: User, columns: dict[str, Any], session: Session | None
    ) -> User:
        """Changes columns of a user that ``lock`` returned; who cannot use anything then has no sessions any more either.

        Raises ``ValidationError`` as ``_require_another`` does, and E001002 when a new name is taken.
        """
        changed = self._sso.users.rows.change(connection, user, columns)
        if is_usable(user) and not is_usable(changed):
            self._require_another(connection, user, session)
        if not is_usable(changed):
            self._sso.sessions.end_all(connection, changed)
        return changed

    def delete(self, connection: Connection, user: User, session: Session | None) -> None:
        """Deletes a user that ``lock`` returned, with everything that belongs to the user; nobody deletes oneself."""
        self._require_another(connection, user, session)
        connection.execute(delete(SsoUser).where(SsoUser.id == user.id))

    def erase(self, connection: Connection, user: User, session: Session | None) -> None:
        """The same, and users may do it themselves."""
        self._require_another(connection, user, session, may_be_own=True)
        connection.execute(delete(SsoUser).where(SsoUser.id == user.id))

    def welcome(self, caller: Caller, before: User, after: User) -> None:
        """Welcomes a user who can log in from now on; after the commit."""
        if is_usable(after) and not is_usable(before) and before.is_locked == after.is_locked:
            self._sso.mail.welcome(caller, after)

    def _require_another(
        self, connection: Connection, user: User, session: Session | None, *, may_be_own: bool = False
    ) -> None:
        """Raises ``ValidationError`` (E008001) for oneself, and for the last super-user who can log in.

        The cluster itself, as for the command line, may do either: it can make super-users.
        """
        if session is None:
            return
        if session.user_id == user.id and not may_be_own:
            raise ValidationError(
                status_code.common.invalid_operation, reason="Nobody can do this to oneself.", field="user_id"
            )
        if user.is_super_user and not self._others(connection, user):
            raise ValidationError(
                status_code.common.invalid_operation,
                reason="This is the last super-user who can log in: make another one first.",
                field="user_id",
            )

    def _others(self, connection: Connection, user: User) -> bool:
        statement = select(SsoUser.id).where(
            SsoUser.cluster_id == self._sso.store.cluster_id,
            SsoUser.is_super_user,
            ~SsoUser.is_locked,
            SsoUser.sign_up_status == const.signup_status.final,
            SsoUser.approval_status == const.approval_status.approved,
            SsoUser.id != user.id,
        )
        return connection.execute(statement.limit(1)).first() is not None


def unknown_user() -> ValidationError:
    """There is no user of an id, which a super-user may know."""
    return ValidationError(
        status_code.user_id.invalid, True, reason="There is no such user.", field="user_id"
    )
