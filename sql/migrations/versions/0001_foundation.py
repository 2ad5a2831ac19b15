"""The foundation: clusters, servers, services, security definitions, REST; the change feed; workers."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def _key(table: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _cluster(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("cluster_id", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["cluster.id"], name=f"fk_{table}_cluster_id", ondelete="CASCADE"
        ),
    ]


def _identity() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)


def _moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=NOW, nullable=False)


def _text(name: str, size: int | None = 200, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.String(size) if size else sa.Text, nullable=False, **more)


def _number(name: str, type_: Any = sa.Integer, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, **more)


def _flag(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False, **more)


def _object(table: str, *columns: sa.Column[Any], unique: tuple[str, ...] = ("cluster_id", "name")) -> None:
    """An object type's table: the columns that all have, and its own."""
    op.create_table(
        table,
        _identity(),
        *_cluster(table),
        _text("name"),
        _number("version", server_default="1"),
        _flag("is_internal", server_default="false"),
        _text("owner", server_default=""),
        _moment("created"),
        _moment("modified"),
        *columns,
        _key(table),
        sa.UniqueConstraint(*unique, name=f"uq_{table}_{'_'.join(unique)}"),
    )
    op.create_index(f"ix_{table}_cluster_id", table, ["cluster_id"])


def _reference(table: str, column: str, target: str, *, optional: bool) -> None:
    op.add_column(table, sa.Column(column, sa.BigInteger, nullable=optional))
    op.create_foreign_key(f"fk_{table}_{column}", table, target, [column], ["id"], ondelete="RESTRICT")
    op.create_index(f"ix_{table}_{column}", table, [column])


def _member(table: str, family: str, *columns: sa.Column[Any]) -> None:
    """The table of a family's member: its own columns, under the key of the family's row."""
    op.create_table(
        table,
        _number("id", sa.BigInteger),
        *columns,
        _key(table),
        sa.ForeignKeyConstraint(["id"], [f"{family}.id"], name=f"fk_{table}_id", ondelete="CASCADE"),
    )


def upgrade() -> None:
    op.create_table(
        "cluster",
        _identity(),
        _text("name"),
        _number("config_version", sa.BigInteger, server_default="0"),
        _moment("created"),
        _key("cluster"),
        sa.UniqueConstraint("name", name="uq_cluster_name"),
    )
    _object(
        "cluster_settings",
        _text("description", 1000),
        _number("access_log_sample"),
        _text("error_format", 60),
        _number("max_body_size"),
        unique=("cluster_id",),
    )
    _object("server", _text("host"), _number("port"))
    _object("service_source", _text("content", None), _text("digest", 64), _text("deployed_by"))
    _object("service", _flag("is_active"), _number("slow_threshold"), _text("impl_name"))
    _reference("service", "service_source_id", "service_source", optional=True)
    _object("security", _text("type", 60), _flag("is_active"))
    _member("security_basic_auth", "security", _text("username"), _text("realm"), _text("password", None))
    _member("security_api_key", "security", _text("header"), _text("key", None))
    _rest()
    _data()


def _rest() -> None:
    _object(
        "channel_rest",
        _flag("is_active"),
        _text("url_path", 500),
        _flag("match_slash"),
        _text("method", 60),
        _text("data_format", 60),
        _text("content_type"),
        _text("content_encoding", 60),
        _text("error_format", 60),
        _number("timeout"),
        _number("max_body_size"),
        _flag("merge_url_params_req"),
        _text("url_params_pri", 60),
        _text("params_pri", 60),
    )
    _reference("channel_rest", "service_id", "service", optional=False)
    _reference("channel_rest", "security_id", "security", optional=True)
    op.create_index("ix_channel_rest_cluster_id_url_path", "channel_rest", ["cluster_id", "url_path"])
    _object(
        "outgoing_rest",
        _flag("is_active"),
        _text("host", 500),
        _text("url_path", 500),
        _text("data_format", 60),
        _text("content_type"),
        _number("timeout"),
        _number("pool_size"),
        _text("ping_method", 60),
        _flag("tls_verify"),
    )
    _reference("outgoing_rest", "security_id", "security", optional=True)


def _data() -> None:
    op.create_table(
        "config_change",
        *_cluster("config_change"),
        _number("version", sa.BigInteger),
        _number("position"),
        _text("kind", 60),
        _number("object_id", sa.BigInteger),
        _text("name"),
        _text("verb", 10),
        _text("who"),
        _text("cid", 60, server_default=""),
        _moment("at"),
        sa.Column("before", JSONB),
        sa.Column("after", JSONB),
        sa.PrimaryKeyConstraint("cluster_id", "version", "position", name="pk_config_change"),
    )
    op.create_table(
        "service_source_version",
        _identity(),
        *_cluster("service_source_version"),
        _text("name"),
        _number("number"),
        _text("content", None),
        _text("digest", 64),
        _text("who"),
        _moment("at"),
        _key("service_source_version"),
    )
    op.create_index("ix_service_source_version_cluster_id", "service_source_version", ["cluster_id"])
    op.create_index("ix_service_source_version_name", "service_source_version", ["name"])
    op.create_table(
        "worker",
        _identity(),
        *_cluster("worker"),
        _text("server"),
        _text("host"),
        _number("pid"),
        _moment("started"),
        _moment("seen"),
        _text("state", 20, server_default="running"),
        _number("applied_version", sa.BigInteger, server_default="0"),
        _number("memory", sa.BigInteger, server_default="0"),
        sa.Column("problems", JSONB, server_default="{}", nullable=False),
        _key("worker"),
    )
    op.create_index("ix_worker_cluster_id", "worker", ["cluster_id"])


def downgrade() -> None:
    for table in (
        "worker",
        "service_source_version",
        "config_change",
        "outgoing_rest",
        "channel_rest",
        "security_api_key",
        "security_basic_auth",
        "security",
        "service",
        "service_source",
        "server",
        "cluster_settings",
        "cluster",
    ):
        op.drop_table(table)
