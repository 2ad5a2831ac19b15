"""``self.pubsub`` of services: publishing, subscribing and reading messages (facts sheet, section 4.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from junctor.server.pubsub import browse
from junctor.server.pubsub.api import messages_of
from junctor.server.pubsub.message import MILLISECONDS, QueuedMessage, iso, new_message
from junctor.server.pubsub.pull import Fetch
from junctor.server.pubsub.subscribing import Wish
from junctor.server.websocket.caller import client_of
from junctor.sql.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint, Subscription, Topic
    from junctor.server.service.base import Service
    from junctor.server.websocket.session import Session

FIELDS: Final = frozenset(
    (
        *("msg_id", "has_gd", "priority", "expiration", "delay", "mime_type", "correl_id", "in_reply_to"),
        *("ext_client_id", "ext_pub_time", "group_id", "position_in_group", "reply_to_sk", "deliver_to_sk"),
    )
)
NEWEST: Final = "newest"
PAGE: Final = 50  # messages
MAX_PAGES: Final = 100


class PubSub:
    """Publish/subscribe for the services of one worker, which are trusted: they are told what does not exist.

    Every method may raise ``StoreUnavailable``, or ``ServiceUnavailable`` when there is too much to do; times are in seconds unless
    they are said to be in milliseconds.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def publish(
        self,
        topic_name: str,
        data: Any = None,
        *,
        data_list: Sequence[dict[str, Any]] | None = None,
        endpoint_id: int | None = None,
        **fields: Any,
    ) -> str | list[str]:
        """The id of a message that is stored now, or the ids of those of ``data_list``, of which all are stored or none.

        ``topic_name`` may also be a service, which is then invoked with the message as often as it takes.  ``fields``: ``msg_id``,
        ``has_gd``, ``priority``, ``expiration`` and ``delay`` in milliseconds, ``mime_type``, ``correl_id``, ``in_reply_to``,
        ``ext_client_id``, ``ext_pub_time``, ``group_id``, ``position_in_group``, ``reply_to_sk``, ``deliver_to_sk``.  Each
        item of ``data_list`` has its own ``data``, and fields where they differ.  The publisher is the cluster's own endpoint, or the
        one of ``endpoint_id``, whose patterns must allow it.

        Raises ``InvalidInput``, ``ResourceNotFound`` if there is no such topic, ``DuplicateMessage``, ``Forbidden``.
        """
        if unknown := sorted(fields.keys() - FIELDS):
            raise TypeError(f"publish() has no argument {', '.join(unknown)}")
        endpoint = self._endpoint_by_id(endpoint_id)
        topic = self._context.pubsub.service_topics.topic_of(topic_name)
        if data_list is None:
            messages = [new_message(topic, {"data": data, **fields}, expiration_unit=MILLISECONDS)]
        else:
            messages = messages_of(topic, data_list, fields, MILLISECONDS)
        check = endpoint is not self._context.pubsub.directory.internal_endpoint
        ids: list[str] = self._context.pubsub.publishing.publish(endpoint, messages, check_pattern=check)
        return ids if data_list is not None else ids[0] if ids else ""

    def subscribe(
        self,
        topic_name: str,
        *,
        endpoint_name: str = "",
        use_current_wsx: bool = False,
        service: Service | None = None,
        **fields: Any,
    ) -> str:
        """The ``sub_key`` of a subscription.

        With ``use_current_wsx``, messages are sent to the WebSocket client that invoked ``service``, by a new subscription each time.
        Otherwise the endpoint of this name pulls them; if it has subscribed before, that subscription is the answer.  ``fields`` are
        among ``unsub_on_wsx_close``, ``wrap_one_msg_in_list``, ``delivery_batch_size``, ``ack_mode`` and ``ack_wait``.

        Raises ``Forbidden`` if the endpoint's patterns do not allow it, ``NotFound``, ``InvalidInput``.
        """
        session: Session | None = None
        if use_current_wsx:
            endpoint, session = self._current(service)
        elif endpoint_name:
            endpoint = self._endpoint(endpoint_name)
        else:
            raise InvalidInput.one("endpoint_name", "is required, or use_current_wsx=True with service=self.")
        is_trusted = endpoint is self._context.pubsub.directory.internal_endpoint
        wish = Wish(fields, is_trusted=is_trusted, session=session, may_exist=True)
        (made,) = self._context.pubsub.subscribing.subscribe(endpoint, [topic_name], wish)
        return made.subscription.sub_key

    def unsubscribe(self, sub_key: str) -> None:
        """Ends a subscription.  Raises ``NotFound``."""
        self._context.pubsub.subscribing.unsubscribe(self._subscription(sub_key))

    def resume_wsx_subscription(self, sub_key: str, service: Service) -> None:
        """Has a subscription's messages sent to the WebSocket client that invoked ``service``.

        Raises ``Forbidden`` if it is of another channel's clients, ``InvalidInput`` if no client invoked the service.
        """
        endpoint, session = self._current(service)
        self._context.pubsub.subscribing.resume(endpoint, sub_key, session)

    def get_messages(
        self,
        topic_name: str,
        sub_key: str,
        needs_details: bool = False,
        *,
        batch_size: int = 0,
        is_explicit: bool = False,
    ) -> list[Any]:
        """The next messages of a subscription that is pulled from, as subscribers get them, or with all that is known of them.

        They are in its own order, up to ``batch_size`` or as many as it says, and are gone from the queue; with ``is_explicit``,
        they are to be acknowledged, and come oldest first.  Raises ``NotFound``, ``BadRequest`` if messages are delivered.
        """
        subscription = self._subscription(sub_key, topic_name)
        wanted = Fetch(
            limit=batch_size or subscription.batch_size,
            is_newest=not is_explicit and subscription.pull_order == NEWEST,
            is_explicit=is_explicit,
        )
        found = self._context.pubsub.pull.fetch(subscription, wanted)
        name = _topic_name(subscription)
        return [
            _details(message, name, sub_key) if needs_details else message.external(name, sub_key)
            for message in found
        ]

    def acknowledge(self, sub_key: str, msg_ids: Sequence[str]) -> int:
        """How many of these messages, which were got to be acknowledged, are acknowledged now.  Raises ``NotFound``."""
        return self._context.pubsub.pull.acknowledge(self._subscription(sub_key), msg_ids)

    def reject(self, sub_key: str, msg_ids: Sequence[str], *, delay: float = 0.0, reason: str = "") -> int:
        """How many of these messages can be had again after ``delay`` seconds, or have become dead letters.  Raises ``NotFound``."""
        subscription = self._subscription(sub_key)
        return self._context.pubsub.pull.reject(subscription, msg_ids, delay=delay, reason=reason)

    def read_messages(
        self,
        topic_name: str = "",
        sub_key: str = "",
        has_gd: bool | None = None,
        paginate: bool = True,
        query: str = "",
        cur_page: int = 1,
    ) -> list[dict[str, Any]]:
        """Messages that stay where they are: of a subscription's queue, in the order of delivery, or of a topic, newest first.

        ``query`` is a part of their data.  A page has 50 messages, or 1000 without ``paginate``; long data is cut.  Messages
        without guaranteed delivery (``has_gd``) cannot be read so: there are none then.  Raises ``NotFound``, ``InvalidInput``.
        """
        if has_gd is False:
            return []
        if not 1 <= cur_page <= MAX_PAGES:
            raise InvalidInput.one("cur_page", f"must be from 1 to {MAX_PAGES}.")
        limit = PAGE if paginate else browse.MAX_PAGE
        page = browse.Page([], "")
        for number in range(cur_page):
            if number and not page.cursor:
                return []
            page = self._page(
                topic_name, sub_key, browse.Wanted(query=query, cursor=page.cursor, limit=limit)
            )
        return page.items

    def read_message(
        self,
        topic_name: str,
        msg_id: str,
        has_gd: bool | None = None,
        sub_key: str = "",
        *_server: Any,
        **_on_server: Any,
    ) -> dict[str, Any]:
        """A message, which stays where it is, of a topic or of a subscription's queue.

        ``has_gd`` and the server's name and pid are accepted for the sake of services written for Zato.  Raises ``NotFound``.
        """
        del has_gd
        store = self._context.store
        if sub_key:
            subscription = self._subscription(sub_key, topic_name)
            return browse.queued_message(store, subscription.id, subscription.topic_id, msg_id)
        return browse.message(store, msg_id, topic_id=self._topic(topic_name).id)

    def delete_message(self, sub_key: str, msg_id: str, *_server: Any, **_on_server: Any) -> None:
        """Deletes a message from a subscription's queue.  Raises ``NotFound``."""
        if not self._context.pubsub.pull.delete(self._subscription(sub_key), [msg_id]):
            raise NotFound("queued message", msg_id)

    def _page(self, topic_name: str, sub_key: str, wanted: browse.Wanted) -> browse.Page:
        store = self._context.store
        if sub_key:
            subscription = self._subscription(sub_key, topic_name)
            return browse.queue_messages(store, subscription.id, subscription.topic_id, wanted)
        return browse.topic_messages(store, self._topic(topic_name).id, wanted)

    def _endpoint_by_id(self, endpoint_id: int | None) -> Endpoint:
        directory = self._context.pubsub.directory
        if endpoint_id is None:
            return directory.internal_endpoint
        found = directory.endpoint_by_id(endpoint_id)
        if found is None:
            raise NotFound("endpoint", endpoint_id)
        return found

    def _endpoint(self, name: str) -> Endpoint:
        found = self._context.pubsub.directory.endpoint_of(name=name)
        if found is None:
            raise NotFound("endpoint", name)
        return found

    def _topic(self, name: str) -> Topic:
        found = self._context.pubsub.directory.topic(name)
        if found is None:
            raise NotFound("topic", name)
        return found

    def _subscription(self, sub_key: str, topic_name: str = "") -> Subscription:
        found = self._context.pubsub.subscribing.found(sub_key)
        if found is None or (topic_name and _topic_name(found) != topic_name):
            raise NotFound("subscription", topic_name or "with this sub_key")
        return found

    def _current(self, service: Service | None) -> tuple[Endpoint, Session]:
        """The WebSocket client that invoked a service, and the endpoint of its channel."""
        session = client_of(service.environ) if service is not None else None
        if session is None:
            raise InvalidInput.one("service", "was not invoked by a WebSocket client; give service=self.")
        endpoint = self._context.pubsub.directory.endpoint_of(channel_id=session.channel_id)
        if endpoint is None:
            raise NotFound("endpoint of WebSocket channel", session.channel_name)
        return endpoint, session


def _topic_name(subscription: Subscription) -> str:
    return subscription.topic.name if subscription.topic is not None else ""


def _details(message: QueuedMessage, topic_name: str, sub_key: str) -> Any:
    """A message with all that is known of it."""
    shown = message.external(topic_name, sub_key)
    if not isinstance(shown, dict):
        return shown
    return shown | {
        "topic_id": message.topic_id,
        "endpoint_id": message.endpoint_id,
        "endpoint_name": message.endpoint_name,
        "pub_pattern_matched": message.pub_pattern,
        "pub_time": message.pub_time,
        "recv_time_iso": iso(message.pub_time),
        "deliver_to_sk": message.deliver_to_sk or [],
        "reply_to_sk": message.reply_to_sk or [],
    }
