"""One conversation with a mail server (RFC 5321)."""

from __future__ import annotations

import logging
import re
import smtplib
import socket
import ssl
from base64 import b64encode
from contextlib import suppress
from typing import Any, Final

MAX_REPLY_LINES: Final = 100
MAX_REPLY_LINE: Final = 8192  # bytes
MAX_SHOWN: Final = 300  # characters of an answer of the server
CHUNK: Final = 64 * 1024  # bytes, each of which has the whole time-out
GOODBYE: Final = 1.0  # seconds for which an answer to QUIT is waited for
VERBS: Final = frozenset({"EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"})
_ADDRESS = re.compile(rb"[^\s<>:,;\"']*@[^\s<>,;\"']*")
_UNREADABLE = re.compile(r"[^\x20-\x7e]+")
log = logging.getLogger(__name__)


def without_addresses(reply: bytes) -> str:
    """What a server said, on one line, without the e-mail addresses in it."""
    shown = _ADDRESS.sub(b"(address)", reply).decode("utf-8", "replace")
    return _UNREADABLE.sub(" ", shown).strip()[:MAX_SHOWN] or "no reason given"


class SmtpSession(smtplib.SMTP):
    """A connection, on which each answer has ``timeout`` seconds and a bounded length.

    Raises ``OSError`` (``TimeoutError`` for what takes too long) and ``SMTPException``.  With ``log_as``, the commands are logged under
    that name: without arguments, so that neither passwords nor addresses are.
    """

    def __init__(self, host: str, timeout: float, *, log_as: str = "") -> None:
        super().__init__(
            timeout=timeout, local_hostname="localhost"
        )  # else it looks a name up, which may take long
        self._host = host
        self._log_as = log_as
        self._tls: ssl.SSLContext | None = None
        self.doubt = ""
        """What to say of a failure now, '' as a rule: once the message is written, the server may have taken it."""

    def open(self, port: int, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
        """Connects, with TLS from the start if ``tls`` is given; returns the greeting."""
        self._tls = tls
        answer = self.connect(self._host, port)
        address = self.sock.getsockname()[0]  # type: ignore[union-attr]  # it is connected
        self.local_hostname = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        return answer

    def hello(self) -> tuple[int, bytes]:
        """Says EHLO, or HELO to a server that does not know it."""
        answer = self.ehlo()
        return answer if answer[0] == 250 else self.helo()

    def encrypt(self, tls: ssl.SSLContext) -> None:
        """Goes on with TLS (STARTTLS); what the server said before counts no more."""
        self.starttls(context=tls)

    def log_in(self, username: str, password: str) -> tuple[int, bytes]:
        """Says who we are, in UTF-8 (RFC 4616); returns the answer."""
        offered = self.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            return self.docmd("AUTH", "PLAIN " + _base64(f"\0{username}\0{password}"))
        if "LOGIN" in offered:
            answer = self.docmd("AUTH", "LOGIN")
            for value in (username, password):
                if answer[0] != 334:
                    return answer
                answer = self.docmd(_base64(value))
            return answer
        shown = ", ".join(offered)[:MAX_SHOWN] or "nothing"
        return 504, f"it offers {shown}, and neither PLAIN nor LOGIN".encode()

    def write(self, data: bytes) -> tuple[int, bytes]:
        """Sends the message itself; returns the answer."""
        self.doubt = ", and whether it took the message is not known"
        try:
            answer = self.data(data)
        except smtplib.SMTPDataError as error:
            answer = error.smtp_code, encoded(error.smtp_error)
        self.doubt = ""
        return answer

    def leave(self) -> None:
        """Says goodbye.  Whether the server hears it makes no difference: it has answered all that mattered."""
        with suppress(OSError, smtplib.SMTPException):
            if self.sock is not None:
                self.sock.settimeout(min(self.timeout, GOODBYE))
            self.docmd("QUIT")

    def send(self, s: Any) -> None:
        """Writes to the server."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        data = s.encode(self.command_encoding) if isinstance(s, str) else s
        try:
            for start in range(0, len(data), CHUNK):
                self.sock.sendall(data[start : start + CHUNK])
        except OSError:
            self.close()
            raise

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Writes a command."""
        if self._log_as:
            verb = cmd.upper() if cmd.upper() in VERBS else "******"
            log.info(
                "SMTP %s: > %s", self._log_as, f"AUTH {args.partition(' ')[0]}" if verb == "AUTH" else verb
            )
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        """Reads an answer: its code and its lines."""
        if self.file is None:
            self.file = self.sock.makefile("rb")  # type: ignore[union-attr]  # it is connected
        lines: list[bytes] = []
        try:
            while len(lines) < MAX_REPLY_LINES:
                line = self.file.readline(MAX_REPLY_LINE + 1)
                lines.append(line[4:].strip())
                if not line.endswith(b"\n") or not line[:3].isdigit():
                    break
                if line[3:4] != b"-":
                    return self._logged(int(line[:3]), b"\n".join(lines))
        except OSError:
            self.close()
            raise
        self.close()
        if line:
            raise smtplib.SMTPResponseException(500, b"an answer that is none of a mail server")
        raise smtplib.SMTPServerDisconnected("closed")

    def _logged(self, code: int, text: bytes) -> tuple[int, bytes]:
        if self._log_as:
            log.info("SMTP %s: < %d %s", self._log_as, code, without_addresses(text))
        return code, text

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((host, port), timeout)
        if self._tls is None:
            return made
        try:
            return self._tls.wrap_socket(made, server_hostname=host)
        except BaseException:
            made.close()
            raise


def encoded(answer: str | bytes) -> bytes:
    """An answer of a server as bytes; errors of the standard library have either."""
    return answer.encode("utf-8", "replace") if isinstance(answer, str) else answer


def _base64(value: str) -> str:
    return b64encode(value.encode()).decode("ascii")
