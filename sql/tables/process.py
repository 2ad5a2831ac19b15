"""The workers of a cluster: which are alive, which version of the configuration they have, what failed to start in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Integer, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base


class Worker(Base):
    """A worker process of a server.

    ``seen`` is its last heartbeat.  ``problems`` maps 'kind/name' of live objects that do not work to a sentence each, and ``states``
    those that have a state, such as links to other clusters, to it.
    """

    __tablename__ = "worker"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), index=True
    )
    server: Mapped[str] = mapped_column(String(200))
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int] = mapped_column(Integer)
    started: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    seen: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    state: Mapped[str] = mapped_column(String(20), server_default="running")
    applied_version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    memory: Mapped[int] = mapped_column(BigInteger, server_default="0")
    problems: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    states: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
