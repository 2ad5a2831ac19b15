"""The fields of users that callers give: which they are, and what they must be like."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from junctor.server.sso import rate_limits
from junctor.server.sso.codes import const, status_code
from junctor.server.sso.errors import ValidationError, invalid
from junctor.server.sso.totp_codes import checked_key, checked_label, new_key
from junctor.server.sso.user_rows import is_storable

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

TOTP_KEY: Final = "sso_user.totp_key"
NAMES: Final = ("display_name", "first_name", "middle_name", "last_name")
MAX_NAME: Final = 200  # characters
MAX_GIVEN: Final = 10_000  # characters; what is longer is not even looked at
MAX_APPS: Final = 100
MAX_RATE_LIMIT: Final = 10_000  # characters
SIGN_UP_STATUSES: Final = (const.signup_status.before_confirmation, const.signup_status.final)
APPROVAL_STATUSES: Final = (
    const.approval_status.before_decision,
    const.approval_status.approved,
    const.approval_status.rejected,
)
DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that make a text look like another one."""

OWNER_UPDATES: Final = frozenset({*NAMES, "email", "username", "is_totp_enabled", "totp_label"})
SUPER_USER_UPDATES: Final = OWNER_UPDATES | {
    "is_locked",
    "password_must_change",
    "must_change",
    "password_expiry",
    "sign_up_status",
    "approval_status",
    "is_approved",
    "app_list",
}
CREATED: Final = frozenset(
    {
        *NAMES,
        "username",
        "password",
        "password_must_change",
        "must_change",
        "email",
        "is_locked",
        "sign_up_status",
        "is_totp_enabled",
        "totp_key",
        "totp_label",
        "is_rate_limit_active",
        "rate_limit_def",
        "auto_approve",
        "app_list",
    }
)


class UserFields:
    """Checks of what callers give; every method returns what is stored, or raises ``ValidationError``."""

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso

    def username(self, value: Any, *, is_reserved_allowed: bool) -> str:
        """A user name; super-users may give one that has a reserved word in it, such as admin."""
        name = unicodedata.normalize("NFC", text("username", value))
        if not name:
            raise ValidationError(status_code.username.invalid, True, field="username")
        problems = self._sso.policy.username_problems(name, is_reserved_allowed=is_reserved_allowed)
        if problems:
            raise ValidationError(problems, True, field="username")
        return name

    def email(self, value: Any, *, is_reserved_allowed: bool) -> str:
        """An e-mail address; None and '' = none."""
        email = "" if value is None else text("email", value).strip()
        if not email:
            return ""
        problems = self._sso.policy.email_problems(email, is_reserved_allowed=is_reserved_allowed)
        if problems:
            raise ValidationError(problems, True, field="email")
        return email

    def password(self, value: Any, about: Iterable[str]) -> str:
        """A new password of somebody of whom everybody knows the words ``about``."""
        password = text("password", value)
        problems = self._sso.policy.password_problems(password, about=[word for word in about if word])
        if problems:
            raise ValidationError(problems, True, field="password")
        return password

    def apps(self, value: Any) -> list[str]:
        """Names of registered applications, each once; None = none."""
        if value is None:
            return []
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            raise invalid("app_list", "must be a list of names.")
        names = list(dict.fromkeys(value))
        if len(names) > MAX_APPS:
            raise invalid("app_list", f"must not have more than {MAX_APPS} names.")
        if any(name not in self._sso.applications for name in names):
            raise ValidationError(
                status_code.app_list.invalid,
                self._sso.settings["apps_inform_if_app_invalid"],
                reason="app_list has an application that is not registered.",
                field="app_list",
            )
        return names

    def totp(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a new user's second factor: a key, also if it is not enabled yet."""
        key = data.get("totp_key")
        key = checked_key(text("totp_key", key)) if key else new_key()
        return {
            "is_totp_enabled": flag("is_totp_enabled", data.get("is_totp_enabled", False)),
            "totp_key_sealed": self._sso.protection.seal(key, TOTP_KEY),
            "totp_label": checked_label(optional("totp_label", data.get("totp_label"))),
        }


def require_known(data: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises ``ValidationError`` (E008002) for a field that is not among those that the caller may give, E008003 for none at all."""
    if not isinstance(data, Mapping):
        raise invalid("data", "must be a dictionary.")
    if not data:
        raise ValidationError(status_code.common.missing_input, True, reason="There is nothing to change.")
    if unknown := sorted(str(name) for name in data if name not in known):
        raise invalid(unknown[0][:100], "must not be given.")


def text(name: str, value: Any) -> str:
    """A text that the database can have."""
    if not isinstance(value, str):
        raise invalid(name, "must be text.")
    if len(value) > MAX_GIVEN or not is_storable(value):
        raise invalid(name, "is not a text that can be stored.")
    return value


def optional(name: str, value: Any) -> str:
    """The same, '' for None."""
    return "" if value is None else text(name, value)


def person_name(name: str, value: Any) -> str:
    """A name of a person as it is stored: without spaces around it; '' for None."""
    given = unicodedata.normalize("NFC", optional(name, value)).strip()
    if len(given) > MAX_NAME:
        raise invalid(name, f"must not have more than {MAX_NAME} characters.")
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in DIRECTIONS for letter in given):
        raise invalid(name, "must be a single line.")
    return given


def person_names(data: Mapping[str, Any]) -> dict[str, str]:
    """All names of a new user; the one that is displayed is the others joined, if it is not given."""
    names = {name: person_name(name, data.get(name)) for name in NAMES}
    if not names["display_name"]:
        joined = " ".join(names[name] for name in NAMES[1:] if names[name])
        names["display_name"] = joined[:MAX_NAME].rstrip()
    return names


def flag(name: str, value: Any) -> bool:
    """A yes or no; the text 'false' is neither."""
    if not isinstance(value, bool):
        raise invalid(name, "must be true or false.")
    return value


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of the choices."""
    if value not in choices:
        raise invalid(name, f"must be one of {', '.join(choices)}.")
    return str(value)


def moment(name: str, value: Any) -> datetime:
    """A time, or its ISO 8601 text; in UTC, unless it has an offset."""
    problem = invalid(name, "must be a time such as 2027-01-31T12:00:00.")
    try:
        given = value if isinstance(value, datetime) else datetime.fromisoformat(text(name, value).strip())
    except ValueError:
        raise problem from None
    if given.tzinfo is None:
        return given.replace(tzinfo=UTC)
    try:
        return given.astimezone(UTC)
    except OverflowError:  # of the first and the last day that there is
        raise problem from None


def must_change(data: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the password must be changed, under either of its names; nothing if it is not given."""
    for name in ("password_must_change", "must_change"):
        if name in data:
            return {"password_must_change": flag(name, data[name])}
    return {}


def rate_limit(data: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a user's own rate limit."""
    definition = optional("rate_limit_def", data.get("rate_limit_def")).strip()
    if len(definition) > MAX_RATE_LIMIT:
        raise invalid("rate_limit_def", f"must not have more than {MAX_RATE_LIMIT} characters.")
    try:
        rate_limits.parse(definition)
    except ValueError as error:
        raise invalid("rate_limit_def", str(error)) from None
    is_active = flag("is_rate_limit_active", data.get("is_rate_limit_active", False))
    return {"is_rate_limit_active": is_active, "rate_limit_def": definition}
