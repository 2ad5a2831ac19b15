"""A WebSocket client as the rest of a worker sees it, without a connection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from junctor.sql.errors import WebSocketClosed

_numbers = itertools.count(1)


@dataclass(eq=False)
class LocalClient:
    """Answers with what ``answer`` makes of each request, and keeps what it was sent in ``received``."""

    pub_client_id: str = field(default_factory=lambda: f"ws.test-{next(_numbers)}")
    ext_client_id: str = "crm.1"
    ext_client_name: str = "CRM"
    attributes: dict[str, Any] = field(default_factory=dict)
    channel_id: int = 1
    channel_name: str = "orders"
    local_address: str = "127.0.0.1:17010"
    peer_address: str = "127.0.0.1:50000"
    forwarded_for: str = ""
    connected: datetime = field(default_factory=lambda: datetime.now(UTC))
    answer: Callable[[Any], Any] = lambda data: {"echo": data}
    received: list[Any] = field(default_factory=list)
    closed: tuple[int, str] | None = None

    def invoke(self, data: Any, *, timeout: float) -> Any:
        """What ``answer`` returns or raises."""
        self.notify(data)
        assert timeout > 0
        return self.answer(data)

    def notify(self, data: Any) -> str:
        """The id of the message, which is the same for all."""
        if self.closed:
            raise WebSocketClosed
        self.received.append(orjson.loads(orjson.dumps(data)))
        return f"message-to-{self.pub_client_id}"

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """Takes nothing any more."""
        self.closed = (code, reason)
