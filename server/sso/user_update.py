"""Updates of users: what a call wants changed, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, invalid, not_allowed
from junctor.server.sso.protection import username_key
from junctor.server.sso.records import Session, User
from junctor.server.sso.totp_codes import checked_label
from junctor.server.sso.user_fields import (
    APPROVAL_STATUSES,
    NAMES,
    OWNER_UPDATES,
    SIGN_UP_STATUSES,
    SUPER_USER_UPDATES,
    choice,
    flag,
    moment,
    must_change,
    optional,
    person_name,
    require_known,
)
from junctor.server.sso.user_state import approval_columns, done_by, lock_columns, sign_up_columns
from junctor.sql.blind_index import email_key

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

SENSITIVE = frozenset({"email", "username", "is_totp_enabled"})
"""What whoever changes it must have proved a short while ago who they are for."""
RESETS = ("reset", "reset-key")
"""Purposes of tokens that went to the address of before."""


@dataclass(frozen=True, slots=True)
class Updated:
    """A user before and after an update; ``old_email`` is the address that was changed, None = it was not."""

    before: User
    after: User
    old_email: str | None = field(default=None, repr=False)


class UserUpdate:
    """One update: checked when it is made, applied in a transaction, told about after it."""

    def __init__(
        self,
        sso: SingleSignOn,
        data: Mapping[str, Any],
        *,
        caller: Caller,
        session: Session | None,
        is_super_user: bool,
    ) -> None:
        """Raises ``ValidationError`` for fields that this caller may not change, and for values that no user can have."""
        self._sso = sso
        self._caller = caller
        self._session = session
        self._is_super_user = is_super_user
        require_known(data, SUPER_USER_UPDATES if is_super_user else OWNER_UPDATES)
        self._fields = self._checked(data)

    def apply(self, connection: Connection, user: User) -> Updated:
        """Changes a user that ``UserState.lock`` returned.  Raises ``ValidationError``."""
        sso, columns = self._sso, self._changes(user)
        if any(name in columns for name in SENSITIVE):
            sso.gate.fresh(self._session)
        old_email = None
        if "username" in columns:
            self._admit_name(user, columns["username"])
            columns["username_key"] = username_key(columns["username"])
        if "email" in columns:
            old_email = sso.users.email_of(user)
            columns |= sso.users.rows.email_columns(connection, columns["email"], but=user.id)
            sso.one_time.revoke(connection, user.id, *RESETS)
        elif columns.get("sign_up_status") == const.signup_status.final and user.email_mac:
            sso.users.rows.claim_email(connection, sso.users.email_of(user), but=user.id)
        if "is_totp_enabled" in columns:
            self._admit_totp(user, columns["is_totp_enabled"])
        if not columns:
            return Updated(user, user)
        after = sso.user_state.change(connection, user, columns, self._session)
        if "is_totp_enabled" in columns:
            self._switched_totp(connection, after)
        return Updated(user, after, old_email)

    def tell(self, updated: Updated) -> None:
        """Tells the user of what changed, after the commit."""
        sso, before, after = self._sso, updated.before, updated.after
        if updated.old_email:
            sso.mail.notice(self._caller, after, "email", email=updated.old_email)
        if updated.old_email is not None and after.email_mac:
            sso.signup.verify_email(self._caller, after)
        if before.is_totp_enabled != after.is_totp_enabled:
            sso.mail.notice(self._caller, after, "totp")
        sso.user_state.welcome(self._caller, before, after)

    def _checked(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The fields as they are stored, under the names of their columns; ``email`` in the clear."""
        fields = self._sso.users.fields
        checked: dict[str, Any] = {name: person_name(name, data[name]) for name in NAMES if name in data}
        if "username" in data:
            checked["username"] = fields.username(data["username"], is_reserved_allowed=self._is_super_user)
        if "email" in data:
            checked["email"] = fields.email(data["email"], is_reserved_allowed=self._is_super_user)
        for name in ("is_totp_enabled", "is_locked"):
            if name in data:
                checked[name] = flag(name, data[name])
        if "totp_label" in data:
            checked["totp_label"] = checked_label(optional("totp_label", data["totp_label"]))
        if "password_expiry" in data:
            expiry = data["password_expiry"]
            checked["password_expiry"] = None if expiry is None else moment("password_expiry", expiry)
        if "sign_up_status" in data:
            checked["sign_up_status"] = choice("sign_up_status", data["sign_up_status"], SIGN_UP_STATUSES)
        if "app_list" in data:
            checked["app_list"] = fields.apps(data["app_list"])
        return checked | must_change(data) | _approval(data)

    def _changes(self, user: User) -> dict[str, Any]:
        """The fields that have another value than the user's; with who changed them, and when."""
        by, changes = done_by(self._session, self._caller), {}
        for name, value in self._fields.items():
            if name == "email":
                if email_key(value) != email_key(self._sso.users.email_of(user)):
                    changes["email"] = value
            elif value != getattr(user, name):
                changes[name] = value
        if "is_locked" in changes:
            changes |= lock_columns(changes["is_locked"], by)
        if "approval_status" in changes:
            changes |= approval_columns(changes["approval_status"], by)
        if "sign_up_status" in changes:
            changes |= sign_up_columns(changes["sign_up_status"])
        return changes

    def _admit_name(self, user: User, name: str) -> None:
        """Raises ``ValidationError`` for a name that would free a user from a list of addresses, or take another user's list.

        Such lists are found by the name.  Super-users make one for the new name first.
        """
        addresses, key = self._sso.addresses, username_key(name)
        if key == user.username_key:
            return
        is_listed, will_be_listed = user.username_key in addresses, key in addresses
        if not self._is_super_user and (is_listed or will_be_listed):
            raise not_allowed("The user name has a list of addresses: only super-users may change it.")
        if is_listed and not will_be_listed:
            raise ValidationError(
                status_code.common.invalid_operation,
                True,
                reason="The user name has a list of addresses: make one for the new name first.",
                field="username",
            )

    def _admit_totp(self, user: User, is_enabled: bool) -> None:
        """Raises ``ValidationError`` for switching on what there is no key for, and for switching off without the factor itself."""
        if is_enabled:
            if not user.totp_key_sealed:
                raise ValidationError(
                    status_code.second_factor.not_enrolled,
                    True,
                    reason="There is no key for one-time passwords: make one first.",
                    field="is_totp_enabled",
                )
            return
        session = self._session
        if session is None or session.user_id != user.id:
            return
        if set(session.auth_factors) <= {"pwd"}:
            raise ValidationError(
                status_code.auth.step_up_required,
                True,
                reason="A second factor is switched off in a session that was opened with it.",
                field="is_totp_enabled",
            )
        if self._sso.settings["login_totp_required"]:
            raise ValidationError(
                status_code.auth.second_factor_required,
                True,
                reason="Every user needs a second factor.",
                field="is_totp_enabled",
            )

    def _switched_totp(self, connection: Connection, user: User) -> None:
        if not user.is_totp_enabled:
            self._sso.recovery_codes.delete(connection, user.id)
        is_own = self._session is not None and self._session.user_id == user.id
        self._sso.totp.end_others(connection, user, self._session if is_own else None)


def _approval(data: Mapping[str, Any]) -> dict[str, str]:
    """The decision on a user, under either of its names."""
    wanted = {}
    if "is_approved" in data:
        is_approved = flag("is_approved", data["is_approved"])
        status = const.approval_status
        wanted["approval_status"] = status.approved if is_approved else status.rejected
    if "approval_status" in data:
        status_given = choice("approval_status", data["approval_status"], APPROVAL_STATUSES)
        if wanted.get("approval_status", status_given) != status_given:
            raise invalid("approval_status", "says something else than is_approved.")
        wanted["approval_status"] = status_given
    return wanted
