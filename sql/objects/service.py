"""Services and the source files that they are deployed from."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object
from junctor.sql.fields import boolean, integer, ref, text


class ServiceSource(Object):
    """A deployed Python file; its earlier texts are kept as versions."""

    __tablename__ = "service_source"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "service_source", "Service source"
    verbs = frozenset({"delete"})
    is_renamable = False

    content: Mapped[str] = text("Content", "The text of the file.", max=5_000_000, large=True, default="")
    digest: Mapped[str] = text("Digest", "SHA-256 of the file, in hex.", max=64, read_only=True, default="")
    deployed_by: Mapped[str] = text("Deployed by", "Who deployed this version.", read_only=True, default="")


class Service(Object):
    """A Python class that channels and other services invoke by its name."""

    __tablename__ = "service"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "service", "Service"
    verbs = frozenset({"edit"})
    is_renamable = False

    is_active: Mapped[bool] = boolean("Active", "Whether it can be invoked at all.", default=True)
    slow_threshold: Mapped[int] = integer(
        "Slow threshold",
        "Calls that take longer are logged as slow.",
        default=5000,
        unit="ms",
        min=1,
        max=86_400_000,
    )
    impl_name: Mapped[str] = text(
        "Implementation", "Module and class of the service.", read_only=True, default=""
    )
    source: Mapped[int | None] = ref(
        "service_source",
        "Source",
        "The deployed file that it is in; empty for services that come with the server.",
        column="service_source_id",
        default="",
        read_only=True,
    )
