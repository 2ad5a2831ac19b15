"""Reading the audit trail: filtered, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, select, tuple_

from junctor.server.audit.seal import timestamp
from junctor.sql.engine import database_errors
from junctor.sql.errors import InvalidInput
from junctor.sql.store import Store
from junctor.sql.tables.audit import AuditEvent

MAX_PAGE: Final = 1000
_EQUAL: Final = ("actor", "target", "op", "outcome", "cid", "app", "remote_addr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events: '' and None = any.  ``since`` is inclusive, ``until`` exclusive; ``cursor`` is of the page before.

    The newest come first, unless ``oldest_first``.
    """

    actor: str = ""
    target: str = ""
    op: str = ""
    outcome: str = ""
    cid: str = ""
    app: str = ""
    remote_addr: str = ""
    since: datetime | None = None
    until: datetime | None = None
    oldest_first: bool = False
    page_size: int = 50
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Events as dictionaries of JSON; ``cursor`` is for the next page, '' = there is none."""

    events: list[dict[str, Any]]
    cursor: str


def find(store: Store, wanted: Wanted) -> Page:
    """A page of events of a cluster.  Raises ``InvalidInput``, ``StoreUnavailable`` or ``SchemaOutdated``."""
    size = min(max(1, wanted.page_size), MAX_PAGE)
    by = (AuditEvent.at, AuditEvent.id)
    statement = (
        select(AuditEvent.__table__)
        .where(AuditEvent.cluster_id == store.cluster_id, *_conditions(wanted))
        .order_by(*(by if wanted.oldest_first else [column.desc() for column in by]))
        .limit(size + 1)
    )
    with database_errors(), store.engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(statement)]
    has_more = len(rows) > size
    rows = rows[:size]
    return Page([shown(row) for row in rows], _cursor(rows[-1]) if has_more else "")


def get(store: Store, id_: int) -> dict[str, Any] | None:
    """One event; None if there is none.  Raises ``StoreUnavailable`` or ``SchemaOutdated``."""
    statement = select(AuditEvent.__table__).where(
        AuditEvent.cluster_id == store.cluster_id, AuditEvent.id == id_
    )
    with database_errors(), store.engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else shown(row._asdict())


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event as JSON: its columns, with digests in hexadecimal digits, and what is empty as it is."""
    event = dict(row)
    event["at"] = timestamp(row["at"])
    event["mac"] = bytes(row["mac"]).hex()
    event["chain"] = None if row["chain"] is None else bytes(row["chain"]).hex()
    return event


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name in _EQUAL:
        value: str = getattr(wanted, name)
        column = getattr(AuditEvent, name)
        if name == "op" and value.endswith("*"):
            conditions.append(column.startswith(value[:-1], autoescape=True))
        elif value:
            conditions.append(column == value)
    if wanted.since is not None:
        conditions.append(AuditEvent.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEvent.at < wanted.until)
    if wanted.cursor:
        place = tuple_(AuditEvent.at, AuditEvent.id)
        at, id_ = _place(wanted.cursor)
        conditions.append(place > (at, id_) if wanted.oldest_first else place < (at, id_))
    return conditions


def _cursor(row: Mapping[str, Any]) -> str:
    return f"{timestamp(row['at'])}/{row['id']}"


def _place(cursor: str) -> tuple[datetime, int]:
    at, _, id_ = cursor.partition("/")
    try:
        found = datetime.fromisoformat(at), int(id_)
    except ValueError:
        raise InvalidInput.one("cursor", "is none that a page before this one had.") from None
    if found[0].tzinfo is None or not 0 <= found[1] < 2**63:
        raise InvalidInput.one("cursor", "is none that a page before this one had.")
    return found
