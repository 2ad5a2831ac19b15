"""Published messages and the queues of subscriptions.

A message is stored once, and has a row in the queue of each subscription that is to receive it.  A row leaves a queue when the delivery was
acknowledged, when the message has expired, when an administrator says so, or for the dead letters.  Messages that nobody had subscribed to
are in the queue of their topic, whose ``sub_id`` is the topic's id below zero, until the first subscription takes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from junctor.sql.base import METADATA, Base

MESSAGES_PER_PARTITION: Final = 2**19  # ids, of which each partition of pubsub_message has the next ones
QUEUE_PARTITIONS: Final = 8
MESSAGE_IDS: Final = Sequence("pubsub_message_id_seq", metadata=METADATA, data_type=BigInteger)


class PubSubMessage(Base):
    """A published message.

    ``data`` is text, or JSON if ``data_type`` says so.  ``expiration`` is in milliseconds, as the publisher gave it, 0 = never.  After
    ``keep_until``, the message goes once it is in no queue any more; NULL = at once.
    """

    __tablename__ = "pubsub_message"
    __table_args__ = (
        Index("ix_pubsub_message_msg_id", "msg_id"),
        Index("ix_pubsub_message_topic_id_id", "topic_id", "id"),
        Index("ix_pubsub_message_correl_id", "correl_id", postgresql_where=text("correl_id <> ''")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[int] = mapped_column(
        BigInteger, server_default=MESSAGE_IDS.next_value(), primary_key=True, autoincrement=False
    )
    cluster_id: Mapped[int] = mapped_column(BigInteger)
    topic_id: Mapped[int] = mapped_column(BigInteger)
    msg_id: Mapped[str] = mapped_column(String(200))
    data: Mapped[str] = mapped_column(Text)
    data_type: Mapped[str] = mapped_column(String(10), server_default="text")
    size: Mapped[int] = mapped_column(Integer)
    mime_type: Mapped[str] = mapped_column(String(200), server_default="text/plain")
    priority: Mapped[int] = mapped_column(SmallInteger)
    pub_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    ext_pub_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    expiration: Mapped[int] = mapped_column(BigInteger, server_default="0")
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    keep_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    endpoint_id: Mapped[int | None] = mapped_column(BigInteger)
    endpoint_name: Mapped[str] = mapped_column(String(200), server_default="")
    pub_pattern: Mapped[str] = mapped_column(String(300), server_default="")
    correl_id: Mapped[str] = mapped_column(String(200), server_default="")
    in_reply_to: Mapped[str] = mapped_column(String(200), server_default="")
    ext_client_id: Mapped[str] = mapped_column(String(500), server_default="")
    group_id: Mapped[str] = mapped_column(String(200), server_default="")
    position_in_group: Mapped[int] = mapped_column(Integer, server_default="0")
    reply_to_sk: Mapped[list[str] | None] = mapped_column(JSONB)
    deliver_to_sk: Mapped[list[str] | None] = mapped_column(JSONB)


class PubSubQueue(Base):
    """A message that a subscription has not acknowledged.

    ``attempts`` is how often it was handed out, or may have been, which is the ``delivery_count`` of the next delivery.  It is not
    delivered before ``not_before``; NULL = now.
    """

    __tablename__ = "pubsub_queue"
    __table_args__ = (
        Index(
            "ix_pubsub_queue_sub_id_priority_message_id",
            "sub_id",
            text("priority DESC"),
            "message_id",
            unique=True,
        ),
        {"postgresql_partition_by": "HASH (sub_id)"},
    )

    sub_id: Mapped[int] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(SmallInteger)
    message_id: Mapped[int] = mapped_column(BigInteger)
    topic_id: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    not_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    last_error: Mapped[str | None] = mapped_column(String(500))
    first_failed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    __mapper_args__ = {"primary_key": [sub_id, message_id]}  # noqa: RUF012 - SQLAlchemy's way to say it


class PubSubState(Base):
    """Who delivers the messages of a subscription, and which of them it may have handed out.

    Each owner has a larger ``epoch`` than the one before, without which it can neither acknowledge nor hand out.
    """

    __tablename__ = "pubsub_state"

    sub_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("pubsub_subscription.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    worker_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    in_flight: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    last_interaction: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    last_interaction_type: Mapped[str] = mapped_column(String(30), server_default="")


class PubSubDedupe(Base):
    """The id that a publisher gave a message, so that the same message is not stored again."""

    __tablename__ = "pubsub_dedupe"

    cluster_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True
    )
    msg_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), index=True)


class PubSubDeadLetter(Base):
    """A message that could not be delivered to a subscription, and why; ``message`` has all that was known of it."""

    __tablename__ = "pubsub_dead_letter"
    __table_args__ = (Index("ix_pubsub_dead_letter_cluster_id_id", "cluster_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    cluster_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("cluster.id", ondelete="CASCADE"))
    sub_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("pubsub_subscription.id", ondelete="CASCADE"), index=True
    )
    topic_id: Mapped[int] = mapped_column(BigInteger)
    message_id: Mapped[int] = mapped_column(BigInteger)
    msg_id: Mapped[str] = mapped_column(String(200), index=True)
    message: Mapped[dict[str, Any]] = mapped_column(JSONB)
    priority: Mapped[int] = mapped_column(SmallInteger)
    attempts: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(500))
    first_failed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    died_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), index=True)
    is_edited: Mapped[bool] = mapped_column(Boolean, server_default="false")
