"""The second factor of a log-in: asked for, checked, and used up with the session that it opens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import Connection

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User
from junctor.server.sso.throttle import Attempt
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

FACTOR: Final = "otp"
DECOY: Final = "otp-decoy"
NOBODY: Final = 0  # no row has this id


class WrongCode(ValidationError):
    """A code is wrong, or was used already."""


class SecondFactor:
    """Codes given with a password: those of an authenticator, and recovery codes."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def checked(self, caller: Caller, user: User, code: str, *, informs: bool) -> Attempt | None:
        """The attempt whose code is right; None if the user has no second factor of this kind.  ``use`` is still to be called.

        Raises ``ValidationError``: E005008 without a code, E005001 for a wrong one, which counts; and E005009, which is told, like the
        former, if ``informs``.
        """
        if not user.is_totp_enabled:
            return None
        if not code:
            raise ValidationError(
                status_code.auth.totp_missing,
                informs,
                reason="A second factor is missing.",
                field="totp_code",
            )
        try:
            attempt = self._attempt(caller, user.username, FACTOR)
        except ValidationError as refusal:
            refusal.return_status = informs
            raise
        if not self._is_right(user, code):
            attempt.failed()
            raise _wrong()
        return attempt

    def use(
        self, connection: Connection, user: User, code: str, attempt: Attempt
    ) -> Literal["otp", "recovery"]:
        """Uses a code up in the caller's transaction, and says what kind it was; raises ``WrongCode`` if somebody else was faster."""
        kind = self._sso.totp.check(connection, user, code)
        if kind == "" or not attempt.is_granted(connection):
            raise _wrong()
        return kind

    def pretend(self, caller: Caller, user: User | None, username: str, code: str) -> None:
        """Does as much as for a code that is wrong, after a password that is wrong; so nobody can tell which of them is."""
        if not code:
            return
        with suppress(ValidationError):  # what is refused here has been refused
            attempt = self._attempt(caller, username, DECOY)
            self._is_right(user, code)
            attempt.failed()

    def _attempt(self, caller: Caller, username: str, factor: str) -> Attempt:
        """An attempt that does not count for the address and the application, since that of the password does."""
        return replace(self._sso.throttle.begin(username, caller, factor=factor), address=[], app=[])

    def _is_right(self, user: User | None, code: str) -> bool:
        """Whether a code is right; it can still be used."""
        with database_errors(), self._sso.store.engine.connect() as connection, connection.begin() as work:
            if user is None:
                found = self._sso.recovery_codes.use(connection, NOBODY, code)
            else:
                found = bool(self._sso.totp.check(connection, user, code))
            work.rollback()
        return found


def _wrong() -> WrongCode:
    return WrongCode(reason="The second factor is wrong.", field="totp_code")
