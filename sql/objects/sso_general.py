"""What Single Sign-On is known as, who may use it, and how it stores what is secret."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from junctor.sql.fields import boolean, integer, ref, text
from junctor.sql.objects.sso_wording import inform


class GeneralFields:
    """Settings of Single Sign-On that are about all of it, about applications, and about logging in."""

    is_active: Mapped[bool] = boolean("Active", "Whether there is Single Sign-On at all.", default=True)
    site_name: Mapped[str] = text(
        "Site name", "What users know the site as; for e-mails and authenticators.", default=""
    )
    site_url: Mapped[str] = text(
        "Site URL",
        "Where users confirm and reset; for links in e-mails, e.g. https://www.example.com.",
        default="",
        max=500,
    )
    smtp_conn: Mapped[str] = ref(
        "email_smtp", "SMTP connection", "What e-mails are sent through.", column="smtp_conn_id", default=""
    )
    email_service: Mapped[str] = ref(
        "service",
        "E-mail service",
        "The service that sends e-mails instead; it gets the recipient, the subject and the text.",
        column="email_service_id",
        default="",
    )
    encrypt_email: Mapped[bool] = boolean(
        "Encrypt e-mails", "Whether addresses are encrypted in the database.", default=True
    )
    encrypt_password: Mapped[bool] = boolean(
        "Encrypt password hashes",
        "Whether hashes are encrypted with a key that is not in the database, so that a copy of it cannot be attacked.",
        default=True,
    )
    hash_secret_rounds: Mapped[int] = integer(
        "Hash rounds",
        "Rounds of PBKDF2-HMAC-SHA512; a password is hashed anew when its user logs in next.",
        default=210_000,
        unit="rounds",
        min=1000,
        max=10_000_000,
    )
    hash_secret_salt_size: Mapped[int] = integer(
        "Salt size", "Random bytes with each password.", default=64, unit="B", min=16, max=256
    )
    apps_default: Mapped[str] = ref(
        "sso_application",
        "Default application",
        "What linked accounts use when a request names none.",
        column="apps_default_id",
        default="",
    )
    apps_http_header: Mapped[str] = text(
        "Application header",
        "The HTTP header in which linked accounts name it.",
        default="X-Zato-SSO-Current-App",
    )
    apps_inform_if_app_invalid: Mapped[bool] = inform("an application is not allowed", True)
    allow_token_in_query: Mapped[bool] = boolean(
        "Tokens in URLs",
        "Whether tokens and passwords are taken from query strings, which end up in logs.",
        default=False,
    )

    login_reject_if_not_listed: Mapped[bool] = boolean(
        "Listed users only", "Whether users without a list of addresses are refused.", default=False
    )
    login_inform_if_locked: Mapped[bool] = inform("the account is locked, once the password is right", False)
    login_inform_if_not_confirmed: Mapped[bool] = inform(
        "the sign-up is not confirmed, once the password is right", True
    )
    login_inform_if_not_approved: Mapped[bool] = inform(
        "the user is not approved, once the password is right", True
    )
    login_inform_if_totp_missing: Mapped[bool] = inform(
        "a second factor is missing, once the password is right", True
    )
    login_totp_required: Mapped[bool] = boolean(
        "Second factor for all",
        "Whether users without a second factor may do nothing but set one up.",
        default=False,
    )
