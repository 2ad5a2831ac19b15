"""Topics, endpoints and subscriptions as a worker has them; each is found in ``context.pubsub.directory``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from junctor.server.pubsub.match import Patterns
from junctor.server.runtime.live import Live
from junctor.sql.config import Config
from junctor.sql.objects.pubsub import NOTIFY, REST, SERVICE

if TYPE_CHECKING:
    from junctor.server.context import Context

PUBLISHERS: Final = ("pub-only", "pub-sub")
SUBSCRIBERS: Final = ("sub-only", "pub-sub")
log = logging.getLogger(__name__)


class Topic(Live):
    """Something that messages are published to.  ``hook_service`` is '' when it has none; limits of time are in seconds, 0 = none."""

    kind = "pubsub_topic"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.id = config.id
        self.name = config.name
        self.is_active: bool = config["is_active"]
        self.has_gd: bool = config["has_gd"]
        self.is_relaxed: bool = config["is_relaxed"]
        self.is_api_sub_allowed: bool = config["is_api_sub_allowed"]
        self.max_depth_gd: int = config["max_depth_gd"]
        self.max_depth_non_gd: int = config["max_depth_non_gd"]
        self.depth_check_freq: int = config["depth_check_freq"]
        self.on_no_subs_pub: str = config["on_no_subs_pub"]
        self.limit_retention: int = config["limit_retention"]
        self.limit_message_expiry: int = config["limit_message_expiry"]
        self.limit_sub_inactivity: int = config["limit_sub_inactivity"]
        self.hook_service: str = config["hook_service"] or ""

    def take_over(self, previous: Live | None) -> None:
        """Can be published to; those who deliver its messages are told, since its hook may be another one."""
        pubsub = self.context.pubsub
        pubsub.directory.put_topic(self)
        pubsub.publishing.depths.forget(self.id)
        if isinstance(previous, Topic) and (previous.name, previous.hook_service) != (
            self.name,
            self.hook_service,
        ):
            for subscription in pubsub.directory.subscriptions_of(self.id):
                pubsub.deliveries.changed(subscription.id)

    def leave(self) -> None:
        """Is no topic any more."""
        self.context.pubsub.directory.remove_topic(self)


class Endpoint(Live):
    """Somebody who may publish or subscribe.

    At most one of ``security_id``, ``service`` and ``channel_id`` says who; the others are None or ''.
    """

    kind = "pubsub_endpoint"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.id = config.id
        self.name = config.name
        self.is_active: bool = config["is_active"]
        self.endpoint_type: str = config["endpoint_type"]
        self.role: str = config["role"]
        self.patterns = Patterns(config["topic_patterns"])
        self.security_id: int | None = config["security_id"]
        self.service: str = config["service"] or ""
        self.channel_id: int | None = config["ws_channel_id"]

    @property
    def can_publish(self) -> bool:
        """Whether its role lets it publish, and it is switched on."""
        return self.is_active and self.role in PUBLISHERS

    @property
    def can_subscribe(self) -> bool:
        """Whether its role lets it subscribe, and it is switched on."""
        return self.is_active and self.role in SUBSCRIBERS

    def take_over(self, previous: Live | None) -> None:
        """Is who its identity says; deliveries to it go on or pause, as it is switched on or off."""
        pubsub = self.context.pubsub
        if self.patterns.ignored:
            log.warning(
                "Endpoint %r has %d topic patterns that are ignored: they begin neither with pub= nor with sub=.",
                self.name,
                len(self.patterns.ignored),
            )
        pubsub.directory.put_endpoint(self)
        if isinstance(previous, Endpoint) and (previous.is_active, previous.role, previous.service) != (
            self.is_active,
            self.role,
            self.service,
        ):
            for subscription in pubsub.directory.subscriptions_by(self.id):
                pubsub.deliveries.changed(subscription.id)

    def leave(self) -> None:
        """Is nobody any more."""
        self.context.pubsub.directory.remove_endpoint(self)


class Subscription(Live):
    """A queue, and how it reaches whoever subscribed.

    ``target`` is what messages are delivered to: ``rest`` (``out_rest_id``, ``out_rest_method``), ``service``, ``web-socket``, or ``pull``
    when they are fetched.  Waits are in seconds.  ``server_id`` is the server that should deliver, None = any.
    """

    kind = "pubsub_subscription"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.id = config.id
        self.name = config.name
        self.sub_key: str = config["sub_key"]
        self.topic_id: int = config["topic_id"]
        self.endpoint_id: int = config["endpoint_id"]
        self.active_status: str = config["active_status"]
        self.delivery_method: str = config["delivery_method"]
        self.data_format: str = config["delivery_data_format"]
        self.batch_size: int = config["delivery_batch_size"]
        self.wrap_one: bool = config["wrap_one_msg_in_list"]
        self.max_retry: int = config["delivery_max_retry"]
        self.is_blocking: bool = config["delivery_err_should_block"]
        self.wait_socket: int = config["wait_sock_err"]
        self.wait_other: int = config["wait_non_sock_err"]
        self.ack_mode: str = config["ack_mode"]
        self.ack_wait: int = config["ack_wait"]
        self.max_in_flight: int = config["max_in_flight"]
        self.pull_order: str = config["pull_order"]
        self.unsub_on_wsx_close: bool = config["unsub_on_wsx_close"]
        self.ext_client_id: str = config["ext_client_id"]
        self.sub_pattern: str = config["sub_pattern_matched"]
        self.is_internal: bool = config["is_internal"]
        self.out_rest_id: int | None = config["out_rest_id"]
        self.out_rest_method: str = config["out_rest_method"]
        self.server_id: int | None = config["server_id"]
        self._service: str = config["service"] or ""
        self._hook_service: str = config["hook_service"] or ""

    @property
    def target(self) -> str:
        """What messages are delivered to."""
        if self.delivery_method != NOTIFY:
            return self.delivery_method
        return REST if self.out_rest_id is not None else SERVICE

    @property
    def topic(self) -> Topic | None:
        """The topic; None if it does not work, or is gone by now."""
        return self.context.pubsub.directory.topic_by_id(self.topic_id)

    @property
    def endpoint(self) -> Endpoint | None:
        """Who has subscribed; None if it does not work, or is gone by now."""
        return self.context.pubsub.directory.endpoint_by_id(self.endpoint_id)

    @property
    def service(self) -> str:
        """The service that messages are delivered to: its own, or that of its endpoint; '' when there is none."""
        endpoint = self.endpoint
        return self._service or (endpoint.service if endpoint is not None else "")

    @property
    def hook_service(self) -> str:
        """The service that takes part in delivering: its own, or that of its topic; '' when there is none."""
        topic = self.topic
        return self._hook_service or (topic.hook_service if topic is not None else "")

    @property
    def can_deliver(self) -> bool:
        """Whether messages of its queue may be handed out now: its status and its endpoint say so."""
        endpoint = self.endpoint
        return self.active_status in SUBSCRIBERS and endpoint is not None and endpoint.can_subscribe

    def take_over(self, previous: Live | None) -> None:
        """Is delivered to, or can be fetched from, as it says now."""
        del previous
        pubsub = self.context.pubsub
        pubsub.directory.put_subscription(self)
        pubsub.deliveries.changed(self.id)

    def leave(self) -> None:
        """Is not delivered to any more."""
        pubsub = self.context.pubsub
        pubsub.directory.remove_subscription(self)
        pubsub.deliveries.changed(self.id)
