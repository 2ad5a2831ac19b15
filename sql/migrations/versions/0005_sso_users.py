"""Users of Single Sign-On, their credentials and their sessions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from junctor.sql.migrations.shapes import belongs, flag, identity, key, maybe, moment, number, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("sso_signing_key", "sso_throttle", "sso_user", "sso_challenge", "sso_linked_auth", "sso_passkey", "sso_recovery_code", "sso_token", "sso_session", "sso_attribute", "sso_grant")


def upgrade() -> None:
    _signing_key()
    _throttle()
    _user()
    _challenge()
    _linked_auth()
    _passkey()
    _recovery_code()
    _token()
    _session()
    _attribute()
    _grant()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _signing_key() -> None:
    op.create_table(
        "sso_signing_key",
        identity(),
        number("cluster_id", sa.BigInteger),
        text("kid", 60),
        text("algorithm", 10),
        text("private_key_sealed", None),
        text("public_key", None),
        moment("creation_time"),
        sa.Column("signs_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signs_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verifies_until", sa.DateTime(timezone=True), nullable=False),
        belongs("sso_signing_key", "cluster_id", "cluster"),
        key("sso_signing_key"),
        sa.UniqueConstraint("kid", name="uq_sso_signing_key_kid"),
    )
    op.create_index("ix_sso_signing_key_cluster_id", "sso_signing_key", ["cluster_id"])


def _throttle() -> None:
    op.create_table(
        "sso_throttle",
        number("cluster_id", sa.BigInteger),
        sa.Column("key_mac", sa.LargeBinary, nullable=False),
        sa.Column("owner_mac", sa.LargeBinary),
        number("count", server_default="0"),
        moment("window_start"),
        maybe("blocked_until"),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        belongs("sso_throttle", "cluster_id", "cluster"),
        sa.PrimaryKeyConstraint("cluster_id", "key_mac", name="pk_sso_throttle"),
    )
    op.create_index("ix_sso_throttle_expires", "sso_throttle", ["expires"])
    op.create_index("ix_sso_throttle_owner_mac", "sso_throttle", ["owner_mac"])


def _user() -> None:
    op.create_table(
        "sso_user",
        identity(),
        number("cluster_id", sa.BigInteger),
        text("user_id", 60),
        text("username"),
        text("username_key", 800),
        text("password", None),
        flag("password_is_set", server_default="true"),
        flag("password_must_change", server_default="false"),
        moment("password_last_set"),
        maybe("password_expiry"),
        flag("is_active", server_default="true"),
        flag("is_internal", server_default="false"),
        flag("is_super_user", server_default="false"),
        flag("is_locked", server_default="false"),
        maybe("locked_time"),
        sa.Column("locked_by", sa.String(60)),
        sa.Column("creation_ctx", JSONB, nullable=False, server_default="{}"),
        text("approval_status", 30),
        moment("approval_status_mod_time"),
        text("approval_status_mod_by", 60),
        text("sign_up_status", 30),
        moment("sign_up_time"),
        maybe("sign_up_confirm_time"),
        sa.Column("app_list", JSONB, nullable=False, server_default="[]"),
        sa.Column("email", sa.String(320)),
        sa.Column("email_sealed", sa.Text),
        sa.Column("email_mac", sa.LargeBinary),
        flag("is_email_verified", server_default="false"),
        text("display_name", server_default=""),
        text("first_name", server_default=""),
        text("middle_name", server_default=""),
        text("last_name", server_default=""),
        text("search_names", None, server_default=""),
        flag("is_rate_limit_active", server_default="false"),
        text("rate_limit_type", 40, server_default=""),
        text("rate_limit_def", None, server_default=""),
        flag("rate_limit_check_parent_def", server_default="false"),
        flag("is_totp_enabled", server_default="false"),
        text("totp_key_sealed", None, server_default=""),
        text("totp_label", server_default=""),
        text("totp_pending_sealed", None, server_default=""),
        number("totp_last_step", sa.BigInteger, server_default="0"),
        number("generation", sa.BigInteger, server_default="0"),
        belongs("sso_user", "cluster_id", "cluster"),
        key("sso_user"),
        sa.UniqueConstraint("cluster_id", "user_id", name="uq_sso_user_cluster_id_user_id"),
        sa.UniqueConstraint("cluster_id", "username_key", name="uq_sso_user_cluster_id_username_key"),
    )
    op.create_index("ix_sso_user_cluster_id_email_mac", "sso_user", ["cluster_id", "email_mac"])
    op.create_index("ix_sso_user_order", "sso_user", ["cluster_id", "display_name", "username", "sign_up_time", "user_id"])
    op.create_index("ix_sso_user_status", "sso_user", ["cluster_id", "sign_up_status", "approval_status", "display_name", "username"])


def _challenge() -> None:
    op.create_table(
        "sso_challenge",
        identity(),
        number("cluster_id", sa.BigInteger),
        sa.Column("user_id", sa.BigInteger),
        text("purpose", 30),
        sa.Column("key_mac", sa.LargeBinary, nullable=False),
        text("data_sealed", None),
        sa.Column("expiration_time", sa.DateTime(timezone=True), nullable=False),
        belongs("sso_challenge", "cluster_id", "cluster"),
        belongs("sso_challenge", "user_id", "sso_user"),
        key("sso_challenge"),
        sa.UniqueConstraint("key_mac", name="uq_sso_challenge_key_mac"),
    )
    op.create_index("ix_sso_challenge_cluster_id", "sso_challenge", ["cluster_id"])
    op.create_index("ix_sso_challenge_expiration_time", "sso_challenge", ["expiration_time"])
    op.create_index("ix_sso_challenge_user_id", "sso_challenge", ["user_id"])


def _linked_auth() -> None:
    op.create_table(
        "sso_linked_auth",
        identity(),
        number("user_id", sa.BigInteger),
        number("security_id", sa.BigInteger),
        text("auth_type", 30),
        flag("is_active", server_default="true"),
        moment("creation_time"),
        moment("last_modified"),
        belongs("sso_linked_auth", "security_id", "security"),
        belongs("sso_linked_auth", "user_id", "sso_user"),
        key("sso_linked_auth"),
        sa.UniqueConstraint("security_id", name="uq_sso_linked_auth_security_id"),
    )
    op.create_index("ix_sso_linked_auth_user_id", "sso_linked_auth", ["user_id"])


def _passkey() -> None:
    op.create_table(
        "sso_passkey",
        identity(),
        number("cluster_id", sa.BigInteger),
        number("user_id", sa.BigInteger),
        sa.Column("credential_id", sa.LargeBinary, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        number("sign_count", sa.BigInteger, server_default="0"),
        text("label", server_default=""),
        sa.Column("transports", JSONB, nullable=False, server_default="[]"),
        flag("is_backed_up", server_default="false"),
        moment("creation_time"),
        maybe("last_used"),
        belongs("sso_passkey", "cluster_id", "cluster"),
        belongs("sso_passkey", "user_id", "sso_user"),
        key("sso_passkey"),
        sa.UniqueConstraint("cluster_id", "credential_id", name="uq_sso_passkey_cluster_id_credential_id"),
    )
    op.create_index("ix_sso_passkey_user_id", "sso_passkey", ["user_id"])


def _recovery_code() -> None:
    op.create_table(
        "sso_recovery_code",
        identity(),
        number("user_id", sa.BigInteger),
        sa.Column("code_mac", sa.LargeBinary, nullable=False),
        moment("creation_time"),
        maybe("used_time"),
        belongs("sso_recovery_code", "user_id", "sso_user"),
        key("sso_recovery_code"),
    )
    op.create_index("ix_sso_recovery_code_user_id", "sso_recovery_code", ["user_id"])


def _token() -> None:
    op.create_table(
        "sso_token",
        identity(),
        number("user_id", sa.BigInteger),
        text("purpose", 30),
        sa.Column("token_mac", sa.LargeBinary, nullable=False),
        sa.Column("parent_id", sa.BigInteger),
        text("data_sealed", None, server_default=""),
        moment("creation_time"),
        sa.Column("expiration_time", sa.DateTime(timezone=True), nullable=False),
        maybe("used_time"),
        belongs("sso_token", "parent_id", "sso_token"),
        belongs("sso_token", "user_id", "sso_user"),
        key("sso_token"),
        sa.UniqueConstraint("token_mac", name="uq_sso_token_token_mac"),
    )
    op.create_index("ix_sso_token_expiration_time", "sso_token", ["expiration_time"])
    op.create_index("ix_sso_token_parent_id", "sso_token", ["parent_id"])
    op.create_index("ix_sso_token_user_id", "sso_token", ["user_id"])


def _session() -> None:
    op.create_table(
        "sso_session",
        identity(),
        number("cluster_id", sa.BigInteger),
        number("user_id", sa.BigInteger),
        text("public_id", 60),
        sa.Column("token_mac", sa.LargeBinary, nullable=False),
        text("app"),
        moment("creation_time"),
        moment("last_used"),
        sa.Column("expiration_time", sa.DateTime(timezone=True), nullable=False),
        maybe("absolute_time"),
        number("idle_minutes"),
        text("remote_addr", None),
        text("user_agent", None),
        text("auth_type", 30, server_default="default"),
        text("auth_principal", server_default=""),
        sa.Column("linked_id", sa.BigInteger),
        sa.Column("ext_session_mac", sa.LargeBinary),
        moment("auth_time"),
        sa.Column("auth_factors", JSONB, nullable=False, server_default="[]"),
        sa.Column("state_changes", JSONB, nullable=False, server_default="[]"),
        belongs("sso_session", "cluster_id", "cluster"),
        belongs("sso_session", "linked_id", "sso_linked_auth"),
        belongs("sso_session", "user_id", "sso_user"),
        key("sso_session"),
        sa.UniqueConstraint("public_id", name="uq_sso_session_public_id"),
        sa.UniqueConstraint("token_mac", name="uq_sso_session_token_mac"),
    )
    op.create_index("ix_sso_session_cluster_id", "sso_session", ["cluster_id"])
    op.create_index("ix_sso_session_expiration_time", "sso_session", ["expiration_time"])
    op.create_index("ix_sso_session_ext_session_mac", "sso_session", ["ext_session_mac"])
    op.create_index("ix_sso_session_linked_id", "sso_session", ["linked_id"])
    op.create_index("ix_sso_session_user_id", "sso_session", ["user_id"])


def _attribute() -> None:
    op.create_table(
        "sso_attribute",
        identity(),
        number("user_id", sa.BigInteger),
        sa.Column("session_id", sa.BigInteger),
        text("name"),
        text("value", None),
        flag("is_encrypted", server_default="false"),
        moment("creation_time"),
        moment("last_modified"),
        maybe("expiration_time"),
        belongs("sso_attribute", "session_id", "sso_session"),
        belongs("sso_attribute", "user_id", "sso_user"),
        key("sso_attribute"),
    )
    op.create_index("ix_sso_attribute_expiration_time", "sso_attribute", ["expiration_time"])
    op.create_index("uq_sso_attribute_session", "sso_attribute", ["session_id", "name"], unique=True, postgresql_where=sa.text("session_id IS NOT NULL"))
    op.create_index("uq_sso_attribute_user", "sso_attribute", ["user_id", "name"], unique=True, postgresql_where=sa.text("session_id IS NULL"))


def _grant() -> None:
    op.create_table(
        "sso_grant",
        identity(),
        number("cluster_id", sa.BigInteger),
        text("public_id", 60),
        number("user_id", sa.BigInteger),
        sa.Column("session_id", sa.BigInteger),
        text("app"),
        text("scope", 500),
        text("redirect_uri", None),
        sa.Column("code_mac", sa.LargeBinary, nullable=False),
        text("code_challenge"),
        text("nonce", 500, server_default=""),
        maybe("code_used"),
        sa.Column("refresh_mac", sa.LargeBinary),
        sa.Column("refresh_previous", JSONB, nullable=False, server_default="[]"),
        number("generation", sa.BigInteger, server_default="0"),
        text("remote_addr", None),
        moment("auth_time"),
        sa.Column("auth_factors", JSONB, nullable=False, server_default="[]"),
        moment("creation_time"),
        sa.Column("expiration_time", sa.DateTime(timezone=True), nullable=False),
        maybe("revoked_time"),
        belongs("sso_grant", "cluster_id", "cluster"),
        belongs("sso_grant", "session_id", "sso_session", ondelete="SET NULL"),
        belongs("sso_grant", "user_id", "sso_user"),
        key("sso_grant"),
        sa.UniqueConstraint("code_mac", name="uq_sso_grant_code_mac"),
        sa.UniqueConstraint("public_id", name="uq_sso_grant_public_id"),
    )
    op.create_index("ix_sso_grant_cluster_id", "sso_grant", ["cluster_id"])
    op.create_index("ix_sso_grant_expiration_time", "sso_grant", ["expiration_time"])
    op.create_index("ix_sso_grant_session_id", "sso_grant", ["session_id"])
    op.create_index("ix_sso_grant_user_id", "sso_grant", ["user_id"])
