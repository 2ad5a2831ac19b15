"""Codes that take the place of a second factor that was lost."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text

from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, not_allowed
from junctor.server.sso.protection import base32
from junctor.server.sso.records import Session, User
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

COUNT: Final = 10
CODE_BYTES: Final = 15
CODE_LENGTH: Final = 24  # characters, without hyphens
GROUP: Final = 4
PURPOSE: Final = "sso.recovery"
LOOK_ALIKE: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})

_INSERT = text("INSERT INTO sso_recovery_code (user_id, code_mac) VALUES (:user_id, :code_mac)")
_DELETE = text("DELETE FROM sso_recovery_code WHERE user_id = :user_id")
_USE = text(
    "UPDATE sso_recovery_code SET used_time = clock_timestamp()"
    " WHERE user_id = :user_id AND code_mac = ANY(:macs) AND used_time IS NULL RETURNING id"
)
_LEFT = text("SELECT count(*) FROM sso_recovery_code WHERE user_id = :user_id AND used_time IS NULL")


class RecoveryCodes:
    """Ten codes of each user who has a second factor, each for one use; of 120 random bits, of which only digests are stored."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def renew(self, caller: Caller) -> list[str]:
        """The caller's new codes, which are shown this once; those of before end.

        Raises ``ValidationError``: E005010 without a fresh log-in, E011002 for who has no second factor.
        """
        sso = self._sso
        with audited(sso, caller, "user.renew_recovery_codes") as event:
            session = self._session(caller)
            event.by(session)
            event.target = session.user.user_id
            sso.gate.fresh(session)
            with database_errors(), sso.store.engine.begin() as connection:
                if not self._has_totp(connection, session.user):
                    raise ValidationError(
                        status_code.second_factor.not_enrolled,
                        True,
                        reason="Recovery codes take the place of one-time passwords: enrol those first.",
                    )
                codes = self.issue(connection, session.user.id)
                event.record(connection)
        sso.mail.notice(caller, session.user, "recovery-code")
        return codes

    def count(self, caller: Caller) -> int:
        """How many of the caller's codes are unused."""
        sso = self._sso
        with audited(sso, caller, "user.count_recovery_codes") as event:
            session = self._session(caller)
            event.by(session)
            event.target = session.user.user_id
            with database_errors(), sso.store.engine.begin() as connection:
                return self.left(connection, session.user.id)

    def issue(self, connection: Connection, user_id: int) -> list[str]:
        """New codes of a user, in the caller's transaction; those of before end."""
        codes = [new_code() for _ in range(COUNT)]
        self.delete(connection, user_id)
        macs = [self._sso.protection.mac(PURPOSE, normalized(code)) for code in codes]
        connection.execute(_INSERT, [{"user_id": user_id, "code_mac": mac} for mac in macs])
        return codes

    def delete(self, connection: Connection, user_id: int) -> None:
        """Ends all codes of a user."""
        connection.execute(_DELETE, {"user_id": user_id})

    def use(self, connection: Connection, user_id: int, code: str) -> bool:
        """Whether this is an unused code of a user; it is used then."""
        given = normalized(code)
        if len(given) != CODE_LENGTH:
            return False
        macs = self._sso.protection.macs(PURPOSE, given)
        return connection.execute(_USE, {"user_id": user_id, "macs": macs}).first() is not None

    def left(self, connection: Connection, user_id: int) -> int:
        """How many codes of a user are unused."""
        return int(connection.execute(_LEFT, {"user_id": user_id}).scalar_one())

    def _session(self, caller: Caller) -> Session:
        session = self._sso.gate.session(caller)
        if session is None:
            raise not_allowed("Recovery codes are their owner's alone: call with a session of the user.")
        return session

    @staticmethod
    def _has_totp(connection: Connection, user: User) -> bool:
        statement = text("SELECT is_totp_enabled FROM sso_user WHERE id = :id FOR NO KEY UPDATE")
        return bool(connection.execute(statement, {"id": user.id}).scalar())


def new_code() -> str:
    """A code of 120 random bits, in groups of four characters: 'k3v9-0x2m-77tq-h4zd-...'."""
    characters = base32(secrets.token_bytes(CODE_BYTES))
    return "-".join(characters[at : at + GROUP] for at in range(0, CODE_LENGTH, GROUP))


def normalized(code: str) -> str:
    """A code as it was made, however somebody typed it."""
    return code.lower().translate(LOOK_ALIKE)
