"""What many endpoints take and answer: fields, outputs, codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from junctor.server.sso.codes import const, status_code
from junctor.server.sso.endpoints.declaration import BASE, MAX_PASSWORD, Field, Output, Type

CURRENT_APP: Final = Field(name="current_app", help="The application that calls.", is_required=True, max=200)
UST: Final = Field(
    name="ust",
    help="The token of the caller's session.",
    is_required=True,
    is_secret=True,
    aliases=("current_ust",),
)
CURRENT_UST: Final = Field(
    name="current_ust",
    help="The token of the caller's session.",
    is_required=True,
    is_secret=True,
    aliases=("ust",),
)
USER_ID: Final = Field(name="user_id", help="Whom it is about.", is_required=True, max=200)
OTHER_USER_ID: Final = Field(name="user_id", help="Whom it is about; the caller, if not given.", max=200)
TOTP_CODE: Final = Field(
    name="totp_code", help="A code of the second factor, or a recovery code.", is_secret=True, max=100
)
ASKS: Final = (UST, CURRENT_APP)
"""What every call about users takes."""

SESSION_ASKS: Final = (CURRENT_UST, CURRENT_APP)
"""The same for calls about sessions and attributes, whose documented name of the token is another one."""

NEW_UST: Final = Output(name="ust", help="The token of the session from now on; the one before has ended.")
CREATION_TIME: Final = Output(name="creation_time", help="When the session began.", type=Type.TIME)
EXPIRATION_TIME: Final = Output(
    name="expiration_time", help="When the session ends, unless it is used before.", type=Type.TIME
)

SESSION_CODES: Final = (
    status_code.session.no_such_session,
    status_code.auth.locked,
    status_code.auth.not_approved,
    status_code.password.expired,
)
SUPER_USER_CODES: Final = (*SESSION_CODES, status_code.auth.super_user_required)
FRESH_CODES: Final = (status_code.auth.step_up_required,)
THROTTLE_CODES: Final = (status_code.auth.too_many_attempts,)
PASSWORD_CODES: Final = (
    status_code.password.invalid,
    status_code.password.too_short,
    status_code.password.too_long,
    status_code.password.not_complex_enough,
    status_code.password.too_common,
)
USERNAME_CODES: Final = (
    status_code.username.invalid,
    status_code.username.exists,
    status_code.username.too_long,
    status_code.username.has_whitespace,
)
EMAIL_CODES: Final = (
    status_code.email.invalid,
    status_code.email.exists,
    status_code.email.too_long,
    status_code.email.has_whitespace,
    status_code.email.missing,
)
SIGN_UP_STATUSES: Final = (
    const.signup_status.before_confirmation,
    const.signup_status.to_approve,
    const.signup_status.final,
)
APPROVAL_STATUSES: Final = (
    const.approval_status.before_decision,
    const.approval_status.approved,
    const.approval_status.rejected,
)


def path(rest: str) -> str:
    """A path of the API."""
    return f"{BASE}/{rest}"


def password(name: str, text: str, *, is_required: bool = True) -> Field:
    """A field for a password."""
    return Field(name=name, help=text, is_required=is_required, is_secret=True, max=MAX_PASSWORD)


def names_of_people(nullable: bool) -> Iterable[Field]:
    """The fields of a person's name."""
    for name, text in (
        ("display_name", "How the user is called; the three names together, if not given."),
        ("first_name", "First name."),
        ("middle_name", "Middle name."),
        ("last_name", "Last name."),
    ):
        yield Field(name=name, help=text, is_nullable=nullable, max=200)
