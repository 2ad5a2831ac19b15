"""The base classes of services that other parts of the platform call back.

They can be derived from and their services invoked like any other; the callbacks come with pub/sub and WebSockets, which
call the method that ``ctx.hook_type`` of the input names (facts sheet, section 3.5).
"""

from __future__ import annotations

from typing import Any

from junctor.server.service.base import Service


class AdminService(Service):
    """A service of the platform's own API."""


class PubSubHook(Service):
    """A service that takes part in what topics and subscriptions do."""

    def before_publish(self) -> Any:
        """Runs before a message is published."""

    def before_delivery(self) -> Any:
        """Runs before a message is delivered."""

    def on_outgoing_soap_invoke(self) -> Any:
        """Runs in place of a delivery over SOAP."""

    def on_subscribed(self) -> Any:
        """Runs after a subscription was created."""

    def on_unsubscribed(self) -> Any:
        """Runs after a subscription was deleted."""


class WSXHook(Service):
    """A service that takes part in the life of a WebSocket connection to one of the channels."""

    def on_connected(self) -> Any:
        """Runs after a client connected."""

    def on_disconnected(self) -> Any:
        """Runs after a client disconnected."""

    def on_pubsub_response(self) -> Any:
        """Runs after a client answered the delivery of a message."""


class WSXAdapter(Service):
    """A service that is told what happens to an outgoing WebSocket connection."""

    def on_connected(self, ctx: Any) -> Any:
        """Runs after the connection was made."""

    def on_message_received(self, ctx: Any) -> Any:
        """Runs for each message that comes in."""

    def on_closed(self, ctx: Any) -> Any:
        """Runs after the connection was closed."""
