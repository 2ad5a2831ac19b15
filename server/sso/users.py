"""Users: made, read, changed, approved, locked, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from junctor.server.sso.audited import Audited, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import AUTO, const
from junctor.server.sso.errors import missing
from junctor.server.sso.protection import new_token
from junctor.server.sso.records import Session, User
from junctor.server.sso.user_fields import (
    CREATED,
    SIGN_UP_STATUSES,
    UserFields,
    choice,
    flag,
    must_change,
    person_names,
    rate_limit,
    require_known,
)
from junctor.server.sso.user_rows import UserRows
from junctor.server.sso.user_state import approval_columns, done_by, lock_columns, unknown_user
from junctor.server.sso.user_update import UserUpdate
from junctor.server.sso.user_view import view
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn


class Users:
    """All users of the cluster."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self.rows = UserRows(sso)
        self.fields = UserFields(sso)

    def by_user_id(self, user_id: str) -> User | None:
        """The user of an id; permissions are the caller's business, as with the next three."""
        return self.rows.by_user_id(user_id)

    def by_id(self, row_id: int) -> User | None:
        """The user of a row."""
        return next(iter(self.rows.find(SsoUser.id == row_id)), None)

    def by_username(self, username: str) -> User | None:
        """The user of a name, in any case."""
        return self.rows.by_username(username)

    def by_email(self, email: str, connection: Connection | None = None) -> User | None:
        """The user of an e-mail address, if it is one user's alone; on the caller's connection if there is one."""
        return self.rows.by_email(email, connection)

    def email_of(self, user: User) -> str:
        """The user's e-mail address, '' = none.  Raises ``SecretUnreadable``."""
        return self.rows.email_of(user)

    def view(self, user: User, *, is_full: bool, serialize_dt: bool = True) -> dict[str, Any]:
        """What callers see of a user (facts 1.4): own data, or with ``is_full`` what super-users see.  Without keys that have no value.

        Times are ISO 8601 in UTC without an offset, or naive ``datetime`` objects unless ``serialize_dt``.
        """
        return view(user, self.email_of(user), is_full=is_full, serialize_dt=serialize_dt)

    def insert(self, connection: Connection, values: Mapping[str, Any]) -> User:
        """A new user from checked values, in the caller's transaction; for sign-ups, too.

        They are columns, but for ``email`` and ``password``, which are in the clear; ``password_hash`` takes the place of the latter,
        and is as ``Passwords`` made it, which takes a while and so belongs before the transaction.
        Raises ``ValidationError`` (E001002, E002002) when the name or the address is taken.
        """
        return self.rows.insert(connection, values)

    def create(
        self,
        caller: Caller,
        data: Mapping[str, Any],
        *,
        is_super_user: bool = False,
        auto_approve: bool = False,
    ) -> User:
        """A new user, for a super-user or a trusted caller; ``data`` as facts 1.4.

        Without a password, the user gets one that nobody knows, and resets it.  Who is made by the cluster itself is approved; a
        super-user's users are if approval is not needed, or with ``auto_approve``.  Raises ``ValidationError``.
        """
        sso, op = self._sso, "user.create_super_user" if is_super_user else "user.create_user"
        with audited(sso, caller, op) as event:
            session = self._super_user(caller, event)
            require_known(data, CREATED)
            is_approved = auto_approve or flag("auto_approve", data.get("auto_approve", False))
            values = self._new(data) | {
                "is_super_user": is_super_user,
                "creation_ctx": _circumstances(caller),
                **self._approval(session, is_approved=is_approved or is_super_user),
            }
            if values["is_locked"]:
                values |= lock_columns(True, done_by(session, caller))
            with database_errors(), sso.store.engine.begin() as connection:
                user = self.insert(connection, values)
                event.target = user.user_id
                event.record(connection)
        return user

    def get(self, caller: Caller, user_id: str = "") -> tuple[User, bool]:
        """The caller, or the user of an id, and whether everything may be shown of them.  Raises ``ValidationError``."""
        sso, op = self._sso, "user.get_user_by_id" if user_id else "user.get_current_user"
        with audited(sso, caller, op, target=user_id) as event:
            session, user, is_super_user = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
        return user, is_super_user

    def update(self, caller: Caller, data: Mapping[str, Any], user_id: str = "") -> None:
        """Changes the fields that are given, of the caller or of the user of an id; None empties those that may be empty.

        Raises ``ValidationError``: E008002 for fields that the caller may not change, E008003 for none, E005010 when a name, an address
        or a second factor is changed long after the last log-in.
        """
        sso, op = self._sso, "user.update_user_by_id" if user_id else "user.update_current_user"
        with audited(sso, caller, op, target=user_id) as event:
            session, user, is_super_user = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            update = UserUpdate(sso, data, caller=caller, session=session, is_super_user=is_super_user)
            with database_errors(), sso.store.engine.begin() as connection:
                updated = update.apply(connection, sso.user_state.lock(connection, user))
                event.extra["fields"] = sorted(data)
                event.record(connection)
        sso.sessions.announce()
        update.tell(updated)

    def delete(self, caller: Caller, user_id: str) -> None:
        """Deletes a user and everything that belongs to the user, for a super-user or a trusted caller; what was audited stays.

        The list of addresses of the name, which is configuration, stays, too.  Raises ``ValidationError``: E008001 for oneself.
        """
        sso = self._sso
        with audited(sso, caller, "user.delete_user_by_id", target=user_id) as event:
            session = self._super_user(caller, event)
            user = self._existing(user_id)
            with database_errors(), sso.store.engine.begin() as connection:
                sso.user_state.delete(connection, sso.user_state.lock(connection, user), session)
                event.record(connection)
        sso.sessions.announce()

    def decide(self, caller: Caller, user_id: str, *, is_approved: bool) -> None:
        """Approves or rejects a user, for a super-user or a trusted caller; who is rejected has no sessions any more.

        A decision that was made already stays as it is.  Raises ``ValidationError``: E008001 for rejecting oneself.
        """
        statuses = const.approval_status
        status = statuses.approved if is_approved else statuses.rejected
        self._set(
            caller,
            user_id,
            "user.approve_user" if is_approved else "user.reject_user",
            lambda user, by: {} if user.approval_status == status else approval_columns(status, by),
        )

    def set_lock(self, caller: Caller, user_id: str, *, is_locked: bool) -> None:
        """Locks or unlocks a user, for a super-user or a trusted caller; who is locked has no sessions any more.

        Who and when is stored of a lock.  Raises ``ValidationError``: E008001 for locking oneself.
        """
        self._set(
            caller,
            user_id,
            "user.lock_user" if is_locked else "user.unlock_user",
            lambda user, by: {} if user.is_locked == is_locked else lock_columns(is_locked, by),
        )

    def _set(
        self, caller: Caller, user_id: str, op: str, columns_of: Callable[[User, str], dict[str, Any]]
    ) -> None:
        """Changes the columns of a user that ``columns_of`` the user and of who does it says."""
        sso = self._sso
        with audited(sso, caller, op, target=user_id) as event:
            session = self._super_user(caller, event)
            found = self._existing(user_id)
            with database_errors(), sso.store.engine.begin() as connection:
                before = after = sso.user_state.lock(connection, found)
                if columns := columns_of(before, done_by(session, caller)):
                    after = sso.user_state.change(connection, before, columns, session)
                event.record(connection)
        sso.sessions.announce()
        sso.user_state.welcome(caller, before, after)

    def _super_user(self, caller: Caller, event: Audited) -> Session | None:
        session = self._sso.gate.super_user(caller)
        event.by(session)
        return session

    def _existing(self, user_id: str) -> User:
        if not user_id:
            raise missing("user_id")
        user = self.by_user_id(user_id)
        if user is None:
            raise unknown_user()
        return user

    def _new(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new user, for ``insert``."""
        if "username" not in data:
            raise missing("username")
        names = person_names(data)
        username = self.fields.username(data["username"], is_reserved_allowed=True)
        email = self.fields.email(data.get("email"), is_reserved_allowed=True)
        password = data.get("password")
        if password is None or password == "":
            password = new_token("")
        else:
            password = self.fields.password(password, [username, email, *names.values()])
        return {
            "username": username,
            "email": email,
            "password_hash": self._sso.passwords.hashed(password),
            "is_locked": flag("is_locked", data.get("is_locked", False)),
            "sign_up_status": choice(
                "sign_up_status", data.get("sign_up_status", const.signup_status.final), SIGN_UP_STATUSES
            ),
            "app_list": self.fields.apps(data.get("app_list")),
            **names,
            **must_change(data),
            **self.fields.totp(data),
            **rate_limit(data),
        }

    def _approval(self, session: Session | None, *, is_approved: bool) -> dict[str, Any]:
        """Whether a new user is approved: always if the cluster itself makes the user."""
        is_needed = self._sso.settings["signup_is_approval_needed"] and session is not None
        if not is_approved and is_needed:
            return approval_columns(const.approval_status.before_decision, AUTO)
        by = session.user.user_id if session and is_approved else AUTO
        return approval_columns(const.approval_status.approved, by)


def _circumstances(caller: Caller) -> dict[str, str]:
    """What is kept of how a user came to be."""
    return {
        "current_app": caller.current_app,
        "remote_addr": caller.remote_addr,
        "user_agent": caller.user_agent,
    }
