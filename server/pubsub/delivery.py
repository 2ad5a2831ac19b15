"""The delivery of one subscription's messages, by the worker that owns it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent

from junctor.server.pubsub.batch import MAX_BATCH_BYTES, next_batch
from junctor.server.pubsub.exchange import Exchange, Failure, Owned
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.retry import Alarm, delay_of, is_dead
from junctor.server.pubsub.transports.base import DeliveryFailed, Transport
from junctor.server.pubsub.volatile import Ring

if TYPE_CHECKING:
    from junctor.server.metrics import Metrics
    from junctor.server.pubsub.live import Subscription

MAX_BYTES: Final = 8 * 2**20  # of one subscription in memory, both of its batches together
FAILURES_IN_A_ROW: Final = 10  # after which it pauses, even if the order is not kept
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Screened:
    """What a hook wants to become of messages: ``skip`` stay in the queue for a while, ``delete`` leave it."""

    deliver: list[QueuedMessage]
    skip: list[QueuedMessage] = field(default_factory=list)
    delete: list[QueuedMessage] = field(default_factory=list)


def _nothing_screened(_subscription: Subscription, messages: list[QueuedMessage]) -> Screened:
    return Screened(messages)


def _ignore(_delivery: Delivery) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What all deliveries of a worker share.

    ``may_send`` says whether the worker may act as the owner now.  ``screen`` runs hooks, and may block and raise.  ``ended`` is told of
    a delivery that has no receiver, or no subscription, any more; it may neither block nor raise.
    """

    exchange: Exchange
    metrics: Metrics
    may_send: Callable[[], bool]
    screen: Callable[[Subscription, list[QueuedMessage]], Screened] = _nothing_screened
    ended: Callable[[Delivery], None] = _ignore


class Delivery:
    """Takes messages from a queue and sends them, batch by batch; while one is out, the next is fetched.

    It has no greenlet while nothing is due.  ``due`` says that something may be.  At most ``max_in_flight`` batches are out at a time, and
    one more is in memory.  A message that has failed goes in smaller and smaller batches, so that in the end it is known which of them
    fails, and one becomes a dead letter only after it has failed alone.
    """

    def __init__(self, subscription: Subscription, epoch: int, transport: Transport, parts: Parts) -> None:
        self.subscription = subscription
        self.transport = transport
        self.owned = Owned(subscription.id, epoch, self, is_strict=subscription.is_blocking)
        self.ring = Ring()
        self.last_error = ""
        self._parts = parts
        self._ready: deque[QueuedMessage] = deque()
        self._out: dict[int, QueuedMessage] = {}
        self._senders: set[gevent.Greenlet] = set()
        self._is_due = self._is_fetching = self._is_ending = False
        self._is_overtaken = (
            False  # what is being fetched was chosen before something in front of it went back to the queue
        )
        self._failures = 0
        self._paused_until = 0.0
        self._alarm = Alarm(self._woken)
        labels = {"method": subscription.delivery_method}
        self._delivered_total = parts.metrics.counter("junctor_pubsub_delivered_total", **labels)
        self._failed_total = parts.metrics.counter("junctor_pubsub_delivery_failures_total", **labels)
        self._dead_total = parts.metrics.counter("junctor_pubsub_dead_letters_total", **labels)

    @property
    def is_over(self) -> bool:
        """Whether it sends nothing more."""
        return self._is_ending or self.owned.is_over

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do, as far as it knows."""
        return not (self._ready or self._out or self._is_fetching or self._is_paused)

    @property
    def sent(self) -> list[int]:
        """The ids of the messages that are out, and not acknowledged."""
        return list(self._out)

    def due(self) -> None:
        """There may be messages that can be delivered.  Never blocks, never raises."""
        self._is_due = True
        self._pump()

    def apply(self, subscription: Subscription) -> None:
        """The subscription has other settings now."""
        self.subscription = subscription
        self.owned.is_strict = subscription.is_blocking
        self._paused_until = 0.0
        self.due()

    def add_volatile(self, message: QueuedMessage, most: int) -> None:
        """A message without guaranteed delivery; of more than ``most``, the oldest are dropped."""
        dropped = self.ring.add(message, most)
        if dropped:
            self._parts.metrics.counter("junctor_pubsub_volatile_dropped_total").inc(dropped)
        self._pump()

    def check(self) -> None:
        """Has it found out soon whether the subscription is still this worker's."""
        if not self.owned.is_over and self.owned.wanted is None and not self._is_fetching:
            self._parts.exchange.fetch(self.owned, 0)

    def fetched(self, messages: list[QueuedMessage], *, has_more: bool, wait: float | None) -> None:
        """Takes what the exchange brings."""
        self._is_fetching = False
        if self._is_ending:
            self._parts.exchange.forget(self.owned, messages)
            return
        if self._is_overtaken:
            self._parts.exchange.forget(self.owned, messages)
            self._is_overtaken, self._is_due, messages = False, True, []
        if messages:
            in_order = not self._ready or _order(self._ready[-1]) < _order(messages[0])
            self._ready.extend(messages)
            if not in_order:
                self._ready = deque(sorted(self._ready, key=_order))
        self._is_due = self._is_due or has_more
        if wait is not None:
            self._alarm.ring_in(wait)
        self._pump()

    def lost(self) -> None:
        """The subscription is another worker's, or nobody's: what is out is not this worker's business any more."""
        log.info("Subscription %d is delivered by another worker now.", self.owned.sub_id)
        self.drop()
        self._parts.ended(self)

    def end(self) -> None:
        """Sends nothing more; what is out may still be acknowledged.  Never blocks."""
        self._is_ending = True
        self._parts.exchange.forget(self.owned, self._ready)
        self._ready.clear()
        self._alarm.cancel()

    def finish(self, timeout: float) -> None:
        """Waits until what is out is acknowledged or has failed, and that is stored, for up to so many seconds."""
        until = monotonic() + timeout
        gevent.joinall(list(self._senders), timeout=timeout)
        self._parts.exchange.flush(self.owned, max(0.05, until - monotonic()))

    def drop(self) -> None:
        """Forgets everything at once.  Whatever is out goes its way, and is not acknowledged any more."""
        self._is_ending = True
        self._ready.clear()
        self._parts.exchange.leave(self.owned)
        self._alarm.cancel()

    def shown(self) -> dict[str, Any]:
        """What an administrator sees of it."""
        wait = self._paused_until - monotonic()
        return {
            "sub_id": self.owned.sub_id,
            "epoch": self.owned.epoch,
            "in_flight": len(self._out),
            "in_memory": len(self.owned.held),
            "without_gd": len(self.ring),
            "failures_in_a_row": self._failures,
            "waits_seconds": round(wait, 1) if wait > 0 else 0.0,
            "last_error": self.last_error,
        }

    @property
    def _is_paused(self) -> bool:
        return monotonic() < self._paused_until

    def _pump(self) -> None:
        """Fetches if there is room, and sends if there is something."""
        if self.is_over or self._is_paused or not self._parts.may_send():
            return
        subscription = self.subscription
        if not subscription.can_deliver:
            return
        if self._is_due and not self._is_fetching and (room := self._room()):
            self._is_due, self._is_fetching = False, True
            self._parts.exchange.fetch(self.owned, room)
        while len(self._senders) < subscription.max_in_flight and self._waiting > len(self._senders):
            greenlet = gevent.spawn(self._send)
            self._senders.add(greenlet)
            if subscription.max_in_flight == 1:
                break

    @property
    def _waiting(self) -> int:
        return len(self._ready) + len(self.ring)

    def _room(self) -> int:
        """How many messages to fetch: a batch at least, unless there is nothing in memory at all."""
        size = self.subscription.batch_size
        have = len(self._ready) + len(self._out)
        room = (self.subscription.max_in_flight + 1) * size - have
        held = sum(message.size for message in self.owned.held.values())
        return room if have == 0 or (room >= size and held < MAX_BYTES) else 0

    def _send(self) -> None:
        """Sends what is ready; the greenlet ends when nothing is, or it must wait."""
        try:
            while self._may_go_on() and (batch := self._next_batch()):
                self._pump()  # fetches the batch after this one meanwhile
                self._deliver(batch)
        finally:
            self._senders.discard(gevent.getcurrent())
            self._pump()

    def _may_go_on(self) -> bool:
        is_enough = len(self._senders) > self.subscription.max_in_flight
        is_held_back = self.is_over or self._is_paused or is_enough or not self.subscription.can_deliver
        return not is_held_back and self._parts.may_send()

    def _next_batch(self) -> list[QueuedMessage]:
        """The next messages to send; without guaranteed delivery if there are none with it, or a more urgent one is."""
        urgent = self.ring.first()
        if urgent is not None and (not self._ready or urgent.priority > self._ready[0].priority):
            return self.ring.take(self.subscription.batch_size, MAX_BATCH_BYTES)
        batch, expired = next_batch(self._ready, self.subscription.batch_size)
        self._parts.exchange.forget(self.owned, expired)  # their rows go with all others that expired
        self._out |= {message.id: message for message in batch}
        return batch

    def _deliver(self, batch: list[QueuedMessage]) -> None:
        is_stored = batch[0].has_gd
        left = batch
        try:
            screened = self._parts.screen(self.subscription, batch)
            left = screened.deliver
            self._set_aside(screened, is_stored=is_stored)
            if left:
                self.transport.deliver(self.subscription, left)
                self._delivered(left, is_stored=is_stored)
        except DeliveryFailed as failed:
            self._failed(left, failed, is_stored=is_stored)
        except (
            Exception,
            gevent.Timeout,
        ) as error:  # boundary: a greenlet; what fails in any way is delivered again
            log.exception("Subscription %d: a delivery failed.", self.owned.sub_id)
            self._failed(left, DeliveryFailed(f"{type(error).__name__}: {error}"), is_stored=is_stored)

    def _set_aside(self, screened: Screened, *, is_stored: bool) -> None:
        """Does with messages what the hook says."""
        if not is_stored:
            return
        exchange = self._parts.exchange
        if screened.skip:
            wait = float(self.subscription.wait_other)
            self._returned(screened.skip)
            exchange.fail(
                self.owned, [Failure(message, message.attempts, wait, None) for message in screened.skip]
            )
            self._alarm.ring_in(wait)
        if screened.delete:
            self._returned(screened.delete)
            exchange.acknowledge(self.owned, screened.delete)

    def _delivered(self, batch: Sequence[QueuedMessage], *, is_stored: bool) -> None:
        self._failures, self.last_error = 0, ""
        self._delivered_total.inc(len(batch))
        if is_stored:
            self._returned(batch)
            self._parts.exchange.acknowledge(self.owned, batch)

    def _failed(self, batch: Sequence[QueuedMessage], failed: DeliveryFailed, *, is_stored: bool) -> None:
        if self.owned.is_over:
            return  # it is another worker's business by now
        self._failed_total.inc()
        self.last_error = failed.message
        is_first = self._failures == 0
        self._failures += 1
        if is_first:
            log.warning("Subscription %d: %s", self.owned.sub_id, failed.message)
        if not is_stored:
            self._failed_volatile(batch, failed)
            return
        if is_dead(self.subscription, batch, failed):
            self._bury(batch[0], failed)
            return
        is_pausing = (
            failed.is_transient or self.subscription.is_blocking or self._failures >= FAILURES_IN_A_ROW
        )
        turn = self._failures if is_pausing else max(message.attempts for message in batch) + 1
        delay = None if failed.is_over else delay_of(self.subscription, failed, turn)
        self._returned(batch)
        self._parts.exchange.fail(
            self.owned, [Failure(message, message.attempts + 1, delay, failed.message) for message in batch]
        )
        if failed.is_over:
            self.end()
            self._parts.ended(self)
        elif delay is not None:
            self._wait(delay, is_pausing=is_pausing)

    def _failed_volatile(self, batch: Sequence[QueuedMessage], failed: DeliveryFailed) -> None:
        """Puts them back, in front, unless they have failed often enough."""
        if failed.is_over:
            self.end()
            self._parts.ended(self)
            return
        for message in batch:
            message.attempts += 1
        most = max(1, self.subscription.max_retry)
        kept = [message for message in batch if failed.is_transient or message.attempts < most]
        self.ring.put_back(kept if not failed.is_final else [])
        self._wait(delay_of(self.subscription, failed, self._failures), is_pausing=True)

    def _bury(self, message: QueuedMessage, failed: DeliveryFailed) -> None:
        self._dead_total.inc()
        log.error(
            "Subscription %d: message %s becomes a dead letter after %d deliveries: %s",
            self.owned.sub_id,
            message.msg_id,
            message.attempts + 1,
            failed.message,
        )
        self._returned([message])
        self._parts.exchange.bury(self.owned, message, failed.message, message.attempts + 1)

    def _returned(self, messages: Iterable[QueuedMessage]) -> None:
        for message in messages:
            self._out.pop(message.id, None)

    def _wait(self, delay: float, *, is_pausing: bool) -> None:
        if is_pausing:
            self._paused_until = monotonic() + delay
            self._is_overtaken = self._is_fetching
            self._parts.exchange.forget(self.owned, self._ready)
            self._ready.clear()
        self._alarm.ring_in(delay)

    def _woken(self) -> None:
        if self._is_paused:
            self._alarm.ring_in(self._paused_until - monotonic())
        self.due()


def _order(message: QueuedMessage) -> tuple[int, int]:
    return -message.priority, message.id
