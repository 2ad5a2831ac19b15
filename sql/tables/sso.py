"""Users of Single Sign-On, what they prove themselves with, and their sessions.

No usable token is stored: tokens are kept as keyed digests (``*_mac``), whose keys are not in the database.  Columns that are named
``*_sealed`` are encrypted and bound to their column.  Times are in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base


def _id() -> Any:
    return mapped_column(BigInteger, Identity(), primary_key=True)


def _cluster(*, index: bool = False) -> Any:
    return mapped_column(BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), index=index)


def _user(*, nullable: bool = False, index: bool = True) -> Any:
    key = ForeignKey("sso_user.id", ondelete="CASCADE")
    return mapped_column(BigInteger, key, nullable=nullable, index=index)


def _time(*, nullable: bool = False, now: bool = False, index: bool = False) -> Any:
    return mapped_column(
        DateTime(timezone=True), nullable=nullable, index=index, server_default=func.now() if now else None
    )


def _flag(*, default: bool = False) -> Any:
    return mapped_column(Boolean, server_default="true" if default else "false")


class SsoUser(Base):
    """A user.

    ``username`` is as it was given (NFC), ``username_key`` is what it is looked up by: case-folded NFKC.  ``email`` has the address if it
    is not to be encrypted, ``email_sealed`` otherwise; ``email_mac`` is the blind index, of the case-folded address.
    ``password`` is a hash in passlib's formats, sealed as a rule.  ``generation`` grows with each change that ends sessions.
    ``search_names`` has the four names, each folded and in a line of its own, for searches.
    """

    __tablename__ = "sso_user"
    __table_args__ = (
        UniqueConstraint("cluster_id", "user_id"),
        UniqueConstraint("cluster_id", "username_key"),
        Index("ix_sso_user_cluster_id_email_mac", "cluster_id", "email_mac"),
        Index("ix_sso_user_order", "cluster_id", "display_name", "username", "sign_up_time", "user_id"),
        Index(
            "ix_sso_user_status",
            "cluster_id",
            "sign_up_status",
            "approval_status",
            "display_name",
            "username",
        ),
        Index(
            "ix_sso_user_search",
            text("sso_name_grams(search_names)"),
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        ),
    )

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster()
    user_id: Mapped[str] = mapped_column(String(60))
    username: Mapped[str] = mapped_column(String(200))
    username_key: Mapped[str] = mapped_column(String(800))
    password: Mapped[str] = mapped_column(Text)
    password_is_set: Mapped[bool] = _flag(default=True)
    password_must_change: Mapped[bool] = _flag()
    password_last_set: Mapped[datetime] = _time(now=True)
    password_expiry: Mapped[datetime | None] = _time(nullable=True)
    is_active: Mapped[bool] = _flag(default=True)
    is_internal: Mapped[bool] = _flag()
    is_super_user: Mapped[bool] = _flag()
    is_locked: Mapped[bool] = _flag()
    locked_time: Mapped[datetime | None] = _time(nullable=True)
    locked_by: Mapped[str | None] = mapped_column(String(60))
    creation_ctx: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    approval_status: Mapped[str] = mapped_column(String(30))
    approval_status_mod_time: Mapped[datetime] = _time(now=True)
    approval_status_mod_by: Mapped[str] = mapped_column(String(60))
    sign_up_status: Mapped[str] = mapped_column(String(30))
    sign_up_time: Mapped[datetime] = _time(now=True)
    sign_up_confirm_time: Mapped[datetime | None] = _time(nullable=True)
    app_list: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    email: Mapped[str | None] = mapped_column(String(320))
    email_sealed: Mapped[str | None] = mapped_column(Text)
    email_mac: Mapped[bytes | None] = mapped_column(LargeBinary)
    is_email_verified: Mapped[bool] = _flag()
    display_name: Mapped[str] = mapped_column(String(200), server_default="")
    first_name: Mapped[str] = mapped_column(String(200), server_default="")
    middle_name: Mapped[str] = mapped_column(String(200), server_default="")
    last_name: Mapped[str] = mapped_column(String(200), server_default="")
    search_names: Mapped[str] = mapped_column(Text, server_default="")
    is_rate_limit_active: Mapped[bool] = _flag()
    rate_limit_type: Mapped[str] = mapped_column(String(40), server_default="")
    rate_limit_def: Mapped[str] = mapped_column(Text, server_default="")
    rate_limit_check_parent_def: Mapped[bool] = _flag()
    is_totp_enabled: Mapped[bool] = _flag()
    totp_key_sealed: Mapped[str] = mapped_column(Text, server_default="")
    totp_label: Mapped[str] = mapped_column(String(200), server_default="")
    totp_pending_sealed: Mapped[str] = mapped_column(Text, server_default="")
    totp_last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    generation: Mapped[int] = mapped_column(BigInteger, server_default="0")


class SsoSession(Base):
    """A session of a user.

    ``token_mac`` is the digest of its token (UST), ``public_id`` what lists name it by.  It ends at ``expiration_time``, which calls move
    on, and at ``absolute_time``, NULL = never.  ``auth_time`` is when the user last proved who they are, with ``auth_factors``, such as
    ["pwd", "otp"].  ``ext_session_mac`` is the digest of what a linked account's session is known by.  ``replaced_by`` and
    ``state_changes`` are its history.
    """

    __tablename__ = "sso_session"

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster(index=True)
    user_id: Mapped[int] = _user()
    public_id: Mapped[str] = mapped_column(String(60), unique=True)
    token_mac: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    app: Mapped[str] = mapped_column(String(200))
    creation_time: Mapped[datetime] = _time(now=True)
    last_used: Mapped[datetime] = _time(now=True)
    expiration_time: Mapped[datetime] = _time(index=True)
    absolute_time: Mapped[datetime | None] = _time(nullable=True)
    idle_minutes: Mapped[int] = mapped_column(Integer)
    remote_addr: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    auth_type: Mapped[str] = mapped_column(String(30), server_default="default")
    auth_principal: Mapped[str] = mapped_column(String(200), server_default="")
    linked_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("sso_linked_auth.id", ondelete="CASCADE"), index=True
    )
    ext_session_mac: Mapped[bytes | None] = mapped_column(LargeBinary, index=True)
    auth_time: Mapped[datetime] = _time(now=True)
    auth_factors: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    state_changes: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")


class SsoAttribute(Base):
    """An attribute of a user, or of a session if ``session_id`` is there; its value is JSON, sealed if ``is_encrypted``."""

    __tablename__ = "sso_attribute"
    __table_args__ = (
        Index(
            "uq_sso_attribute_user",
            "user_id",
            "name",
            unique=True,
            postgresql_where=text("session_id IS NULL"),
        ),
        Index(
            "uq_sso_attribute_session",
            "session_id",
            "name",
            unique=True,
            postgresql_where=text("session_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = _id()
    user_id: Mapped[int] = _user(index=False)
    session_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("sso_session.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(String(200))
    value: Mapped[str] = mapped_column(Text)
    is_encrypted: Mapped[bool] = _flag()
    creation_time: Mapped[datetime] = _time(now=True)
    last_modified: Mapped[datetime] = _time(now=True)
    expiration_time: Mapped[datetime | None] = _time(nullable=True, index=True)


def attribute_field(user_id: int, session_id: int | None, name: str) -> str:
    """What an attribute's value is encrypted for: its owner and its name too, so that it cannot be moved to another one."""
    owner = f"user {user_id}" if session_id is None else f"session {session_id}"
    return f"sso_attribute.value of {owner}: {name}"


class SsoToken(Base):
    """A token that works once: ``purpose`` is confirm, reset, reset-key, change-email, step-up or the like."""

    __tablename__ = "sso_token"

    id: Mapped[int] = _id()
    user_id: Mapped[int] = _user()
    purpose: Mapped[str] = mapped_column(String(30))
    token_mac: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    parent_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("sso_token.id", ondelete="CASCADE"), index=True
    )
    data_sealed: Mapped[str] = mapped_column(Text, server_default="")
    creation_time: Mapped[datetime] = _time(now=True)
    expiration_time: Mapped[datetime] = _time(index=True)
    used_time: Mapped[datetime | None] = _time(nullable=True)


class SsoRecoveryCode(Base):
    """A code that takes the place of a second factor, once."""

    __tablename__ = "sso_recovery_code"

    id: Mapped[int] = _id()
    user_id: Mapped[int] = _user()
    code_mac: Mapped[bytes] = mapped_column(LargeBinary)
    creation_time: Mapped[datetime] = _time(now=True)
    used_time: Mapped[datetime | None] = _time(nullable=True)


class SsoPasskey(Base):
    """A passkey (WebAuthn credential) of a user; ``credential_id`` and ``public_key`` are as the authenticator gave them."""

    __tablename__ = "sso_passkey"
    __table_args__ = (UniqueConstraint("cluster_id", "credential_id"),)

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster()
    user_id: Mapped[int] = _user()
    credential_id: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    label: Mapped[str] = mapped_column(String(200), server_default="")
    transports: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    is_backed_up: Mapped[bool] = _flag()
    creation_time: Mapped[datetime] = _time(now=True)
    last_used: Mapped[datetime | None] = _time(nullable=True)


class SsoChallenge(Base):
    """A challenge that a browser must answer once, soon: of passkeys, and of the steps of the log-in pages."""

    __tablename__ = "sso_challenge"

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster(index=True)
    user_id: Mapped[int | None] = _user(nullable=True)
    purpose: Mapped[str] = mapped_column(String(30))
    key_mac: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    data_sealed: Mapped[str] = mapped_column(Text)
    expiration_time: Mapped[datetime] = _time(index=True)


class SsoLinkedAuth(Base):
    """A security definition whose calls are a user's; ``auth_type`` is basic_auth or jwt."""

    __tablename__ = "sso_linked_auth"
    __table_args__ = (UniqueConstraint("security_id"),)

    id: Mapped[int] = _id()
    user_id: Mapped[int] = _user()
    security_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("security.id", ondelete="CASCADE"))
    auth_type: Mapped[str] = mapped_column(String(30))
    is_active: Mapped[bool] = _flag(default=True)
    creation_time: Mapped[datetime] = _time(now=True)
    last_modified: Mapped[datetime] = _time(now=True)


class SsoThrottle(Base):
    """How often something failed or happened: ``key_mac`` is the digest of what is counted, e.g. of an account or an address.

    ``owner_mac`` is the digest of the account and factor that all of their counters share, NULL for what is no account's.
    """

    __tablename__ = "sso_throttle"

    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True
    )
    key_mac: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    owner_mac: Mapped[bytes | None] = mapped_column(LargeBinary, index=True)
    count: Mapped[int] = mapped_column(Integer, server_default="0")
    window_start: Mapped[datetime] = _time(now=True)
    blocked_until: Mapped[datetime | None] = _time(nullable=True)
    expires: Mapped[datetime] = _time(index=True)


class SsoSigningKey(Base):
    """A key that OpenID Connect tokens are signed with from ``signs_from`` on, and verified for as long as such tokens live.

    It is published for a while before it signs, so that applications have it when they need it.
    """

    __tablename__ = "sso_signing_key"

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster(index=True)
    kid: Mapped[str] = mapped_column(String(60), unique=True)
    algorithm: Mapped[str] = mapped_column(String(10))
    private_key_sealed: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    creation_time: Mapped[datetime] = _time(now=True)
    signs_from: Mapped[datetime] = _time()
    signs_until: Mapped[datetime] = _time()
    verifies_until: Mapped[datetime] = _time()


class SsoGrant(Base):
    """What an application got from a user through OpenID Connect: a code at first, then tokens.

    ``public_id`` is what its tokens name it by.  ``code_mac`` is used once.  ``refresh_mac`` is the digest of the newest refresh token, and
    ``refresh_previous`` has those of some before it, as hex, whose use ends the whole grant.  Without a session, it lives on only with
    the scope offline_access, and then as long as the user's ``generation`` is still the same.  ``remote_addr`` is the user's.
    """

    __tablename__ = "sso_grant"

    id: Mapped[int] = _id()
    cluster_id: Mapped[int] = _cluster(index=True)
    public_id: Mapped[str] = mapped_column(String(60), unique=True)
    user_id: Mapped[int] = _user()
    session_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("sso_session.id", ondelete="SET NULL"), index=True
    )
    app: Mapped[str] = mapped_column(String(200))
    scope: Mapped[str] = mapped_column(String(500))
    redirect_uri: Mapped[str] = mapped_column(Text)
    code_mac: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    code_challenge: Mapped[str] = mapped_column(String(200))
    nonce: Mapped[str] = mapped_column(String(500), server_default="")
    code_used: Mapped[datetime | None] = _time(nullable=True)
    refresh_mac: Mapped[bytes | None] = mapped_column(LargeBinary)
    refresh_previous: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    generation: Mapped[int] = mapped_column(BigInteger, server_default="0")
    remote_addr: Mapped[str] = mapped_column(Text)
    auth_time: Mapped[datetime] = _time(now=True)
    auth_factors: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    creation_time: Mapped[datetime] = _time(now=True)
    expiration_time: Mapped[datetime] = _time(index=True)
    revoked_time: Mapped[datetime | None] = _time(nullable=True)
