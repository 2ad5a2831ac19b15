"""Clusters and their servers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base, Object
from junctor.sql.fields import choice, integer, text


class ClusterRow(Base):
    """A cluster: servers that share one configuration, and the counter of that configuration's versions."""

    __tablename__ = "cluster"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    config_version: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Cluster(Object):
    """What holds for every server of the cluster."""

    __tablename__ = "cluster_settings"
    __table_args__ = (UniqueConstraint("cluster_id"),)
    kind, label = "cluster", "Cluster"
    verbs = frozenset({"edit"})

    description: Mapped[str] = text(
        "Description", "What the cluster is for.", max=1000, default="", multiline=True
    )
    access_log_sample: Mapped[int] = integer(
        "Access log sample",
        "One request in so many goes to the access log; 1 = each.",
        default=1,
        min=1,
        max=1_000_000,
    )
    error_format: Mapped[str] = choice(
        "Error format",
        "Shape of JSON error bodies: result, cid and details at the top (3.2) or inside zato_env (3.0).",
        ("3.2", "3.0"),
        default="3.2",
    )
    max_body_size: Mapped[int] = integer(
        "Maximum body size",
        "Largest request body of channels that set none.",
        default=10_485_760,
        unit="B",
        min=1,
        max=104_857_600,
    )


class Server(Object):
    """A server: one master process and its workers, on one address."""

    __tablename__ = "server"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "server", "Server"
    needs_live = False

    host: Mapped[str] = text(
        "Host", "Host name or address at which the load balancer reaches it.", default="127.0.0.1"
    )
    port: Mapped[int] = integer("Port", "TCP port of its HTTP channels.", default=17010, min=1, max=65535)
