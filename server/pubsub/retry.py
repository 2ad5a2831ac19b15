"""When a message that was not delivered is tried again, and when not any more."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent

from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.transports.base import DeliveryFailed

if TYPE_CHECKING:
    from junctor.server.pubsub.live import Subscription

MAX_WAIT: Final = 300.0  # seconds to which waits grow from failure to failure
MAX_RETRY_AFTER: Final = 3600.0  # seconds for which a receiver is believed to be away
MAX_ALARM: Final = 3600.0  # seconds; one that is set for later rings earlier
A_MOMENT: Final = (
    0.01  # seconds by which it rings later, so that what is due by the clock of the database is due
)


def delay_of(subscription: Subscription, failed: DeliveryFailed, turn: int) -> float:
    """Seconds until the next attempt after the failure number ``turn``: longer from one to the next, unless the receiver says when.

    They are never the same for many subscriptions, lest all come at once.
    """
    base = float(subscription.wait_socket if failed.is_socket else subscription.wait_other)
    grown = min(base * 2 ** min(turn - 1, 20), max(MAX_WAIT, base))
    delay: float = grown * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    if failed.retry_after is not None:
        delay = max(failed.retry_after, 0.0)
    return min(delay, max(MAX_RETRY_AFTER, base))


def is_dead(subscription: Subscription, batch: Sequence[QueuedMessage], failed: DeliveryFailed) -> bool:
    """Whether a message is not tried again: it has failed alone, it is to blame itself, and that was once too often."""
    if failed.is_transient or len(batch) > 1:
        return False
    return failed.is_final or batch[0].attempts + 1 >= max(1, subscription.max_retry)


class Alarm:
    """Rings once, at the earliest of the times that it was set for; ``rings`` may neither block nor raise."""

    def __init__(self, rings: Callable[[], None]) -> None:
        self._rings = rings
        self._timer: gevent.Greenlet | None = None
        self._at = 0.0

    def ring_in(self, seconds: float) -> None:
        """Rings a moment after so many seconds, or earlier."""
        seconds = min(max(seconds, 0.0) + A_MOMENT, MAX_ALARM)
        at = monotonic() + seconds
        if self._timer is not None and self._at <= at:
            return
        self.cancel()
        self._at = at
        self._timer = gevent.spawn_later(seconds, self._ring)

    def cancel(self) -> None:
        """Does not ring."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.kill(block=False)

    def _ring(self) -> None:
        self._timer = None
        self._rings()
