"""What encrypted e-mail addresses are looked up by: a keyed digest, which tells nothing to whoever has the database alone."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from typing import Final

EMAIL: Final = "sso.email"
"""The purpose that the keys are derived for."""


def email_key(email: str) -> str:
    """What an e-mail address is looked up by."""
    return unicodedata.normalize("NFC", email.strip().casefold())


def digest(key: bytes, value: str) -> bytes:
    """The digest of ``value`` under a derived key: 32 bytes."""
    return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
