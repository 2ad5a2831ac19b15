"""What passwords must be like, and how often somebody may try one."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from junctor.sql.fields import boolean, integer, text_list
from junctor.sql.objects.sso_wording import inform


class PasswordFields:
    """Settings of Single Sign-On that are about passwords and about trying them."""

    throttle_free_failures: Mapped[int] = integer(
        "Free failures",
        "Failed log-ins of an account before each next one has to wait longer.",
        default=5,
        unit="failures",
        min=1,
        max=50,
    )
    throttle_max_delay: Mapped[int] = integer(
        "Longest wait", "Between two failed log-ins of an account.", default=900, unit="s", min=1, max=86_400
    )
    throttle_password_off: Mapped[int] = integer(
        "Failures until reset",
        "Failed log-ins in a row after which the password alone is not taken any more, until it is reset; the account is not locked.",
        default=100,
        unit="failures",
        min=10,
        max=100,
    )
    throttle_address_limit: Mapped[int] = integer(
        "Failures of an address",
        "Failed log-ins from one address within 10 minutes.",
        default=100,
        unit="failures",
        min=5,
        max=1_000_000,
    )
    throttle_app_limit: Mapped[int] = integer(
        "Failures of an application",
        "Failed log-ins through one application within 10 minutes, after which those of unknown addresses wait.",
        default=10_000,
        unit="failures",
        min=10,
        max=10_000_000,
    )
    throttle_signup_limit: Mapped[int] = integer(
        "Sign-ups of an address",
        "From one address within an hour.",
        default=30,
        unit="sign-ups",
        min=1,
        max=1_000_000,
    )
    throttle_reset_limit: Mapped[int] = integer(
        "Password resets",
        "That are mailed to one user within an hour.",
        default=5,
        unit="resets",
        min=1,
        max=1000,
    )

    password_expiry: Mapped[int] = integer(
        "Password expiry",
        "After which a password must be changed; 0 = never.",
        default=0,
        unit="days",
        min=0,
        max=36_500,
    )
    password_inform_if_expired: Mapped[bool] = inform("the password has expired", False)
    password_inform_if_about_to_expire: Mapped[bool] = inform("the password is about to expire", True)
    password_inform_if_must_be_changed: Mapped[bool] = inform("the password must be changed", True)
    password_inform_if_invalid: Mapped[bool] = inform("a new password is not good enough, and why", True)
    password_about_to_expire_threshold: Mapped[int] = integer(
        "Expiry warning",
        "How long before the expiry users are warned.",
        default=30,
        unit="days",
        min=0,
        max=36_500,
    )
    password_log_in_if_about_to_expire: Mapped[bool] = boolean(
        "Log in while expiring", "Whether users whose password is about to expire may log in.", default=True
    )
    password_min_length: Mapped[int] = integer(
        "Shortest password",
        "In characters; 15 is the least for a password that is the only factor.",
        default=15,
        unit="characters",
        min=4,
        max=256,
    )
    password_max_length: Mapped[int] = integer(
        "Longest password", "In characters.", default=1024, unit="characters", min=64, max=4096
    )
    password_min_complexity: Mapped[int] = integer(
        "Least strength",
        "From 0, anything, to 4, very hard to guess, as zxcvbn estimates it.",
        default=2,
        unit="points",
        min=0,
        max=4,
    )
    password_reject_list: Mapped[list[str]] = text_list(
        "Refused passwords",
        "Whole passwords in any case, beside the list of common ones that comes with the server.",
        max=10_000,
    )
