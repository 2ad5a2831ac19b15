"""Whether a caller may: the checks that every call of Single Sign-On passes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, missing, not_allowed
from junctor.server.sso.live import Application
from junctor.server.sso.records import Session, User

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

ENROL: Final = "enrol"
"""Among the factors of a session: the user must set a second factor up before anything else."""
LINKED: Final = frozenset({const.auth_type.basic_auth, const.auth_type.jwt})
LINKED_FRESH: Final = timedelta(minutes=1)


class Gate:
    """Applications, sessions and rights of callers.

    All of it is looked at in each call: what a super-user decides holds from the next one on.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def application(self, caller: Caller) -> Application | None:
        """The application that the caller names; None for a trusted caller that names none.  Raises ``ValidationError`` (E004001)."""
        if not self._sso.is_active:
            raise not_allowed("Single Sign-On is not active.")
        found = self._sso.applications.get(caller.current_app)
        if found is None and not (caller.is_trusted and not caller.current_app):
            informs = bool(self._sso.settings["apps_inform_if_app_invalid"])
            raise ValidationError(
                status_code.app_list.invalid,
                informs,
                reason="There is no such active application.",
                field="current_app",
            )
        return found

    def granted(self, application: Application | None, user: User) -> None:
        """Raises ``ValidationError`` (E004001) for an application that is not for this user."""
        if application is not None and application.is_grant_needed and application.name not in user.app_list:
            informs = bool(self._sso.settings["apps_inform_if_app_invalid"])
            raise ValidationError(
                status_code.app_list.invalid,
                informs,
                reason="The user has not been given the application.",
                field="current_app",
            )

    def session(
        self, caller: Caller, *, may_enrol: bool = False, checks_password_expiry: bool = True
    ) -> Session | None:
        """The caller's own valid session, whose idle time begins anew; None for a trusted caller.  Raises ``ValidationError``.

        ``may_enrol`` is for what a user may do who must set a second factor up (E005011 otherwise).
        """
        application = self.application(caller)
        if caller.is_trusted:
            return None
        found = self._sso.sessions.find(caller.current_ust)
        if found is None:
            raise no_session()
        self.account(found.user, caller.remote_addr, checks_password_expiry=checks_password_expiry)
        self.granted(application, found.user)
        if not may_enrol:
            _not_for_enrolment(found)
        return self._sso.sessions.touch(found)

    def valid(self, session: Session, caller: Caller) -> None:
        """Raises ``ValidationError`` unless a session, of anybody, is good for the caller's application and from the caller's address.

        That there is such an application has been checked.
        """
        application = self._sso.applications.get(caller.current_app)
        self.account(session.user, caller.remote_addr)
        self.granted(application, session.user)
        _not_for_enrolment(session)

    def super_user(self, caller: Caller) -> Session | None:
        """The same, of a super-user (E005005 otherwise)."""
        found = self.session(caller)
        if found is not None and not found.user.is_super_user:
            raise super_user_required()
        return found

    def own_or_super_user(self, caller: Caller, user_id: str) -> tuple[Session | None, User, bool]:
        """The caller's session, the user meant ('' = the caller), and whether the caller acts as a super-user (or is trusted).

        Raises ``ValidationError``: E005005 for another user's id, E001100 for nobody's.
        """
        found = self.session(caller)
        if found is not None and user_id in ("", found.user.user_id):
            return found, found.user, found.user.is_super_user
        if found is not None and not found.user.is_super_user:
            raise super_user_required()
        if not user_id:
            raise missing("user_id")
        return found, self.user(user_id), True

    def user(self, user_id: str) -> User:
        """The user of an id.  Raises ``ValidationError`` (E001100); whether the caller may know is the caller's business."""
        user = self._sso.users.by_user_id(user_id)
        if user is None:
            raise ValidationError(
                status_code.user_id.invalid, True, reason="There is no such user.", field="user_id"
            )
        return user

    def fresh(self, session: Session | None) -> None:
        """Raises ``ValidationError`` (E005010) unless the user proved who they are a short while ago; None, a trusted caller, passes.

        A linked account proves nothing but that a program has a password or a token: its session is fresh for a minute.
        """
        if session is None:
            return
        limit = timedelta(minutes=self._sso.settings["session_step_up_after"])
        if session.auth_type in LINKED:
            limit = min(limit, LINKED_FRESH)
        if datetime.now(UTC) - session.auth_time > limit:
            raise ValidationError(
                status_code.auth.step_up_required, True, reason="The log-in was too long ago for this."
            )

    def account(self, user: User, remote_addr: str, *, checks_password_expiry: bool = True) -> None:
        """Raises ``ValidationError`` if the user cannot use any session now: address, lock, sign-up, approval, expired password."""
        settings = self._sso.settings
        self.address(user, remote_addr)
        if user.is_locked or not user.is_active:
            raise ValidationError(
                status_code.auth.locked, settings["login_inform_if_locked"], reason="The user is locked."
            )
        if user.sign_up_status != const.signup_status.final:
            raise ValidationError(
                status_code.auth.invalid_signup_status,
                settings["login_inform_if_not_confirmed"],
                reason="The sign-up is not final.",
            )
        if user.approval_status != const.approval_status.approved:
            raise ValidationError(
                status_code.auth.not_approved,
                settings["login_inform_if_not_approved"],
                reason="The user is not approved.",
            )
        if checks_password_expiry and is_password_expired(user):
            raise ValidationError(
                status_code.password.expired,
                settings["password_inform_if_expired"],
                reason="The password has expired.",
            )

    def address(self, user: User, remote_addr: str) -> None:
        """Raises ``ValidationError`` unless the user may come from an address; who has no list may, unless the settings say otherwise."""
        addresses = self._sso.addresses
        listed = addresses.get(user.username_key) if addresses else None
        if listed is None:
            if self._sso.settings["login_reject_if_not_listed"]:
                raise not_allowed("The user has no list of addresses, which is required.")
        elif not listed.admits(remote_addr):
            raise not_allowed("The user may not come from this address.")


def _not_for_enrolment(session: Session) -> None:
    if ENROL in session.auth_factors:
        raise ValidationError(
            status_code.auth.second_factor_required,
            True,
            reason="The user must set a second factor up first.",
        )


def is_password_expired(user: User) -> bool:
    """Whether the user's password has expired."""
    return user.password_expiry is not None and user.password_expiry <= datetime.now(UTC)


def no_session() -> ValidationError:
    """The refusal of what needs a session and has none that is valid."""
    return ValidationError(
        status_code.session.no_such_session, True, reason="There is no such session, or it has expired."
    )


def super_user_required() -> ValidationError:
    """The refusal of what super-users alone may do."""
    return ValidationError(
        status_code.auth.super_user_required, True, reason="This is for super-users alone."
    )
