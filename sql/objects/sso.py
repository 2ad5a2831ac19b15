"""Single Sign-On: its settings, the applications that use it, and the addresses that users may come from.

Users and sessions are data, not configuration: see ``sql/tables/sso.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, integer, ref, secret, text, text_list
from junctor.sql.objects.sso_general import GeneralFields
from junctor.sql.objects.sso_passwords import PasswordFields
from junctor.sql.objects.sso_signup import SignupFields

ANYWHERE: Final = "*"
SCOPES: Final = ("openid", "profile", "email", "offline_access")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


class Sso(SignupFields, PasswordFields, GeneralFields, Object):
    """How Single Sign-On works in this cluster.

    The names of fields are Zato's: section and option of sso.conf, the section main left out.
    """

    __tablename__ = "sso_settings"
    __table_args__ = (UniqueConstraint("cluster_id"),)
    kind, label = "sso", "Single Sign-On"
    verbs = frozenset({"edit"})
    is_renamable = False

    session_expiry: Mapped[int] = integer(
        "Session expiry",
        "After so long without a call of the user, a session ends.",
        default=60,
        unit="min",
        min=1,
        max=525_600,
    )
    session_absolute: Mapped[int] = integer(
        "Longest session",
        "After which a session ends, whatever happens; 0 = never.",
        default=1440,
        unit="min",
        min=0,
        max=525_600,
    )
    session_expiry_hook: Mapped[str] = ref(
        "service",
        "Expiry service",
        "Asked how long a new session may be idle: current_app, username, default_expiry -> expiry, in minutes.",
        column="session_expiry_hook_id",
        default="",
    )
    session_max_per_user: Mapped[int] = integer(
        "Sessions of a user",
        "At a time; a new one ends the oldest. 0 = any number.",
        default=0,
        unit="sessions",
        min=0,
        max=10_000,
    )
    session_revoke_on_change: Mapped[bool] = boolean(
        "End other sessions",
        "Whether a changed password or second factor ends the user's other sessions.",
        default=True,
    )
    session_step_up_after: Mapped[int] = integer(
        "Fresh log-in",
        "Who logged in longer ago must prove who they are again before they change an e-mail address, a second factor or the like.",
        default=15,
        unit="min",
        min=1,
        max=1440,
    )

    search_default_page_size: Mapped[int] = integer(
        "Page size", "Users on a page of a search.", default=50, unit="users", min=1, max=1000
    )
    search_max_page_size: Mapped[int] = integer(
        "Largest page", "Users on a page at the most.", default=100, unit="users", min=1, max=1000
    )
    audit_retention: Mapped[int] = integer(
        "Audit retention",
        "How long audit events are kept; 0 = for ever.",
        default=0,
        unit="days",
        min=0,
        max=36_500,
    )

    webauthn_rp_id: Mapped[str] = text(
        "Passkey domain",
        "The domain that passkeys are for, e.g. example.com; empty = no passkeys.",
        default="",
        max=253,
    )
    webauthn_origins: Mapped[list[str]] = text_list(
        "Passkey origins", "Where passkeys may be used, e.g. https://www.example.com.", max=20
    )

    oidc_issuer: Mapped[str] = text(
        "OpenID issuer",
        "The URL under which OpenID Connect clients reach this cluster, e.g. https://sso.example.com/zato/sso/oidc; empty = off.",
        default="",
        max=500,
    )
    oidc_access_token_ttl: Mapped[int] = integer(
        "Access token time",
        "Lifetime of an OpenID Connect access token.",
        default=300,
        unit="s",
        min=30,
        max=86_400,
    )
    oidc_refresh_token_ttl: Mapped[int] = integer(
        "Refresh token time",
        "Lifetime of a family of refresh tokens.",
        default=720,
        unit="h",
        min=1,
        max=8760,
    )
    oidc_key_ttl: Mapped[int] = integer(
        "Key time",
        "How long a key signs tokens before the next one does.",
        default=90,
        unit="days",
        min=1,
        max=3650,
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """Limits that fit each other, URLs that are such."""
        del reader, object_id
        if values["password_min_length"] > values["password_max_length"]:
            yield Problem("password_min_length", "must not be greater than the longest password.")
        if values["search_default_page_size"] > values["search_max_page_size"]:
            yield Problem("search_default_page_size", "must not be greater than the largest page.")
        if 0 < values["session_absolute"] < values["session_expiry"]:
            yield Problem("session_absolute", "must not be shorter than the session expiry.")
        if not HEADER_NAME.fullmatch(values["apps_http_header"]):
            yield Problem("apps_http_header", "must be the name of an HTTP header.")
        for field in ("site_url", "oidc_issuer"):
            if values[field] and (problem := url_problem(values[field])):
                yield Problem(field, problem)
        for origin in values["webauthn_origins"]:
            if problem := url_problem(origin, is_origin=True):
                yield Problem("webauthn_origins", f"{origin} {problem}")
        if values["webauthn_origins"] and not values["webauthn_rp_id"]:
            yield Problem("webauthn_rp_id", "is required with origins.")


class SsoApplication(Object):
    """An application that uses Single Sign-On: what 'current_app' names, and a client of OpenID Connect if it is to be one."""

    __tablename__ = "sso_application"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "sso_application", "SSO application"
    command_aliases = ("sso-app",)

    is_active: Mapped[bool] = boolean("Active", "Whether it may do anything.", default=True)
    login_allowed: Mapped[bool] = boolean("Log-in", "Whether users may log in through it.", default=True)
    signup_allowed: Mapped[bool] = boolean("Sign-up", "Whether users may sign up through it.", default=False)
    login_metadata_allowed: Mapped[bool] = boolean(
        "Log-in metadata", "Whether it may tell the address and the browser of the user.", default=False
    )
    is_grant_needed: Mapped[bool] = boolean(
        "Listed users only",
        "Whether users need this application in their list of applications.",
        default=False,
    )
    introspection_allowed: Mapped[bool] = boolean(
        "Introspection",
        "Whether it may verify sessions and tokens of users with its own secret, without a super-user's session.",
        default=False,
    )
    secret: Mapped[str] = secret(
        "Secret", "Proves who the application is; empty = it is public, and may not introspect.", max=200
    )
    is_oidc_client: Mapped[bool] = boolean(
        "OpenID client", "Whether it may use OpenID Connect.", default=False
    )
    redirect_uris: Mapped[list[str]] = text_list(
        "Redirect URIs", "Where users may be sent back to after a log-in, exactly.", max=20
    )
    post_logout_redirect_uris: Mapped[list[str]] = text_list(
        "Log-out URIs", "Where users may be sent back to after a log-out, exactly.", max=20
    )
    scopes: Mapped[list[str]] = text_list("Scopes", "What it may ask for.", max=20, default=SCOPES)

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """URIs that users can be sent to safely, known scopes, a secret that cannot be guessed."""
        del reader, object_id
        if values["introspection_allowed"] and not values["secret"]:
            yield Problem("secret", "is required for introspection.")
        secret_ = values["secret"]
        if isinstance(secret_, str) and secret_ and len(secret_) < 20:
            yield Problem("secret", "must have at least 20 characters, since nobody has to remember it.")
        for field in ("redirect_uris", "post_logout_redirect_uris"):
            for uri in values[field]:
                if problem := url_problem(uri):
                    yield Problem(field, f"{uri} {problem}")
        if values["is_oidc_client"] and not values["redirect_uris"]:
            yield Problem("redirect_uris", "must have at least one URI.")
        if unknown := [scope for scope in values["scopes"] if scope not in SCOPES]:
            yield Problem("scopes", f"must be among {', '.join(SCOPES)}, not {', '.join(unknown)}.")


class SsoUserAddress(Object):
    """The addresses that a user may log in from; its name is the user's."""

    __tablename__ = "sso_user_address"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "sso_user_address", "SSO user's addresses"

    addresses: Mapped[list[str]] = text_list(
        "Addresses",
        "IP addresses and networks, such as 10.1.0.0/16; * = from anywhere, none = from nowhere.",
        max=1000,
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """Addresses and networks."""
        del reader, object_id
        for address in values["addresses"]:
            if address != ANYWHERE:
                try:
                    ip_network(address)
                except ValueError as error:
                    yield Problem("addresses", f"must be IP addresses, networks or {ANYWHERE}: {error}.")


def url_problem(url: str, *, is_origin: bool = False) -> str:
    """What is wrong with a URL that users are sent to; '' when it is safe.

    It must be absolute, HTTPS unless it is of this machine, and without a fragment or credentials; an origin has no path either.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL."
    del port
    if parts.scheme not in ("https", "http") or not host:
        return "must begin with https://."
    if parts.scheme == "http" and host not in LOOPBACK:
        return "must begin with https://; http:// is for this machine alone."
    if parts.username or parts.fragment or "#" in url:
        return "must have neither a user name nor a fragment."
    if is_origin and (parts.path or parts.query):
        return "must be without a path, such as https://www.example.com."
    return ""
