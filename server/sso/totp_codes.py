"""Codes of RFC 6238: their keys, which step of time a code is of, and what authenticators scan.

Six digits, HMAC-SHA-1 and steps of 30 seconds: what every authenticator understands.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
from typing import Final

import pyotp
import segno

from junctor.server.sso.errors import invalid

STEP: Final = 30  # seconds
DIGITS: Final = 6
LEAST_KEY: Final = 16  # bytes, as RFC 4226 demands
MAX_KEY: Final = 200  # characters
MAX_LABEL: Final = 200  # characters
DEFAULT_ISSUER: Final = "Junctor"


def new_key() -> str:
    """A key of 160 random bits, in base 32."""
    return pyotp.random_base32()


def checked_key(key: str) -> str:
    """A given key as it is stored: base 32 in upper case, without spaces and padding.

    Raises ``ValidationError`` (E008002) for what is none, or can be guessed because it is too short.
    """
    given = "".join(key.split()).upper().rstrip("=")
    if len(given) > MAX_KEY:
        raise invalid("totp_key", f"must not have more than {MAX_KEY} characters.")
    try:
        if not key.isascii():  # 'ß' would become 'SS'
            raise ValueError("not base 32")
        decoded = base64.b32decode(given + "=" * (-len(given) % 8))
    except (binascii.Error, ValueError):
        raise invalid("totp_key", "must be in base 32: letters from A to Z and digits from 2 to 7.") from None
    if len(decoded) < LEAST_KEY:
        raise invalid("totp_key", f"must have at least {LEAST_KEY} bytes, which are 26 characters.")
    return given


def checked_label(label: str) -> str:
    """A given label as it is stored.  Raises ``ValidationError`` (E008002)."""
    given = label.strip()
    if len(given) > MAX_LABEL or not given.isprintable():
        raise invalid("totp_label", f"must be at most {MAX_LABEL} printable characters.")
    return given


def step_of(key: str, code: str, *, now: float, after: int) -> int | None:
    """The step of time that ``code`` is of: the current one at ``now`` (seconds since the epoch), or a neighbour of it.

    None for a wrong code, and for one of a step not after ``after``, the one that was used last.  Takes the same time for any code of
    six digits.
    """
    given = "".join(code.split())
    if len(given) != DIGITS or not (given.isascii() and given.isdigit()):
        return None
    totp, current, found = pyotp.TOTP(key, digits=DIGITS, interval=STEP), int(now // STEP), None
    for step in (current - 1, current, current + 1):
        is_equal = hmac.compare_digest(totp.generate_otp(step), given)
        if is_equal and step > after:
            found = step
    return found


def uri(key: str, label: str, issuer: str) -> str:
    """What an authenticator scans."""
    return pyotp.TOTP(key, digits=DIGITS, interval=STEP).provisioning_uri(
        name=label, issuer_name=issuer or DEFAULT_ISSUER
    )


def qr_svg(uri_: str) -> str:
    """A QR code as a complete SVG image, which scales."""
    out = io.BytesIO()
    segno.make(uri_, error="m", micro=False).save(out, kind="svg", xmldecl=False, omitsize=True, border=4)
    return out.getvalue().decode().strip()
