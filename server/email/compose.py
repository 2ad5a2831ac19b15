"""From an ``SMTPMessage`` to the bytes that a mail server gets.

Nothing that was given can become a header, a recipient or a command of its own: lines have no line breaks, and addresses are taken apart.
"""

from __future__ import annotations

import codecs
import mimetypes
import re
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from typing import Any, Final

from junctor.server.email.addresses import addresses, single
from junctor.server.email.message import SMTPMessage
from junctor.sql.errors import InvalidInput

MAX_SIZE: Final = 25 * 1024 * 1024  # bytes of a whole message
MAX_RECIPIENTS: Final = 100
MAX_ATTACHMENTS: Final = 100
MAX_HEADERS: Final = 50
MAX_LINE: Final = 900  # characters of a subject, a header or the name of an attachment
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,75}", re.ASCII)
OWN_HEADERS: Final = frozenset({"from", "to", "cc", "bcc", "subject", "mime-version"})
OWN_PREFIXES: Final = ("content-", "resent-")


@dataclass(frozen=True, slots=True)
class Composed:
    """A message that is ready to be sent; ``is_utf8``: the server must understand international addresses (RFC 6531)."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    is_utf8: bool = False


def compose(message: SMTPMessage) -> Composed:
    """The message as it is sent.  Raises ``InvalidInput``, which names what is wrong and never shows it."""
    sender = single("from_", message.from_)
    to, cc, bcc = addresses("to", message.to), addresses("cc", message.cc), addresses("bcc", message.bcc)
    recipients = tuple(dict.fromkeys(address.addr_spec for address in (*to, *cc, *bcc)))
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise InvalidInput.one("to", f"must be 1 to {MAX_RECIPIENTS} recipients, with those of cc and bcc.")
    is_utf8 = not all(address.username.isascii() for address in (sender, *to, *cc, *bcc))
    made = EmailMessage((policy.SMTPUTF8 if is_utf8 else policy.SMTP).clone(cte_type="7bit"))
    made["From"] = sender
    if to:
        made["To"] = to
    if cc:
        made["Cc"] = cc
    made["Subject"] = _line("subject", message.subject)
    _add_headers(made, message, sender)
    _set_body(made, message)
    for attachment in _attachments(message):
        _attach(made, attachment)
    data = made.as_bytes()
    if len(data) > MAX_SIZE:
        raise InvalidInput.one("", f"The message must have at most {MAX_SIZE:,} bytes, has {len(data):,}.")
    return Composed(str(made["Message-ID"]), sender.addr_spec, recipients, data, is_utf8)


def _line(field: str, value: object) -> str:
    """A text that can be a header; raises ``InvalidInput``."""
    if not isinstance(value, str) or len(value) > MAX_LINE or not value.isprintable():
        raise InvalidInput.one(
            field, f"must be one line of up to {MAX_LINE} characters, without control characters."
        )
    return value


def _add_headers(made: EmailMessage, message: SMTPMessage, sender: Address) -> None:
    if len(message.headers) > MAX_HEADERS:
        raise InvalidInput.one("headers", f"must be at most {MAX_HEADERS}.")
    for name, value in message.headers.items():
        lowered = name.lower() if isinstance(name, str) else ""
        if not HEADER_NAME.fullmatch(lowered):
            raise InvalidInput.one("headers", "must have names of letters, digits and hyphens.")
        if lowered in OWN_HEADERS or lowered in made or lowered.startswith(OWN_PREFIXES):
            raise InvalidInput.one("headers", f"must not have {lowered}, which follows from the message.")
        made[name] = _line(f"headers.{name}", value)
    if "date" not in made:
        made["Date"] = localtime()
    if "message-id" not in made:
        # an identifier needs letters, and no server looks the domain up
        made["Message-ID"] = make_msgid(domain=sender.domain.strip("[]").replace(":", "-"))


def _set_body(made: EmailMessage, message: SMTPMessage) -> None:
    charset = _charset(message.charset)
    if not isinstance(message.body, str):
        raise InvalidInput.one("body", "must be text.")
    try:
        message.body.encode(charset)
    except UnicodeEncodeError:
        raise InvalidInput.one("body", f"has characters that there are not in {charset}.") from None
    made.set_content(message.body, subtype="html" if message.is_html else "plain", charset=charset)


def _charset(name: object) -> str:
    """The name of a character set in which ASCII stays ASCII, as headers have it."""
    try:
        found = codecs.lookup(str(name)).name
        if "a\n".encode(found) != b"a\n":
            raise LookupError
    except (LookupError, TypeError, ValueError):
        raise InvalidInput.one("charset", "must be a character set for e-mails, such as utf-8.") from None
    return found


@dataclass(frozen=True, slots=True)
class _Attachment:
    name: str
    contents: bytes
    type: str
    subtype: str


def _attachments(message: SMTPMessage) -> list[_Attachment]:
    if len(message.attachments) > MAX_ATTACHMENTS:
        raise InvalidInput.one("attachments", f"must be at most {MAX_ATTACHMENTS}.")
    made = [_attachment(f"attachments.{number}", given) for number, given in enumerate(message.attachments)]
    if sum(len(attachment.contents) for attachment in made) > MAX_SIZE:
        raise InvalidInput.one("attachments", f"must have at most {MAX_SIZE:,} bytes together.")
    return made


def _attachment(field: str, given: Any) -> _Attachment:
    try:
        name, contents = _line(f"{field}.name", given["name"]), given["contents"]
    except (KeyError, TypeError):
        raise InvalidInput.one(field, "must have a name and contents.") from None
    if isinstance(contents, str):
        contents = contents.encode("utf-8", "replace")
    if not isinstance(contents, bytes | bytearray | memoryview):
        raise InvalidInput.one(f"{field}.contents", "must be text or bytes.")
    guessed, encoding = mimetypes.guess_type(name)
    kind, _, subtype = (guessed or "").partition("/")
    if encoding or not subtype or kind in ("message", "multipart"):
        kind, subtype = "application", "octet-stream"
    return _Attachment(name, bytes(contents), kind, subtype)


def _attach(made: EmailMessage, attachment: _Attachment) -> None:
    options: dict[str, Any] = {"maintype": attachment.type, "subtype": attachment.subtype}
    if attachment.type == "text":
        options["params"] = {"charset": "utf-8"}
    made.add_attachment(attachment.contents, filename=attachment.name, **options)
