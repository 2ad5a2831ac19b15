"""Messages without guaranteed delivery, which wait in the memory of the worker that owns their subscription, and end with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import time
from typing import Final

from junctor.server.pubsub.message import LEAST_PRIORITY, MOST_PRIORITY, QueuedMessage

MAX_BYTES: Final = 8 * 2**20  # of one subscription


class Ring:
    """The messages of one subscription: the most urgent ones first, and among those in the order in which they came.  It is bounded."""

    __slots__ = ("_bytes", "_count", "_queues")

    def __init__(self) -> None:
        self._queues: dict[int, deque[QueuedMessage]] = {}
        self._count = self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def add(self, message: QueuedMessage, most: int) -> int:
        """Takes a message; how many others were dropped, so that there are no more than ``most``: the oldest of the least urgent ones."""
        self._queues.setdefault(_level(message), deque()).append(message)
        self._count += 1
        self._bytes += message.size
        dropped = 0
        while self._count > 1 and (self._count > most or self._bytes > MAX_BYTES):
            self._pop(min(self._queues))
            dropped += 1
        return dropped

    def first(self) -> QueuedMessage | None:
        """The message that would be taken first; None if there is none."""
        now = time()
        while self._queues:
            level = max(self._queues)
            message = self._queues[level][0]
            if message.expires_at is None or message.expires_at > now:
                return message
            self._pop(level)
        return None

    def take(self, most: int, most_bytes: int) -> list[QueuedMessage]:
        """Up to ``most`` messages, and so many bytes, but one at least if there is any."""
        taken: list[QueuedMessage] = []
        size = 0
        while len(taken) < most and (message := self.first()) is not None:
            size += message.size
            if taken and size > most_bytes:
                break
            taken.append(self._pop(max(self._queues)))
        return taken

    def put_back(self, messages: Sequence[QueuedMessage]) -> None:
        """They were taken and not delivered, and are the first ones again."""
        for message in reversed(messages):
            self._queues.setdefault(_level(message), deque()).appendleft(message)
            self._count += 1
            self._bytes += message.size

    def _pop(self, level: int) -> QueuedMessage:
        queue = self._queues[level]
        message = queue.popleft()
        if not queue:
            del self._queues[level]
        self._count -= 1
        self._bytes -= message.size
        return message


def _level(message: QueuedMessage) -> int:
    return min(max(message.priority, LEAST_PRIORITY), MOST_PRIORITY)
