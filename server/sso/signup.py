"""Signing up (facts sheet, sections 1.5, 4.3 and 7).

What a visitor learns is that it worked, or that it did not.  Whether an e-mail address has a user already is told by e-mail alone, to its
owner: such a sign-up is answered and stored as any other, and takes as long; but it has no address, nobody gets its token, and it goes
away after a while.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, and_, delete, exists, func, select

from junctor.server.audit.trail import Event
from junctor.server.service.call import Call
from junctor.server.service.channel import DATA_FORMAT
from junctor.server.sso.audited import TRUSTED, audited
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import AUTO, const, status_code
from junctor.server.sso.errors import ValidationError, missing
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import User
from junctor.server.sso.signup_aftermath import NEW, TAKEN, VERIFY, Aftermath, store
from junctor.server.sso.user_fields import SIGN_UP_STATUSES, choice, optional, text
from junctor.server.sso.user_rows import MAX_KEY
from junctor.server.sso.user_state import approval_columns, sign_up_columns
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError
from junctor.sql.tables.sso import SsoToken, SsoUser

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

CONFIRM: Final = "confirm"
HOUR: Final = 3600  # seconds
CONFIRMS_PER_SIGN_UP: Final = 10
PURGED_AT_ONCE: Final = 1000
log = logging.getLogger(__name__)


@dataclass(slots=True)
class SignupCtx:
    """Who wants to sign up (facts 2.4)."""

    username: str = ""
    email: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    current_app: str | None = None
    app_list: list[str] | None = None
    sign_up_status: str = const.signup_status.before_confirmation


class SignUp:
    """Sign-ups and their confirmations."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def sign_up(self, caller: Caller, wanted: SignupCtx) -> str:
        """Makes a user who is to confirm the sign-up.  Returns the token for it if the settings say so, else '': then e-mail alone has it.

        Afterwards, the services of the settings are called, see ``signup_aftermath.py``.  Raises ``ValidationError``: E004002 for an
        application that may not sign users up, E005009 for too many sign-ups from one address, what a validation service says, E001002
        and E002002 for what is taken; the settings say which of them a remote caller sees.
        """
        sso = self._sso
        if not caller.current_app and wanted.current_app:
            caller = replace(caller, current_app=wanted.current_app)
        with audited(sso, caller, "user.signup") as event:
            self._admit(caller)
            given = self._given(caller, wanted)
            self._validate(caller, given)
            values = self._values(caller, given)
            with database_errors(), sso.store.engine.begin() as connection:
                connection.execute(
                    delete(SsoUser).where(
                        SsoUser.username_key == username_key(given["username"]), self._is_abandoned
                    )
                )
                user, owner = self._insert(connection, values)
                minutes = sso.settings["signup_confirm_token_valid_for"]
                token = sso.one_time.issue(
                    connection, user.id, CONFIRM, minutes=minutes, data=_bound(user.email_mac)
                )
                event.target = user.user_id
                event.record(connection)
            self._follow(caller, user, Aftermath(TAKEN if owner else NEW, user.user_id, token, owner))
        return token if sso.settings["signup_always_return_confirm_token"] else ""

    def confirm(self, caller: Caller, confirm_token: str) -> None:
        """Confirms a sign-up, or a new e-mail address of a user.

        Raises ``ValidationError``, which remote callers see as E005001: E005006 for a token that is none or has expired, or whose address
        somebody else has confirmed; E005007 for one that was used before.
        """
        sso = self._sso
        with audited(sso, caller, "user.confirm_signup") as event:
            sso.gate.application(caller)
            self._throttle(caller, "confirm", CONFIRMS_PER_SIGN_UP)
            with database_errors(), sso.store.engine.begin() as connection:
                used = sso.one_time.use(connection, CONFIRM, text("confirm_token", confirm_token))
                before = sso.users.rows.locked(connection, used.user_id) if used else None
                if used is None or before is None:
                    raise _no_such_token()
                event.actor = event.target = before.user_id
                if used.is_used_before:
                    raise ValidationError(
                        status_code.auth.sign_up_confirmed, reason="The token was used before."
                    )
                after = self._confirmed(connection, before, used.data)
                event.record(connection)
        sso.sessions.announce()
        sso.user_state.welcome(caller, before, after)

    def verify_email(self, caller: Caller, user: User) -> None:
        """Mails the user a token with which a new address is confirmed, if the settings say so; after the commit, and without failing."""
        sso = self._sso
        if not sso.settings["signup_email_confirm_enabled"]:
            return
        minutes, data = sso.settings["signup_confirm_token_valid_for"], _bound(user.email_mac)
        try:
            with database_errors(), sso.store.engine.begin() as connection:
                token = sso.one_time.issue(connection, user.id, CONFIRM, minutes=minutes, data=data)
            store(sso, caller, Aftermath(VERIFY, user.user_id, token))
        except JunctorError as error:
            log.error(
                "User %s cannot confirm a new address: %s", user.user_id, error, extra={"cid": caller.cid}
            )

    def purge(self, connection: Connection) -> int:
        """Deletes up to 1,000 users whose sign-up was not confirmed in time, in the caller's transaction; how many."""
        found = (
            select(SsoUser.id)
            .where(self._is_abandoned)
            .limit(PURGED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        gone = connection.execute(delete(SsoUser).where(SsoUser.id.in_(found))).rowcount
        if gone:
            event = Event(cid="", op="user.purge_signups", actor=TRUSTED, extra={"count": gone})
            self._sso.audit.record(connection, event)
        return int(gone)

    def _admit(self, caller: Caller) -> None:
        application = self._sso.gate.application(caller)
        if application is not None and not application.signup_allowed:
            raise ValidationError(
                status_code.app_list.no_signup,
                self._sso.settings["signup_inform_if_app_invalid"],
                reason="The application may not sign users up.",
                field="current_app",
            )
        self._throttle(caller, "signup", 1)

    def _throttle(self, caller: Caller, what: str, factor: int) -> None:
        if not caller.is_trusted:
            limit = self._sso.settings["throttle_signup_limit"] * factor
            self._sso.throttle.take(what, caller.remote_addr, limit, HOUR)

    def _given(self, caller: Caller, wanted: SignupCtx) -> dict[str, Any]:
        """What was given, as validation services get it."""
        for name in ("username", "password"):
            if not getattr(wanted, name):
                raise missing(name)
        return {
            "username": unicodedata.normalize("NFC", text("username", wanted.username)),
            "password": text("password", wanted.password),
            "email": optional("email", wanted.email).strip(),
            "app_list": self._sso.users.fields.apps(wanted.app_list),
            "current_app": caller.current_app,
            "sign_up_status": choice("sign_up_status", wanted.sign_up_status, SIGN_UP_STATUSES),
        }

    def _validate(self, caller: Caller, given: Mapping[str, Any]) -> None:
        """Asks the validation services, until one has something against it."""
        for service in self._sso.settings["user_validation_service"]:
            call = Call(service, dict(given), cid=caller.cid, data_format=DATA_FORMAT.DICT)
            answer = self._sso.context.invoker.invoke(call).payload
            if not isinstance(answer, Mapping) or not isinstance(answer.get("is_valid"), bool):
                raise ValidationError(
                    status_code.common.internal_error,
                    reason=f"Service {service} did not answer with is_valid.",
                )
            if not answer["is_valid"]:
                codes = answer.get("sub_status") or status_code.auth.not_allowed
                raise ValidationError(codes, bool(answer.get("return_status")), reason=f"Says {service}.")

    def _values(self, caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new user, for ``Users.insert``; hashing comes before anything that depends on other users."""
        if len(username_key(given["username"])) > MAX_KEY:
            raise ValidationError(status_code.username.too_long, field="username")
        statuses = const.approval_status
        is_needed = self._sso.settings["signup_is_approval_needed"]
        names = ("username", "email", "app_list")
        return {
            **{name: given[name] for name in names},
            **sign_up_columns(given["sign_up_status"]),
            **approval_columns(statuses.before_decision if is_needed else statuses.approved, AUTO),
            "password_hash": self._sso.passwords.hashed(given["password"]),
            "creation_ctx": {
                "is_sign_up": True,
                "current_app": caller.current_app,
                "remote_addr": caller.remote_addr,
                "user_agent": caller.user_agent,
            },
        }

    def _insert(self, connection: Connection, values: dict[str, Any]) -> tuple[User, str]:
        """The new user; and the id of the user who has the address already, '' = nobody has."""
        users, settings = self._sso.users, self._sso.settings
        try:
            return users.insert(connection, values), ""
        except ValidationError as refusal:
            is_email = status_code.email.exists in refusal.sub_status
            informs = settings[
                "signup_inform_if_email_exists" if is_email else "signup_inform_if_user_exists"
            ]
            if informs or not is_email:
                raise ValidationError(refusal.sub_status, informs, field=refusal.field) from None
        owner = users.by_email(values["email"], connection)
        circumstances = values["creation_ctx"] | {"is_email_taken": True}
        try:
            user = users.insert(connection, values | {"email": "", "creation_ctx": circumstances})
        except ValidationError as refusal:
            informs = settings["signup_inform_if_user_exists"]
            raise ValidationError(refusal.sub_status, informs, field=refusal.field) from None
        return user, owner.user_id if owner else AUTO

    def _follow(self, caller: Caller, user: User, aftermath: Aftermath) -> None:
        """Has what follows done.  Raises what that raises; then there is no user either, and whoever signed up may try again."""
        try:
            store(self._sso, caller, aftermath)
        except JunctorError:
            with database_errors(), self._sso.store.engine.begin() as connection:
                connection.execute(delete(SsoUser).where(SsoUser.id == user.id))
            raise

    def _confirmed(self, connection: Connection, user: User, bound: str) -> User:
        """The user whose token was used; it confirms the address that it was made for, if that is the user's still."""
        users, columns = self._sso.users, {}
        if user.sign_up_status == const.signup_status.before_confirmation:
            columns = sign_up_columns(const.signup_status.final)
        email = users.email_of(user)
        if email:
            try:
                users.rows.claim_email(connection, email, but=user.id)
            except ValidationError:
                raise _no_such_token() from None
            if bound in [mac.hex() for mac in self._sso.protection.email_macs(email)]:
                columns["is_email_verified"] = True
        return self._sso.user_state.change(connection, user, columns, None) if columns else user

    @property
    def _is_abandoned(self) -> Any:
        """The condition that a user signed up, and did not confirm it in time."""
        has_token = exists().where(
            SsoToken.user_id == SsoUser.id,
            SsoToken.purpose == CONFIRM,
            SsoToken.expiration_time > datetime.now(UTC),
        )
        return and_(
            SsoUser.cluster_id == self._sso.store.cluster_id,
            SsoUser.sign_up_status == const.signup_status.before_confirmation,
            SsoUser.sign_up_confirm_time.is_(None),
            func.coalesce(SsoUser.creation_ctx["is_sign_up"].as_boolean(), False),
            ~has_token,
        )


def _bound(email_mac: bytes | None) -> str:
    """What a token keeps of the address that it is for."""
    return email_mac.hex() if email_mac else ""


def _no_such_token() -> ValidationError:
    return ValidationError(
        status_code.auth.no_such_sign_up_token, reason="There is no such token, or it has expired."
    )
