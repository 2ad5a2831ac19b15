"""How users set their one-time passwords up, with a confirmation, and end them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from sqlalchemy import Connection, text

from junctor.server.sso.audited import audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import InvalidTOTPError, ValidationError, missing, not_allowed
from junctor.server.sso.records import Session, User
from junctor.server.sso.totp import FACTOR, KEY_FIELD
from junctor.server.sso.totp_codes import checked_label, new_key, qr_svg, step_of, uri
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

PENDING_FIELD: Final = "sso_user.totp_pending"
PENDING_FOR: Final = 900  # seconds

_BEGIN = text(
    "UPDATE sso_user SET totp_pending_sealed = :pending WHERE cluster_id = :cluster_id AND id = :id"
)
_LOCK = text(
    "SELECT totp_pending_sealed FROM sso_user WHERE cluster_id = :cluster_id AND id = :id FOR NO KEY UPDATE"
)
_ENABLE = text(
    "UPDATE sso_user SET is_totp_enabled = true, totp_key_sealed = :key, totp_label = :label,"
    " totp_pending_sealed = '', totp_last_step = :step WHERE cluster_id = :cluster_id AND id = :id"
)
_DISABLE = text(
    "UPDATE sso_user SET is_totp_enabled = false, totp_key_sealed = '', totp_pending_sealed = '',"
    " totp_last_step = 0 WHERE cluster_id = :cluster_id AND id = :id"
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator is set up with: by scanning ``qr_svg``, by opening ``totp_uri``, or by typing ``totp_key``."""

    totp_key: str = field(repr=False)
    totp_uri: str = field(repr=False)
    qr_svg: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A second factor is set up: the session's new token, and codes for when the authenticator is lost, shown this once."""

    ust: str = field(repr=False)
    recovery_codes: list[str] = field(repr=False)


class TotpEnrolment:
    """Enrolment: ``begin`` makes a key, ``confirm`` has the user prove that the authenticator has it, and only then codes are asked for."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def begin(self, caller: Caller, label: str = "") -> Enrolment:
        """A new key for the caller's authenticator, to be confirmed within 15 minutes; until then, everything is as before.

        ``label`` is what the authenticator shows, the user name if it is ''.  Raises ``ValidationError``: E005010 without a fresh log-in.
        """
        sso = self._sso
        with audited(sso, caller, "user.begin_totp") as event:
            session = self._session(caller)
            event.by(session)
            event.target = session.user.user_id
            label = checked_label(label) or session.user.username
            key = new_key()
            pending = orjson.dumps({"key": key, "label": label, "until": sso.totp.clock() + PENDING_FOR})
            with database_errors(), sso.store.engine.begin() as connection:
                sealed = sso.protection.seal(pending.decode(), PENDING_FIELD)
                connection.execute(_BEGIN, {**self._ids(session.user), "pending": sealed})
                event.record(connection)
        uri_ = uri(key, label, sso.settings["site_name"])
        return Enrolment(totp_key=key, totp_uri=uri_, qr_svg=qr_svg(uri_))

    def confirm(self, caller: Caller, code: str) -> Enrolled:
        """Has codes asked for from now on, since ``code`` shows that the authenticator has the key that ``begin`` made.

        Other sessions of the user end, as the settings say.  Raises ``ValidationError``: E011001 for a wrong code, E011002 when there is
        no enrolment, or it began too long ago.
        """
        sso = self._sso
        with audited(sso, caller, "user.confirm_totp") as event:
            session = self._session(caller)
            user = session.user
            event.by(session)
            event.target = user.user_id
            if not code:
                raise missing("totp_code")
            with database_errors(), sso.store.engine.begin() as connection:
                pending = self._pending(connection, user)
                step = step_of(pending["key"], code, now=sso.totp.clock(), after=0)
                if step is None:
                    raise InvalidTOTPError(
                        reason="The code is wrong: does the clock of the authenticator go right?"
                    )
                sealed = sso.protection.seal(pending["key"], KEY_FIELD)
                changes = {"key": sealed, "label": pending["label"], "step": step}
                connection.execute(_ENABLE, {**self._ids(user), **changes})
                codes = sso.recovery_codes.issue(connection, user.id)
                sso.totp.end_others(connection, user, session)
                opened = sso.sessions.rotate(connection, session, (FACTOR,))
                sso.throttle.succeeded(user.username_key, factor=FACTOR, connection=connection)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "totp")
        return Enrolled(ust=opened.ust, recovery_codes=codes)

    def disable(self, caller: Caller, code: str) -> None:
        """Has the caller's codes not asked for any more; needs one of them, or a recovery code, and a fresh log-in.

        Raises ``ValidationError``, also when every user needs a second factor and there is no passkey.
        """
        sso = self._sso
        with audited(sso, caller, "user.disable_totp") as event:
            session = self._session(caller)
            user = session.user
            event.by(session)
            event.target = user.user_id
            self._admit_disabling(user, code)
            attempt = sso.throttle.begin(user.username_key, caller, factor=FACTOR)
            try:
                with database_errors(), sso.store.engine.begin() as connection:
                    sso.totp.proved(connection, user, code, attempt)
                    self._require_another(connection, user)
                    connection.execute(_DISABLE, self._ids(user))
                    sso.recovery_codes.delete(connection, user.id)
                    sso.totp.end_others(connection, user, session)
                    event.record(connection)
            except InvalidTOTPError:
                attempt.failed()
                raise
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "totp")

    def _session(self, caller: Caller) -> Session:
        """The caller's own session, whose user proved who they are a short while ago."""
        session = self._sso.gate.session(caller, may_enrol=True)
        if session is None:
            raise not_allowed("An authenticator is its owner's alone: call with a session of the user.")
        self._sso.gate.fresh(session)
        return session

    def _pending(self, connection: Connection, user: User) -> dict[str, str]:
        sealed = connection.execute(_LOCK, self._ids(user)).scalar()
        if sealed:
            pending = orjson.loads(self._sso.protection.unseal(sealed, PENDING_FIELD))
            if self._sso.totp.clock() < pending["until"]:
                return {"key": pending["key"], "label": pending["label"]}
        raise ValidationError(
            status_code.second_factor.not_enrolled,
            True,
            reason="There is nothing to confirm: begin the enrolment, and confirm it within 15 minutes.",
        )

    def _admit_disabling(self, user: User, code: str) -> None:
        if not code:
            raise missing("totp_code")
        if not user.is_totp_enabled:
            raise ValidationError(
                status_code.second_factor.not_enrolled, True, reason="One-time passwords are not enrolled."
            )

    def _require_another(self, connection: Connection, user: User) -> None:
        is_required = self._sso.settings["login_totp_required"]
        if is_required and not self._sso.passkeys.has_any(connection, user):
            raise ValidationError(
                status_code.auth.second_factor_required,
                True,
                reason="Every user needs a second factor here: register a passkey first.",
            )

    def _ids(self, user: User) -> dict[str, int]:
        return {"cluster_id": self._sso.store.cluster_id, "id": user.id}
