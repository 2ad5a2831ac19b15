"""The texts of e-mails: those that come with the server, and those of the settings in their place.

A text may begin with a line 'Subject: ...' and an empty one.  Placeholders are ``{username}``, ``{data.username}`` or ``%(username)s``;
their values are put in as they are, once: nothing in a text or a value is ever executed, or taken for a placeholder in its turn.  One
that is not known stays as it is.  Lines that are empty for want of a value, as that of ``{link}`` without a ``site_url``, are left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

SUBJECT: Final = "Subject:"
MAX_NAME: Final = 64  # characters of a name in an e-mail
_PLACEHOLDER: Final = re.compile(r"\{(?:data\.)?([a-z_]{1,40})\}|%\((?:data\.)?([a-z_]{1,40})\)s")
_HTML: Final = re.compile(r"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)
_IN_LINKS: Final = re.compile(r"[:/\\]+")
_BLANKS: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Text:
    """The subject and the body of an e-mail."""

    subject: str
    body: str
    is_html: bool = False


@cache
def packaged(name: str) -> str:
    """A text that comes with the server, such as 'confirm'.  Raises ``FileNotFoundError``, a mistake of whoever asks."""
    return files(__package__).joinpath("templates", f"{name}.txt").read_text(encoding="utf-8")


def text_of(name: str, values: Mapping[str, str], *, template: str = "", subject: str = "") -> Text:
    """A text with its values: ``template`` in the place of the packaged one, unless it is ''; ``subject`` likewise.

    A template that begins as an HTML page is one, and values in it are escaped.
    """
    packaged_subject, packaged_body = _split(packaged(name))
    own_subject, body = _split(template) if template.strip() else ("", packaged_body)
    is_html = bool(_HTML.match(body))
    title = filled(own_subject or subject or packaged_subject, values)
    escaped = {key: html.escape(value) for key, value in values.items()} if is_html else values
    return Text(_BLANKS.sub(" ", title).strip(), filled(body, escaped), is_html)


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with its values."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1] or found[2], found[0])

    lines, was_dropped = [], False
    for line in template.splitlines():
        made = _PLACEHOLDER.sub(value, line)
        is_dropped = bool(line.strip()) and not made.strip()
        if not is_dropped and not (was_dropped and not made.strip()):
            lines.append(made)
        was_dropped = is_dropped
    return "\n".join(lines)


def harmless(name: str) -> str:
    """A name as it may stand in an e-mail to somebody who need not know whose it is: on one line, short, and no link."""
    shown = _BLANKS.sub(" ", _IN_LINKS.sub(" ", name)).strip()
    shown = "".join(character for character in shown if character.isprintable())
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 1]}…"


def _split(template: str) -> tuple[str, str]:
    first, _, rest = template.lstrip("\n").partition("\n")
    if first.startswith(SUBJECT):
        return first.removeprefix(SUBJECT).strip(), rest.lstrip("\n")
    return "", template
