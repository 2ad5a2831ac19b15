"""Security definitions: credentials that channels demand and outgoing connections give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql import signing_keys
from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, choice, integer, secret, text
from junctor.sql.signing_keys import RSA, SHARED

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


class Security(Object):
    """The family of security definitions; names are unique in all of it, so that a reference needs no type."""

    __tablename__ = "security"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "security", "Security definition"
    is_family = True

    type: Mapped[str] = mapped_column(String(60))
    is_active: Mapped[bool] = boolean("Active", "Whether it lets anybody in.", default=True)

    __mapper_args__ = {"polymorphic_on": "type"}


class SecurityBasicAuth(Security):
    """HTTP Basic Auth: a user name and a password."""

    __tablename__ = "security_basic_auth"
    __mapper_args__ = {"polymorphic_identity": "security_basic_auth"}
    kind, label = "security_basic_auth", "Basic Auth"
    is_family = False
    service_prefix = "zato.security.basic-auth"
    enmasse_aliases = ("basic_auth",)
    command_aliases = ("basic-auth",)

    id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("security.id", ondelete="CASCADE"), primary_key=True
    )
    username: Mapped[str] = text("User name", "Without a colon, which Basic Auth cannot carry.", max=200)
    realm: Mapped[str] = text(
        "Realm", "Shown to clients that give no credentials.", default="Junctor", max=200
    )
    password: Mapped[str] = secret("Password", "While it is empty, nobody is let in.")

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A user name without a colon, a realm without quotes (RFC 7617, section 2)."""
        del reader, object_id
        if ":" in values["username"]:
            yield Problem("username", "must not have a colon.")
        if '"' in values["realm"] or "\\" in values["realm"]:
            yield Problem("realm", "must not have quotes or backslashes.")


class SecurityApiKey(Security):
    """An API key that clients send in a header."""

    __tablename__ = "security_api_key"
    __mapper_args__ = {"polymorphic_identity": "security_api_key"}
    kind, label = "security_api_key", "API key"
    is_family = False
    service_prefix = "zato.security.apikey"
    enmasse_aliases = ("apikey",)
    command_aliases = ("api-key",)

    id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("security.id", ondelete="CASCADE"), primary_key=True
    )
    header: Mapped[str] = text(
        "Header", "The HTTP header that carries the key.", default="X-API-Key", aliases=("username",)
    )
    key: Mapped[str] = secret("Key", "While it is empty, nobody is let in.", aliases=("password",))

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A header name as RFC 9110, section 5.1 has it."""
        del reader, object_id
        if not HEADER_NAME.fullmatch(values["header"]):
            yield Problem("header", "must be the name of an HTTP header, such as X-API-Key.")


class SecurityJwt(Security):
    """JSON Web Tokens: issued here to who knows the password, or by somebody else whose key is known."""

    __tablename__ = "security_jwt"
    __mapper_args__ = {"polymorphic_identity": "security_jwt"}
    kind, label = "security_jwt", "JWT"
    is_family = False
    service_prefix = "zato.security.jwt"
    enmasse_aliases = ("jwt",)
    command_aliases = ("jwt",)

    id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("security.id", ondelete="CASCADE"), primary_key=True
    )
    username: Mapped[str] = text("User name", "Who logs in, and the subject of the tokens.", max=200)
    password: Mapped[str] = secret("Password", "For logging in; while it is empty, nobody can.")
    algorithm: Mapped[str] = choice(
        "Algorithm",
        "How tokens are signed; those signed otherwise are refused.",
        (SHARED, RSA),
        default=SHARED,
    )
    signing_key: Mapped[str] = secret(
        "Signing key",
        "HS256: keys of 32 bytes or more that both sides share, one a line; the first one signs. RS256: a private key in PEM. "
        "Empty = for HS256, keys that the cluster makes; for RS256, tokens are verified and not issued.",
        max=20_000,
        multiline=True,
    )
    public_keys: Mapped[str] = text(
        "Public keys",
        "RS256: PEM public keys that tokens may be signed with as well, for key rotation and foreign issuers.",
        default="",
        max=50_000,
        multiline=True,
    )
    ttl: Mapped[int] = integer(
        "Lifetime", "Of a token that is issued.", default=3600, unit="s", min=5, max=31_536_000
    )
    issuer: Mapped[str] = text(
        "Issuer", "Put into tokens, and demanded of them; empty = not checked.", default="", max=200
    )
    audience: Mapped[str] = text(
        "Audience", "Put into tokens, and demanded of them; empty = not checked.", default="", max=200
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """Keys that fit the algorithm, and are strong enough; those that cannot be decrypted here are taken as they are."""
        del reader, object_id
        signing_key = values["signing_key"]
        known = signing_key if isinstance(signing_key, str) else None
        for field, problem in signing_keys.problems(values["algorithm"], known, values["public_keys"]):
            yield Problem(field, problem)
