"""Rows of users and sessions, as the parts of Single Sign-On hand them to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, inspect, select
from sqlalchemy.sql import Select

from junctor.sql.tables.sso import SsoSession, SsoUser


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as the database has it at some time; the columns of ``SsoUser``.  Times have their zone, UTC."""

    id: int
    cluster_id: int
    user_id: str
    username: str
    username_key: str
    password: str = field(repr=False)
    password_is_set: bool
    password_must_change: bool
    password_last_set: datetime
    password_expiry: datetime | None
    is_active: bool
    is_internal: bool
    is_super_user: bool
    is_locked: bool
    locked_time: datetime | None
    locked_by: str | None
    creation_ctx: dict[str, Any]
    approval_status: str
    approval_status_mod_time: datetime
    approval_status_mod_by: str
    sign_up_status: str
    sign_up_time: datetime
    sign_up_confirm_time: datetime | None
    app_list: list[str]
    email: str | None = field(repr=False)
    email_sealed: str | None = field(repr=False)
    email_mac: bytes | None = field(repr=False)
    is_email_verified: bool
    display_name: str = field(repr=False)
    first_name: str = field(repr=False)
    middle_name: str = field(repr=False)
    last_name: str = field(repr=False)
    is_rate_limit_active: bool
    rate_limit_type: str
    rate_limit_def: str
    rate_limit_check_parent_def: bool
    is_totp_enabled: bool
    totp_key_sealed: str = field(repr=False)
    totp_label: str
    totp_pending_sealed: str = field(repr=False)
    totp_last_step: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as the database has it at some time; the columns of ``SsoSession`` but its history, and ``user``, whose it is."""

    id: int
    cluster_id: int
    user_id: int
    public_id: str
    token_mac: bytes = field(repr=False)
    app: str
    creation_time: datetime
    last_used: datetime
    expiration_time: datetime
    absolute_time: datetime | None
    idle_minutes: int
    remote_addr: str
    user_agent: str
    auth_type: str
    auth_principal: str
    linked_id: int | None
    ext_session_mac: bytes | None = field(repr=False)
    auth_time: datetime
    auth_factors: list[str]
    user: User


USER_COLUMNS = [column.key for column in inspect(SsoUser).column_attrs if column.key != "search_names"]
SESSION_COLUMNS = [column.key for column in inspect(SsoSession).column_attrs if column.key != "state_changes"]


def select_users() -> Select[Any]:
    """A statement whose rows ``user_of`` takes."""
    return select(*(getattr(SsoUser, name) for name in USER_COLUMNS))


def user_of(row: Row[Any]) -> User:
    """The user in a row of ``select_users``."""
    return User(**dict(zip(USER_COLUMNS, row, strict=True)))


def select_sessions() -> Select[Any]:
    """A statement whose rows ``session_of`` takes."""
    columns = [getattr(SsoSession, name) for name in SESSION_COLUMNS]
    columns += [getattr(SsoUser, name) for name in USER_COLUMNS]
    return select(*columns).join_from(SsoSession, SsoUser, SsoSession.user_id == SsoUser.id)


def session_of(row: Row[Any]) -> Session:
    """The session in a row of ``select_sessions``, with its user."""
    split = len(SESSION_COLUMNS)
    user = User(**dict(zip(USER_COLUMNS, row[split:], strict=True)))
    return Session(**dict(zip(SESSION_COLUMNS, row[:split], strict=True)), user=user)
