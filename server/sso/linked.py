"""Security definitions whose calls are a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import IntegrityError

from junctor.server.sso import linked_rows as rows
from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, invalid, missing
from junctor.server.sso.linked_calls import LinkedCalls
from junctor.server.sso.records import User
from junctor.server.sso.user_view import iso
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

KINDS: Final = {
    const.auth_type.basic_auth: "security_basic_auth",
    const.auth_type.jwt: "security_jwt",
}
PREFIX: Final = "zato."  # with which Zato's services name the types


class LinkedAccounts:
    """Links between users and definitions; a definition is linked to one user at the most.

    Who links must have logged in a short while ago, for a link is a way to log in.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self.calls = LinkedCalls(sso)

    def start(self) -> None:
        """Begins to follow links."""
        self.calls.start()

    def stop(self) -> None:
        """Ends it."""
        self.calls.stop()

    def get_list(self, caller: Caller, user_id: str = "") -> list[dict[str, Any]]:
        """The links of the caller, or for a super-user those of a user: auth_type, auth_username, creation_time, is_active."""
        with audited(self._sso, caller, "user.get_linked_auth_list") as call:
            session, user, _ = self._sso.gate.own_or_super_user(caller, user_id)
            call.by(session)
            call.target = user.user_id
            with database_errors(), self._sso.store.engine.connect() as connection:
                found = rows.of_user(connection, user.id)
            return [
                {
                    "auth_type": row.auth_type,
                    "auth_username": row.auth_username,
                    "creation_time": iso(row.creation_time),
                    "is_active": row.is_active,
                }
                for row in found
            ]

    def create(
        self, caller: Caller, user_id: str, auth_type: str, auth_username: str, is_active: bool = True
    ) -> tuple[str, int]:
        """Links a definition, which must exist, to a user, or switches a link on or off; the user's and the definition's ids.

        For super-users.
        """
        with audited(self._sso, caller, "user.create_linked_auth") as call:
            user, security, kind = self._meant(call, caller, user_id, auth_type, auth_username)
            call.extra = {"auth_type": kind, "security_id": security, "is_active": is_active}
            try:
                with database_errors(), self._sso.store.engine.begin() as connection:
                    if rows.save(connection, user.id, security, kind, is_active=is_active) is None:
                        raise ValidationError(
                            status_code.common.invalid_operation,
                            True,
                            reason="The definition is another user's.",
                            field="auth_username",
                        )
                    if not is_active:
                        rows.end_sessions(connection, user.id, security)
                    call.record(connection)
            except IntegrityError:  # the definition or the user was deleted meanwhile
                raise _no_definition() from None
            self._changed(user)
            return user.user_id, security

    def delete(self, caller: Caller, user_id: str, auth_type: str, auth_username: str) -> int:
        """Deletes a link, and the sessions that were opened through it; the definition's id.  For super-users."""
        with audited(self._sso, caller, "user.delete_linked_auth") as call:
            user, security, kind = self._meant(call, caller, user_id, auth_type, auth_username)
            call.extra = {"auth_type": kind, "security_id": security}
            with database_errors(), self._sso.store.engine.begin() as connection:
                if not rows.remove(connection, user.id, security):
                    raise invalid("auth_username", "is not linked to this user.")
                call.record(connection)
            self._changed(user)
            return security

    def get_user(self, caller: Caller, auth_type: str, auth_username: str) -> User:
        """The user that a definition is linked to.  For super-users."""
        with audited(self._sso, caller, "user.get_user_by_linked_sec") as call:
            call.by(self._sso.gate.super_user(caller))
            security = self._definition(_type_of(auth_type), auth_username)
            with database_errors(), self._sso.store.engine.connect() as connection:
                owner = rows.owner(connection, security)
            user = None if owner is None else self._sso.users.by_id(owner)
            if user is None:
                raise invalid("auth_username", "is not linked to any user.")
            call.target = user.user_id
            return user

    def _meant(
        self, call: Any, caller: Caller, user_id: str, auth_type: str, auth_username: str
    ) -> tuple[User, int, str]:
        gate = self._sso.gate
        session = gate.super_user(caller)
        call.by(session)
        gate.fresh(session)
        if not user_id:
            raise missing("user_id")
        kind = _type_of(auth_type)
        user = gate.user(user_id)
        call.target = user.user_id
        return user, self._definition(kind, auth_username), kind

    def _definition(self, auth_type: str, auth_username: str) -> int:
        """The id of a definition by its name, or by its user name if that is one definition's alone."""
        if not auth_username:
            raise missing("auth_username")
        entries = list(self._sso.context.registry.entries(KINDS[auth_type]))
        named = [entry.config.id for entry in entries if entry.config.name == auth_username]
        found = named or [entry.config.id for entry in entries if entry.config["username"] == auth_username]
        if len(found) != 1:
            raise _no_definition()
        return found[0]

    def _changed(self, user: User) -> None:
        self.calls.changed()
        self._sso.sessions.announce(user, with_links=True)


def _type_of(auth_type: str) -> str:
    kind = auth_type.removeprefix(PREFIX)
    if kind not in KINDS:
        raise invalid("auth_type", f"must be one of {', '.join(KINDS)}.")
    return kind


def _no_definition() -> ValidationError:
    return invalid("auth_username", "is no security definition of this type.")
