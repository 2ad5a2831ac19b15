"""Messages without guaranteed delivery, in the memory of a worker."""

from __future__ import annotations

import time

import pytest

from junctor.server.pubsub import volatile
from junctor.server.pubsub.volatile import Ring
from tests.helpers.receivers import queued_message


def test_the_most_urgent_come_first_and_then_the_oldest() -> None:
    ring = Ring()
    for id_, priority in ((1, 5), (2, 9), (3, 5), (4, 1), (5, 9)):
        ring.add(queued_message(id_, priority=priority), 10)
    assert [message.id for message in ring.take(4, 1000)] == [2, 5, 1, 3]
    assert [message.id for message in ring.take(4, 1000)] == [4]
    assert ring.first() is None
    assert len(ring) == 0


def test_of_too_many_the_oldest_of_the_least_urgent_are_dropped() -> None:
    ring = Ring()
    assert [ring.add(queued_message(id_, priority=5 + id_ % 2), 3) for id_ in range(5)] == [0, 0, 0, 1, 1]
    assert [message.id for message in ring.take(9, 1000)] == [1, 3, 4]


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volatile, "MAX_BYTES", 100)
    ring = Ring()
    assert ring.add(queued_message(1, size=150), 10) == 0
    assert ring.add(queued_message(2, size=60), 10) == 1
    assert [message.id for message in ring.take(9, 1000)] == [2]


def test_a_batch_is_bounded_but_never_empty() -> None:
    ring = Ring()
    for id_ in range(4):
        ring.add(queued_message(id_, size=40), 10)
    assert [message.id for message in ring.take(9, 90)] == [0, 1]
    assert [message.id for message in ring.take(9, 1)] == [2]


def test_what_has_expired_is_gone() -> None:
    ring = Ring()
    ring.add(queued_message(1, expires_at=time.time() - 1), 10)
    ring.add(queued_message(2, expires_at=time.time() + 100), 10)
    assert [message.id for message in ring.take(9, 1000)] == [2]


def test_what_is_put_back_is_first_again_in_its_order() -> None:
    ring = Ring()
    for id_ in range(4):
        ring.add(queued_message(id_), 10)
    ring.put_back(ring.take(2, 1000))
    assert [message.id for message in ring.take(9, 1000)] == [0, 1, 2, 3]
