"""Pulling: subscribers fetch their messages, from whatever worker; nobody owns such a queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine

from junctor.server.pubsub import pull_sql as sql
from junctor.server.pubsub.exchange_sql import FIELDS
from junctor.server.pubsub.long_polls import LongPolls
from junctor.server.pubsub.message import QueuedMessage
from junctor.sql.engine import database_errors
from junctor.sql.errors import BadRequest, Forbidden, InvalidInput
from junctor.sql.objects.pubsub import PULL

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription

MAX_BATCH: Final = 15_000  # messages
MAX_WAIT: Final = 30.0  # seconds
MAX_DELAY: Final = 86_400.0  # seconds
MAX_DEPTH: Final = 1_000_000  # messages that are counted
MAX_REASON: Final = 500  # characters
NOTE_INTERVAL: Final = 60.0  # seconds between two notes of when a subscription was used
MAX_NOTED: Final = 10_000  # subscriptions whose last note is remembered
UNANSWERED: Final = (
    "It was handed over and not acknowledged in time, more often than the subscription allows."
)
REJECTED: Final = "The subscriber rejected it."
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetch:
    """How to hand messages over: up to ``limit`` of them, and 8 MiB of data.

    ``is_explicit``: they stay in the queue until they are acknowledged, or the subscription's time for that is over.  Otherwise they are
    gone once they were handed over.  ``wait`` is for how many seconds to wait for the first one, and ``is_gone`` tells whether whoever
    waits has left.
    """

    limit: int
    is_newest: bool = False
    is_explicit: bool = False
    wait: float = 0.0
    is_gone: Callable[[], bool] | None = None


class Pull:
    """The queues of subscriptions that are pulled from.

    Every method may raise ``StoreUnavailable``.  If that is because the database went away at the end of a ``fetch``, its messages may have
    been handed over for good, as when an answer gets lost; explicit acknowledgement is for those who must not lose one.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._polls = LongPolls()
        self._noted: dict[int, float] = {}
        counter = context.metrics.counter
        self._delivered = counter("junctor_pubsub_delivered_total", method=PULL)
        self._rejected = counter("junctor_pubsub_delivery_failures_total", method=PULL)
        self._dead = counter("junctor_pubsub_dead_letters_total", method=PULL)

    def stop(self) -> None:
        """Whoever waits for messages goes without.  Neither blocks nor raises."""
        self._polls.stop()

    def due(self, sub_ids: Sequence[int]) -> None:
        """There may be messages in these queues.  Neither blocks nor raises."""
        self._polls.due(sub_ids)

    def fetch(self, subscription: Subscription, wanted: Fetch) -> list[QueuedMessage]:
        """The next messages, in the order that was asked for; the transaction that hands them over is committed.

        Raises ``BadRequest`` if the subscription's messages are delivered, ``Forbidden`` if its status says that it does not deliver.
        """
        self._check(subscription)
        deadline = monotonic() + min(wanted.wait, MAX_WAIT)
        while True:
            found = self._hand_over(subscription, wanted)
            if found or not self._polls.wait(self._engine, subscription.id, deadline):
                return found
            if wanted.is_gone is not None and wanted.is_gone():
                return []

    def acknowledge(self, subscription: Subscription, msg_ids: Sequence[str]) -> int:
        """How many messages were acknowledged; those that are not in the queue, or were not handed over, are not counted."""
        self._check(subscription)
        count = self._remove(subscription, msg_ids, attempts=1)
        self._delivered.inc(count)
        return count

    def delete(self, subscription: Subscription, msg_ids: Sequence[str]) -> int:
        """How many messages were deleted from the queue, handed over or not."""
        return self._remove(subscription, msg_ids, attempts=0)

    def reject(
        self, subscription: Subscription, msg_ids: Sequence[str], *, delay: float = 0.0, reason: str = ""
    ) -> int:
        """How many messages were rejected: they are due again after ``delay`` seconds, or dead letters if that was once too often."""
        self._check(subscription)
        because = (reason or REJECTED)[:MAX_REASON]
        values = self._named(subscription, msg_ids) | {
            "attempts": 1,
            "delay": min(max(delay, 0.0), MAX_DELAY),
            "reason": because,
            "max_retry": subscription.max_retry,
        }
        with database_errors(), self._engine.begin() as connection:
            rows = connection.execute(sql.REJECT, values).all()
            dead = [(row.priority, row.message_id) for row in rows if row.is_dead]
            self._bury(connection, subscription, dead, because)
            self._note(connection, subscription.id, "nack")
        self._rejected.inc(len(rows))
        return len(rows)

    def depth(self, sub_id: int) -> int:
        """How many messages are in a queue, of whatever subscription, up to a million; expired ones are not."""
        with database_errors(), self._engine.begin() as connection:
            return int(connection.scalar(sql.DEPTH, {"sub_id": sub_id, "most": MAX_DEPTH}) or 0)

    @property
    def _engine(self) -> Engine:
        return self._context.pubsub.engine

    def _check(self, subscription: Subscription) -> None:
        if subscription.delivery_method != PULL:
            raise BadRequest(
                msg="The messages of this subscription are delivered to the subscriber, and cannot be pulled."
            )
        if not subscription.can_deliver:
            raise Forbidden(msg="Nothing is delivered: the subscription or its endpoint is switched off.")

    def _hand_over(self, subscription: Subscription, wanted: Fetch) -> list[QueuedMessage]:
        values = {
            "sub_id": subscription.id,
            "most": max(1, min(wanted.limit, MAX_BATCH)),
            "bytes": sql.MAX_BYTES,
        }
        if wanted.is_explicit:
            values["ack_wait"] = subscription.ack_wait
        statement = sql.HAND_OVER[wanted.is_newest, wanted.is_explicit]
        with database_errors(), self._engine.begin() as connection:
            rows = connection.execute(statement, values).all()
            messages = [QueuedMessage(*row[:FIELDS]) for row in rows if row.msg_id is not None]
            if wanted.is_explicit:
                messages = self._without_dead(connection, subscription, messages)
            self._note(connection, subscription.id, "pull")
        if not wanted.is_explicit:
            self._delivered.inc(len(messages))
        messages.sort(key=_newest if wanted.is_newest else _oldest)
        return messages

    def _without_dead(
        self, connection: Connection, subscription: Subscription, messages: list[QueuedMessage]
    ) -> list[QueuedMessage]:
        """The messages but for those that were never acknowledged, however often they were handed over: they become dead letters."""
        dead = [
            (message.priority, message.id)
            for message in messages
            if message.attempts > subscription.max_retry
        ]
        if not dead:
            return messages
        self._bury(connection, subscription, dead, UNANSWERED)
        return [message for message in messages if message.attempts <= subscription.max_retry]

    def _bury(
        self, connection: Connection, subscription: Subscription, dead: list[tuple[int, int]], reason: str
    ) -> None:
        if dead:
            values = {
                "sub_id": subscription.id,
                "priorities": [priority for priority, _ in dead],
                "message_ids": [message_id for _, message_id in dead],
                "reason": reason,
            }
            connection.execute(sql.BURY, values)
            self._dead.inc(len(dead))
            log.warning(
                "%d messages of subscription %r have become dead letters.",
                len(dead),
                subscription.name,
            )

    def _remove(self, subscription: Subscription, msg_ids: Sequence[str], *, attempts: int) -> int:
        values = self._named(subscription, msg_ids) | {"attempts": attempts}
        with database_errors(), self._engine.begin() as connection:
            removed = connection.execute(sql.REMOVE, values).rowcount
            self._note(connection, subscription.id, "ack")
        return removed

    def _named(self, subscription: Subscription, msg_ids: Sequence[str]) -> dict[str, object]:
        if len(msg_ids) > MAX_BATCH:
            raise InvalidInput.one("msg_id_list", f"must not have more than {MAX_BATCH} ids.")
        return {
            "sub_id": subscription.id,
            "topic_id": subscription.topic_id,
            "msg_ids": list(msg_ids),
        }

    def _note(self, connection: Connection, sub_id: int, what: str) -> None:
        """Notes that a subscription is used, now and then."""
        now = monotonic()
        if now - self._noted.get(sub_id, -NOTE_INTERVAL) < NOTE_INTERVAL:
            return
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted[sub_id] = now
        connection.execute(sql.INTERACTION, {"sub_id": sub_id, "type": what})


def _oldest(message: QueuedMessage) -> tuple[int, int]:
    return -message.priority, message.id


def _newest(message: QueuedMessage) -> tuple[int, int]:
    return -message.priority, -message.id
