"""Tokens that were logged out before they expired."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import Base


class RevokedToken(Base):
    """A token of a definition that is not good any more; its row goes once it would have expired.

    ``digest`` is the SHA-256 of what is signed, so the table tells nobody a token.  A row with a larger ``id`` was committed later: whoever
    inserts holds the lock ``junctor.revoked_token:CLUSTER_ID``, so that workers can ask for what came after the last one that they know.
    """

    __tablename__ = "revoked_token"
    __table_args__ = (
        UniqueConstraint("cluster_id", "security_id", "digest"),
        Index("ix_revoked_token_cluster_id_id", "cluster_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"))
    security_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("security.id", ondelete="CASCADE"), index=True
    )
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    expires: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
