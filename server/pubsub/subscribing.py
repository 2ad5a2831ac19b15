"""Subscribing and unsubscribing, by whatever way somebody asks for it: each subscription is an object, made and deleted like all others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from junctor.server.pubsub.parked import take_parked
from junctor.server.service.call import new_cid
from junctor.sql.errors import (
    BadRequest,
    Forbidden,
    JunctorError,
    NotFound,
    ServiceUnavailable,
    StoreUnavailable,
)
from junctor.sql.objects.pubsub import PULL, WEB_SOCKET, PubSubSubscription
from junctor.sql.transaction import Transaction

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint, Subscription, Topic
    from junctor.server.websocket.session import Session

KIND: Final = PubSubSubscription.kind
INTERNAL: Final = "internal"  # who deletes the subscription of somebody who is not known any more
LINK_PREFIX: Final = (
    "outconn."  # of the client ids of other clusters' outgoing connections, which stay the same
)
NOT_AUTHORIZED: Final = "You are not authorized to access this resource."
MAX_TOPICS: Final = 100  # that are subscribed to at once
MAX_SUBSCRIPTIONS: Final = 10_000  # to one topic
MAX_LISTED: Final = 1000  # subscriptions of one client
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """How somebody wants to subscribe.

    ``fields`` are those of the subscription, but for who, what and how.  ``is_trusted``: topic patterns are not asked.  ``session`` is the
    WebSocket client that messages are sent to.  ``may_exist``: one that is there already will do, if there may be but one.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    is_trusted: bool = False
    session: Session | None = None
    may_exist: bool = False

    @property
    def delivery_method(self) -> str:
        """How messages get to the subscriber, who asks by itself: it fetches them, or they come over its WebSocket."""
        return WEB_SOCKET if self.session is not None else PULL

    @property
    def client_id(self) -> str:
        """What the WebSocket client calls itself."""
        return self.session.ext_client_id if self.session is not None else ""

    @property
    def is_link(self) -> bool:
        """Whether it is another cluster, which subscribes to a topic once, however often it connects."""
        return self.client_id.startswith(LINK_PREFIX)

    @property
    def is_single(self) -> bool:
        """Whether there may be but one such subscription of a client to a topic; other WebSocket clients get a new one each time."""
        return self.session is None or self.is_link or (self.may_exist and bool(self.client_id))

    @property
    def may_be_old(self) -> bool:
        """Whether a subscription that is there already will do."""
        return self.is_single and (self.may_exist or self.is_link)


@dataclass(frozen=True, slots=True)
class _Made:
    """A subscription that is in the database."""

    sub_key: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that somebody has now; ``depth`` is how many messages are in its queue already."""

    subscription: Subscription
    topic: Topic
    depth: int


class Subscribing:
    """Makes and deletes the subscriptions of those who ask for them themselves.

    What other workers have done a moment ago holds here, too: whoever is not known is looked for in the database once.
    Every method may raise ``StoreUnavailable``.  ``Forbidden`` is the same whatever the reason, so that nobody learns which topics and
    subscriptions there are.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def subscribe(self, endpoint: Endpoint, topic_names: Sequence[str], wish: Wish) -> list[Subscribed]:
        """Subscribes to all of these topics or to none; messages that were published without any subscriber come first.

        Raises ``Forbidden`` for what the endpoint may not subscribe to and for topics that do not exist, ``BadRequest`` for what is
        subscribed to already, ``InvalidInput``; ``NotFound`` tells a trusted caller that there is no such topic.
        """
        if not 0 < len(topic_names) <= MAX_TOPICS:
            raise BadRequest(msg=f"From 1 to {MAX_TOPICS} topics can be subscribed to at once.")
        allowed = [self._allowed(endpoint, name, wish) for name in dict.fromkeys(topic_names)]
        made = self._existing(endpoint, allowed, wish) or self._make(endpoint, allowed, wish)
        return [self._begin(one, topic, wish) for one, (topic, _) in zip(made, allowed, strict=True)]

    def resume(self, endpoint: Endpoint, sub_key: str, session: Session) -> Subscription:
        """Has a subscription's messages sent to a WebSocket client from now on, whoever it was before.  Raises ``Forbidden``."""
        subscription = self.of(endpoint, sub_key)
        if subscription.delivery_method != WEB_SOCKET or not endpoint.can_subscribe:
            raise Forbidden(msg=NOT_AUTHORIZED)
        self._context.pubsub.deliveries.attach(subscription, session)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> bool:
        """Deletes a subscription, and with it what is in its queue; whether it was still there, which this worker may be late to know."""
        context = self._context
        topic = subscription.topic
        try:
            with context.store.transaction(
                who=subscription.endpoint.name if subscription.endpoint is not None else INTERNAL
            ) as transaction:
                transaction.delete(KIND, subscription.id)
        except NotFound:
            log.debug("Subscription %r was deleted before.", subscription.name)
            return False
        self._announce(transaction)
        context.pubsub.hooks.on_unsubscribed(topic, subscription)
        return True

    def of(self, endpoint: Endpoint, sub_key: str, topic_name: str = "") -> Subscription:
        """The endpoint's subscription of this key, to this topic if one is given.  Raises ``Forbidden``."""
        subscription = self.found(sub_key)
        if subscription is not None and subscription.endpoint_id == endpoint.id:
            topic = subscription.topic
            if topic is not None and topic_name in ("", topic.name):
                return subscription
        raise Forbidden(msg=NOT_AUTHORIZED)

    def found(self, sub_key: str) -> Subscription | None:
        """The subscription of this key, whoever's it is."""
        directory = self._context.pubsub.directory
        subscription = directory.subscription(sub_key)
        if subscription is None:
            self._context.listener.catch_up()
            subscription = directory.subscription(sub_key)
        return subscription

    def pulled_by(self, endpoint: Endpoint, topic_name: str) -> Subscription:
        """The one subscription to a topic that an endpoint pulls from.  Raises ``Forbidden``."""
        found = self._pulled_by(endpoint, topic_name)
        if found is None:
            self._context.listener.catch_up()
            found = self._pulled_by(endpoint, topic_name)
        if found is None:
            raise Forbidden(msg=NOT_AUTHORIZED)
        return found

    def of_client(self, endpoint: Endpoint, ext_client_id: str) -> list[tuple[Topic, Subscription]]:
        """The subscriptions of an endpoint's client, by topic, up to 1000."""
        self._context.listener.catch_up()
        mine = [
            (item.topic, item)
            for item in self._context.pubsub.directory.subscriptions_by(endpoint.id)
            if item.ext_client_id == ext_client_id and item.topic is not None
        ]
        return sorted(mine, key=lambda pair: (pair[0].name, pair[1].id))[:MAX_LISTED]

    def closed(self, subscription: Subscription) -> None:
        """The WebSocket that got a subscription's messages has been closed, and no other gets them: some subscriptions end with it."""
        if not subscription.unsub_on_wsx_close:
            return
        try:
            self.unsubscribe(subscription)
        except JunctorError as error:  # the maintenance deletes it
            log.warning("Subscription %r stays for now: %s", subscription.name, error)

    def _pulled_by(self, endpoint: Endpoint, topic_name: str) -> Subscription | None:
        directory = self._context.pubsub.directory
        topic = directory.topic(topic_name)
        of_topic = directory.subscriptions_of(topic.id) if topic is not None else ()
        mine = (item for item in of_topic if item.endpoint_id == endpoint.id)
        return next((item for item in mine if item.delivery_method == PULL), None)

    def _allowed(self, endpoint: Endpoint, topic_name: str, wish: Wish) -> tuple[Topic, str]:
        """The topic, and the pattern that lets the endpoint subscribe to it."""
        if wish.is_trusted:
            topic = self._topic(topic_name)
            if topic is None:
                raise NotFound("topic", topic_name)
            return topic, ""
        pattern = endpoint.patterns.subscribe(topic_name) if endpoint.can_subscribe else None
        topic = self._topic(topic_name) if pattern is not None else None
        if topic is None or pattern is None or not topic.is_api_sub_allowed:
            log.info("Endpoint %r may not subscribe to %r.", endpoint.name, topic_name[:200])
            raise Forbidden(msg=NOT_AUTHORIZED)
        return topic, pattern

    def _topic(self, name: str) -> Topic | None:
        """The topic of this name, which another worker may have made a moment ago."""
        directory = self._context.pubsub.directory
        if directory.topic(name) is None:
            self._context.listener.catch_up()
        return directory.topic(name)

    def _existing(
        self, endpoint: Endpoint, allowed: Sequence[tuple[Topic, str]], wish: Wish
    ) -> list[_Made] | None:
        """Subscriptions that will do, if there are such for all topics; in most cases, no transaction is needed to know."""
        if not wish.may_be_old:
            return None
        found = []
        for topic, _ in allowed:
            of_topic = self._context.pubsub.directory.subscriptions_of(topic.id)
            keys = [
                item.sub_key
                for item in of_topic
                if item.endpoint_id == endpoint.id
                and item.delivery_method == wish.delivery_method
                and item.ext_client_id == wish.client_id
            ]
            found += [_Made(key, is_new=False) for key in sorted(keys)[:1]]
        return found if len(found) == len(allowed) else None

    def _make(self, endpoint: Endpoint, allowed: Sequence[tuple[Topic, str]], wish: Wish) -> list[_Made]:
        """New subscriptions, or those that another worker has made meanwhile."""
        with self._context.store.transaction(who=endpoint.name) as transaction:
            made = [
                self._make_one(transaction, endpoint, topic, wish, pattern=pattern)
                for topic, pattern in allowed
            ]
        self._announce(transaction)
        return made

    def _make_one(
        self, transaction: Transaction, endpoint: Endpoint, topic: Topic, wish: Wish, *, pattern: str
    ) -> _Made:
        if wish.is_single:
            same = {"endpoint": endpoint.id, "topic": topic.id, "delivery_method": wish.delivery_method}
            for other in transaction.others(KIND, None, **same, ext_client_id=wish.client_id):
                if wish.may_be_old:
                    return _Made(other["sub_key"], is_new=False)
                raise BadRequest(msg=f"Subscription to topic `{topic.name}` already exists")
        count = len(self._context.pubsub.directory.subscriptions_of(topic.id))
        if count >= MAX_SUBSCRIPTIONS:
            raise ServiceUnavailable(
                msg=f"Topic {topic.name!r} has {count} subscriptions, as many as it may have; some must end before others begin."
            )
        fields = {
            **wish.fields,
            "name": f"{topic.name[:80]} {endpoint.name[:80]} {new_cid()}",
            "endpoint": endpoint.name,
            "topic": topic.name,
            "delivery_method": wish.delivery_method,
        }
        system = {
            "is_internal": True,
            "ext_client_id": wish.client_id,
            "sub_pattern_matched": pattern,
        }
        return _Made(transaction.create(KIND, fields, system=system)["sub_key"], is_new=True)

    def _begin(self, made: _Made, topic: Topic, wish: Wish) -> Subscribed:
        """Gives a subscription what is parked in its topic, and its WebSocket what is in its queue."""
        pubsub = self._context.pubsub
        subscription = self.found(made.sub_key)
        if subscription is None:
            raise ServiceUnavailable(msg="The subscription was deleted meanwhile; subscribe again.")
        depth = self._fill(topic, subscription)
        if made.is_new:
            pubsub.hooks.on_subscribed(topic, subscription)
        if wish.session is not None:
            pubsub.deliveries.attach(subscription, wish.session)
        return Subscribed(subscription, topic, depth)

    def _fill(self, topic: Topic, subscription: Subscription) -> int:
        """How many messages a subscription begins with.  It is there already, so nothing that goes wrong now undoes it."""
        pubsub = self._context.pubsub
        try:
            take_parked(pubsub.engine, topic.id, subscription.id)
            return pubsub.pull.depth(subscription.id)
        except StoreUnavailable as error:  # what is parked is adopted by the maintenance
            log.warning("The queue of a new subscription to %r is filled later: %s", topic.name, error)
            return 0

    def _announce(self, transaction: Transaction) -> None:
        """Has this worker apply what was committed, at once, and the others soon."""
        if transaction.changes:
            self._context.publisher.publish(transaction.version)
            self._context.listener.catch_up()
