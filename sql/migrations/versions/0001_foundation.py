"""The foundation: clusters, servers, services, security definitions, REST; the change feed; workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from junctor.sql.migrations.shapes import cluster, flag, identity, key, member, moment, number, object_table, reference, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

def upgrade() -> None:
    op.create_table(
        "cluster",
        identity(),
        text("name"),
        number("config_version", sa.BigInteger, server_default="0"),
        moment("created"),
        key("cluster"),
        sa.UniqueConstraint("name", name="uq_cluster_name"),
    )
    object_table(
        "cluster_settings",
        text("description", 1000),
        number("access_log_sample"),
        text("error_format", 60),
        number("max_body_size"),
        unique=("cluster_id",),
    )
    object_table("server", text("host"), number("port"))
    object_table("service_source", text("content", None), text("digest", 64), text("deployed_by"))
    object_table("service", flag("is_active"), number("slow_threshold"), text("impl_name"))
    reference("service", "service_source_id", "service_source", optional=True)
    object_table("security", text("type", 60), flag("is_active"))
    member("security_basic_auth", "security", text("username"), text("realm"), text("password", None))
    member("security_api_key", "security", text("header"), text("key", None))
    _rest()
    _data()


def _rest() -> None:
    object_table(
        "channel_rest",
        flag("is_active"),
        text("url_path", 500),
        flag("match_slash"),
        text("method", 60),
        text("data_format", 60),
        text("content_type"),
        text("content_encoding", 60),
        text("error_format", 60),
        number("timeout"),
        number("max_body_size"),
        flag("merge_url_params_req"),
        text("url_params_pri", 60),
        text("params_pri", 60),
    )
    reference("channel_rest", "service_id", "service", optional=False)
    reference("channel_rest", "security_id", "security", optional=True)
    op.create_index("ix_channel_rest_cluster_id_url_path", "channel_rest", ["cluster_id", "url_path"])
    object_table(
        "outgoing_rest",
        flag("is_active"),
        text("host", 500),
        text("url_path", 500),
        text("data_format", 60),
        text("content_type"),
        number("timeout"),
        number("pool_size"),
        text("ping_method", 60),
        flag("tls_verify"),
    )
    reference("outgoing_rest", "security_id", "security", optional=True)


def _data() -> None:
    op.create_table(
        "config_change",
        *cluster("config_change"),
        number("version", sa.BigInteger),
        number("position"),
        text("kind", 60),
        number("object_id", sa.BigInteger),
        text("name"),
        text("verb", 10),
        text("who"),
        text("cid", 60, server_default=""),
        moment("at"),
        sa.Column("before", JSONB),
        sa.Column("after", JSONB),
        sa.PrimaryKeyConstraint("cluster_id", "version", "position", name="pk_config_change"),
    )
    op.create_table(
        "service_source_version",
        identity(),
        *cluster("service_source_version"),
        text("name"),
        number("number"),
        text("content", None),
        text("digest", 64),
        text("who"),
        moment("at"),
        key("service_source_version"),
    )
    op.create_index("ix_service_source_version_cluster_id", "service_source_version", ["cluster_id"])
    op.create_index("ix_service_source_version_name", "service_source_version", ["name"])
    op.create_table(
        "worker",
        identity(),
        *cluster("worker"),
        text("server"),
        text("host"),
        number("pid"),
        moment("started"),
        moment("seen"),
        text("state", 20, server_default="running"),
        number("applied_version", sa.BigInteger, server_default="0"),
        number("memory", sa.BigInteger, server_default="0"),
        sa.Column("problems", JSONB, server_default="{}", nullable=False),
        key("worker"),
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
