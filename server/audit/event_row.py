"""An event as a row: cleaned, bounded and sealed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.audit.seal import Seals, content

if TYPE_CHECKING:
    from junctor.server.audit.trail import Event

LIMITS: Final = {  # characters
    "cid": 200,
    "op": 100,
    "outcome": 20,
    "actor": 200,
    "target": 200,
    "app": 200,
    "remote_addr": 200,
    "user_agent": 500,
    "reason": 1000,
}
MAX_EXTRA: Final = 16_384  # bytes of JSON; more is replaced by a note of how much there was
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 1000  # of a list or a dictionary
MAX_WHOLE: Final = 2**53  # up to which JSON's readers agree on numbers


def row_of(event: Event, cluster_id: int, seals: Seals) -> dict[str, Any]:
    """The columns of ``AuditEvent`` for an event of this moment; what the database does not take is replaced, what is too long cut."""
    row: dict[str, Any] = {name: clean(getattr(event, name), limit) for name, limit in LIMITS.items()}
    row["cluster_id"] = cluster_id
    row["at"] = datetime.now(UTC)
    row["extra"] = extra_of(event.extra)
    row["key_id"], row["mac"] = seals.make(content(row))
    return row


def clean(value: Any, limit: int) -> str:
    """A text that the database takes, of ``limit`` characters at the most."""
    text = value if isinstance(value, str) else str(value)
    text = text[:limit]
    if text.isascii():
        return text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def extra_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """JSON that the database gives back as it was; ``{"omitted_bytes": N}`` for what is too large."""
    if not given:
        return {}
    found = _plain(dict(given), MAX_DEPTH)
    size = len(orjson.dumps(found))
    return found if size <= MAX_EXTRA else {"omitted_bytes": size}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {clean(name, 200): _plain(item, depth - 1) for name, item in items}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
    if isinstance(value, date):  # and datetime
        value = value.isoformat()
    return clean(value, MAX_EXTRA)


def _number(value: int | float) -> Any:
    """A number that stays the same in a column of JSON; its text if there is none."""
    if isinstance(value, int):
        return value if abs(value) <= MAX_WHOLE else str(value)
    if not math.isfinite(value):
        return str(value)
    if value.is_integer():
        return int(value) if abs(value) <= MAX_WHOLE else str(value)
    return value if abs(value) > 1e-300 else str(value)
