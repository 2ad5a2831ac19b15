"""Publish/subscribe over HTTP: publishing to topics, and fetching from the queues of subscriptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from junctor_client.errors import BadRequest, InvalidResponse

if TYPE_CHECKING:
    from junctor_client.client import Client
    from junctor_client.response import Response

TOPIC_PATH, SUBSCRIBE_PATH = "/zato/pubsub/topic/", "/zato/pubsub/subscribe/topic/"
ACK_PATH, NACK_PATH = "/zato/pubsub/ack", "/zato/pubsub/nack"
MSG_ID_PREFIX = "zpsm"
DUPLICATE = "Duplicate msg_id"  # what the server says of a message that it has already


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue of what is published to a topic; whoever has the right credentials and ``sub_key`` may fetch from it.

    ``queue_depth`` is how many messages were waiting in it when it was made.
    """

    topic: str
    sub_key: str
    queue_depth: int


class PubSub:
    """Publish/subscribe with the credentials of a client: what ``client.pubsub`` is.

    All methods raise what ``Client.call`` does: ``Forbidden`` for topics that the credentials do not permit and for subscriptions of
    others, ``NotFound`` for a topic that is not there, ``ServiceUnavailable`` for one that is inactive, or full because its
    subscribers lag behind.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def publish(
        self, topic: str, data: Any, *, msg_id: str = "", timeout: float | None = None, **options: Any
    ) -> str:
        """The id of the message, once it is stored for all subscribers.

        ``data`` is text, or anything that JSON can express.  ``options`` are ``priority`` (1 to 9, which comes first; 5 by default),
        ``expiration`` and ``delay`` in seconds, ``mime_type``, ``correl_id``, ``in_reply_to``, ``ext_client_id``, ``has_gd`` and the
        other fields of messages.

        A message is stored once however often it is sent with the same ``msg_id``, for a day.  Without one, it gets an id here, so that a
        call may be repeated when the connection is lost.  Whoever repeats it after a ``ConnectionFailed`` gives the ``msg_id``, which
        is returned whether the message was there already or not.
        """
        made = msg_id or new_msg_id()
        body = {**options, "data": data, "msg_id": made}
        path = TOPIC_PATH + _in_path(topic)
        try:
            response = self._client.call(path, body, timeout=timeout, idempotent=True)
        except BadRequest as error:
            if not str(error.details).startswith(DUPLICATE):
                raise
            return made
        return str(_field(response, "msg_id"))

    def subscribe(self, topic: str) -> Subscription:
        """The subscription from which these credentials pull, made if there is none yet; messages wait in it from now on."""
        path = SUBSCRIBE_PATH + _in_path(topic)
        response = self._client.call(path, {"reuse": True}, idempotent=True)
        return Subscription(
            topic, str(_field(response, "sub_key")), int(_field(response, "queue_depth") or 0)
        )

    def unsubscribe(self, topic: str, sub_key: str = "") -> None:
        """Ends a subscription, with all that is in its queue; by default the one that these credentials pull from."""
        self._client.call(SUBSCRIBE_PATH + _in_path(topic), method="DELETE", params=_key(sub_key))

    def pull(
        self,
        topic: str,
        sub_key: str = "",
        *,
        batch_size: int | None = None,
        wait: float = 0,
        needs_ack: bool = False,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The next messages of a subscription, oldest first and up to ``batch_size``; empty if there are none within ``wait`` seconds.

        They are gone then, and lost if the answer gets lost.  With ``needs_ack`` they stay in the queue until ``ack``, and come again,
        with a higher ``delivery_count``, after ``nack`` or the subscription's acknowledgement time-out, 30 seconds by default.

        ``wait`` is up to 30; ``timeout`` should be longer.
        """
        options = {"batch_size": batch_size, "wait": wait, "ack_mode": "explicit" if needs_ack else None}
        body = _key(sub_key) | {name: value for name, value in options.items() if value}
        response = self._client.call(TOPIC_PATH + _in_path(topic), body, method="PATCH", timeout=timeout)
        if not isinstance(response.data, list):
            raise _unexpected(response)
        return response.data

    def ack(self, *messages: Mapping[str, Any]) -> int:
        """How many of these messages, as they were pulled with ``needs_ack``, were removed from their queue; the others were not in it."""
        return self._settle(ACK_PATH, messages, {})

    def nack(self, *messages: Mapping[str, Any], delay: float = 0, reason: str = "") -> int:
        """How many of these messages, as they were pulled with ``needs_ack``, were given back; they come again after ``delay`` seconds.

        ``reason`` is for whoever looks at them.
        """
        options = {"delay": delay, "reason": reason}
        return self._settle(NACK_PATH, messages, {name: value for name, value in options.items() if value})

    def _settle(self, path: str, messages: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> int:
        by_key: dict[str, list[str]] = {}
        for message in messages:
            by_key.setdefault(message["sub_key"], []).append(message["msg_id"])
        count = 0
        for sub_key, ids in by_key.items():
            body = {"sub_key": sub_key, "msg_id_list": ids, **options}
            count += int(_field(self._client.call(path, body, idempotent=True), "count") or 0)
        return count


def new_msg_id() -> str:
    """An id for a message that nobody else has."""
    return f"{MSG_ID_PREFIX}{uuid4().hex}"


def _in_path(topic: str) -> str:
    return quote(topic, safe="/")


def _key(sub_key: str) -> dict[str, Any]:
    return {"sub_key": sub_key} if sub_key else {}


def _field(response: Response, name: str) -> Any:
    if not isinstance(response.data, dict) or name not in response.data:
        raise _unexpected(response)
    return response.data[name]


def _unexpected(response: Response) -> InvalidResponse:
    return InvalidResponse(
        "The response is not one of publish/subscribe", status=response.status, cid=response.cid
    )
