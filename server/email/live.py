"""The live counterpart of a connection to a mail server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junctor.server.email.smtp import SmtpConfig, SmtpConnection
from junctor.server.runtime.live import Live
from junctor.sql.config import Config

if TYPE_CHECKING:
    from junctor.server.context import Context

FIELDS = (
    "host",
    "port",
    "mode",
    "tls_verify",
    "ca_certs",
    "username",
    "password",
    "timeout",
    "is_active",
    "is_debug",
    "ping_address",
)


class EmailSmtp(Live):
    """An SMTP connection that works."""

    kind = "email_smtp"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.connection = SmtpConnection(
            SmtpConfig(name=config.name, **{field: config[field] for field in FIELDS})
        )

    def start(self) -> None:
        """Reads the certificates.  Raises ``ConnectionFailed`` if they are none."""
        self.connection.prepare()

    def take_over(self, previous: Live | None) -> None:
        """Is found under its name, and no longer under the one that it had before."""
        if isinstance(previous, EmailSmtp):
            previous.leave()
        self.context.email.connections[self.config.name] = self.connection

    def leave(self) -> None:
        """Is not found any more, unless the name is another connection's by now."""
        connections = self.context.email.connections
        if connections.get(self.config.name) is self.connection:
            del connections[self.config.name]
