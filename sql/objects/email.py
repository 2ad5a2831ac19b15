"""Connections to mail servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cryptography.x509 import load_pem_x509_certificates
from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, choice, integer, secret, text

PLAIN, SSL, STARTTLS = "plain", "ssl", "starttls"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
HOST: Final = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)
EMAIL: Final = re.compile(r"[^@\s<>]{1,64}@[^@\s<>]{1,255}")


class EmailSmtp(Object):
    """A mail server that messages are sent through."""

    __tablename__ = "email_smtp"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "email_smtp", "SMTP connection"
    service_prefix = "zato.email.smtp"
    command_aliases = ("email-smtp",)

    is_active: Mapped[bool] = boolean("Active", "Whether messages may be sent through it.", default=True)
    host: Mapped[str] = text("Host", "Host name or address of the mail server.")
    port: Mapped[int] = integer(
        "Port",
        "TCP port: 587 with STARTTLS, 465 with TLS from the start, 25 without.",
        default=587,
        min=1,
        max=65535,
    )
    mode: Mapped[str] = choice(
        "Encryption",
        "Use starttls or ssl (TLS from the start); plain sends everything readable, the password included.",
        (STARTTLS, SSL, PLAIN),
        default=STARTTLS,
    )
    tls_verify: Mapped[bool] = boolean(
        "Verify the certificate", "Whether the server must prove who it is; leave it on.", default=True
    )
    ca_certs: Mapped[str] = text(
        "CA certificates",
        "PEM certificates that the server's certificate is checked against; empty = those of the system.",
        default="",
        max=100_000,
        multiline=True,
    )
    username: Mapped[str] = text("User name", "Empty = the server asks for none.", default="", max=200)
    password: Mapped[str] = secret("Password", "Of the user.")
    timeout: Mapped[int] = integer(
        "Timeout", "After which the server is given up.", default=10, unit="s", min=1, max=300
    )
    is_debug: Mapped[bool] = boolean(
        "Debug", "Whether the commands of the conversation are logged, without what is secret.", default=False
    )
    ping_address: Mapped[str] = text(
        "Ping address",
        "Who gets the message that a ping sends; empty = a ping sends none.",
        default="",
        max=320,
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A password needs a user name, and must not cross the network readable to another machine."""
        del reader, object_id
        if values["password"] and not values["username"]:
            yield Problem("username", "is required with a password.")
        if values["mode"] == PLAIN and values["password"] and values["host"] not in LOOPBACK:
            yield Problem(
                "mode", f"must be {STARTTLS} or {SSL}, lest the password cross the network readable."
            )
        if not HOST.fullmatch(values["host"]):
            yield Problem("host", "must be a host name or an address alone.")
        if values["ca_certs"]:
            try:
                load_pem_x509_certificates(values["ca_certs"].encode())
            except ValueError:
                yield Problem("ca_certs", "must be certificates in PEM.")
        if values["ping_address"] and not EMAIL.fullmatch(values["ping_address"]):
            yield Problem("ping_address", "must be an e-mail address.")
