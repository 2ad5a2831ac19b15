"""What a delivery sends, and what it keeps, when something happens while the next messages are in memory already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gevent

from junctor.server.metrics import Metrics
from junctor.server.pubsub.delivery import Delivery, Parts
from junctor.server.pubsub.exchange import Owned
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.transports.base import DeliveryFailed
from tests.helpers.receivers import ReceiverUnderTest, SubscriptionUnderTest
from tests.helpers.waiting import eventually


class SlowExchange:
    """Brings what a test hands to the receiver, when the test says so."""

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self, _owned: Owned, _most: int) -> None:
        """Somebody wants messages."""
        self.asked += 1

    def forget(self, owned: Owned, messages: Iterable[QueuedMessage]) -> None:
        """They are not held any more."""
        for message in list(messages):
            owned.held.pop(message.id, None)

    def acknowledge(self, owned: Owned, messages: Iterable[QueuedMessage]) -> None:
        """They are not held any more, either."""
        self.forget(owned, messages)

    def fail(self, owned: Owned, failures: Iterable[Any]) -> None:
        """Nor are these."""
        self.forget(owned, [failure.message for failure in failures])


def message(number: int) -> QueuedMessage:
    """The first one has failed before, so it goes alone."""
    return QueuedMessage(number, 1, 5, int(number == 1), 1, f"m{number}", "", "text", 1, "text/plain", 0.0)


def test_what_was_chosen_before_a_batch_failed_does_not_overtake_it() -> None:
    exchange, receiver, go_on = SlowExchange(), ReceiverUnderTest(), gevent.event.Event()
    parts: Any = Parts(exchange, Metrics(), may_send=lambda: True)  # type: ignore[arg-type]  # all that is called
    subscription: Any = SubscriptionUnderTest(1, batch_size=3)
    delivery = Delivery(subscription, 1, receiver, parts)

    def brings(*numbers: int) -> None:
        found = [message(number) for number in numbers]
        delivery.owned.held.update({one.id: one for one in found})
        delivery.fetched(found, has_more=True, wait=None)

    def refuse_the_first(_messages: object) -> None:
        go_on.wait()
        if len(receiver.got) == 1:
            raise DeliveryFailed("Not now.")

    receiver.answer = refuse_the_first
    delivery.due()
    brings(1, 2, 3)
    eventually(
        lambda: receiver.ids == [1] and exchange.asked == 2
    )  # 2 and 3 wait, and what comes behind is on its way
    go_on.set()
    eventually(lambda: not delivery.sent)

    brings(4, 5)
    eventually(lambda: exchange.asked == 3)
    brings(1, 2, 3)
    eventually(lambda: len(receiver.ids) == 3)

    assert receiver.ids == [1, 2, 3]
    delivery.end()


def test_whoever_is_switched_off_gets_nothing_more_of_what_is_in_memory_until_it_is_on_again() -> None:
    exchange, receiver = SlowExchange(), ReceiverUnderTest()
    parts: Any = Parts(exchange, Metrics(), may_send=lambda: True)  # type: ignore[arg-type]  # all that is called
    subscription: Any = SubscriptionUnderTest(1, batch_size=1)
    delivery = Delivery(subscription, 1, receiver, parts)

    def switch_off(_messages: object) -> None:
        subscription.can_deliver = False

    receiver.answer = switch_off
    found = [message(number) for number in (2, 3)]
    delivery.owned.held.update({one.id: one for one in found})
    delivery.fetched(found, has_more=False, wait=None)
    eventually(lambda: receiver.ids == [2] and not delivery.sent)
    gevent.idle()
    assert receiver.ids == [2]

    receiver.answer = lambda _messages: None
    subscription.can_deliver = True
    delivery.apply(subscription)
    eventually(lambda: receiver.ids == [2, 3])
    delivery.end()
