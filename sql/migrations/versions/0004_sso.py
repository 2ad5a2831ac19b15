"""Single Sign-On: settings, applications, addresses; mail servers."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from junctor.sql.migrations.shapes import flag, number, object_table, reference, text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("email_smtp", "sso_application", "sso_user_address", "sso_settings")


def upgrade() -> None:
    _email_smtp()
    _application()
    _user_address()
    _settings()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _email_smtp() -> None:
    object_table(
        "email_smtp",
        flag("is_active"),
        text("host"),
        number("port"),
        text("mode", 60),
        flag("tls_verify"),
        text("ca_certs", 100000),
        text("username"),
        text("password", None),
        number("timeout"),
        flag("is_debug"),
        text("ping_address", 320),
    )


def _application() -> None:
    object_table(
        "sso_application",
        flag("is_active"),
        flag("login_allowed"),
        flag("signup_allowed"),
        flag("login_metadata_allowed"),
        flag("is_grant_needed"),
        flag("introspection_allowed"),
        text("secret", None),
        flag("is_oidc_client"),
        sa.Column("redirect_uris", JSONB, nullable=False),
        sa.Column("post_logout_redirect_uris", JSONB, nullable=False),
        sa.Column("scopes", JSONB, nullable=False),
    )


def _user_address() -> None:
    object_table(
        "sso_user_address",
        sa.Column("addresses", JSONB, nullable=False),
    )


def _settings() -> None:
    object_table(
        "sso_settings",
        *_general_settings(),
        *_rest_settings(),
        unique=("cluster_id",),
    )
    reference("sso_settings", "session_expiry_hook_id", "service", optional=True)
    reference("sso_settings", "smtp_conn_id", "email_smtp", optional=True)
    reference("sso_settings", "email_service_id", "service", optional=True)
    reference("sso_settings", "apps_default_id", "sso_application", optional=True)


def _general_settings() -> list[sa.Column[Any]]:
    return [
        number("session_expiry"),
        number("session_absolute"),
        number("session_max_per_user"),
        flag("session_revoke_on_change"),
        number("session_step_up_after"),
        number("search_default_page_size"),
        number("search_max_page_size"),
        number("audit_retention"),
        text("webauthn_rp_id", 253),
        sa.Column("webauthn_origins", JSONB, nullable=False),
        text("oidc_issuer", 500),
        number("oidc_access_token_ttl"),
        number("oidc_refresh_token_ttl"),
        number("oidc_key_ttl"),
        flag("signup_inform_if_user_exists"),
        flag("signup_inform_if_user_invalid"),
        flag("signup_inform_if_email_exists"),
        flag("signup_inform_if_email_invalid"),
        flag("signup_inform_if_app_invalid"),
        flag("signup_is_email_required"),
        flag("signup_is_email_unique"),
        number("signup_max_length_username"),
        number("signup_max_length_email"),
        flag("signup_password_allow_whitespace"),
        flag("signup_always_return_confirm_token"),
        number("signup_confirm_token_valid_for"),
        flag("signup_is_approval_needed"),
        sa.Column("signup_callback_service_list", JSONB, nullable=False),
        flag("signup_email_confirm_enabled"),
        text("signup_email_confirm_from", 320),
        text("signup_email_confirm_cc", 320),
        text("signup_email_confirm_bcc", 320),
        text("signup_email_confirm_template", 50000),
        flag("signup_email_welcome_enabled"),
        text("signup_email_welcome_from", 320),
        text("signup_email_welcome_cc", 320),
        text("signup_email_welcome_bcc", 320),
        text("signup_email_welcome_template", 50000),
        sa.Column("user_validation_service", JSONB, nullable=False),
        sa.Column("user_validation_reject_username", JSONB, nullable=False),
    ]


def _rest_settings() -> list[sa.Column[Any]]:
    return [
        sa.Column("user_validation_reject_email", JSONB, nullable=False),
        number("password_reset_valid_for"),
        number("password_reset_password_change_session_duration"),
        text("password_reset_user_search_by", 60),
        text("password_reset_email_title"),
        text("password_reset_email_from", 320),
        text("password_reset_email_template", 50000),
        number("throttle_free_failures"),
        number("throttle_max_delay"),
        number("throttle_password_off"),
        number("throttle_address_limit"),
        number("throttle_app_limit"),
        number("throttle_signup_limit"),
        number("throttle_reset_limit"),
        number("password_expiry"),
        flag("password_inform_if_expired"),
        flag("password_inform_if_about_to_expire"),
        flag("password_inform_if_must_be_changed"),
        flag("password_inform_if_invalid"),
        number("password_about_to_expire_threshold"),
        flag("password_log_in_if_about_to_expire"),
        number("password_min_length"),
        number("password_max_length"),
        number("password_min_complexity"),
        sa.Column("password_reject_list", JSONB, nullable=False),
        flag("is_active"),
        text("site_name"),
        text("site_url", 500),
        flag("encrypt_email"),
        flag("encrypt_password"),
        number("hash_secret_rounds"),
        number("hash_secret_salt_size"),
        text("apps_http_header"),
        flag("apps_inform_if_app_invalid"),
        flag("allow_token_in_query"),
        flag("login_reject_if_not_listed"),
        flag("login_inform_if_locked"),
        flag("login_inform_if_not_confirmed"),
        flag("login_inform_if_not_approved"),
        flag("login_inform_if_totp_missing"),
        flag("login_totp_required"),
    ]

