"""Resetting forgotten passwords: a token is mailed, is used for a key, and both set a new password.

Whoever asks for a token gets the same answer as fast whether or not there is such a user, since all that could tell is done afterwards,
by a durable call.  Resetting opens no session: at the next log-in, a second factor is asked for as ever.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, select

from junctor.server.admin.service import AdminService
from junctor.server.pubsub.durable import store_call
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.sso.audited import TRUSTED, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import RESET_KEY_PREFIX, const, status_code
from junctor.server.sso.errors import ValidationError, invalid, missing
from junctor.server.sso.protection import MAX_TOKEN
from junctor.server.sso.records import User
from junctor.sql.engine import database_errors
from junctor.sql.objects.sso_signup import EMAIL, USERNAME
from junctor.sql.tables.sso import SsoToken

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

FIELD: Final = "sso.password-reset"
SERVICE: Final = "zato.sso.password-reset.issue"
TOKEN, KEY = "reset", "reset-key"
MAX_CREDENTIAL: Final = 320  # characters
HOUR: Final = 3600  # seconds
ADDRESS_WINDOW: Final = 600  # seconds within which one address may call ``throttle_address_limit`` times


class PasswordReset:
    """The three steps: ask for a token, use it, give a new password."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def create_token(self, caller: Caller, credential: str) -> None:
        """Mails a token to the user of this name or address, if there is one; nobody learns whether there is.

        Raises ``ValidationError``: for an unknown application, for no credential or none that could be one, and for too many calls of an
        address (E005009).
        """
        with audited(self._sso, caller, "password_reset.create_token"):
            self._admit(caller)
            if not credential:
                raise missing("credential")
            if len(credential) > MAX_CREDENTIAL:
                raise invalid("credential", f"must have at most {MAX_CREDENTIAL} characters.")
            # as ASCII, since callers may send what is no Unicode
            asked = {"credential": credential, "caller": asdict(caller) | {"current_ust": ""}}
            call = Call(
                SERVICE,
                {"sealed": self._sso.protection.seal(json.dumps(asked), FIELD)},
                cid=caller.cid,
                channel=ChannelInfo(CHANNEL.INVOKE_ASYNC),
                data_format=DATA_FORMAT.DICT,
            )
            life = self._sso.settings["password_reset_valid_for"] * 60
            store_call(self._sso.context, call, expiration=life)

    def issue(self, sealed: str) -> None:
        """Does what ``create_token`` has stored: finds the user, and mails a token that ends those before it.

        Raises ``StoreUnavailable`` and the like: then it is done again.
        """
        asked = json.loads(self._sso.protection.unseal(sealed, FIELD))
        caller = Caller(**asked["caller"])
        try:
            with audited(self._sso, caller, "password_reset.issue") as event:
                event.actor = TRUSTED
                user = self._find(asked["credential"])
                if user is None:
                    raise could_not_access("There is no such user.")
                event.target = user.user_id
                require_resettable(user)
                if not self._sso.users.email_of(user):
                    raise could_not_access("The user has no e-mail address.")
                limit = self._sso.settings["throttle_reset_limit"]
                self._sso.throttle.take("reset", user.user_id, limit, HOUR)
                with database_errors(), self._sso.store.engine.begin() as connection:
                    minutes = self._sso.settings["password_reset_valid_for"]
                    token = self._sso.one_time.issue(connection, user.id, TOKEN, minutes=minutes)
                    event.record(connection)
                self._sso.mail.reset(caller, user, token)
        except ValidationError:
            return  # audited; there is nobody to tell

    def access_token(self, caller: Caller, token: str) -> tuple[User, str]:
        """The user and the reset key; the token is used up.  Raises ``ValidationError`` (E010001)."""
        sso = self._sso
        with audited(sso, caller, "password_reset.access_token") as event:
            self._admit(caller)
            with database_errors(), sso.store.engine.begin() as connection:
                user = self._owner(connection, TOKEN, token)
                event.target = user.user_id
                used = sso.one_time.use(connection, TOKEN, token)
                if used is None or used.is_used_before:
                    raise could_not_access("The token has expired or was used already.")
                require_resettable(user)
                seconds = sso.settings["password_reset_password_change_session_duration"]
                key = sso.one_time.issue(
                    connection,
                    user.id,
                    KEY,
                    prefix=RESET_KEY_PREFIX,
                    minutes=seconds / 60,
                    data=sso.protection.mac(_purpose(TOKEN), token).hex(),
                )
                event.record(connection)
        return user, key

    def change_password(self, caller: Caller, new_password: str, token: str, reset_key: str) -> None:
        """Sets the password; all sessions of the user end, and the password need not be changed at the next log-in.

        Raises ``ValidationError``: E010001 for a token and a key that do not belong together, have expired or were used already, E00300x
        for a password that is not good enough; then both still work.
        """
        sso = self._sso
        with audited(sso, caller, "password_reset.change_password") as event:
            self._admit(caller)
            with database_errors(), sso.store.engine.connect() as connection:
                user = self._redeemed(connection, token, reset_key)
                event.target = user.user_id
                connection.rollback()  # nobody should have to wait for this user while the password is hashed
            stored = sso.change_password.prepared(user, new_password)
            with database_errors(), sso.store.engine.begin() as connection:
                user = self._redeemed(connection, token, reset_key)
                sso.change_password.store(connection, user, stored, must_change=False)
                sso.sessions.end_all(connection, user)  # whatever the settings say of other changes
                event.record(connection)
        sso.sessions.announce(user)
        sso.mail.notice(caller, user, "password")

    def _redeemed(self, connection: Connection, token: str, reset_key: str) -> User:
        """The user whose password a token and a key change, which are used up with this."""
        user = self._owner(connection, KEY, reset_key)
        used = self._sso.one_time.use(connection, KEY, reset_key)
        if used is None or used.is_used_before or not self._fits(token, used.data):
            raise could_not_access("The key has expired, was used already, or is another token's.")
        require_resettable(user)
        return user

    def _admit(self, caller: Caller) -> None:
        self._sso.gate.application(caller)
        if caller.remote_addr and not caller.is_trusted:
            limit = self._sso.settings["throttle_address_limit"]
            self._sso.throttle.take("reset-address", caller.remote_addr, limit, ADDRESS_WINDOW)

    def _find(self, credential: str) -> User | None:
        users, search_by = self._sso.users, self._sso.settings["password_reset_user_search_by"]
        if search_by == EMAIL:
            return users.by_email(credential)
        found = users.by_username(credential)
        return found if found is not None or search_by == USERNAME else users.by_email(credential)

    def _owner(self, connection: Connection, purpose: str, token: str) -> User:
        """Whose token it is; the row is locked before that of the token, as whoever changes or deletes a user does it."""
        user = None
        if 0 < len(token) <= MAX_TOKEN:
            macs = self._sso.protection.macs(_purpose(purpose), token)
            statement = select(SsoToken.user_id).where(
                SsoToken.token_mac.in_(macs), SsoToken.purpose == purpose
            )
            row_id = connection.execute(statement).scalar()
            user = None if row_id is None else self._sso.users.rows.locked(connection, row_id)
        if user is None:
            raise could_not_access("There is no such token.")
        return user

    def _fits(self, token: str, stored: str) -> bool:
        """Whether a reset key was given for this token."""
        if len(token) > MAX_TOKEN:
            return False
        macs = self._sso.protection.macs(_purpose(TOKEN), token)
        return any(hmac.compare_digest(mac.hex(), stored) for mac in macs)


class IssueToken(AdminService):
    """Issues and mails a reset token; only ``PasswordReset.create_token`` can make its input, which is encrypted."""

    name = SERVICE

    def handle(self) -> None:
        """``sealed``: who asked, and for whom."""
        self.context.sso.password_reset.issue(self.text(self.fields, "sealed"))


def require_resettable(user: User) -> None:
    """Raises ``ValidationError`` (E010001) for a user whose password cannot be reset: locked, rejected, or without a confirmed sign-up."""
    if user.is_locked or not user.is_active:
        raise could_not_access("The user is locked.")
    if user.sign_up_status == const.signup_status.before_confirmation:
        raise could_not_access("The sign-up is not confirmed.")
    if user.approval_status == const.approval_status.rejected:
        raise could_not_access("The user was rejected.")


def could_not_access(reason: str) -> ValidationError:
    """The refusal of a token or a key; ``reason`` is for the audit trail."""
    return ValidationError(status_code.password_reset.could_not_access, True, reason=reason)


def _purpose(purpose: str) -> str:
    return f"sso.{purpose}"
