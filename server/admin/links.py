"""The state of outgoing WebSocket connections, over all workers of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from junctor.server.admin.service import AdminService
from junctor.server.runtime.status import LOST_AFTER
from junctor.sql.objects.websocket import OutgoingWebSocket


class GetState(AdminService):
    """The state of each outgoing WebSocket connection in each live worker: since when, the last error, the round trip of the last ping."""

    name = "zato.outgoing-websocket.get-state"

    def handle(self) -> None:
        """``name``: of that connection alone.  Raises ``NotFound`` if there is none of this name."""
        name = self.text(self.fields, "name", "")
        if name:
            self.context.store.get(OutgoingWebSocket.kind, name)
        _, workers = self.context.status.cluster()
        items = [item for item in _items(workers) if not name or item["name"] == name]
        self.response.payload = {"items": items}


def _items(workers: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for worker in workers:
        if worker["seen_seconds_ago"] >= LOST_AFTER:
            continue
        for key, state in worker["states"].items():
            kind, _, name = key.partition("/")
            if kind == OutgoingWebSocket.kind:
                yield {"name": name, "server": worker["server"], "pid": worker["pid"], **state}
