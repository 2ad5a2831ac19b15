"""Publish/subscribe: topics, endpoints, subscriptions; messages, queues, dead letters."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from junctor.sql.migrations.shapes import cluster, flag, identity, key, moment, number, object_table, reference, text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IDS_PER_PARTITION, FIRST_PARTITIONS, QUEUE_PARTITIONS = 2**19, 3, 8
# Queues are short-lived rows: vacuumed early and often, and with room in each page for what changes.
QUEUE_STORAGE = (
    "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, "
    "autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05"
)
MESSAGE_STORAGE = "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1"
STATE_STORAGE = "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200"


def upgrade() -> None:
    _objects()
    _messages()
    _queues()
    _others()


def _objects() -> None:
    object_table(
        "pubsub_topic",
        flag("is_active"),
        flag("has_gd"),
        flag("is_api_sub_allowed"),
        number("max_depth_gd"),
        number("max_depth_non_gd"),
        number("depth_check_freq"),
        number("pub_buffer_size_gd"),
        number("task_sync_interval"),
        number("task_delivery_interval"),
        text("on_no_subs_pub", 60),
        number("limit_retention"),
        number("limit_message_expiry"),
        number("limit_sub_inactivity"),
        flag("is_relaxed"),
    )
    reference("pubsub_topic", "hook_service_id", "service", optional=True)
    object_table(
        "pubsub_endpoint",
        flag("is_active"),
        text("endpoint_type", 60),
        text("role", 60),
        sa.Column("topic_patterns", JSONB, nullable=False),
    )
    reference("pubsub_endpoint", "security_id", "security", optional=True)
    reference("pubsub_endpoint", "service_id", "service", optional=True)
    reference("pubsub_endpoint", "ws_channel_id", "channel_websocket", optional=True)
    object_table(
        "pubsub_subscription",
        text("active_status", 60),
        text("delivery_method", 60),
        text("out_rest_method", 60),
        text("delivery_data_format", 60),
        number("delivery_batch_size"),
        flag("wrap_one_msg_in_list"),
        number("delivery_max_retry"),
        flag("delivery_err_should_block"),
        number("wait_sock_err"),
        number("wait_non_sock_err"),
        text("ack_mode", 60),
        number("ack_wait"),
        number("max_in_flight"),
        text("pull_order", 60),
        flag("unsub_on_wsx_close"),
        text("sub_key"),
        text("ext_client_id", 500),
        text("sub_pattern_matched", 300),
    )
    op.create_unique_constraint("uq_pubsub_subscription_sub_key", "pubsub_subscription", ["sub_key"])
    for column, target, optional in (
        ("endpoint_id", "pubsub_endpoint", False),
        ("topic_id", "pubsub_topic", False),
        ("out_rest_id", "outgoing_rest", True),
        ("service_id", "service", True),
        ("server_id", "server", True),
        ("hook_service_id", "service", True),
    ):
        reference("pubsub_subscription", column, target, optional=optional)


def _messages() -> None:
    op.execute("CREATE SEQUENCE pubsub_message_id_seq AS bigint")
    table = "pubsub_message"
    op.create_table(
        table,
        number("id", sa.BigInteger, server_default=sa.text("nextval('pubsub_message_id_seq')")),
        number("cluster_id", sa.BigInteger),
        number("topic_id", sa.BigInteger),
        text("msg_id"),
        text("data", None),
        text("data_type", 10, server_default="text"),
        number("size"),
        text("mime_type", server_default="text/plain"),
        number("priority", sa.SmallInteger),
        sa.Column(
            "pub_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        _maybe("ext_pub_time"),
        number("expiration", sa.BigInteger, server_default="0"),
        _maybe("expires_at"),
        _maybe("keep_until"),
        sa.Column("endpoint_id", sa.BigInteger),
        text("endpoint_name", server_default=""),
        text("pub_pattern", 300, server_default=""),
        text("correl_id", server_default=""),
        text("in_reply_to", server_default=""),
        text("ext_client_id", 500, server_default=""),
        text("group_id", server_default=""),
        number("position_in_group", server_default="0"),
        sa.Column("reply_to_sk", JSONB),
        sa.Column("deliver_to_sk", JSONB),
        key(table),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_pubsub_message_msg_id", table, ["msg_id"])
    op.create_index("ix_pubsub_message_topic_id_id", table, ["topic_id", "id"])
    op.create_index(
        "ix_pubsub_message_correl_id", table, ["correl_id"], postgresql_where=sa.text("correl_id <> ''")
    )
    for part in range(FIRST_PARTITIONS):
        low, high = part * IDS_PER_PARTITION, (part + 1) * IDS_PER_PARTITION
        op.execute(
            f"CREATE TABLE {table}_p{part} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({high}) WITH ({MESSAGE_STORAGE})"
        )


def _queues() -> None:
    table = "pubsub_queue"
    op.create_table(
        table,
        number("sub_id", sa.BigInteger),
        number("priority", sa.SmallInteger),
        number("message_id", sa.BigInteger),
        number("topic_id", sa.BigInteger),
        _maybe("expires_at"),
        _maybe("not_before"),
        number("attempts", server_default="0"),
        sa.Column("last_error", sa.String(500)),
        _maybe("first_failed_at"),
        postgresql_partition_by="HASH (sub_id)",
    )
    op.create_index(
        f"ix_{table}_sub_id_priority_message_id",
        table,
        ["sub_id", sa.text("priority DESC"), "message_id"],
        unique=True,
    )
    for part in range(QUEUE_PARTITIONS):
        op.execute(
            f"CREATE TABLE {table}_p{part} PARTITION OF {table} "
            f"FOR VALUES WITH (MODULUS {QUEUE_PARTITIONS}, REMAINDER {part}) WITH ({QUEUE_STORAGE})"
        )


def _others() -> None:
    op.create_table(
        "pubsub_state",
        number("sub_id", sa.BigInteger),
        sa.Column("worker_id", sa.BigInteger),
        number("epoch", sa.BigInteger, server_default="0"),
        sa.Column("in_flight", ARRAY(sa.BigInteger), server_default="{}", nullable=False),
        moment("last_interaction"),
        text("last_interaction_type", 30, server_default=""),
        sa.PrimaryKeyConstraint("sub_id", name="pk_pubsub_state"),
        _of_subscription("pubsub_state"),
    )
    op.create_index("ix_pubsub_state_worker_id", "pubsub_state", ["worker_id"])
    op.execute(f"ALTER TABLE pubsub_state SET ({STATE_STORAGE})")
    op.create_table(
        "pubsub_dedupe",
        *cluster("pubsub_dedupe"),
        text("msg_id"),
        moment("seen_at"),
        sa.PrimaryKeyConstraint("cluster_id", "msg_id", name="pk_pubsub_dedupe"),
    )
    op.create_index("ix_pubsub_dedupe_seen_at", "pubsub_dedupe", ["seen_at"])
    table = "pubsub_dead_letter"
    op.create_table(
        table,
        identity(),
        *cluster(table),
        number("sub_id", sa.BigInteger),
        number("topic_id", sa.BigInteger),
        number("message_id", sa.BigInteger),
        text("msg_id"),
        sa.Column("message", JSONB, nullable=False),
        number("priority", sa.SmallInteger),
        number("attempts"),
        text("reason", 500),
        _maybe("first_failed_at"),
        moment("died_at"),
        flag("is_edited", server_default="false"),
        key(table),
        _of_subscription(table),
    )
    for columns in (("cluster_id", "id"), ("sub_id",), ("msg_id",), ("died_at",)):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _maybe(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def _of_subscription(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["sub_id"], ["pubsub_subscription.id"], name=f"fk_{table}_sub_id", ondelete="CASCADE"
    )


def downgrade() -> None:
    for table in (
        "pubsub_dead_letter",
        "pubsub_dedupe",
        "pubsub_state",
        "pubsub_queue",
        "pubsub_message",
        "pubsub_subscription",
        "pubsub_endpoint",
        "pubsub_topic",
    ):
        op.drop_table(table)
    op.execute("DROP SEQUENCE pubsub_message_id_seq")
