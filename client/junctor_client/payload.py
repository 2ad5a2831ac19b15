"""What is sent: JSON, with forms for a few more types than JSON has."""

from __future__ import annotations

import json
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID


def encode(data: Any) -> str:
    """Data as JSON.  Raises ``TypeError`` or ``ValueError`` for what JSON cannot express."""
    return json.dumps(data, default=_express, ensure_ascii=False, allow_nan=False)


def _express(value: object) -> str:
    """Values that JSON has no form for: dates in ISO 8601, decimals without loss, identifiers."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}.")
