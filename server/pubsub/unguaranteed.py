"""Messages without guaranteed delivery: straight to the workers that deliver them, without the database, as long as there are such.

Whoever pulls, whoever is away, and whoever cannot be reached has no such worker; then a message is stored like any other.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import text

from junctor.server.pubsub.message import NewMessage, QueuedMessage
from junctor.server.pubsub.writer_sql import COLUMNS
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription, Topic

TTL: Final = 1.0  # seconds for which the owners of a topic's subscriptions are remembered
MAX_TOPICS: Final = 10_000  # that are remembered
RECEIVING: Final = ("pub-sub", "pub-only")
_OWNERS: Final = text(
    "SELECT sub_id, worker_id FROM pubsub_state WHERE sub_id = ANY (:subs) AND worker_id IS NOT NULL"
)
# What both kinds of messages have.
_SAME: Final = tuple(name for name in COLUMNS if name in QueuedMessage.__struct_fields__)


class Unguaranteed:
    """Hands messages to the owners of subscriptions."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owners: dict[int, tuple[float, dict[int, int]]] = {}
        # Those of stored messages are above zero.
        self._ids = itertools.count(-secrets.randbits(62) - 2**32)

    def offer(self, topic: Topic, message: NewMessage) -> NewMessage | None:
        """What has to be stored: the message, unless each of its subscriptions has a worker; if some of these do not answer, the
        message for their subscriptions; None if all got it.

        May raise ``StoreUnavailable``.
        """
        subscriptions = self._recipients(topic, message)
        owners = self._owners_of(topic, subscriptions)
        if not subscriptions or any(item.id not in owners for item in subscriptions):
            return message
        missed = self._send(message, [(item, owners[item.id]) for item in subscriptions])
        if not missed:
            return None
        self._owners.pop(topic.id, None)
        return msgspec.structs.replace(message, deliver_to_sk=[item.sub_key for item in missed])

    def _recipients(self, topic: Topic, message: NewMessage) -> list[Subscription]:
        found = self._context.pubsub.directory.subscriptions_of(topic.id)
        wanted = message.deliver_to_sk
        return [
            item
            for item in found
            if item.active_status in RECEIVING and (not wanted or item.sub_key in wanted)
        ]

    def _owners_of(self, topic: Topic, subscriptions: Sequence[Subscription]) -> dict[int, int]:
        """The workers of subscriptions, as they were a moment ago."""
        until, known = self._owners.get(topic.id, (0.0, {}))
        if monotonic() >= until:
            given = {"subs": [item.id for item in subscriptions]}
            with database_errors(), self._context.pubsub.engine.connect() as connection:
                known = {row.sub_id: row.worker_id for row in connection.execute(_OWNERS, given)}
            if len(self._owners) >= MAX_TOPICS:
                self._owners.clear()
            self._owners[topic.id] = monotonic() + TTL, known
        return known

    def _send(self, message: NewMessage, owned: Sequence[tuple[Subscription, int]]) -> list[Subscription]:
        """Those of the subscriptions whose workers were not reached."""
        now = time()
        queued = QueuedMessage(
            id=next(self._ids),
            sub_id=0,
            attempts=0,
            pub_time=now,
            expires_at=now + message.expiration / 1000 if message.expiration else None,
            has_gd=False,
            **{name: getattr(message, name) for name in _SAME},
        )
        body = msgspec.msgpack.encode(queued)
        groups: dict[int, list[Subscription]] = {}
        for subscription, worker in owned:
            groups.setdefault(worker, []).append(subscription)
        missed = []
        for worker, members in groups.items():
            own = worker == self._context.status.worker_id
            # This worker says of each whether it has it; another one only gets the message.
            for part in [[item] for item in members] if own else [members]:
                if not self._context.pubsub.hints.volatile(worker, [item.id for item in part], body):
                    missed += part
        return missed
