"""The base classes of services that other parts of the platform call back.

They can be derived from and their services invoked like any other; publish/subscribe and WebSockets call the method that
``ctx.hook_type`` of the input names (facts sheet, section 3.5).
"""

from __future__ import annotations

from typing import Any, Final

from junctor.server.service.base import Service
from junctor.server.service.bunch import Bunch
from junctor.server.service.channel import WEB_SOCKET

BEFORE_PUBLISH: Final = "pubsub_before_publish"
BEFORE_DELIVERY: Final = "pubsub_before_delivery"
ON_OUTGOING_SOAP_INVOKE: Final = "pubsub_on_topic_outgoing_soap_invoke"
ON_SUBSCRIBED: Final = "pubsub_on_subscribed"
ON_UNSUBSCRIBED: Final = "pubsub_on_unsubscribed"


class AdminService(Service):
    """A service of the platform's own API."""


class PubSubHook(Service):
    """A service that takes part in what topics and subscriptions do, which name it as their hook service.

    Each method finds ``ctx`` in ``self.request.input.ctx``: ``hook_type``, ``topic``, and ``msg`` or ``sub`` or both.  What becomes of a
    message is said with ``self.response.payload.hook_action``: 'skip' in ``before_publish``; in ``before_delivery``, 'skip' (it stays in
    the queue), 'delete', or 'deliver', which is the default.
    """

    def handle(self) -> Any:
        """Calls the method that ``ctx.hook_type`` names; nothing for one that there is not."""
        methods = {
            BEFORE_PUBLISH: self.before_publish,
            BEFORE_DELIVERY: self.before_delivery,
            ON_OUTGOING_SOAP_INVOKE: self.on_outgoing_soap_invoke,
            ON_SUBSCRIBED: self.on_subscribed,
            ON_UNSUBSCRIBED: self.on_unsubscribed,
        }
        self.response.payload = Bunch(hook_action="")
        if (method := methods.get(str(self.request.input.ctx.hook_type))) is not None:
            method()

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
    """A service that takes part in the life of a WebSocket connection to one of the channels, which names it as its hook service.

    Each method finds ``ctx`` in ``self.request.input.ctx``: ``hook_type``, the channel's ``config``, the client's ``pub_client_id``,
    ``ext_client_id``, ``ext_client_name``, ``connection_time`` and addresses, ``user_data`` (kept for as long as the connection), and
    ``msg``.
    """

    def handle(self) -> Any:
        """Calls the method that ``ctx.hook_type`` names; nothing for one that there is not."""
        hook_type = str(self.request.input.ctx.hook_type).removeprefix("wsx_")
        if hook_type in ("on_connected", "on_disconnected", "on_pubsub_response"):
            getattr(self, hook_type)()

    def on_connected(self) -> Any:
        """Runs after a client connected."""

    def on_disconnected(self) -> Any:
        """Runs after a client disconnected."""

    def on_pubsub_response(self) -> Any:
        """Runs after a client answered the delivery of a message."""


class WSXAdapter(Service):
    """A service that is told what happens to an outgoing WebSocket connection, which names it as one of its hook services.

    What ``on_message_received`` returns is the answer to the remote end.
    """

    def handle(self) -> Any:
        """Calls the method for ``ctx.type``, with ``ctx`` (``server/outgoing/websocket_hooks.py``)."""
        ctx = self.request.input.ctx
        happened = WEB_SOCKET.OUT_MSG_TYPE
        methods = {
            happened.CONNECT: self.on_connected,
            happened.MESSAGE: self.on_message_received,
            happened.CLOSE: self.on_closed,
        }
        answer = methods[ctx.type](ctx)
        if answer is not None:
            self.response.payload = answer

    def on_connected(self, ctx: Any) -> Any:
        """Runs after the connection was made."""

    def on_message_received(self, ctx: Any) -> Any:
        """Runs for each message that comes in."""

    def on_closed(self, ctx: Any) -> Any:
        """Runs after the connection was closed."""
