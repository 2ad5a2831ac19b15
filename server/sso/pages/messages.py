"""What the pages tell users whose input was refused; nothing that somebody else could learn from."""

from __future__ import annotations

from typing import Final

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError

GENERIC: Final = "The user name or the password is wrong, or the account cannot be used now."
DIFFERENT: Final = "new_password_again"

_MESSAGES: Final = {
    status_code.second_factor.invalid: "The code is wrong. Enter the next one that your authenticator shows, or a recovery code.",
    status_code.auth.locked: "The account is locked. Ask an administrator.",
    status_code.auth.invalid_signup_status: "Confirm your e-mail address first: follow the link that was sent to you.",
    status_code.auth.not_approved: "The account has not been approved yet.",
    status_code.auth.second_factor_required: "Set up a second factor in your account first.",
    status_code.app_list.invalid: "You may not use this application.",
    status_code.password.expired: "The password has expired.",
    status_code.password.e_about_to_exp: "The password is about to expire. Ask an administrator for a new one.",
    status_code.password.too_short: "The new password is too short.",
    status_code.password.too_long: "The new password is too long.",
    status_code.password.not_complex_enough: "The new password is too easy to guess. A longer one is better.",
    status_code.password.too_common: "The new password is one that is tried first. Choose another one.",
    status_code.password.invalid: "The new password cannot be used. Choose another one.",
}


def message_of(refusal: ValidationError) -> str:
    """A sentence or two for the user who was refused."""
    if status_code.auth.too_many_attempts in refusal.sub_status:
        wait = _duration(refusal.retry_after)
        return f"There were too many attempts. Try again in {wait}."
    if refusal.field == DIFFERENT:
        return "The two passwords are not the same."
    found = [_MESSAGES[code] for code in refusal.shown if code in _MESSAGES]
    return " ".join(dict.fromkeys(found)) or GENERIC


def _duration(seconds: int) -> str:
    if seconds <= 0:
        return "a moment"
    if seconds < 120:
        return f"{seconds} second{'s' if seconds > 1 else ''}"
    return f"{-(-seconds // 60)} minutes"
