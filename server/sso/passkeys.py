"""Passkeys (WebAuthn): registration, and log-in with nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row

from junctor.server.sso.audited import Audited, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.challenges import Challenges
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, invalid, not_allowed
from junctor.server.sso.login import SessionInfo
from junctor.server.sso.passkey_rows import PasskeyRows, passkey_id, view
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import Session, User
from junctor.server.sso.relying_party import (
    RelyingParty,
    checked_credential,
    credential_id_of,
    false_ids,
    transports_of,
    user_handle_of,
)
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

REGISTER: Final = "passkey-register"
LOG_IN: Final = "passkey-log-in"
STEP_UP: Final = "passkey-step-up"
MAX_PASSKEYS: Final = 20  # of a user
MAX_LABEL: Final = 200  # characters
DEFAULT_LABEL: Final = "Passkey"
OPTIONS_LIMIT: Final = 3000  # of an address within OPTIONS_WINDOW
OPTIONS_WINDOW: Final = 600  # seconds
HARDWARE, SYNCED, VERIFIED = "hwk", "swk", "user"
"""What a session says that was proved (RFC 8176): a key that cannot leave its device, or one that is synchronised; and who used it."""


class Passkeys:
    """The passkeys of users.  One is two factors: what somebody has, and a PIN, a finger or the like that opens it.

    Registration, log-in and step-up are two calls each: for options, which the page gives to the browser, and with what the browser
    answers, a ``PublicKeyCredential`` as JSON.  The options' challenge is good for one answer, within five minutes.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._rows = PasskeyRows(sso)
        self._challenges = Challenges(sso)

    def registration_options(self, caller: Caller) -> dict[str, Any]:
        """What ``navigator.credentials.create`` is to be given.

        Raises ``ValidationError``: E005010 without a fresh log-in, E011002 if there are no passkeys here.
        """
        sso = self._sso
        with audited(sso, caller, "passkey.registration_options") as event:
            session = self._session(caller)
            event.by(session)
            event.target = session.user.user_id
            party = RelyingParty.of(sso.settings)
            with database_errors(), sso.store.engine.begin() as connection:
                challenge = self._challenges.issue(connection, REGISTER, session=session)
                registered = self._rows.ids_of(connection, session.user)
            return party.creation_options(session.user, challenge, registered)

    def register(self, caller: Caller, credential: Mapping[str, Any], label: str = "") -> tuple[str, str]:
        """The id of the caller's new passkey, and the session's new token.

        Other sessions of the user end, as the settings say.  Raises ``ValidationError``: E011001 for an answer that is wrong or too late.
        """
        sso = self._sso
        with audited(sso, caller, "passkey.register") as event:
            session = self._session(caller)
            user = session.user
            event.by(session)
            event.target = user.user_id
            party, label = RelyingParty.of(sso.settings), checked_label(label)
            credential = checked_credential(credential)
            challenge = self._challenges.take(credential, REGISTER, session=session)
            verified = party.registered(credential, challenge)
            with database_errors(), sso.store.engine.begin() as connection:
                if self._rows.lock_and_count(connection, user)[1] >= MAX_PASSKEYS:
                    raise ValidationError(
                        status_code.common.invalid_operation,
                        True,
                        reason=f"A user has at most {MAX_PASSKEYS} passkeys: delete one first.",
                    )
                self._rows.insert(
                    connection, user, verified, label=label, transports=transports_of(credential)
                )
                sso.totp.end_others(connection, user, session)
                factors = (key_factor(verified.credential_backed_up), VERIFIED)
                opened = sso.sessions.rotate(connection, session, factors)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "passkey")
        return passkey_id(verified.credential_id), opened.ust

    def get_list(self, caller: Caller, user_id: str = "") -> list[dict[str, Any]]:
        """The caller's passkeys, or a user's for super-users: id, label, creation_time, last_used, is_backed_up, transports."""
        with audited(self._sso, caller, "passkey.get_list", target=user_id) as event:
            session, user, _ = self._sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            with database_errors(), self._sso.store.engine.connect() as connection:
                return [view(row) for row in self._rows.all_of(connection, user)]

    def rename(self, caller: Caller, id_: str, label: str) -> None:
        """Gives one of the caller's passkeys another label."""
        sso = self._sso
        with audited(sso, caller, "passkey.rename") as event:
            session = sso.gate.session(caller)
            if session is None:
                raise not_allowed("A passkey is its owner's alone: call with a session of the user.")
            event.by(session)
            event.target = session.user.user_id
            with database_errors(), sso.store.engine.begin() as connection:
                self._rows.rename(connection, session.user, id_, checked_label(label))
                event.record(connection)

    def delete(self, caller: Caller, id_: str, user_id: str = "") -> None:
        """Deletes one of the caller's passkeys, for which the log-in must be fresh, or a user's for super-users; ends other sessions.

        Raises ``ValidationError``, also for the caller's last factor where every user needs a second one.
        """
        sso = self._sso
        with audited(sso, caller, "passkey.delete", target=user_id) as event:
            session, user, _ = sso.gate.own_or_super_user(caller, user_id)
            event.by(session)
            event.target = user.user_id
            own = session if session is not None and session.user_id == user.id else None
            sso.gate.fresh(own)
            with database_errors(), sso.store.engine.begin() as connection:
                has_totp, _ = self._rows.lock_and_count(connection, user)
                is_last = not self._rows.delete(connection, user, id_) and not has_totp
                if own is not None and is_last and sso.settings["login_totp_required"]:
                    raise ValidationError(
                        status_code.auth.second_factor_required,
                        True,
                        reason="Every user needs a second factor here: set another one up first.",
                    )
                sso.totp.end_others(connection, user, own)
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "passkey")

    def has_any(self, connection: Connection, user: User) -> bool:
        """Whether a user has a passkey; permissions are the caller's business."""
        return bool(self._rows.ids_of(connection, user))

    def authentication_options(self, caller: Caller, username: str = "") -> dict[str, Any]:
        """What ``navigator.credentials.get`` is to be given for a log-in.

        Without a user name, the browser offers the passkeys that it has.  With one, whoever asks cannot tell whether there is such a
        user: the ids of passkeys are made up then, always the same ones.  Raises ``ValidationError``: E011002 if there are no passkeys
        here, E005009 for too many calls from an address.
        """
        sso = self._sso
        with audited(sso, caller, "passkey.authentication_options"):
            sso.gate.application(caller)
            party = RelyingParty.of(sso.settings)
            sso.throttle.take("passkey-options", caller.remote_addr, OPTIONS_LIMIT, OPTIONS_WINDOW)
            with database_errors(), sso.store.engine.begin() as connection:
                allowed = self._ids_for(connection, username_key(username)) if username else []
                challenge = self._challenges.issue(connection, LOG_IN)
            return party.request_options(challenge, allowed)

    def log_in(self, caller: Caller, credential: Mapping[str, Any]) -> SessionInfo:
        """A new session of the user whose passkey answered.  Raises ``ValidationError`` (E011001, and those of any log-in)."""
        with audited(self._sso, caller, "user.login") as event:
            self._sso.gate.application(caller)
            user, factors = self._authenticated(credential, LOG_IN, event)
            event.is_recorded = True  # by log_in_as, with its outcome
        return self._sso.login.log_in_as(caller, user, factors)

    def step_up_options(self, caller: Caller) -> dict[str, Any]:
        """What ``navigator.credentials.get`` is to be given for a fresh proof of who the caller is.  Raises ``ValidationError``."""
        sso = self._sso
        with audited(sso, caller, "passkey.step_up_options") as event:
            session = self._session(caller, is_fresh=False)
            event.by(session)
            event.target = session.user.user_id
            party = RelyingParty.of(sso.settings)
            with database_errors(), sso.store.engine.begin() as connection:
                allowed = self._rows.ids_of(connection, session.user)
                if not allowed:
                    raise ValidationError(
                        status_code.second_factor.not_enrolled, True, reason="The user has no passkey."
                    )
                challenge = self._challenges.issue(connection, STEP_UP, session=session)
            return party.request_options(challenge, allowed)

    def step_up(self, caller: Caller, credential: Mapping[str, Any]) -> SessionInfo:
        """The caller's session under a new token, for what needs a fresh proof.  Raises ``ValidationError`` (E011001)."""
        sso = self._sso
        with audited(sso, caller, "user.step_up") as event:
            session = self._session(caller, is_fresh=False)
            event.by(session)
            event.target = session.user.user_id
            username, factors = self._authenticated(credential, STEP_UP, event, session)
            with database_errors(), sso.store.engine.begin() as connection:
                opened = sso.sessions.rotate(connection, session, factors)
                event.record(connection)
        sso.sessions.announce(session.user)
        return SessionInfo(
            username=username,
            user_id=session.user.user_id,
            ust=opened.ust,
            public_id=opened.public_id,
            creation_time=opened.creation_time,
            expiration_time=opened.expiration_time,
        )

    def _session(self, caller: Caller, *, is_fresh: bool = True) -> Session:
        """The caller's own session."""
        session = self._sso.gate.session(caller, may_enrol=True)
        if session is None:
            raise not_allowed("A passkey is its owner's alone: call with a session of the user.")
        if is_fresh:
            self._sso.gate.fresh(session)
        return session

    def _ids_for(self, connection: Connection, key: str) -> list[bytes]:
        """The ids of a user's passkeys, or of what might be some; after as much work for either."""
        made_up = false_ids(self._sso.protection.mac("sso.passkey-id", key))
        return self._rows.ids_of_name(connection, key) or made_up

    def _authenticated(
        self,
        credential: Mapping[str, Any],
        purpose: str,
        event: Audited,
        session: Session | None = None,
    ) -> tuple[str, tuple[str, ...]]:
        """The user name of whose passkey answered, and what that proves; the answer is used up."""
        sso = self._sso
        party, credential = RelyingParty.of(sso.settings), checked_credential(credential)
        challenge = self._challenges.take(credential, purpose, session=session)
        id_, handle = credential_id_of(credential), user_handle_of(credential)
        with database_errors(), sso.store.engine.begin() as connection:
            row = self._rows.lock(connection, id_)
            event.target = row.user_id if row is not None else ""
            if row is None or not _is_whose(row, handle, session):
                raise ValidationError(
                    status_code.second_factor.invalid, True, reason="There is no such passkey of this user."
                )
            verified = party.authenticated(
                credential, challenge, public_key=row.public_key, sign_count=row.sign_count
            )
            self._rows.used(
                connection,
                row.id,
                sign_count=verified.new_sign_count,
                is_backed_up=verified.credential_backed_up,
            )
        return row.username, (key_factor(verified.credential_backed_up), VERIFIED)


def checked_label(label: str) -> str:
    """What a user calls a passkey.  Raises ``ValidationError`` (E008002)."""
    given = label.strip() or DEFAULT_LABEL
    if len(given) > MAX_LABEL or not given.isprintable():
        raise invalid("label", f"must be at most {MAX_LABEL} printable characters.")
    return given


def key_factor(is_backed_up: bool) -> str:
    """What the key of a passkey is (RFC 8176)."""
    return SYNCED if is_backed_up else HARDWARE


def _is_whose(row: Row[Any], handle: bytes | None, session: Session | None) -> bool:
    """Whether a passkey is of the user that the authenticator names, if it names one, and of the session's."""
    return handle in (None, row.user_id.encode()) and (session is None or row.owner == session.user_id)
