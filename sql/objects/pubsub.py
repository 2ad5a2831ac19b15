"""Publish/subscribe: topics, who may use them (endpoints), and who receives what is published (subscriptions)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, choice, integer, ref, text, text_list
from junctor.sql.objects.rest import no_security

MAX_SECONDS = 10 * 365 * 86_400
PULL, NOTIFY, WEB_SOCKET = "pull", "notify", "web-socket"
REST, SERVICE, WSX, INTERNAL = "rest", "service", "wsx", "internal"
IDENTITIES = {REST: "security", SERVICE: "service", WSX: "ws_channel"}  # by the type of the endpoint
KEY_TYPES = {PULL: "rest", NOTIFY: "notify", WEB_SOCKET: "websockets"}  # the second part of a sub_key


class PubSubTopic(Object):
    """Something that messages are published to, for everybody who has subscribed."""

    __tablename__ = "pubsub_topic"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "pubsub_topic", "Publish/subscribe topic"
    service_prefix = "zato.pubsub.topic"
    enmasse_aliases = ("pubsub_topics",)

    is_active: Mapped[bool] = boolean(
        "Active",
        "While it is off, nothing can be published to it; what was published is delivered.",
        default=True,
    )
    has_gd: Mapped[bool] = boolean(
        "Guaranteed delivery",
        "Whether messages that do not say otherwise are stored before a publisher gets its answer.",
        default=True,
    )
    is_api_sub_allowed: Mapped[bool] = boolean(
        "API subscriptions", "Whether applications may subscribe by themselves.", default=True
    )
    max_depth_gd: Mapped[int] = integer(
        "Maximum depth",
        "Of the queue of each subscription; while one is full, publishers get 503.",
        default=10_000,
        unit="messages",
        min=1,
        max=100_000_000,
    )
    max_depth_non_gd: Mapped[int] = integer(
        "Maximum depth in memory",
        "Of messages without guaranteed delivery, for each subscription; the oldest are dropped and counted.",
        default=1000,
        unit="messages",
        min=1,
        max=1_000_000,
    )
    depth_check_freq: Mapped[int] = integer(
        "Depth check",
        "After how many messages a worker counts again, at the latest.",
        default=100,
        unit="messages",
        min=1,
        max=1_000_000,
    )
    pub_buffer_size_gd: Mapped[int] = integer(
        "Buffer size",
        "Accepted for the sake of Zato's files; nothing is buffered.",
        default=0,
        unit="messages",
        min=0,
        max=1_000_000,
    )
    task_sync_interval: Mapped[int] = integer(
        "Synchronisation interval",
        "Accepted for the sake of Zato's files; deliveries begin at once.",
        default=500,
        unit="ms",
        min=1,
        max=86_400_000,
    )
    task_delivery_interval: Mapped[int] = integer(
        "Delivery interval",
        "Accepted for the sake of Zato's files; deliveries begin at once.",
        default=2000,
        unit="ms",
        min=1,
        max=86_400_000,
    )
    on_no_subs_pub: Mapped[str] = choice(
        "Without subscriptions",
        "What becomes of messages while nobody has subscribed: kept for the first subscription, or dropped.",
        ("accept", "drop"),
        default="accept",
    )
    limit_retention: Mapped[int] = integer(
        "Retention",
        "How long messages can be replayed after they were published, delivered or not; 0 = not at all.",
        default=0,
        unit="s",
        min=0,
        max=MAX_SECONDS,
    )
    limit_message_expiry: Mapped[int] = integer(
        "Longest expiration",
        "Messages expire after so long at the latest; 0 = only as they say.",
        default=0,
        unit="s",
        min=0,
        max=MAX_SECONDS,
    )
    limit_sub_inactivity: Mapped[int] = integer(
        "Longest inactivity",
        "Subscriptions that applications made are deleted when nobody used them for so long; 0 = never.",
        default=0,
        unit="s",
        min=0,
        max=MAX_SECONDS,
    )
    is_relaxed: Mapped[bool] = boolean(
        "Relaxed",
        "Whether publishers need not wait for the disk: faster, and a crash of the database may cost the last half second.",
        default=False,
    )
    hook_service: Mapped[int | None] = ref(
        "service",
        "Hook service",
        "Takes part in publishing and delivering; empty = none.",
        column="hook_service_id",
        default="",
        aliases=("hook_service_name",),
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A name that can be in a URL, and in no pattern."""
        del reader, object_id
        name = values["name"]
        if not name.isascii() or "*" in name:
            yield Problem("name", "must be ASCII without '*', such as /customer/new.")


class PubSubEndpoint(Object):
    """Somebody who publishes, subscribes, or both: whoever has a security definition, a service, or the clients of a WebSocket channel."""

    __tablename__ = "pubsub_endpoint"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "pubsub_endpoint", "Publish/subscribe endpoint"
    service_prefix = "zato.pubsub.endpoint"
    enmasse_aliases = ("pubsub_endpoints",)

    is_active: Mapped[bool] = boolean(
        "Active", "While it is off, it can neither publish nor receive.", default=True
    )
    endpoint_type: Mapped[str] = choice(
        "Type", "Who it is.", (REST, SERVICE, WSX, INTERNAL, "amqp"), default=REST
    )
    role: Mapped[str] = choice(
        "Role", "What it may do.", ("pub-only", "sub-only", "pub-sub"), default="pub-sub"
    )
    topic_patterns: Mapped[list[str]] = text_list(
        "Topic patterns",
        "Lines of pub=PATTERN or sub=PATTERN; * is anything but a slash, ** anything; the first match counts.",
        max=1000,
    )
    security: Mapped[int | None] = ref(
        "security",
        "Security",
        "Type rest: whoever satisfies this definition.",
        column="security_id",
        default="",
        aliases=("security_name", "sec_def"),
        normalise=no_security,
    )
    service: Mapped[int | None] = ref(
        "service",
        "Service",
        "Type service: the service, which also receives what is delivered.",
        column="service_id",
        default="",
        aliases=("service_name",),
    )
    ws_channel: Mapped[int | None] = ref(
        "channel_websocket",
        "WebSocket channel",
        "Type wsx: the clients of this channel.",
        column="ws_channel_id",
        default="",
        aliases=("ws_channel_name",),
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """The identity that the type needs, no other, and of no other endpoint."""
        needed = IDENTITIES.get(values["endpoint_type"])
        for field in IDENTITIES.values():
            if field == needed and not values[field]:
                yield Problem(field, f"is required for an endpoint of type {values['endpoint_type']}.")
            elif field != needed and values[field]:
                yield Problem(field, f"is not for an endpoint of type {values['endpoint_type']}.")
        if needed and values[needed]:
            for other in reader.others(cls.kind, object_id, **{needed: values[needed]}):
                yield Problem(needed, f"is that of endpoint {other['name']!r} already.")


class PubSubSubscription(Object):
    """A queue of what was published to a topic, and how it reaches whoever subscribed."""

    __tablename__ = "pubsub_subscription"
    __table_args__ = (UniqueConstraint("cluster_id", "name"), UniqueConstraint("sub_key"))
    kind, label = "pubsub_subscription", "Publish/subscribe subscription"
    service_prefix = "zato.pubsub.subscription"
    enmasse_aliases = ("pubsub_subscriptions",)

    endpoint: Mapped[int] = ref(
        "pubsub_endpoint", "Endpoint", "Who subscribes.", column="endpoint_id", aliases=("endpoint_name",)
    )
    topic: Mapped[int] = ref(
        "pubsub_topic", "Topic", "What is subscribed to.", column="topic_id", aliases=("topic_name",)
    )
    active_status: Mapped[str] = choice(
        "Status",
        "The word pub-sub = works; pub-only = queues and does not deliver; sub-only = the opposite; disabled = neither.",
        ("pub-sub", "pub-only", "sub-only", "disabled"),
        default="pub-sub",
    )
    delivery_method: Mapped[str] = choice(
        "Delivery method",
        "Whether messages are fetched, sent to a REST connection or a service, or sent over WebSockets.",
        (PULL, NOTIFY, WEB_SOCKET),
        default=NOTIFY,
    )
    out_rest: Mapped[int | None] = ref(
        "outgoing_rest",
        "REST connection",
        "Notify: where messages are sent to; empty = to a service.",
        column="out_rest_id",
        default="",
        aliases=("out_http_soap", "out_rest_name", "rest_connection"),
    )
    out_rest_method: Mapped[str] = choice(
        "HTTP method",
        "Notify: of requests to the REST connection.",
        ("POST", "PUT", "PATCH"),
        default="POST",
        aliases=("out_http_method",),
    )
    service: Mapped[int | None] = ref(
        "service",
        "Service",
        "Notify: the service that receives messages; empty = that of the endpoint.",
        column="service_id",
        default="",
        aliases=("service_name",),
    )
    server: Mapped[int | None] = ref(
        "server",
        "Server",
        "Notify: which server should deliver, while it is up; empty = any.",
        column="server_id",
        default="",
        aliases=("server_name",),
    )
    delivery_data_format: Mapped[str] = choice(
        "Data format",
        "Notify: json = messages with what is known of them; raw = the data alone, one message at a time.",
        ("json", "raw"),
        default="json",
    )
    delivery_batch_size: Mapped[int] = integer(
        "Batch size",
        "Messages that are delivered at a time.",
        default=500,
        unit="messages",
        min=1,
        max=15_000,
    )
    wrap_one_msg_in_list: Mapped[bool] = boolean(
        "Always a list",
        "Whether a single message comes in a list, too, if the batch size is 1.",
        default=True,
    )
    delivery_max_retry: Mapped[int] = integer(
        "Retries",
        "After so many failed deliveries, a message becomes a dead letter.",
        default=123_456_789,
        unit="retries",
        min=0,
        max=2**31 - 1,
    )
    delivery_err_should_block: Mapped[bool] = boolean(
        "Errors block",
        "Whether a message that cannot be delivered holds up the ones behind it, which keeps their order.",
        default=True,
    )
    wait_sock_err: Mapped[int] = integer(
        "Wait after connection errors",
        "Before the next attempt; longer from attempt to attempt.",
        default=10,
        unit="s",
        min=1,
        max=86_400,
    )
    wait_non_sock_err: Mapped[int] = integer(
        "Wait after other errors",
        "Before the next attempt; longer from attempt to attempt.",
        default=30,
        unit="s",
        min=1,
        max=86_400,
    )
    ack_mode: Mapped[str] = choice(
        "Acknowledgement",
        "With auto, pulling acknowledges, and WebSocket clients do as they can; explicit = by the receiver; on-send = once sent.",
        ("auto", "explicit", "on-send"),
        default="auto",
    )
    ack_wait: Mapped[int] = integer(
        "Acknowledgement time-out",
        "How long the receiver may take before messages are delivered again.",
        default=30,
        unit="s",
        min=1,
        max=86_400,
    )
    max_in_flight: Mapped[int] = integer(
        "Batches in flight",
        "That are delivered at a time; more than one gives up the order.",
        default=1,
        unit="batches",
        min=1,
        max=1000,
    )
    pull_order: Mapped[str] = choice(
        "Order of pull", "Which messages are handed over first.", ("newest", "oldest"), default="newest"
    )
    unsub_on_wsx_close: Mapped[bool] = boolean(
        "Unsubscribe on close",
        "WebSockets: whether the subscription ends with the connection.",
        default=False,
    )
    hook_service: Mapped[int | None] = ref(
        "service",
        "Hook service",
        "Takes part in delivering; empty = the topic's.",
        column="hook_service_id",
        default="",
        aliases=("hook_service_name",),
    )
    sub_key: Mapped[str] = text(
        "Subscription key", "By which the subscriber names it.", default="", max=200, read_only=True
    )
    ext_client_id: Mapped[str] = text(
        "Client",
        "WebSockets: what the client that subscribed calls itself.",
        default="",
        max=500,
        read_only=True,
    )
    sub_pattern_matched: Mapped[str] = text(
        "Matched pattern", "The endpoint's pattern that allowed it.", default="", max=300, read_only=True
    )

    @classmethod
    def generated(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A key that nobody can guess."""
        key_type = KEY_TYPES.get(str(values.get("delivery_method")), NOTIFY)
        return {"sub_key": f"zpsk.{key_type}.{secrets.token_hex(12)}"}

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """A receiver that suits the method and the endpoint; of a topic, an endpoint pulls from one subscription."""
        (endpoint,) = reader.others("pubsub_endpoint", None, name=values["endpoint"])
        if endpoint["role"] == "pub-only":
            yield Problem("endpoint", f"{values['endpoint']!r} has the role pub-only and cannot subscribe.")
        method = values["delivery_method"]
        if (method == WEB_SOCKET) is not (endpoint["endpoint_type"] == WSX):
            yield Problem(
                "delivery_method", "must be web-socket for an endpoint of type wsx, and for no other."
            )
        if method == NOTIFY:
            yield from _receiver_problems(values, endpoint)
        elif values["out_rest"] or values["service"]:
            yield Problem("out_rest" if values["out_rest"] else "service", "is for the method notify only.")
        if values["delivery_data_format"] == "raw" and values["delivery_batch_size"] != 1:
            yield Problem("delivery_batch_size", "must be 1 for the data format raw.")
        if values["max_in_flight"] > 1 and values["delivery_err_should_block"]:
            yield Problem("max_in_flight", "must be 1 while errors block: the order is kept.")
        if method == PULL:
            same = {"endpoint": values["endpoint"], "topic": values["topic"], "delivery_method": PULL}
            for other in reader.others(cls.kind, object_id, **same):
                yield Problem(
                    "topic", f"is subscribed to by {values['endpoint']!r} already, as {other['name']!r}."
                )


def _receiver_problems(values: Mapping[str, Any], endpoint: Mapping[str, Any]) -> Iterable[Problem]:
    """What is wrong with whoever is to be notified."""
    if values["out_rest"] and values["service"]:
        yield Problem("service", "cannot be given together with a REST connection.")
    elif not (values["out_rest"] or values["service"] or endpoint["service"]):
        yield Problem("out_rest", "is required, or a service: there is nobody to notify.")
