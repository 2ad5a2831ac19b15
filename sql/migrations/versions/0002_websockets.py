"""WebSocket channels and outgoing connections, JWT; connected clients; leases; revoked tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from junctor.sql.migrations.shapes import cluster, flag, identity, key, member, moment, number, object_table, reference, text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def lines(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, JSONB, nullable=False)


def upgrade() -> None:
    _channel()
    _outgoing()
    member(
        "security_jwt",
        "security",
        text("username"),
        text("password", None),
        text("algorithm", 60),
        text("signing_key", None),
        text("public_keys", 50_000),
        number("ttl"),
        text("issuer"),
        text("audience"),
    )
    _data()


def _channel() -> None:
    object_table(
        "channel_websocket",
        flag("is_active"),
        text("address", 300),
        text("data_format", 60),
        number("new_token_wait_time"),
        number("token_ttl"),
        number("ping_interval"),
        number("pings_missed_threshold"),
        lines("gateway_services"),
        lines("allowed_origins"),
        number("max_message_size"),
        number("max_connections"),
        number("max_concurrent"),
        number("max_pending"),
        flag("compression"),
        text("tls_certificate", 100_000),
        text("tls_key", None),
    )
    reference("channel_websocket", "service_id", "service", optional=False)
    reference("channel_websocket", "security_id", "security", optional=True)
    reference("channel_websocket", "hook_service_id", "service", optional=True)


def _outgoing() -> None:
    object_table(
        "outgoing_websocket",
        flag("is_active"),
        text("address", 500),
        flag("is_zato"),
        flag("has_auto_reconnect"),
        lines("subscription_list"),
        number("timeout"),
        number("ping_interval"),
        number("max_message_size"),
        flag("tls_verify"),
    )
    reference("outgoing_websocket", "security_id", "security", optional=True)
    reference("outgoing_websocket", "on_connect_service_id", "service", optional=True)
    reference("outgoing_websocket", "on_message_service_id", "service", optional=True)
    reference("outgoing_websocket", "on_close_service_id", "service", optional=True)


def _data() -> None:
    op.add_column("worker", sa.Column("states", JSONB, server_default="{}", nullable=False))
    table = "web_socket_client"
    op.create_table(
        table,
        identity(),
        *cluster(table),
        number("worker_id", sa.BigInteger),
        number("channel_id", sa.BigInteger),
        text("pub_client_id"),
        text("ext_client_id", 500),
        text("ext_client_name", None),
        sa.Column("attributes", JSONB, server_default="{}", nullable=False),
        text("local_address"),
        text("peer_address"),
        text("forwarded_for", 500, server_default=""),
        moment("connected"),
        key(table),
        sa.UniqueConstraint("pub_client_id", name=f"uq_{table}_pub_client_id"),
        sa.ForeignKeyConstraint(["worker_id"], ["worker.id"], name=f"fk_{table}_worker_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channel_websocket.id"], name=f"fk_{table}_channel_id", ondelete="CASCADE"
        ),
    )
    for column in ("cluster_id", "worker_id", "channel_id", "ext_client_id"):
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.create_index(
        f"ix_{table}_attributes",
        table,
        ["attributes"],
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    )
    op.create_table(
        "lease",
        *cluster("lease"),
        text("name", 300),
        number("worker_id", sa.BigInteger),
        number("fence", sa.BigInteger, server_default="0"),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cluster_id", "name", name="pk_lease"),
    )
    table = "revoked_token"
    op.create_table(
        table,
        identity(),
        *cluster(table),
        number("security_id", sa.BigInteger),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        key(table),
        sa.UniqueConstraint(
            "cluster_id", "security_id", "digest", name=f"uq_{table}_cluster_id_security_id_digest"
        ),
        sa.ForeignKeyConstraint(
            ["security_id"], ["security.id"], name=f"fk_{table}_security_id", ondelete="CASCADE"
        ),
    )
    for columns in (("cluster_id", "id"), ("security_id",), ("expires",)):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def downgrade() -> None:
    op.drop_column("worker", "states")
    for table in ("revoked_token", "lease", "web_socket_client", "outgoing_websocket", "channel_websocket"):
        op.drop_table(table)
    op.execute("DELETE FROM security WHERE type = 'security_jwt'")
    op.drop_table("security_jwt")
