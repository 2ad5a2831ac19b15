"""Delivery to a WebSocket client: it acknowledges by answering (facts sheet, sections 1.3 and 8.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from junctor.server.pubsub.message import MSG_ID_PREFIX
from junctor.server.pubsub.transports.base import DeliveryFailed, shown
from junctor.server.service.call import new_cid
from junctor.server.websocket.stream import TOO_LARGE
from junctor.sql.errors import CallFailed, CallTimeout, InvalidOutput, WebSocketClosed

if TYPE_CHECKING:
    from junctor.server.pubsub.live import Subscription
    from junctor.server.pubsub.message import QueuedMessage
    from junctor.server.websocket.client import Client

AUTO, EXPLICIT, ON_SEND = "auto", "explicit", "on-send"
FIRST_WAIT: Final = (
    5.0  # seconds for which it is waited for the first answer of a client that may never give any
)
DRAIN_TIMEOUT: Final = 60.0  # seconds in which a client that does not answer must take what was sent
MAX_NACK_DELAY: Final = 86_400.0  # seconds
NACK: Final = "nack"


class WebSocketTransport:
    """Sends to one client.

    In the mode ``auto``, clients that answer acknowledge by that.  Whether one does is known after the first message; what is sent to those
    that do not counts as delivered once the system has taken it.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def deliver(self, subscription: Subscription, messages: Sequence[QueuedMessage]) -> None:
        """Sends a list of messages, or a single one, and waits for the answer to it."""
        data = shown(subscription, messages)
        is_single = not isinstance(data, list)
        message_id = messages[0].msg_id if is_single else f"{MSG_ID_PREFIX}{new_cid()}"
        client = self.client
        try:
            if self._mode(subscription) == ON_SEND:
                client.push(message_id, data, DRAIN_TIMEOUT)
                return
            answer = client.deliver(message_id, data, self._wait(subscription))
        except WebSocketClosed as error:
            raise self._closed(error, messages) from error
        except CallTimeout as error:
            if subscription.ack_mode == AUTO and not client.answers_deliveries:
                client.answers_deliveries = False
                return
            raise DeliveryFailed(
                f"The client did not acknowledge within {subscription.ack_wait} s."
            ) from error
        except CallFailed as error:
            raise DeliveryFailed(error.message, is_transient=True) from error
        except InvalidOutput as error:
            raise DeliveryFailed(error.message, is_final=True) from error
        client.answers_deliveries = True
        _check(answer)

    def _closed(self, error: WebSocketClosed, messages: Sequence[QueuedMessage]) -> DeliveryFailed:
        """A client that closes because of the size of a message would do so for ever; of several, it is found out which."""
        if self.client.connection.peer_code == TOO_LARGE and len(messages) == 1:
            return DeliveryFailed("The client takes no message of this size.", is_final=True)
        return DeliveryFailed(error.message, is_over=True)

    def _mode(self, subscription: Subscription) -> str:
        if subscription.ack_mode != AUTO:
            return subscription.ack_mode
        return ON_SEND if self.client.answers_deliveries is False else EXPLICIT

    def _wait(self, subscription: Subscription) -> float:
        is_unknown = subscription.ack_mode == AUTO and self.client.answers_deliveries is None
        return min(FIRST_WAIT, subscription.ack_wait) if is_unknown else float(subscription.ack_wait)


def _check(answer: Any) -> None:
    """Raises ``DeliveryFailed`` if it is a negative acknowledgement: ``{"nack": true, "delay": seconds}``."""
    if not isinstance(answer, Mapping) or answer.get(NACK) is not True:
        return
    delay = answer.get("delay")
    is_given = isinstance(delay, int | float) and not isinstance(delay, bool) and math.isfinite(delay)
    seconds = min(max(float(delay), 0.0), MAX_NACK_DELAY) if is_given and delay is not None else None
    raise DeliveryFailed("The client rejected it.", retry_after=seconds)
