"""The codes that callers of Single Sign-On get in ``sub_status``, and the other words of its interface (facts sheet, section 0).

``status_code.password.too_short`` and the like are what services import as ``from zato.sso import status_code``.
"""

from __future__ import annotations

from typing import Final


class status_code:  # noqa: N801 - the contract's own spelling, here and below
    """What was wrong; in groups, by what it is about."""

    ok = "ok"
    warning = "warning"
    error = "error"

    class username:  # noqa: N801 - as above
        """User names."""

        invalid = "E001001"
        exists = "E001002"
        too_long = "E001003"
        has_whitespace = "E001004"

    class user_id:  # noqa: N801 - as above
        """User ids."""

        invalid = "E001100"

    class email:  # noqa: N801 - as above
        """E-mail addresses."""

        invalid = "E002001"
        exists = "E002002"
        too_long = "E002003"
        has_whitespace = "E002004"
        missing = "E002005"

    class password:  # noqa: N801 - as above
        """Passwords; codes with W are warnings."""

        invalid = "E003001"
        too_short = "E003002"
        too_long = "E003003"
        expired = "E003004"
        w_about_to_exp = "W003005"
        e_about_to_exp = "E003006"
        must_send_new = "E003007"
        not_complex_enough = "E003008"
        too_common = "E003009"
        """In a list of passwords that are tried first, or made of what everybody knows of the user."""

    class app_list:  # noqa: N801 - as above
        """Applications."""

        invalid = "E004001"
        no_signup = "E004002"

    class auth:  # noqa: N801 - as above
        """Who may do what."""

        not_allowed = "E005001"
        locked = "E005002"
        invalid_signup_status = "E005003"
        not_approved = "E005004"
        super_user_required = "E005005"
        no_such_sign_up_token = "E005006"  # noqa: S105 - a code, not a secret
        sign_up_confirmed = "E005007"
        totp_missing = "E005008"
        too_many_attempts = "E005009"
        """Too many failures or calls: wait for as long as Retry-After says."""
        step_up_required = "E005010"
        """Log in again, or step up: this needs a fresh proof of who is calling."""
        second_factor_required = "E005011"
        """The user must set a second factor up first."""

    class metadata:  # noqa: N801 - as above
        """What applications tell of their users."""

        not_allowed = "E006001"

    class session:  # noqa: N801 - as above
        """Sessions."""

        no_such_session = "E007001"
        expired = "E007002"

    class common:  # noqa: N801 - as above
        """Anything else."""

        invalid_operation = "E008001"
        invalid_input = "E008002"
        missing_input = "E008003"
        internal_error = "E008004"

    class attr:  # noqa: N801 - as above
        """Attributes."""

        already_exists = "E009001"
        no_such_attr = "E009002"

    class password_reset:  # noqa: N801 - as above
        """Password resets."""

        could_not_access = "E010001"

    class second_factor:  # noqa: N801 - as above
        """Second factors and passkeys."""

        invalid = "E011001"
        not_enrolled = "E011002"


class const:  # noqa: N801 - as above
    """Words with a fixed meaning."""

    class signup_status:  # noqa: N801 - as above
        """How far a sign-up is."""

        before_confirmation = "before_confirmation"
        to_approve = "to_approve"
        final = "final"

    class approval_status:  # noqa: N801 - as above
        """What super-users decided."""

        before_decision = "before_decision"
        approved = "approved"
        rejected = "rejected"

    class search:  # noqa: N801 - as above
        """How names are joined in a search."""

        and_ = "and"
        or_ = "or"

    class auth_type:  # noqa: N801 - as above
        """How a session was opened."""

        default = "default"
        basic_auth = "basic_auth"
        jwt = "jwt"


AUTO: Final = "auto"
"""Who approved users that need no approval."""

USER_ID_PREFIX: Final = "zusr"
UST_PREFIX: Final = "zust"
RESET_KEY_PREFIX: Final = "zprtrkey"
