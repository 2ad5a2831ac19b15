"""What migrations build tables from: the shapes that object types share.

A shape is never changed, only added: the migrations of released versions must go on doing what they did.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

NOW = sa.text("now()")


def key(table: str) -> sa.PrimaryKeyConstraint:
    """The primary key of a table."""
    return sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def cluster(table: str) -> list[sa.schema.SchemaItem]:
    """The reference to the cluster."""
    return [
        sa.Column("cluster_id", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["cluster.id"], name=f"fk_{table}_cluster_id", ondelete="CASCADE"
        ),
    ]


def identity() -> sa.Column[Any]:
    """The column of a generated id."""
    return sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)


def moment(name: str) -> sa.Column[Any]:
    """A time that is now by default."""
    return sa.Column(name, sa.DateTime(timezone=True), server_default=NOW, nullable=False)


def text(name: str, size: int | None = 200, **more: Any) -> sa.Column[Any]:
    """A text of up to ``size`` characters, None for any."""
    return sa.Column(name, sa.String(size) if size else sa.Text, nullable=False, **more)


def maybe(name: str) -> sa.Column[Any]:
    """A time that may be missing."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def number(name: str, type_: Any = sa.Integer, **more: Any) -> sa.Column[Any]:
    """A whole number."""
    return sa.Column(name, type_, nullable=False, **more)


def flag(name: str, **more: Any) -> sa.Column[Any]:
    """A yes or no."""
    return sa.Column(name, sa.Boolean, nullable=False, **more)


def belongs(table: str, column: str, owner: str, *, ondelete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    """The reference of a row to the one that it belongs to, and goes with."""
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=f"fk_{table}_{column}", ondelete=ondelete)


def object_table(
    table: str, *columns: sa.Column[Any], unique: tuple[str, ...] = ("cluster_id", "name")
) -> None:
    """An object type's table: the columns that all have, and its own."""
    op.create_table(
        table,
        identity(),
        *cluster(table),
        text("name"),
        number("version", server_default="1"),
        flag("is_internal", server_default="false"),
        text("owner", server_default=""),
        moment("created"),
        moment("modified"),
        *columns,
        key(table),
        sa.UniqueConstraint(*unique, name=f"uq_{table}_{'_'.join(unique)}"),
    )
    op.create_index(f"ix_{table}_cluster_id", table, ["cluster_id"])


def reference(table: str, column: str, target: str, *, optional: bool) -> None:
    """A reference to another object, with its index."""
    op.add_column(table, sa.Column(column, sa.BigInteger, nullable=optional))
    op.create_foreign_key(f"fk_{table}_{column}", table, target, [column], ["id"], ondelete="RESTRICT")
    op.create_index(f"ix_{table}_{column}", table, [column])


def member(table: str, family: str, *columns: sa.Column[Any]) -> None:
    """The table of a family's member: its own columns, under the key of the family's row."""
    op.create_table(
        table,
        number("id", sa.BigInteger),
        *columns,
        key(table),
        sa.ForeignKeyConstraint(["id"], [f"{family}.id"], name=f"fk_{table}_id", ondelete="CASCADE"),
    )
