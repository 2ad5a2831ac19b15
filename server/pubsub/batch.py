"""Which messages are delivered together."""

from __future__ import annotations

from collections import deque
from time import time
from typing import Final

from junctor.server.pubsub.message import QueuedMessage

MAX_BATCH_BYTES: Final = 2**20
SHRINKING: Final = 3  # a message goes in batches of an eighth of the size with each time that it has failed


def next_batch(ready: deque[QueuedMessage], size: int) -> tuple[list[QueuedMessage], list[QueuedMessage]]:
    """Takes the first messages of ``ready``, up to ``size`` of them, as one batch; returns it, and those that have expired meanwhile.

    It has a mebibyte at the most, unless a single message has more.
    """
    now, most, room = time(), size, MAX_BATCH_BYTES
    batch: list[QueuedMessage] = []
    expired: list[QueuedMessage] = []
    while ready:
        message = ready[0]
        if message.expires_at is not None and message.expires_at <= now:
            expired.append(ready.popleft())
            continue
        most = min(most, max(1, size >> min(30, SHRINKING * message.attempts)))
        room -= message.size
        if batch and (len(batch) >= most or room < 0):
            break
        batch.append(ready.popleft())
    return batch, expired
