"""When a message is tried again, and when it is not any more."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from junctor.server.pubsub.retry import Alarm, delay_of, is_dead
from junctor.server.pubsub.transports.base import DeliveryFailed
from tests.helpers.receivers import SubscriptionUnderTest, queued_message


@pytest.fixture
def subscription() -> Any:
    """A subscription with the usual waits."""
    return SubscriptionUnderTest(1, wait_socket=10, wait_other=30, max_retry=3)


@pytest.mark.parametrize(("turn", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (9999, 300)])
def test_waits_grow_up_to_five_minutes(subscription: Any, turn: int, seconds: float) -> None:
    assert 0.8 * seconds <= delay_of(subscription, DeliveryFailed(""), turn) <= 1.2 * seconds


def test_who_cannot_be_reached_has_waits_of_its_own(subscription: Any) -> None:
    assert 8 <= delay_of(subscription, DeliveryFailed("", is_socket=True), 1) <= 12


def test_a_longer_wait_than_that_is_heeded(subscription: Any) -> None:
    subscription.wait_other = 7200
    assert 5760 <= delay_of(subscription, DeliveryFailed(""), 5) <= 7200


def test_a_receiver_says_when_but_not_for_ever(subscription: Any) -> None:
    assert delay_of(subscription, DeliveryFailed("", retry_after=0), 5) == 0
    assert delay_of(subscription, DeliveryFailed("", retry_after=900), 1) == 900
    assert delay_of(subscription, DeliveryFailed("", retry_after=1e9), 1) == 3600
    assert delay_of(subscription, DeliveryFailed("", retry_after=-5), 1) == 0


def test_a_message_is_dead_once_it_has_failed_too_often_alone_and_by_its_own_fault(subscription: Any) -> None:
    often, seldom = queued_message(1, attempts=2), queued_message(2, attempts=1)
    assert is_dead(subscription, [often], DeliveryFailed(""))
    assert not is_dead(subscription, [seldom], DeliveryFailed(""))
    assert not is_dead(subscription, [often, often], DeliveryFailed(""))
    assert not is_dead(subscription, [often], DeliveryFailed("", is_socket=True))
    assert not is_dead(subscription, [often], DeliveryFailed("", is_over=True))
    assert is_dead(subscription, [seldom], DeliveryFailed("", is_final=True))


def test_an_alarm_rings_once_at_the_earliest_time() -> None:
    rung: list[int] = []
    alarm = Alarm(lambda: rung.append(1))
    alarm.ring_in(3600)
    alarm.ring_in(0)
    alarm.ring_in(1800)
    with gevent.Timeout(10):
        while not rung:
            gevent.sleep(0.001)
    alarm.ring_in(0)
    alarm.cancel()
    gevent.sleep(0.02)
    assert rung == [1]
