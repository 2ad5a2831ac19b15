"""The audit trail: who did what to whom, from where, and with what outcome.

A row is sealed when it is written: ``mac`` is a digest of all that it says, whose key is not in the database.  Soon after, it becomes
the next link of a chain: ``position`` has no gaps, and ``chain`` is a digest of the row and of the link before.  So what was changed, left
out or put in shows.  ``uq_audit_event_at_mac`` refuses a second copy of a row, seal and all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base


class AuditEvent(Base):
    """Something that somebody did or tried: ``outcome`` is ok, refused or error; ``actor`` and ``target`` are user ids as a rule."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("uq_audit_event_at_mac", "cluster_id", "at", "mac", unique=True),
        Index("ix_audit_event_cluster_id_actor_at", "cluster_id", "actor", "at"),
        Index("ix_audit_event_cluster_id_target_at", "cluster_id", "target", "at"),
        Index("ix_audit_event_cid", "cid"),
        Index("ix_audit_event_unchained", "cluster_id", "id", postgresql_where=text("position IS NULL")),
        Index("uq_audit_event_position", "cluster_id", "position", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    cid: Mapped[str] = mapped_column(String(200))
    op: Mapped[str] = mapped_column(String(100))
    outcome: Mapped[str] = mapped_column(String(20))
    actor: Mapped[str] = mapped_column(String(200), server_default="")
    target: Mapped[str] = mapped_column(String(200), server_default="")
    app: Mapped[str] = mapped_column(String(200), server_default="")
    remote_addr: Mapped[str] = mapped_column(Text, server_default="")
    user_agent: Mapped[str] = mapped_column(Text, server_default="")
    reason: Mapped[str] = mapped_column(Text, server_default="")
    extra: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    key_id: Mapped[str] = mapped_column(String(60))
    mac: Mapped[bytes] = mapped_column(LargeBinary)
    position: Mapped[int | None] = mapped_column(BigInteger)
    chain: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditAnchor(Base):
    """Where a cluster's chain begins and ends: what came before ``first_position`` was deleted, as its retention says.

    ``mac`` is a digest of the rest, so that an anchor cannot be made up.
    """

    __tablename__ = "audit_anchor"

    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True
    )
    first_position: Mapped[int] = mapped_column(BigInteger, server_default="1")
    first_chain: Mapped[bytes] = mapped_column(LargeBinary)
    last_position: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_chain: Mapped[bytes] = mapped_column(LargeBinary)
    key_id: Mapped[str] = mapped_column(String(60))
    mac: Mapped[bytes] = mapped_column(LargeBinary)
    changed: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
