"""How users sign up, and get back in without their password."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from junctor.sql.fields import boolean, choice, integer, text, text_list
from junctor.sql.objects.sso_wording import inform, template

USERNAME, EMAIL, USERNAME_OR_EMAIL = "username", "email", "username_or_email"


class SignupFields:
    """Settings of Single Sign-On that are about signing up, what a user may be called, and forgotten passwords."""

    signup_inform_if_user_exists: Mapped[bool] = inform("a user name is taken", False)
    signup_inform_if_user_invalid: Mapped[bool] = inform("a user name is not valid, and why", False)
    signup_inform_if_email_exists: Mapped[bool] = inform("an e-mail address is taken", False)
    signup_inform_if_email_invalid: Mapped[bool] = inform("an e-mail address is not valid, and why", False)
    signup_inform_if_app_invalid: Mapped[bool] = inform("an application may not sign users up", False)
    signup_is_email_required: Mapped[bool] = boolean(
        "E-mail required",
        "Whether whoever signs up must give an e-mail address.",
        default=True,
        aliases=("signup_email_required",),
    )
    signup_is_email_unique: Mapped[bool] = boolean(
        "One user per e-mail", "Whether an address can belong to one user only.", default=True
    )
    signup_max_length_username: Mapped[int] = integer(
        "Longest user name", "In characters.", default=128, unit="characters", min=1, max=200
    )
    signup_max_length_email: Mapped[int] = integer(
        "Longest e-mail", "In characters.", default=128, unit="characters", min=6, max=320
    )
    signup_password_allow_whitespace: Mapped[bool] = boolean(
        "Whitespace in passwords", "Whether passwords may have spaces in them.", default=True
    )
    signup_always_return_confirm_token: Mapped[bool] = boolean(
        "Return the token",
        "Whether the token is in the answer to a sign-up, too; then it proves nothing about the e-mail address.",
        default=False,
    )
    signup_confirm_token_valid_for: Mapped[int] = integer(
        "Confirmation time",
        "How long a sign-up can be confirmed.",
        default=1440,
        unit="min",
        min=5,
        max=43_200,
    )
    signup_is_approval_needed: Mapped[bool] = boolean(
        "Approval needed", "Whether a super-user must approve each new user.", default=True
    )
    signup_callback_service_list: Mapped[list[str]] = text_list(
        "Callback services", "Services that are invoked after each sign-up.", max=20
    )
    signup_email_confirm_enabled: Mapped[bool] = boolean(
        "Confirmation e-mail", "Whether whoever signs up gets the token by e-mail.", default=True
    )
    signup_email_confirm_from: Mapped[str] = text(
        "Confirmation from", "Sender of the confirmation.", default="", max=320
    )
    signup_email_confirm_cc: Mapped[str] = text("Confirmation CC", "Who gets a copy.", default="", max=320)
    signup_email_confirm_bcc: Mapped[str] = text(
        "Confirmation BCC", "Who gets a hidden copy.", default="", max=320
    )
    signup_email_confirm_template: Mapped[str] = template(
        "Confirmation text", "text of the confirmation e-mail"
    )
    signup_email_welcome_enabled: Mapped[bool] = boolean(
        "Welcome e-mail",
        "Whether a user is welcomed by e-mail once everything is confirmed and approved.",
        default=True,
    )
    signup_email_welcome_from: Mapped[str] = text(
        "Welcome from", "Sender of the welcome.", default="", max=320
    )
    signup_email_welcome_cc: Mapped[str] = text("Welcome CC", "Who gets a copy.", default="", max=320)
    signup_email_welcome_bcc: Mapped[str] = text(
        "Welcome BCC", "Who gets a hidden copy.", default="", max=320
    )
    signup_email_welcome_template: Mapped[str] = template("Welcome text", "text of the welcome e-mail")

    user_validation_service: Mapped[list[str]] = text_list(
        "Validation services",
        "Services that each sign-up must pass, in this order.",
        max=20,
        default=("zato.sso.signup.validate",),
    )
    user_validation_reject_username: Mapped[list[str]] = text_list(
        "Refused user names",
        "What no user name may have in it, in any case.",
        max=1000,
        default=("zato", "junctor", "admin", "root", "system", "sso"),
    )
    user_validation_reject_email: Mapped[list[str]] = text_list(
        "Refused e-mails",
        "What no e-mail address may have in its part before the @, in any case.",
        max=1000,
        default=("zato", "junctor", "admin", "root", "system", "sso"),
    )

    password_reset_valid_for: Mapped[int] = integer(
        "Reset token time",
        "How long a token that was mailed is valid.",
        default=60,
        unit="min",
        min=5,
        max=1440,
    )
    password_reset_password_change_session_duration: Mapped[int] = integer(
        "Reset time",
        "How long a new password can be given after the token was used.",
        default=1800,
        unit="s",
        min=60,
        max=86_400,
    )
    password_reset_user_search_by: Mapped[str] = choice(
        "Reset by",
        "What users are asked for who have forgotten their password.",
        (USERNAME, EMAIL, USERNAME_OR_EMAIL),
        default=USERNAME_OR_EMAIL,
    )
    password_reset_email_title: Mapped[str] = text(
        "Reset subject",
        "Subject of the e-mail.",
        default="Password reset",
        aliases=("password_reset_email_title_en_GB",),
    )
    password_reset_email_from: Mapped[str] = text("Reset from", "Sender of the e-mail.", default="", max=320)
    password_reset_email_template: Mapped[str] = template(
        "Reset text", "text of the e-mail with the reset token"
    )
