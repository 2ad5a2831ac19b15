"""Delivery over an outgoing REST connection: 2xx acknowledges, whatever the body is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.outgoing.rest import RestConnection, RestResponse
from junctor.server.outgoing.rest_live import OutgoingRest
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.transports.base import DeliveryFailed, shown
from junctor.server.service.call import new_cid
from junctor.sql.errors import ConnectionFailed, ConnectionInactive

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription

RAW: Final = "raw"
TRANSIENT: Final = frozenset((408, 425, 429))  # statuses that say 'later', beside 5xx
SERVER_ERROR: Final = 500
# The headers of a message in the data format 'raw', by the field of the message that each is of.
HEADERS: Final = {
    "msg_id": "X-Junctor-Message-Id",
    "priority": "X-Junctor-Priority",
    "attempts": "X-Junctor-Delivery-Count",
    "correl_id": "X-Junctor-Correlation-Id",
    "in_reply_to": "X-Junctor-In-Reply-To",
    "ext_client_id": "X-Junctor-Client-Id",
    "group_id": "X-Junctor-Group-Id",
    "position_in_group": "X-Junctor-Position-In-Group",
}


class RestTransport:
    """Sends messages to the REST connection of a subscription."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def deliver(self, subscription: Subscription, messages: Sequence[QueuedMessage]) -> None:
        """Sends a JSON list of messages, or a single one; in the data format ``raw``, the data of one alone."""
        if subscription.data_format == RAW:
            for message in messages:  # there is one, since the batch size is 1
                self._send(subscription, *_raw(subscription, message))
            return
        body = orjson.dumps(shown(subscription, messages), default=str)
        self._send(subscription, body, {"Content-Type": "application/json"})

    def _send(self, subscription: Subscription, body: bytes, headers: dict[str, str]) -> None:
        connection = self._connection(subscription)
        cid = new_cid()
        send = getattr(connection, subscription.out_rest_method.lower())
        try:
            response: RestResponse = send(cid, body, headers=headers)
        except ConnectionInactive as error:
            raise DeliveryFailed(error.message, is_transient=True) from error
        except ConnectionFailed as error:
            raise DeliveryFailed(error.message, is_socket=True) from error
        except ValueError as error:  # the address has placeholders that nothing fills
            raise DeliveryFailed(f"Outgoing REST connection {connection.name!r}: {error}") from error
        if not response.ok or not 200 <= response.status_code < 300:
            raise _refused(connection.name, response, cid)

    def _connection(self, subscription: Subscription) -> RestConnection:
        live: Any = None
        if subscription.out_rest_id is not None:
            live = self._context.registry.live("outgoing_rest", subscription.out_rest_id)
        if not isinstance(live, OutgoingRest):
            raise DeliveryFailed("The outgoing REST connection does not work.", is_transient=True)
        connection: RestConnection = live.connection
        return connection


def _raw(subscription: Subscription, message: QueuedMessage) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a message whose data are sent as they are."""
    topic = subscription.topic
    fields = {name: getattr(message, field) for field, name in HEADERS.items()}
    headers = {name: str(value) for name, value in fields.items() if value not in ("", None)}
    headers["Content-Type"] = message.mime_type
    headers["X-Junctor-Topic"] = topic.name if topic is not None else ""
    headers["X-Junctor-Published"] = datetime.fromtimestamp(message.pub_time, UTC).isoformat()
    plain = {name: value.encode("ascii", "xmlcharrefreplace").decode() for name, value in headers.items()}
    if message.serialized is None:
        return message.data.encode(), plain
    body = message.serialized
    text = body if isinstance(body, str | bytes) else orjson.dumps(body, default=str)
    return text.encode() if isinstance(text, str) else text, plain


def _refused(name: str, response: RestResponse, cid: str) -> DeliveryFailed:
    status = response.status_code
    return DeliveryFailed(
        f"Outgoing REST connection {name!r}: the receiver answered with status {status} (CID {cid}).",
        is_transient=status in TRANSIENT or status >= SERVER_ERROR,
        retry_after=_retry_after(response.headers.get("Retry-After", "")),
    )


def _retry_after(value: str) -> float | None:
    """Seconds, as the header says (RFC 9110, section 10.2.3); None without one that can be understood."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError):
        return None
    moment = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
