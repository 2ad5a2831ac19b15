"""The services that applications publish, subscribe and pull with (facts sheet, sections 4.9 and 4.10)."""

from __future__ import annotations

from typing import Final

from junctor.server.pubsub.api import OLDEST, PubSubService, amount, answer_to
from junctor.server.pubsub.message_state import message_state
from junctor.server.pubsub.pull import MAX_DELAY
from junctor.server.pubsub.subscribing import NOT_AUTHORIZED
from junctor.sql.errors import BadRequest, Forbidden


class TopicService(PubSubService):
    """A topic over REST: publishing to it, and getting its messages."""

    name = "zato.pubsub.pubapi.topic-service"

    def handle_POST(self) -> None:  # noqa: N802 - the contract
        """With ``sub_key``, the messages of a subscription, newest first; otherwise publishes ``data``."""
        self.handle()

    def handle_PATCH(self) -> None:  # noqa: N802 - the contract
        """The messages of the caller's own subscription, oldest first; ``sub_key`` need not be given."""
        is_named = bool(self.given.get("sub_key"))
        self.pull(self.subscription() if is_named else self.own_subscription(), order=OLDEST)

    def handle(self) -> None:
        """The same as POST."""
        given = self.given
        if not given.get("sub_key"):
            self.publish()
        elif given.get("data") is not None:
            raise BadRequest(self.cid, "Either data, to publish, or sub_key, to get messages; not both.")
        else:
            subscription = self.subscription()
            self.pull(subscription, order=subscription.pull_order)


class SubscribeService(PubSubService):
    """Subscriptions over REST."""

    name = "zato.pubsub.pubapi.subscribe-service"

    def handle_POST(self) -> None:  # noqa: N802 - the contract
        """Subscribes the caller, who is going to pull; ``reuse`` makes it no error if it has subscribed already."""
        self.handle()

    def handle_DELETE(self) -> None:  # noqa: N802 - the contract
        """Ends the subscription that ``sub_key`` names, or the one that the caller pulls from."""
        subscribing = self.context.pubsub.subscribing
        is_named = bool(self.given.get("sub_key"))
        if not subscribing.unsubscribe(self.subscription() if is_named else self.own_subscription()):
            raise Forbidden(self.cid, NOT_AUTHORIZED)  # as if this worker had known already
        self.response.payload = {}

    def handle(self) -> None:
        """The same as POST."""
        (made,) = self.subscribe()
        self.response.payload = {"sub_key": made.subscription.sub_key, "queue_depth": made.depth}


class MessageService(PubSubService):
    """What became of a message that the caller has published."""

    name = "zato.pubsub.pubapi.message-service"

    def handle(self) -> None:
        """``msg_id``; the answer has the message without its data, and in how many queues it still is.

        404 for what is nobody's or somebody else's.
        """
        caller = self.caller
        publisher = None if caller.is_trusted else caller.endpoint
        self.response.payload = message_state(self.context, self.text(self.given, "msg_id"), publisher)


class Acknowledge(PubSubService):
    """Acknowledges messages that were pulled with explicit acknowledgement."""

    name = "zato.pubsub.pubapi.ack"

    def handle(self) -> None:
        """``sub_key``, ``msg_id_list``; the answer has the ``count`` of those that were still to be acknowledged."""
        subscription = self.subscription()
        self.response.payload = {"count": self.context.pubsub.pull.acknowledge(subscription, self.msg_ids())}


class Reject(PubSubService):
    """Gives messages back that were pulled with explicit acknowledgement."""

    name = "zato.pubsub.pubapi.nack"

    def handle(self) -> None:
        """``sub_key``, ``msg_id_list``; ``delay``, in seconds, after which they can be had again; ``reason``, for whoever looks at them."""
        subscription = self.subscription()
        count = self.context.pubsub.pull.reject(
            subscription,
            self.msg_ids(),
            delay=amount(self.given, "delay", 0, 0, MAX_DELAY),
            reason=self.text(self.given, "reason", ""),
        )
        self.response.payload = {"count": count}


class PublishMessage(PubSubService):
    """Publishes a message, or several."""

    name = "zato.pubsub.pubapi.publish-message"

    def handle(self) -> None:
        """``topic_name``; ``data``, and what else belongs to a message, or ``data_list``.  ``expiration`` is in seconds."""
        self.publish()


class GetMessages(PubSubService):
    """Messages of a subscription that is pulled from."""

    name = "zato.pubsub.pubapi.get-messages"

    def handle(self) -> None:
        """``topic_name``, ``sub_key``; ``order``, ``batch_size``, ``ack_mode``, ``wait``."""
        subscription = self.subscription()
        self.pull(subscription, order=subscription.pull_order)


class Subscribe(PubSubService):
    """Subscribes the caller: a WebSocket client to be sent messages, anybody else to pull them."""

    name = "zato.pubsub.pubapi.subscribe"

    def handle(self) -> None:
        """``topic_name``; the answer has ``sub_key`` and ``queue_depth``, or ``sub_data``, a list, for ``topic_name_list``."""
        self.response.payload = answer_to(self.subscribe(), is_list=bool(self.given.get("topic_name_list")))


class Unsubscribe(PubSubService):
    """Ends a subscription."""

    name = "zato.pubsub.pubapi.unsubscribe"

    def handle(self) -> None:
        """``sub_key``, and ``topic_name`` if it is to be checked."""
        if not self.context.pubsub.subscribing.unsubscribe(self.subscription()):
            raise Forbidden(self.cid, NOT_AUTHORIZED)  # as if this worker had known already
        self.response.payload = {}


SERVICES: Final = (
    TopicService,
    SubscribeService,
    MessageService,
    Acknowledge,
    Reject,
    PublishMessage,
    GetMessages,
    Subscribe,
    Unsubscribe,
)
