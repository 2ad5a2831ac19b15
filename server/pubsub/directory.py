"""Every topic, endpoint and subscription of a worker, by whatever they are looked for: each look is one in a dictionary."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from junctor.sql.errors import NotFound
from junctor.sql.objects.pubsub import NOTIFY

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint, Subscription, Topic

INTERNAL_ENDPOINT: Final = "zato.pubsub.default.internal.endpoint"
Identity = tuple[str, Hashable]
Key = TypeVar("Key")


class Directory:
    """What the live objects of publish/subscribe put in here and take out; nothing here blocks."""

    def __init__(self, context: Context) -> None:
        del context
        self._topics: dict[int, Topic] = {}
        self._topic_ids: dict[str, int] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._identities: dict[Identity, int] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._sub_keys: dict[str, int] = {}
        self._of_topics: dict[int, dict[int, Subscription]] = {}
        self._by_endpoints: dict[int, dict[int, Subscription]] = {}

    def topic(self, name: str) -> Topic | None:
        """The topic of this name."""
        found = self._topic_ids.get(name)
        return None if found is None else self._topics.get(found)

    def topic_by_id(self, topic_id: int) -> Topic | None:
        """The topic of this id."""
        return self._topics.get(topic_id)

    def endpoint_of(
        self,
        *,
        security_id: int | None = None,
        service_name: str | None = None,
        channel_id: int | None = None,
        name: str | None = None,
    ) -> Endpoint | None:
        """The endpoint of a security definition, a service, a WebSocket channel, or of this name: one of them is to be given."""
        given = {"security": security_id, "service": service_name, "channel": channel_id, "name": name}
        ((what, value),) = ((what, value) for what, value in given.items() if value is not None)
        found = self._identities.get((what, value))
        return None if found is None else self._endpoints.get(found)

    def endpoint_by_id(self, endpoint_id: int) -> Endpoint | None:
        """The endpoint of this id."""
        return self._endpoints.get(endpoint_id)

    @property
    def internal_endpoint(self) -> Endpoint:
        """The endpoint of services that publish and subscribe by themselves.  Raises ``NotFound`` if somebody has deleted it."""
        found = self.endpoint_of(name=INTERNAL_ENDPOINT)
        if found is None:
            raise NotFound("Publish/subscribe endpoint", INTERNAL_ENDPOINT)
        return found

    def subscription(self, sub_key: str) -> Subscription | None:
        """The subscription of this key."""
        found = self._sub_keys.get(sub_key)
        return None if found is None else self._subscriptions.get(found)

    def subscription_by_id(self, subscription_id: int) -> Subscription | None:
        """The subscription of this id."""
        return self._subscriptions.get(subscription_id)

    def subscriptions_of(self, topic_id: int) -> list[Subscription]:
        """The subscriptions to a topic."""
        return list(self._of_topics.get(topic_id, {}).values())

    def subscriptions_by(self, endpoint_id: int) -> list[Subscription]:
        """The subscriptions of an endpoint."""
        return list(self._by_endpoints.get(endpoint_id, {}).values())

    def pushed(self) -> Iterable[Subscription]:
        """The subscriptions whose messages some worker sends, whichever it is: to a REST connection or a service."""
        return [found for found in self._subscriptions.values() if found.delivery_method == NOTIFY]

    def put_topic(self, topic: Topic) -> None:
        """Finds a topic from now on, under its new name if it was renamed."""
        if (previous := self._topics.get(topic.id)) is not None:
            _forget(self._topic_ids, previous.name, topic.id)
        self._topics[topic.id] = topic
        self._topic_ids[topic.name] = topic.id

    def remove_topic(self, topic: Topic) -> None:
        """Finds it no more."""
        self._topics.pop(topic.id, None)
        _forget(self._topic_ids, topic.name, topic.id)

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Finds an endpoint from now on, by its new identity if that was changed."""
        if (previous := self._endpoints.get(endpoint.id)) is not None:
            self.remove_endpoint(previous)
        self._endpoints[endpoint.id] = endpoint
        for identity in _identities(endpoint):
            self._identities[identity] = endpoint.id

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        """Finds it no more."""
        self._endpoints.pop(endpoint.id, None)
        for identity in _identities(endpoint):
            _forget(self._identities, identity, endpoint.id)

    def put_subscription(self, subscription: Subscription) -> None:
        """Finds a subscription from now on."""
        if (previous := self._subscriptions.get(subscription.id)) is not None:
            self.remove_subscription(previous)
        self._subscriptions[subscription.id] = subscription
        self._sub_keys[subscription.sub_key] = subscription.id
        self._of_topics.setdefault(subscription.topic_id, {})[subscription.id] = subscription
        self._by_endpoints.setdefault(subscription.endpoint_id, {})[subscription.id] = subscription

    def remove_subscription(self, subscription: Subscription) -> None:
        """Finds it no more."""
        self._subscriptions.pop(subscription.id, None)
        _forget(self._sub_keys, subscription.sub_key, subscription.id)
        for group, key in (
            (self._of_topics, subscription.topic_id),
            (self._by_endpoints, subscription.endpoint_id),
        ):
            members = group.get(key, {})
            members.pop(subscription.id, None)
            if not members:
                group.pop(key, None)


def _forget(ids: dict[Key, int], key: Key, object_id: int) -> None:
    """Takes a key out unless another object has it by now, as when two exchange their names."""
    if ids.get(key) == object_id:
        del ids[key]


def _identities(endpoint: Endpoint) -> Iterable[Identity]:
    """By what an endpoint is found."""
    yield "name", endpoint.name
    if endpoint.security_id is not None:
        yield "security", endpoint.security_id
    if endpoint.service:
        yield "service", endpoint.service
    if endpoint.channel_id is not None:
        yield "channel", endpoint.channel_id
