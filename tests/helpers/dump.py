"""Everything that a database has, as somebody reads it who got hold of a copy."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Engine, text

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_TABLES: Final = text("""
    SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'
""")


def leaves(engine: Engine) -> Iterator[str | bytes]:
    """Every text and every binary value of every row of every table, those within JSON one by one."""
    with engine.connect() as connection:
        for table in connection.execute(_TABLES).scalars().all():
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                for value in row:
                    yield from _leaves(value)


def readings(value: str | bytes) -> Iterator[str]:
    """A value as text, and as what it may be an encoding of."""
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        yield raw.decode("latin-1")
        yield raw.hex()
        yield base64.b64encode(raw).decode()
        yield base64.urlsafe_b64encode(raw).decode()
        return
    yield value
    for encoded in _BASE64.findall(value):
        padded = encoded + "=" * (-len(encoded) % 4)
        for decode in (base64.b64decode, base64.urlsafe_b64decode):
            try:
                yield decode(padded).decode("latin-1")
            except (binascii.Error, ValueError):
                continue
        if re.fullmatch(r"([0-9a-f]{2})+", encoded):
            yield bytes.fromhex(encoded).decode("latin-1")


def found(secrets: Iterable[str], values: Iterable[str | bytes]) -> set[str]:
    """Which of these secrets are in one of the values, in any case or encoding."""
    everything = "\n".join(reading for value in values for reading in readings(value)).lower()
    return {secret for secret in secrets if secret.lower() in everything}


def _leaves(value: Any) -> Iterator[str | bytes]:
    if isinstance(value, str | bytes | memoryview):
        yield value if isinstance(value, str) else bytes(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield str(value)
