"""The audit trail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from junctor.sql.migrations.shapes import belongs, identity, key, moment, number, text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("audit_event", "audit_anchor")


def upgrade() -> None:
    _audit_event()
    _audit_anchor()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _audit_event() -> None:
    op.create_table(
        "audit_event",
        identity(),
        number("cluster_id", sa.BigInteger),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        text("cid"),
        text("op", 100),
        text("outcome", 20),
        text("actor", server_default=""),
        text("target", server_default=""),
        text("app", server_default=""),
        text("remote_addr", None, server_default=""),
        text("user_agent", None, server_default=""),
        text("reason", None, server_default=""),
        sa.Column("extra", JSONB, nullable=False, server_default="{}"),
        text("key_id", 60),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.Column("position", sa.BigInteger),
        sa.Column("chain", sa.LargeBinary),
        belongs("audit_event", "cluster_id", "cluster"),
        key("audit_event"),
    )
    op.create_index("ix_audit_event_cid", "audit_event", ["cid"])
    op.create_index("ix_audit_event_cluster_id_actor_at", "audit_event", ["cluster_id", "actor", "at"])
    op.create_index("ix_audit_event_cluster_id_target_at", "audit_event", ["cluster_id", "target", "at"])
    op.create_index("ix_audit_event_unchained", "audit_event", ["cluster_id", "id"], postgresql_where=sa.text("position IS NULL"))
    op.create_index("uq_audit_event_at_mac", "audit_event", ["cluster_id", "at", "mac"], unique=True)
    op.create_index("uq_audit_event_position", "audit_event", ["cluster_id", "position"], unique=True)


def _audit_anchor() -> None:
    op.create_table(
        "audit_anchor",
        number("cluster_id", sa.BigInteger),
        number("first_position", sa.BigInteger, server_default="1"),
        sa.Column("first_chain", sa.LargeBinary, nullable=False),
        number("last_position", sa.BigInteger, server_default="0"),
        sa.Column("last_chain", sa.LargeBinary, nullable=False),
        text("key_id", 60),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        moment("changed"),
        belongs("audit_anchor", "cluster_id", "cluster"),
        sa.PrimaryKeyConstraint("cluster_id", name="pk_audit_anchor"),
    )
