"""Which messages are delivered together."""

from __future__ import annotations

import time
from collections import deque

import pytest

from junctor.server.pubsub import batch
from junctor.server.pubsub.batch import next_batch
from junctor.server.pubsub.message import QueuedMessage
from tests.helpers.receivers import queued_message


def ids(messages: list[QueuedMessage]) -> list[int]:
    """Which messages these are."""
    return [message.id for message in messages]


def test_a_batch_has_so_many_messages_and_the_rest_stays() -> None:
    ready = deque(queued_message(id_) for id_ in range(5))
    assert ids(next_batch(ready, 3)[0]) == [0, 1, 2]
    assert ids(next_batch(ready, 3)[0]) == [3, 4]
    assert next_batch(ready, 3) == ([], [])


def test_it_has_a_mebibyte_at_the_most_but_one_message_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_BYTES", 100)
    ready = deque(queued_message(id_, size=size) for id_, size in enumerate((60, 40, 1, 300, 5)))
    assert [ids(next_batch(ready, 10)[0]) for _ in range(4)] == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize(("attempts", "count"), [(0, 500), (1, 62), (2, 7), (3, 1), (99, 1)])
def test_messages_that_have_failed_go_in_smaller_batches(attempts: int, count: int) -> None:
    ready = deque(queued_message(id_, attempts=attempts) for id_ in range(600))
    assert len(next_batch(ready, 500)[0]) == count


def test_one_that_has_failed_is_in_no_large_batch_of_others() -> None:
    ready = deque(queued_message(id_, attempts=2 if id_ == 20 else 0) for id_ in range(40))
    assert [len(next_batch(ready, 64)[0]) for _ in range(3)] == [20, 1, 19]


def test_what_has_expired_meanwhile_is_told_apart() -> None:
    ready = deque(queued_message(id_, expires_at=time.time() + (-1, 99)[id_ % 2]) for id_ in range(4))
    found, expired = next_batch(ready, 10)
    assert (ids(found), ids(expired)) == ([1, 3], [0, 2])
