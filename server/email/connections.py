"""What services find connections to mail servers in: ``self.email``."""

from __future__ import annotations

from typing import Any

from junctor.server.email.smtp import SmtpConnection
from junctor.server.outgoing.connections import Connections


class SmtpConnections(Connections[SmtpConnection]):
    """``self.email.smtp``: ``get(name).conn.send(message)``, or ``self.email.smtp[name].send(message)``."""

    what = "SMTP connection"

    def get(self, name: str, default: Any = None) -> Any:
        """The connection of a name; raises ``ConnectionNotFound`` unless there is a ``default``, as nobody looks for None."""
        return self[name] if default is None else super().get(name, default)


class Email:
    """``self.email`` of services."""

    def __init__(self) -> None:
        self.connections: dict[str, SmtpConnection] = {}
        self.smtp = SmtpConnections(self.connections)
