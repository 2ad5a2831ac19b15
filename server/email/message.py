"""``SMTPMessage``: an e-mail as services write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class SMTPMessage:
    """An e-mail.

    ``to``, ``cc`` and ``bcc`` are a text or several, with one address or more in each; ``body`` is plain text, or HTML if ``is_html``.
    ``attachments`` are mappings with a ``name`` and ``contents``, text or bytes.  ``headers`` are further ones by their names.  The names
    of attachments are always written as RFC 2231 says; ``is_rfc2231`` is there for services that give it.

    Nothing is checked before the message is sent.
    """

    def __init__(  # noqa: PLR0913 - the contract
        self,
        from_: str | None = None,
        to: str | Iterable[str] | None = None,
        subject: str = "",
        body: str = "",
        attachments: Iterable[Mapping[str, Any]] | None = None,
        cc: str | Iterable[str] | None = None,
        bcc: str | Iterable[str] | None = None,
        is_html: bool = False,
        headers: Mapping[str, str] | None = None,
        charset: str = "utf8",
        is_rfc2231: bool = True,
    ) -> None:
        self.from_ = from_
        self.to = to
        self.subject = subject
        self.body = body
        self.attachments: list[Mapping[str, Any]] = list(attachments or ())
        self.cc = cc
        self.bcc = bcc
        self.is_html = is_html
        self.headers: dict[str, str] = dict(headers or {})
        self.charset = charset
        self.is_rfc2231 = is_rfc2231

    def attach(self, name: str, contents: str | bytes) -> None:
        """Attaches something; its type follows from the end of its name."""
        self.attachments.append({"name": name, "contents": contents})
