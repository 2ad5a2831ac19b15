"""Sending messages through a mail server: what ``self.email.smtp.get(name).conn`` is.

Each message has a connection of its own, so that there is none that the server may have given up in the meantime.  Errors say which
connection it was and what the server answered, never to whom or what was to be sent.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from smtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected
from typing import Final

import gevent
from gevent.lock import BoundedSemaphore

from junctor.server.email.compose import Composed, compose
from junctor.server.email.message import SMTPMessage
from junctor.server.email.session import SmtpSession, encoded, without_addresses
from junctor.sql.errors import ConnectionFailed, ConnectionInactive, ConnectionTimeout, MailRefused
from junctor.sql.objects.email import PLAIN, SSL, STARTTLS
from junctor.sql.secrets import Secret

MAX_CONCURRENT: Final = 10  # messages that one worker sends through one connection at a time
PATIENCE: Final = (
    12  # time-outs after which a server that answers each command in the nick of time is given up
)
OK: Final = frozenset({250, 251})


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpConfig:
    """How to reach a mail server; ``timeout`` is in seconds, for each answer of the server."""

    name: str
    host: str
    port: int = 587
    mode: str = STARTTLS
    tls_verify: bool = True
    ca_certs: str = ""
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    timeout: float = 10
    is_active: bool = True
    is_debug: bool = False
    ping_address: str = ""


class SmtpConnection:
    """A mail server that messages are sent through."""

    def __init__(self, config: SmtpConfig) -> None:
        self.config = config
        self._free = BoundedSemaphore(MAX_CONCURRENT)

    def __repr__(self) -> str:
        return f"<SmtpConnection {self.name!r} {self.config.host}:{self.config.port}>"

    @property
    def name(self) -> str:
        """The name of the connection."""
        return self.config.name

    @property
    def conn(self) -> SmtpConnection:
        """Itself: Zato's services write ``self.email.smtp.get(name).conn``."""
        return self

    def prepare(self) -> None:
        """Reads the certificates.  Raises ``ConnectionFailed`` if they are none."""
        if self.config.mode != PLAIN:
            _ = self._tls

    def send(self, message: SMTPMessage) -> str:
        """Hands a message over to the server, for all of its recipients or, with an error, for none; returns its Message-ID.

        Raises ``InvalidInput`` for what is no message; ``MailRefused`` if the server does not take it; ``ConnectionInactive``,
        ``ConnectionTimeout`` or ``ConnectionFailed``, which says whether the message may have been taken all the same.
        """
        self._require_active()
        composed = compose(message)
        with self._session() as session:
            self._hand_over(session, composed)
        return composed.message_id

    def ping(self) -> float:
        """Seconds that it takes to connect, encrypt and log in; sends a message to the ping address if there is one.

        Raises what ``send`` does.
        """
        self._require_active()
        start, address = time.monotonic(), self.config.ping_address
        message = (
            SMTPMessage(address, address, f"Ping of {self.name}", "This connection works.\n")
            if address
            else None
        )
        composed = compose(message) if message else None
        with self._session() as session:
            if composed:
                self._hand_over(session, composed)
            else:
                self._expect(session.docmd("NOOP"), OK, "did not answer")
        return time.monotonic() - start

    def _require_active(self) -> None:
        if not self.config.is_active:
            raise ConnectionInactive(f"SMTP connection {self.name!r} is not active.")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=self.config.ca_certs or None)
        except ssl.SSLError as error:
            raise ConnectionFailed(
                f"{self._shown} has CA certificates that cannot be read: {error.reason}."
            ) from error
        if not self.config.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @property
    def _shown(self) -> str:
        return f"SMTP connection {self.name!r} to {self.config.host}:{self.config.port}"

    @contextmanager
    def _session(self) -> Iterator[SmtpSession]:
        """A session in which messages can be sent; whatever goes wrong in it is raised as a ``ConnectionFailed``."""
        config = self.config
        if not self._free.acquire(timeout=config.timeout):
            raise ConnectionTimeout(
                f"{self._shown} sends {MAX_CONCURRENT} messages already, none of which is done."
            )
        session = SmtpSession(config.host, config.timeout, log_as=self.name if config.is_debug else "")
        limit = gevent.Timeout(config.timeout * PATIENCE)
        limit.start()
        try:
            self._open(session)
            yield session
            limit.close()  # what was to be sent is sent, whatever becomes of the goodbye
            session.leave()
        except gevent.Timeout as timeout:
            if timeout is not limit:
                raise
            raise ConnectionTimeout(
                f"{self._shown} took longer than {limit.seconds:g} s{session.doubt}."
            ) from None
        except TimeoutError:
            raise ConnectionTimeout(
                f"{self._shown} did not answer within {config.timeout:g} s{session.doubt}."
            ) from None
        except (OSError, SMTPException) as error:
            raise ConnectionFailed(f"{self._shown} failed{session.doubt}: {_reason(error)}") from None
        finally:
            limit.close()
            session.close()
            self._free.release()

    def _open(self, session: SmtpSession) -> None:
        config = self.config
        tls = None if config.mode == PLAIN else self._tls
        self._expect(session.open(config.port, tls if config.mode == SSL else None), {220}, "does not greet")
        self._expect(session.hello(), OK, "does not take part")
        if tls is not None and config.mode == STARTTLS:
            if not session.has_extn("starttls"):
                raise ConnectionFailed(
                    f"{self._shown} offers no encryption (STARTTLS), so that nothing was sent."
                )
            session.encrypt(tls)
            self._expect(session.hello(), OK, "does not take part")
        if config.username:
            self._expect(
                session.log_in(config.username, config.password.reveal()), {235}, "refused to log in"
            )

    def _hand_over(self, session: SmtpSession, message: Composed) -> None:
        options = []
        if session.has_extn("size"):
            options.append(f"SIZE={len(message.data)}")
            limit = session.esmtp_features["size"]
            if limit.isdecimal() and 0 < int(limit[:20]) < len(message.data):
                raise MailRefused(
                    f"{self._shown} takes messages of up to {int(limit[:20]):,} bytes, not of {len(message.data):,}."
                )
        if message.is_utf8:
            if not session.has_extn("smtputf8"):
                raise MailRefused(f"{self._shown} takes no addresses with letters other than those of ASCII.")
            options.append("SMTPUTF8")
        self._expect(session.mail(message.sender, options), OK, "refused the sender")
        refused: dict[str, tuple[int, str]] = {}
        for recipient in message.recipients:
            code, text = session.rcpt(recipient)
            if code not in OK:
                refused[recipient] = code, without_addresses(text)
        if refused:
            session.docmd("RSET")
            code, reason = next(iter(refused.values()))
            raise MailRefused(
                f"{self._shown} refused {len(refused)} of {len(message.recipients)} recipients, so that nobody got "
                f"the message: {code} {reason}",
                code=code,
                refused=refused,
            )
        self._expect(session.write(message.data), OK, "refused the message")

    def _expect(self, answer: tuple[int, bytes], codes: frozenset[int] | set[int], otherwise: str) -> None:
        code, text = answer
        if code not in codes:
            raise MailRefused(f"{self._shown} {otherwise}: {code} {without_addresses(text)}", code=code)


def _reason(error: OSError | SMTPException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, SMTPServerDisconnected):
        return "the server closed the connection."
    if isinstance(error, SMTPResponseException):
        return f"{error.smtp_code} {without_addresses(encoded(error.smtp_error))}"
    return without_addresses(str(error).encode())
