"""The change feed: what each version of the configuration changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from junctor.sql.objects.cluster import ClusterRow
from junctor.sql.tables.change import ConfigChange

CREATE, EDIT, DELETE = "create", "edit", "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One object that was created, edited or deleted; ``before`` and ``after`` hold fingerprints instead of secrets."""

    kind: str
    object_id: int
    name: str
    verb: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    version: int = 0
    who: str = ""
    cid: str = ""
    at: datetime | None = field(default=None, compare=False)

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """The fields that the change gave another value: name -> (before, after)."""
        before, after = self.before or {}, self.after or {}
        names = [*after, *(name for name in before if name not in after)]
        return {
            n: (before.get(n), after.get(n))
            for n in names
            if n != "version" and before.get(n) != after.get(n)
        }


def lock_version(connection: Connection, cluster_id: int) -> int:
    """The current version, held against every other writer until the transaction ends.

    The row's key is not locked, so rows that only refer to the cluster can be inserted meanwhile, as with messages.
    """
    statement = select(ClusterRow.config_version).where(ClusterRow.id == cluster_id)
    statement = statement.with_for_update(key_share=True)
    return connection.execute(statement).scalar_one()


def current_version(connection: Connection, cluster_id: int) -> int:
    """The current version."""
    return connection.execute(
        select(ClusterRow.config_version).where(ClusterRow.id == cluster_id)
    ).scalar_one()


def record(
    connection: Connection, cluster_id: int, version: int, changes: Sequence[Change], *, who: str, cid: str
) -> None:
    """Writes the changes of one version; they become visible together with the rows, when the transaction is committed."""
    rows = [
        {
            "cluster_id": cluster_id,
            "version": version,
            "position": position,
            "kind": change.kind,
            "object_id": change.object_id,
            "name": change.name,
            "verb": change.verb,
            "who": who[:200],
            "cid": cid[:60],
            "before": change.before,
            "after": change.after,
        }
        for position, change in enumerate(changes)
    ]
    connection.execute(insert(ConfigChange), rows)
    table = ClusterRow.__table__
    connection.execute(table.update().where(table.c.id == cluster_id).values(config_version=version))  # type: ignore[attr-defined]  # a Table


def since(connection: Connection, cluster_id: int, version: int, *, limit: int | None = None) -> list[Change]:
    """The changes of all versions after ``version``, oldest first."""
    statement = (
        select(ConfigChange)
        .where(ConfigChange.cluster_id == cluster_id, ConfigChange.version > version)
        .order_by(ConfigChange.version, ConfigChange.position)
        .limit(limit)
    )
    return [
        _change(row)
        for row in connection.execute(statement.with_only_columns(*ConfigChange.__table__.columns))
    ]


def history(
    connection: Connection, cluster_id: int, *, before: int | None = None, limit: int = 50
) -> list[Change]:
    """The newest ``limit`` changes, newest first; those of versions below ``before`` when it is given."""
    statement = select(*ConfigChange.__table__.columns).where(ConfigChange.cluster_id == cluster_id)
    if before is not None:
        statement = statement.where(ConfigChange.version < before)
    statement = statement.order_by(ConfigChange.version.desc(), ConfigChange.position.desc()).limit(limit)
    return [_change(row) for row in connection.execute(statement)]


def _change(row: Any) -> Change:
    return Change(
        row.kind,
        row.object_id,
        row.name,
        row.verb,
        row.before,
        row.after,
        row.version,
        row.who,
        row.cid,
        row.at,
    )
