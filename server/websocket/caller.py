"""How a service finds the WebSocket client that it is called by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from junctor.server.websocket.session import Session

ASYNC_MESSAGE: Final = "zato.request_ctx.async_msg"  # facts sheet, section 2


def client_of(environ: Mapping[str, Any]) -> Session | None:
    """The client that a call came from, by the ``environ`` of the service that is called; None if it came another way."""
    message = environ.get(ASYNC_MESSAGE)
    found: Session | None = message["environ"].get("web_socket") if message else None
    return found
