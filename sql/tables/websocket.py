"""The clients that are connected to WebSocket channels, and who owns the subscriptions of outgoing connections."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, String, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base


class WebSocketClient(Base):
    """A connection that has a session; its row goes with the connection, or with the worker that has it."""

    __tablename__ = "web_socket_client"
    __table_args__ = (
        Index(
            "ix_web_socket_client_attributes",
            "attributes",
            postgresql_using="gin",
            postgresql_ops={"attributes": "jsonb_path_ops"},
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), index=True
    )
    worker_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("worker.id", ondelete="CASCADE"), index=True
    )
    channel_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("channel_websocket.id", ondelete="CASCADE"), index=True
    )
    pub_client_id: Mapped[str] = mapped_column(String(200), unique=True)
    ext_client_id: Mapped[str] = mapped_column(String(500), index=True)
    ext_client_name: Mapped[str] = mapped_column(Text)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    local_address: Mapped[str] = mapped_column(String(200))
    peer_address: Mapped[str] = mapped_column(String(200))
    forwarded_for: Mapped[str] = mapped_column(String(500), server_default="")
    connected: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Lease(Base):
    """Something that one worker of the cluster does for all, until its lease runs out; ``fence`` grows with each owner."""

    __tablename__ = "lease"

    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    worker_id: Mapped[int] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expires: Mapped[datetime] = mapped_column(DateTime(timezone=True))
