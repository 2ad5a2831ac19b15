"""The services of publish/subscribe for WebSocket clients, and those for the queue of a key (facts sheet, sections 3.3 and 4.10)."""

from __future__ import annotations

from typing import Any, Final

from junctor.server.pubsub.api import PubSubService, answer_to
from junctor.server.pubsub.message import MILLISECONDS
from junctor.server.pubsub.pull import Fetch
from junctor.server.pubsub.subscribing import NOT_AUTHORIZED
from junctor.server.websocket.caller import client_of
from junctor.sql.errors import Forbidden

QUEUE_BATCH: Final = 50  # messages


class WebSocketService(PubSubService):
    """A service for WebSocket clients alone."""

    zato_dont_import = True

    @property
    def endpoint_and_session(self) -> Any:
        """The endpoint of the client's channel, and the client.  Raises ``Forbidden``."""
        if client_of(self.environ) is None:
            raise Forbidden(self.cid, "Only WebSocket clients can be sent messages; others pull them.")
        return self.caller.endpoint, self.caller.session


class CreateWSXSubscription(WebSocketService):
    """Subscribes a WebSocket client.

    Each call makes a subscription of its own, which stays when the client disconnects unless ``unsub_on_wsx_close`` says otherwise,
    and can be resumed by its ``sub_key``.  Another cluster's outgoing connection has one for each topic, which it finds again.
    """

    name = "zato.pubsub.subscription.create-wsx-subscription"

    def handle(self) -> None:
        """``topic_name`` or ``topic_name_list``; ``delivery_batch_size``, ``wrap_one_msg_in_list``, ``unsub_on_wsx_close``, ``ack_mode``.

        The answer has ``sub_key`` and ``queue_depth``, or ``sub_data`` for a list.
        """
        assert self.endpoint_and_session
        is_list = bool(self.given.get("topic_name_list"))
        self.response.payload = answer_to(self.subscribe(), is_list=is_list)


class SubscribeWSX(CreateWSXSubscription):
    """The same, under the name that applications know."""

    name = "zato.pubsub.pubapi.subscribe-wsx"


class ResumeWSXSubscription(WebSocketService):
    """Has the messages of a subscription sent to the client that calls, in place of whoever had them before."""

    name = "zato.pubsub.resume-wsx-subscription"

    def handle(self) -> None:
        """``sub_key``."""
        endpoint, session = self.endpoint_and_session
        pubsub = self.context.pubsub
        sub_key = self.text(self.given, "sub_key")
        depth = pubsub.pull.depth(pubsub.subscribing.of(endpoint, sub_key).id)
        pubsub.subscribing.resume(endpoint, sub_key, session)
        self.response.payload = {"sub_key": sub_key, "queue_depth": depth}


class GetSubscriptions(WebSocketService):
    """The subscriptions of the client that calls."""

    name = "pubsub.subscription.get-list"

    def handle(self) -> None:
        """No input.  The answer is a list of ``topic_name``, ``sub_key``, ``queue_depth``, ``ext_client_id`` and ``delivery_method``."""
        endpoint, session = self.endpoint_and_session
        pubsub = self.context.pubsub
        mine = pubsub.subscribing.of_client(endpoint, session.ext_client_id)
        self.response.payload = [
            {
                "topic_name": topic.name,
                "sub_key": subscription.sub_key,
                "queue_depth": pubsub.pull.depth(subscription.id),
                "ext_client_id": subscription.ext_client_id,
                "delivery_method": subscription.delivery_method,
            }
            for topic, subscription in mine
        ]


class EndSubscription(WebSocketService):
    """Ends a subscription of the channel that calls."""

    name = "pubsub.subscription.unsubscribe"

    def handle(self) -> None:
        """``sub_key``."""
        assert self.endpoint_and_session
        self.context.pubsub.subscribing.unsubscribe(self.subscription())
        self.response.payload = {}


class GetMessages(PubSubService):
    """Takes messages out of a queue, oldest first, each to be acknowledged."""

    name = "zato.pubsub.queue.get-messages"

    def handle(self) -> None:
        """``sub_key``; ``batch_size``, 50 by default.  What is not acknowledged in time can be had again."""
        subscription = self.subscription()
        asked = self.number(self.given, "batch_size", QUEUE_BATCH, high=15_000)
        found = self.context.pubsub.pull.fetch(subscription, Fetch(int(asked), is_explicit=True))
        self.response.payload = self.shown(subscription, found)


class AcknowledgeDelivery(PubSubService):
    """Acknowledges messages that were taken out of a queue."""

    name = "zato.pubsub.queue.acknowledge-delivery"

    def handle(self) -> None:
        """``sub_key``, ``msg_id_list``; the answer has the ``count`` of those that were still to be acknowledged."""
        count = self.context.pubsub.pull.acknowledge(self.subscription(), self.msg_ids())
        self.response.payload = {"count": count}


class GetQueueDepth(PubSubService):
    """How many messages are in a queue."""

    name = "zato.pubsub.queue.get-queue-depth-by-sub-key"

    def handle(self) -> None:
        """``sub_key``; the answer has ``queue_depth``, up to a million."""
        depth = self.context.pubsub.pull.depth(self.subscription().id)
        self.response.payload = {"queue_depth": depth, "current_depth": depth}


class Publish(PubSubService):
    """Publishes as the cluster itself; for services alone."""

    name = "zato.pubsub.publish.publish"

    def handle(self) -> None:
        """``topic_name``; ``data`` or ``data_list``.  ``expiration`` is in milliseconds, as in ``self.pubsub.publish``."""
        if not self.caller.is_trusted:
            raise Forbidden(self.cid, NOT_AUTHORIZED)
        self.publish(unit=MILLISECONDS)


SERVICES: Final = (
    CreateWSXSubscription,
    SubscribeWSX,
    ResumeWSXSubscription,
    GetSubscriptions,
    EndSubscription,
    GetMessages,
    AcknowledgeDelivery,
    GetQueueDepth,
    Publish,
)
