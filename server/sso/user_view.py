"""What callers see of a user (facts sheet, section 1.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from junctor.server.sso.codes import const
from junctor.server.sso.records import User

OWN: Final = (
    "user_id",
    "username",
    "email",
    "is_email_verified",
    "display_name",
    "first_name",
    "middle_name",
    "last_name",
    "is_totp_enabled",
    "totp_label",
)
FULL: Final = (
    *OWN,
    "is_active",
    "is_internal",
    "is_super_user",
    "is_approval_needed",
    "approval_status",
    "approval_status_mod_by",
    "approval_status_mod_time",
    "approv_rej_by",
    "approv_rej_time",
    "is_locked",
    "locked_time",
    "locked_by",
    "creation_ctx",
    "app_list",
    "password_expiry",
    "password_is_set",
    "password_must_change",
    "password_last_set",
    "sign_up_status",
    "sign_up_time",
    "sign_up_confirm_time",
    "is_rate_limit_active",
    "rate_limit_def",
    "rate_limit_type",
    "rate_limit_check_parent_def",
)


def view(user: User, email: str, *, is_full: bool, serialize_dt: bool = True) -> dict[str, Any]:
    """A user's own data, or with ``is_full`` what super-users see; never the hash, a key or a token.

    Keys without a value are left out; False is a value.  Times are ISO 8601 in UTC without an offset, or naive ``datetime`` objects.
    """
    has_decision = user.approval_status != const.approval_status.before_decision
    derived: dict[str, Any] = {
        "email": email,
        "is_approval_needed": not has_decision,
        "approv_rej_by": user.approval_status_mod_by if has_decision else None,
        "approv_rej_time": user.approval_status_mod_time if has_decision else None,
    }
    shown = {}
    for name in FULL if is_full else OWN:
        value = derived[name] if name in derived else getattr(user, name)
        if isinstance(value, datetime):
            value = iso(value) if serialize_dt else naive(value)
        if value is not None and value not in ("", [], {}):
            shown[name] = value
    return shown


def naive(moment: datetime) -> datetime:
    """A time in UTC, without its zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def iso(moment: datetime) -> str:
    """A time as callers get it: ISO 8601 in UTC without an offset."""
    return naive(moment).isoformat()
