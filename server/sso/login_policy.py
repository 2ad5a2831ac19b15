"""What a log-in needs beside the right password: a password that has not expired, and a second factor if all users need one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.gate import ENROL, is_password_expired
from junctor.server.sso.live import Application
from junctor.server.sso.records import User
from junctor.server.sso.sessions import SECOND_FACTORS
from junctor.sql.engine import database_errors
from junctor.sql.tables.sso import SsoPasskey

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn


class LoginPolicy:
    """The rules of the settings for log-ins."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def application(self, caller: Caller, *, has_metadata: bool = False) -> Application | None:
        """The application that users log in through; ``has_metadata`` if it tells their address or browser.

        Raises ``ValidationError``: E004001, E006001.  This is about the application alone, so it is told before anything of a user.
        """
        settings = self._sso.settings
        found = self._sso.gate.application(caller)
        if found is None:
            return None
        if not found.login_allowed:
            raise ValidationError(
                status_code.app_list.invalid,
                bool(settings["apps_inform_if_app_invalid"]),
                reason="Nobody may log in through this application.",
                field="current_app",
            )
        if has_metadata and not found.login_metadata_allowed:
            raise ValidationError(
                status_code.metadata.not_allowed,
                True,
                reason="This application may not tell the address and the browser of users.",
            )
        return found

    def password_state(self, user: User, new_password: str) -> tuple[bool, tuple[str, ...]]:
        """Whether the new password is to be set, and what to warn the user of.

        Raises ``ValidationError`` for a password that is no longer good enough without a new one (E003004, E003006, E003007).
        """
        settings, codes = self._sso.settings, status_code.password
        problem, setting = "", ""
        if is_password_expired(user):
            problem, setting = codes.expired, "password_inform_if_expired"
        elif user.password_must_change:
            problem, setting = codes.must_send_new, "password_inform_if_must_be_changed"
        elif self._is_about_to_expire(user):
            setting = "password_inform_if_about_to_expire"
            if settings["password_log_in_if_about_to_expire"]:
                return False, ((codes.w_about_to_exp,) if settings[setting] else ())
            problem = codes.e_about_to_exp
        if problem and not new_password:
            raise ValidationError(
                problem, bool(settings[setting]), reason="The password must be changed.", field="new_password"
            )
        return bool(problem), ()

    def factors(self, user: User, factors: tuple[str, ...]) -> tuple[str, ...]:
        """What a session says that was proved; with ``ENROL``, if all users need a second factor and this one has none yet.

        Raises ``ValidationError`` (E005011) for a user who has one and gave none.
        """
        if not self._sso.settings["login_totp_required"] or SECOND_FACTORS.intersection(factors):
            return factors
        if user.is_totp_enabled or self._has_passkey(user):
            raise ValidationError(
                status_code.auth.second_factor_required,
                bool(self._sso.settings["login_inform_if_totp_missing"]),
                reason="The user has a second factor, which must be given.",
            )
        return (*factors, ENROL)

    def _is_about_to_expire(self, user: User) -> bool:
        threshold = timedelta(days=self._sso.settings["password_about_to_expire_threshold"])
        return user.password_expiry is not None and user.password_expiry - datetime.now(UTC) <= threshold

    def _has_passkey(self, user: User) -> bool:
        with database_errors(), self._sso.store.engine.connect() as connection:
            found = connection.scalar(select(exists().where(SsoPasskey.user_id == user.id)))
        return bool(found)
