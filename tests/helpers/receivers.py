"""Workers that deliver messages in this process, and receivers that do as a test says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
from sqlalchemy import Engine, text

from junctor.server.metrics import Metrics
from junctor.server.pubsub.delivery import Delivery, Parts
from junctor.server.pubsub.exchange import Exchange
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.ownership import LEASE_PREFIX, Ownership
from junctor.server.pubsub.transports.base import DeliveryFailed
from junctor.sql.store import Store

_pids = itertools.count(1_000_000)


@dataclass
class SubscriptionUnderTest:
    """What a delivery wants to know of a subscription."""

    id: int
    batch_size: int = 10
    is_blocking: bool = True
    max_in_flight: int = 1
    max_retry: int = 123_456_789
    wait_socket: float = 0.01
    wait_other: float = 0.01
    ack_mode: str = "auto"
    ack_wait: float = 30
    delivery_method: str = "notify"
    can_deliver: bool = True
    wrap_one: bool = True
    sub_key: str = "zpsk.rest.1"
    name: str = "orders"
    hook_service: str = ""
    data_format: str = "json"
    service: str = ""
    topic: Any = None
    out_rest_id: int | None = None
    out_rest_method: str = "POST"


@dataclass
class ReceiverUnderTest:
    """Takes what is delivered, unless ``answer`` raises; ``got`` is every message that came, with its delivery count."""

    answer: Callable[[Sequence[QueuedMessage]], None] = lambda messages: None
    got: list[tuple[int, int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def deliver(self, _subscription: Any, messages: Sequence[QueuedMessage]) -> None:
        """As a transport does."""
        self.got += [(message.id, message.attempts) for message in messages]
        self.batches.append(len(messages))
        self.answer(messages)

    @property
    def ids(self) -> list[int]:
        """The messages that came, each once, in the order in which they came first."""
        return list(dict.fromkeys(id_ for id_, _ in self.got))


def failing(*ids: int, **how: Any) -> Callable[[Sequence[QueuedMessage]], None]:
    """An answer that refuses batches with one of these messages."""

    def answer(messages: Sequence[QueuedMessage]) -> None:
        if any(message.id in ids for message in messages):
            raise DeliveryFailed("It was refused.", **how)

    return answer


def queued_message(id_: int, **fields: Any) -> QueuedMessage:
    """A message in a queue, without guaranteed delivery if that matters to anybody."""
    given: dict[str, Any] = {
        "sub_id": 1,
        "priority": 5,
        "attempts": 0,
        "topic_id": 1,
        "msg_id": f"zpsm{id_}",
        "data": "data",
        "data_type": "text",
        "size": 4,
        "mime_type": "text/plain",
        "pub_time": 1.0,
        "has_gd": False,
    }
    return QueuedMessage(id=id_, **(given | fields))


class WorkerUnderTest:
    """A worker with a row and a lease, which delivers to ``receiver`` what it claims.  ``dies`` ends it without a word."""

    def __init__(self, store: Store, receiver: ReceiverUnderTest) -> None:
        self.engine: Engine = store.engine
        self.id = _add_worker(self.engine, store.cluster_id)
        self.receiver = receiver
        self.is_alive, self.is_dead = True, False
        self.metrics = Metrics()
        leases: Any = None  # the lease is a row that the test has made
        self.ownership = Ownership(self.engine, store.cluster_id, leases, lambda: self.id)
        self.exchange = Exchange(self.engine, lambda: None if self.is_dead else self.id)
        self.parts = Parts(self.exchange, self.metrics, may_send=lambda: self.is_alive)

    def start(self) -> None:
        """Exchanges by itself from now on."""
        self.exchange.start()

    def claim(self, subscription: Any, *, by_force: bool = False) -> Delivery | None:
        """The delivery of a subscription that was free, or was taken by force; None if it is another worker's."""
        claimed = self.ownership.claim([subscription.id], by_force=by_force)
        if not claimed:
            return None
        return Delivery(subscription, claimed[0].epoch, self.receiver, self.parts)

    def dies(self) -> None:
        """Neither sends nor acknowledges anything any more, and its lease has run out."""
        self.is_alive, self.is_dead = False, True
        self.exchange.stop()
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM worker WHERE id = :id"), {"id": self.id})


def _add_worker(engine: Engine, cluster_id: int) -> int:
    with engine.begin() as connection:
        worker_id: int = connection.execute(
            text(
                "INSERT INTO worker (cluster_id, server, host, pid) VALUES (:cluster, 'server1', 'here', :pid) RETURNING id"
            ),
            {"cluster": cluster_id, "pid": next(_pids)},
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO lease (cluster_id, name, worker_id, expires) VALUES (:cluster, :name, :worker, now() + interval '1 hour')"
            ),
            {"cluster": cluster_id, "name": f"{LEASE_PREFIX}{worker_id}", "worker": worker_id},
        )
    return worker_id


def settle(seconds: float = 0.0) -> None:
    """Lets greenlets run that can."""
    for _ in range(20):
        gevent.sleep(seconds)
