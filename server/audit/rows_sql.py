"""How rows are written: one statement for one event or for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

_TEXTS: Final = (
    "cid",
    "op",
    "outcome",
    "actor",
    "target",
    "app",
    "remote_addr",
    "user_agent",
    "reason",
    "key_id",
)
# A row that is there already is the same one, of an attempt whose outcome nobody learned: no two seals are equal.
_INSERT: Final = text(f"""
    INSERT INTO audit_event (cluster_id, at, extra, mac, {", ".join(_TEXTS)})
    SELECT :cluster_id, * FROM unnest(
        CAST(:at AS timestamptz[]), CAST(:extra AS jsonb[]), CAST(:mac AS bytea[]),
        {", ".join(f"CAST(:{name} AS text[])" for name in _TEXTS)})
    ON CONFLICT (cluster_id, at, mac) DO NOTHING
""")  # noqa: S608 - of constants


def insert_rows(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows of one cluster, in their order."""
    given: dict[str, Any] = {name: [row[name] for row in rows] for name in _TEXTS}
    given["cluster_id"] = rows[0]["cluster_id"]
    given["at"] = [row["at"] for row in rows]
    given["mac"] = [row["mac"] for row in rows]
    given["extra"] = [orjson.dumps(row["extra"]).decode() for row in rows]
    connection.execute(_INSERT, given)
