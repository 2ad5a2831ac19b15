"""A real mail server on this machine, which keeps what it is given."""

from __future__ import annotations

import email
import ssl
import tempfile
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.helpers.certificate import certificate
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import wait_until

USERNAME, PASSWORD = "mailer", "päss word"
PLAIN, SSL, STARTTLS = "plain", "ssl", "starttls"


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the server got it: its envelope, and what is in it."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return email.message_from_bytes(self.raw, policy=policy.default)

    @property
    def text(self) -> str:
        """Its body, whose lines end with a newline."""
        body = self.message.get_body(("plain", "html"))
        return str(body.get_content()).replace("\r\n", "\n") if body is not None else ""

    @property
    def subject(self) -> str:
        """Its subject."""
        return str(self.message["subject"])


@dataclass
class MailServer:
    """Listens from ``start`` to ``stop``; with ``mode`` as an ``email_smtp`` has it.

    With ``has_auth``, it takes nothing without ``USERNAME`` and ``PASSWORD``.  ``refused`` has answers to recipients, and ``answer`` is
    the one to the next message, '' = it is taken.  ``certificate`` is what clients verify it with.
    """

    mode: str = PLAIN
    has_auth: bool = False
    size: int = 30_000_000
    port: int = field(default_factory=free_port)
    refused: dict[str, str] = field(default_factory=dict)
    answer: str = ""
    certificate: str = ""

    def __post_init__(self) -> None:
        self.received: list[Received] = []
        self.logins: list[tuple[str, str]] = []
        self._controller: _Controller | None = None
        self._context: ssl.SSLContext | None = None
        if self.mode != PLAIN:
            self.certificate, key = certificate()
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                Path(file.name).write_text(self.certificate + key)
                self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._context.load_cert_chain(file.name)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of an ``email_smtp`` that leads here."""
        fields = {"host": LOOPBACK, "port": self.port, "mode": self.mode, "ca_certs": self.certificate}
        return fields | ({"username": USERNAME, "password": PASSWORD} if self.has_auth else {})

    def start(self) -> None:
        """Listens."""
        self._controller = _Controller(self, self._context)
        self._controller.start()

    def stop(self) -> None:
        """Does not listen any more; what it got stays."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> MailServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self, recipient: str = "", *, count: int = 1, timeout: float = 10.0) -> Received:
        """The newest message to somebody, once there are so many; their addresses are left out of failures, too."""

        def found() -> list[Received]:
            got = [item for item in self.received if not recipient or recipient in item.recipients]
            return got if len(got) >= count else []

        return wait_until(found, timeout, f"there are not {count} messages")[-1]

    async def handle_RCPT(  # noqa: N802 - the names of aiosmtpd
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient, or not."""
        del server, options
        if self.has_auth and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - a name of aiosmtpd
        """Takes a message, or not."""
        del server, session
        if self.answer:
            answer, self.answer = self.answer, ""
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        self.received.append(Received(str(envelope.mail_from), tuple(envelope.rcpt_tos), content))
        return "250 2.0.0 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        """Whether these are the right credentials."""
        del server, session, envelope, mechanism
        assert isinstance(given, LoginPassword)
        self.logins.append((given.login.decode(), given.password.decode()))
        return AuthResult(success=self.logins[-1] == (USERNAME, PASSWORD), handled=False)


class _Controller(Controller):
    def __init__(self, server: MailServer, context: ssl.SSLContext | None) -> None:
        self._server = server
        super().__init__(
            server,
            hostname=LOOPBACK,
            port=server.port,
            ssl_context=context if server.mode == SSL else None,
            tls_context=context if server.mode == STARTTLS else None,
            require_starttls=server.mode == STARTTLS,
            authenticator=server.authenticate,
            auth_require_tls=server.mode == STARTTLS,
            data_size_limit=server.size,
            enable_SMTPUTF8=True,
        )
