"""E-mail addresses as people write them, taken apart and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.errors import MessageDefect, NonASCIILocalPartDefect
from email.headerregistry import Address, HeaderRegistry
from typing import Final

import idna

from junctor.sql.errors import InvalidInput

MAX_GIVEN: Final = 2000  # characters of one text
MAX_LOCAL_PART: Final = 64  # bytes, RFC 5321
MAX_DOMAIN: Final = 255
HOST_NAME: Final = re.compile(
    r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?", re.ASCII
)
LITERAL: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]", re.ASCII)
_header = HeaderRegistry()


def addresses(field: str, given: str | Iterable[str] | None) -> list[Address]:
    """The addresses in a text, such as 'Anna <anna@example.com>, bob@example.com', or in several.

    International domains become ASCII (IDNA 2008).  Raises ``InvalidInput``, which names the ``field`` and never has the address.
    """
    texts = [given] if isinstance(given, str) else list(given or ())
    return [address for text in texts if text for address in _parsed(field, text)]


def single(field: str, given: str | None) -> Address:
    """The one address in a text.  Raises ``InvalidInput``."""
    found = addresses(field, given)
    if len(found) != 1:
        raise InvalidInput.one(field, "must be one e-mail address.")
    return found[0]


def _parsed(field: str, text: str) -> list[Address]:
    if not isinstance(text, str) or len(text) > MAX_GIVEN:
        raise InvalidInput.one(field, f"must be text of up to {MAX_GIVEN} characters, or a list of such.")
    if not text.isprintable():
        raise InvalidInput.one(field, "must be one line, without control characters.")
    try:
        header = _header("to", text)
        found: tuple[Address, ...] = header.addresses  # type: ignore[attr-defined]  # typed for other headers
        defects: Iterable[MessageDefect] = header.defects
    except (
        IndexError,
        ValueError,
    ):  # what the parser of the standard library makes of some texts, such as 'a@'
        found, defects = (), ()
    if not found or any(not isinstance(defect, NonASCIILocalPartDefect) for defect in defects):
        raise InvalidInput.one(field, "must be an e-mail address such as anna@example.com.")
    return [_checked(field, address) for address in found]


def _checked(field: str, address: Address) -> Address:
    local_part, domain = address.username, address.domain
    if not local_part or len(local_part.encode("utf-8", "surrogatepass")) > MAX_LOCAL_PART:
        raise InvalidInput.one(field, f"must have 1 to {MAX_LOCAL_PART} bytes before the @.")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise InvalidInput.one(field, "has a domain that there cannot be.") from None
    if len(domain) > MAX_DOMAIN or not (HOST_NAME.fullmatch(domain) or LITERAL.fullmatch(domain)):
        raise InvalidInput.one(field, "has a domain that there cannot be.")
    return Address(address.display_name, local_part, domain)
