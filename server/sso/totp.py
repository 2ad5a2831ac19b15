"""Time-based one-time passwords as second factor (RFC 6238)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import Connection, text

from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import InvalidTOTPError, invalid, missing
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import Session, User
from junctor.server.sso.throttle import Attempt
from junctor.server.sso.totp_codes import checked_key, checked_label, new_key, step_of
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

FACTOR: Final = "otp"
KEY_FIELD: Final = "sso_user.totp_key"

_LOCK = text(
    "SELECT totp_key_sealed, totp_last_step FROM sso_user"
    " WHERE cluster_id = :cluster_id AND id = :id FOR NO KEY UPDATE"
)
_USED = text("UPDATE sso_user SET totp_last_step = :step WHERE id = :id")
_RESET = text(
    "UPDATE sso_user SET totp_key_sealed = :key, totp_label = :label, totp_pending_sealed = '', totp_last_step = 0"
    " WHERE cluster_id = :cluster_id AND id = :id"
)


class Totp:
    """Keys and codes of users; ``clock`` tells seconds since the epoch.  ``TotpEnrolment`` is how users set it up and end it."""

    def __init__(self, sso: SingleSignOn, clock: Callable[[], float] = time.time) -> None:
        self._sso = sso
        self.clock = clock

    def is_right(self, connection: Connection, user: User, code: str) -> bool:
        """Whether this is the user's code now, or an unused recovery code; either works once.  The caller throttles."""
        return bool(self.check(connection, user, code))

    def check(self, connection: Connection, user: User, code: str) -> Literal["otp", "recovery", ""]:
        """What kind of a right code this is, '' = it is wrong; it is used up with the caller's transaction.

        The user's row stays locked until then, so that of two equal codes at the same moment one is right.  After the commit, who used
        a recovery code is to be told by ``sso.mail.notice(caller, user, 'recovery-code')``.
        """
        row = connection.execute(_LOCK, self._ids(user)).first()
        if row is None or not code:
            return ""
        if row.totp_key_sealed:
            key = self._sso.protection.unseal(row.totp_key_sealed, KEY_FIELD)
            step = step_of(key, code, now=self.clock(), after=row.totp_last_step)
            if step is not None:
                connection.execute(_USED, {"step": step, "id": user.id})
                return "otp"
        return "recovery" if self._sso.recovery_codes.use(connection, user.id, code) else ""

    def reset(self, caller: Caller, user_id: str = "", key: str = "", label: str = "") -> str:
        """A user's new key, which was generated unless ``key`` is given; the user's next code is of this key.

        Whether codes are asked for stays as it is.  An owner must have logged in a short while ago.  Raises ``ValidationError``.
        """
        sso = self._sso
        with audited(sso, caller, "user.reset_totp_key", target=user_id) as event:
            session, user, _ = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            is_own = session is not None and session.user_id == user.id
            if is_own:
                sso.gate.fresh(session)
            key, label = checked_key(key) if key else new_key(), checked_label(label) or user.totp_label
            with database_errors(), sso.store.engine.begin() as connection:
                sealed = sso.protection.seal(key, KEY_FIELD)
                connection.execute(_RESET, {**self._ids(user), "key": sealed, "label": label})
                self.end_others(connection, user, session if is_own else None)
                sso.throttle.succeeded(user.username_key, factor=FACTOR, connection=connection)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "totp")
        return key

    def validate_code(self, caller: Caller, code: str, *, ust: str = "", username: str = "") -> None:
        """Returns if ``code`` is right for the user of a session or of a name, exactly one of which is given.

        For services of the cluster, which are trusted.  Raises ``InvalidTOTPError`` for a wrong code, and ``ValidationError`` for a
        session that does not exist and for too many wrong codes.
        """
        with audited(self._sso, caller, "totp_api.validate_code") as event:
            if bool(ust) == bool(username):
                raise invalid("ust", "or username must be given, and not both.")
            if ust:
                session = self._sso.sessions.find(ust)
                if session is None:
                    raise InvalidTOTPError(
                        status_code.session.no_such_session, reason="There is no such session."
                    )
                user: User | None = session.user
            else:
                user = self._sso.users.by_username(username)
            event.target = user.user_id if user else ""
            self._validate(caller, user, user.username_key if user else username_key(username), code)

    def validate_code_for_user(self, caller: Caller, code: str, user: User) -> None:
        """The same for a user at hand."""
        with audited(self._sso, caller, "totp_api.validate_code_for_user", target=user.user_id):
            self._validate(caller, user, user.username_key, code)

    def proved(
        self, connection: Connection, user: User | None, code: str, attempt: Attempt
    ) -> Literal["otp", "recovery"]:
        """What kind of a right code this is, which is used up, with the failures before it forgotten.

        Raises ``InvalidTOTPError`` for a wrong one, and for a right one after so many others at the same moment that it is a guess.
        """
        kind = self.check(connection, user, code) if user is not None else ""
        if not kind or not attempt.is_granted(connection):
            raise InvalidTOTPError(reason="The code is wrong.")
        return kind

    def end_others(self, connection: Connection, user: User, session: Session | None) -> None:
        """Ends the user's sessions but this one, if the settings say that a changed factor does; in the caller's transaction."""
        if self._sso.settings["session_revoke_on_change"]:
            self._sso.sessions.end_all(connection, user, but=session.id if session else None)

    def _validate(self, caller: Caller, user: User | None, account: str, code: str) -> None:
        if not code:
            raise missing("code")
        attempt = self._sso.throttle.begin(account, caller, factor=FACTOR)
        try:
            with database_errors(), self._sso.store.engine.begin() as connection:
                kind = self.proved(connection, user, code, attempt)
        except InvalidTOTPError:
            attempt.failed()
            raise
        if user is not None and kind == "recovery":
            self._sso.mail.notice(caller, user, "recovery-code")

    def _ids(self, user: User) -> dict[str, Any]:
        return {"cluster_id": self._sso.store.cluster_id, "id": user.id}
