"""Requests of the server that a client has not answered yet."""

from __future__ import annotations

from typing import Any, Final

from gevent.event import AsyncResult

from junctor.server.service.call import new_cid
from junctor.sql.errors import CallFailed, CallTimeout, WebSocketClosed

MAX_CALLS: Final = 1000  # of one client


class ClientCalls:
    """The calls of one client, by the id of the message that asks; each is forgotten once it is answered or over."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, AsyncResult] | None = None  # most connections never need one

    def __len__(self) -> int:
        return len(self._waiting) if self._waiting else 0

    def begin(self, message_id: str = "", prefix: str = "") -> str:
        """The id of a new call: the given one, if there is one that is not in use, or one that begins with ``prefix``.

        Raises ``CallFailed`` when there are too many.
        """
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = {}
        if len(waiting) >= MAX_CALLS:
            raise CallFailed(f"{MAX_CALLS} requests wait for this client's answers already.")
        if not message_id or message_id in waiting:
            message_id = f"{prefix}{new_cid()}"
        waiting[message_id] = AsyncResult()
        return message_id

    def wait(self, message_id: str, timeout: float) -> Any:
        """What the client answers within ``timeout`` seconds.  Raises ``CallTimeout``, or ``WebSocketClosed``."""
        assert self._waiting is not None
        answer = self._waiting[message_id]
        answer.wait(timeout)
        if not answer.ready():
            raise CallTimeout(f"The client did not answer within {timeout:g} s.")
        return answer.get()

    def end(self, message_id: str) -> None:
        """Nobody waits for the answer any more."""
        if self._waiting is not None:
            self._waiting.pop(message_id, None)

    def answered(self, message_id: str, answer: Any) -> bool:
        """Hands an answer to whoever waits for it; False when nobody does."""
        waiting = self._waiting.get(message_id) if self._waiting else None
        if waiting is None or waiting.ready():
            return False
        waiting.set(answer)
        return True

    def fail(self) -> None:
        """The client is gone: nobody waits any longer."""
        for waiting in list((self._waiting or {}).values()):
            if not waiting.ready():
                waiting.set_exception(
                    WebSocketClosed("The client's connection was closed before it answered.")
                )
