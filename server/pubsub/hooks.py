"""Hooks of topics and subscriptions: services that take part in publishing and delivering (facts sheet, section 4.8)."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import gevent
import orjson

from junctor.server.pubsub.message import (
    JSON,
    MILLISECONDS,
    NewMessage,
    QueuedMessage,
    encode_data,
    new_message,
)
from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, ChannelInfo
from junctor.server.service.hook_services import (
    BEFORE_DELIVERY,
    BEFORE_PUBLISH,
    ON_SUBSCRIBED,
    ON_UNSUBSCRIBED,
)
from junctor.sql import base
from junctor.sql.errors import CallFailed, ServiceNotFound, ServiceUnavailable

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription, Topic
    from junctor.server.runtime.live import Live

DELIVER, SKIP, DELETE = "deliver", "skip", "delete"
TIMEOUT: Final = 30.0  # seconds
MAX_DEPTH: Final = 5  # of hooks that publish to topics whose hooks publish ...
EDITABLE: Final = (
    "data",
    "msg_id",
    "mime_type",
    "priority",
    "expiration",
    "delay",
    "has_gd",
    "ext_pub_time",
    "correl_id",
    "in_reply_to",
    "ext_client_id",
    "group_id",
    "position_in_group",
    "reply_to_sk",
    "deliver_to_sk",
)
_depth: ContextVar[int] = ContextVar("junctor_pubsub_hooks", default=0)
log = logging.getLogger(__name__)


class Hooks:
    """Runs the hook services of topics and subscriptions, each for at most ``TIMEOUT`` seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def before_publish(self, topic: Topic, message: NewMessage) -> NewMessage | None:
        """The message as the topic's hook wants it to be published; None if it does not.

        Raises what the service raises, which the publisher gets; ``InvalidInput`` if it made the message an invalid one; and
        ``ServiceUnavailable`` if there is no such service.
        """
        if not topic.hook_service:
            return message
        view = Bunch({name: getattr(message, name) for name in EDITABLE})
        view["data"] = orjson.loads(message.data) if message.data_type == JSON else message.data
        view["topic_name"], view["pub_msg_id"], view["pub_correl_id"] = (
            topic.name,
            message.msg_id,
            message.correl_id,
        )
        ctx = Bunch(hook_type=BEFORE_PUBLISH, msg=view, topic=_shown(topic))
        try:
            action = self._run(topic.hook_service, ctx)
        except ServiceNotFound as error:
            raise ServiceUnavailable(
                msg=f"Nothing was published: the hook service of topic {topic.name} is not there."
            ) from error
        if action == SKIP:
            return None
        edited = new_message(
            topic.name, {name: view.get(name) for name in EDITABLE}, expiration_unit=MILLISECONDS
        )
        edited.is_own_id = message.is_own_id or edited.msg_id != message.msg_id
        return edited

    def before_delivery(self, subscription: Subscription, message: QueuedMessage) -> str:
        """What the subscription's hook, or that of its topic, wants to become of a message: ``DELIVER``, ``SKIP`` or ``DELETE``.

        The hook may change ``data`` and ``serialized`` of what is delivered; what is stored stays as it is.
        Raises ``CallFailed`` if the service failed.
        """
        service, topic = subscription.hook_service, subscription.topic
        if not service or topic is None:
            return DELIVER
        view = message.hook_view(topic.name, subscription.sub_key)
        before = view["data"]
        ctx = Bunch(hook_type=BEFORE_DELIVERY, msg=view, topic=_shown(topic), sub=_shown(subscription))
        try:
            action = self._run(service, ctx)
            if view.get("data") is not before or not isinstance(before, str):
                message.data, message.data_type, message.size = encode_data(view.get("data"))
        except (Exception, gevent.Timeout) as error:  # boundary: the service of somebody else
            log.exception("Hook service %s failed for subscription %r.", service, subscription.name)
            raise CallFailed(f"The hook service {service!r} failed: {type(error).__name__}.") from error
        message.serialized = view.get("serialized")
        return action if action in (SKIP, DELETE) else DELIVER

    def on_subscribed(self, topic: Topic | None, subscription: Subscription) -> None:
        """Tells that there is a subscription.  Never raises."""
        self._tell(ON_SUBSCRIBED, topic, subscription)

    def on_unsubscribed(self, topic: Topic | None, subscription: Subscription) -> None:
        """Tells that a subscription is gone.  Never raises."""
        self._tell(ON_UNSUBSCRIBED, topic, subscription)

    def _tell(self, hook_type: str, topic: Topic | None, subscription: Subscription) -> None:
        service = subscription.hook_service or (topic.hook_service if topic is not None else "")
        if not service:
            return
        shown = None if topic is None else _shown(topic)
        try:
            self._run(service, Bunch(hook_type=hook_type, topic=shown, sub=_shown(subscription)))
        except (Exception, gevent.Timeout):  # boundary: the service of somebody else
            log.exception("Hook service %s failed for subscription %r.", service, subscription.name)

    def _run(self, service: str, ctx: Bunch) -> str:
        """What the service wants to be done, '' if it does not say."""
        depth = _depth.get()
        if depth >= MAX_DEPTH:
            raise CallFailed(
                f"The hook service {service!r} was called by {depth} others, one inside another: "
                "do they publish to the topics that they are the hooks of?"
            )
        call = Call(
            service,
            {"ctx": ctx},
            channel=ChannelInfo(CHANNEL.PUBLISH),
            data_format="dict",
            timeout=TIMEOUT,
        )
        token = _depth.set(depth + 1)
        try:
            payload = self._context.invoker.invoke(call).payload
        finally:
            _depth.reset(token)
        return str(payload.get("hook_action") or "") if isinstance(payload, dict) else ""


def _shown(live: Live) -> Bunch:
    """The fields of an object, as services may see them: without secrets."""
    declared = base.declared(base.kind_class(live.kind))
    names = ("id", *(name for name, field in declared.items() if not field.is_secret))
    return Bunch((name, live.config[name]) for name in names)
