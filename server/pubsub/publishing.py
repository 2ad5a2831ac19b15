"""Publishing, whoever does it and by whatever way: may it, what do hooks and limits say, and where does each message go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from junctor.server.pubsub.commit import NO_SUCH_TOPIC
from junctor.server.pubsub.depth import Depths
from junctor.server.pubsub.message import NewMessage
from junctor.server.pubsub.unguaranteed import Unguaranteed
from junctor.sql.errors import (
    DuplicateMessage,
    Forbidden,
    InvalidInput,
    JunctorError,
    PayloadTooLarge,
    ResourceNotFound,
    ServiceUnavailable,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Endpoint, Topic

MAX_MESSAGES: Final = 10_000  # of one call
CATCH_UP_INTERVAL: Final = 0.2  # seconds between two looks for topics that this worker does not know yet
NOT_AUTHORIZED: Final = "You are not authorized to access this resource."
# What publishers are refused for, by the first class that an error is an instance of; everything else is a failure.
REASONS: Final = {
    DuplicateMessage: "duplicate",
    Forbidden: "forbidden",
    ResourceNotFound: "no-topic",
    PayloadTooLarge: "too-large",
    InvalidInput: "invalid",
    ServiceUnavailable: "unavailable",
    StoreUnavailable: "unavailable",
}
log = logging.getLogger(__name__)


class Publishing:
    """The way of every message from its publisher to the queues."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.depths = Depths(context)
        self._unguaranteed = Unguaranteed(context)
        self._caught_up = 0.0

    def publish(
        self, endpoint: Endpoint, messages: Sequence[NewMessage], *, check_pattern: bool = True
    ) -> list[str]:
        """Publishes messages, which may be for several topics, in their order; returns their ids once they are stored.

        All messages with guaranteed delivery are stored, or none.  ``check_pattern`` is False for those whom patterns do not bind.
        Raises ``Forbidden`` for what the endpoint may not publish to, ``ResourceNotFound`` if it might and there is no such topic,
        ``DuplicateMessage`` for ids that are stored already, ``InvalidInput``, ``PayloadTooLarge``, whatever a hook raises, and
        ``ServiceUnavailable``, as ``Writer.write`` does, for topics that are inactive, and for those that are full.
        """
        try:
            return self._publish(endpoint, messages, check_pattern=check_pattern)
        except JunctorError as error:
            reason = next((name for cls, name in REASONS.items() if isinstance(error, cls)), "failed")
            self._context.metrics.counter("junctor_pubsub_refused_total", reason=reason).inc()
            raise

    def _publish(
        self, endpoint: Endpoint, messages: Sequence[NewMessage], *, check_pattern: bool
    ) -> list[str]:
        if len(messages) > MAX_MESSAGES:
            raise InvalidInput.one(
                "data_list",
                f"has {len(messages)} messages, more than the {MAX_MESSAGES} that one call may have.",
            )
        if check_pattern and not endpoint.can_publish:
            log.info(
                "Endpoint %r may not publish: it is inactive, or its role is %s.",
                endpoint.name,
                endpoint.role,
            )
            raise Forbidden(msg=NOT_AUTHORIZED)
        topics = {
            name: self._topic(endpoint, name, check_pattern=check_pattern)
            for name in {message.topic: None for message in messages}
        }
        prepared = [self._prepared(endpoint, message, *topics[message.topic]) for message in messages]
        ready = [(message, topics[message.topic][0]) for message in prepared if message is not None]
        self._route(ready)
        return [(after or before).msg_id for before, after in zip(messages, prepared, strict=True)]

    def _route(self, ready: Sequence[tuple[NewMessage, Topic]]) -> None:
        """Stores messages, but those without guaranteed delivery that find somebody who takes them at once."""
        certain = [pair for pair in ready if pair[0].has_gd or pair[0].delay]
        self._store(certain)
        if len(certain) < len(ready):
            offered = (
                (self._unguaranteed.offer(topic, message), topic)
                for message, topic in ready
                if not (message.has_gd or message.delay)
            )
            self._store([(left, topic) for left, topic in offered if left is not None])
        for topic, count in _counts(ready).items():
            self._context.metrics.counter("junctor_pubsub_published_total", topic=topic.name).inc(count)

    def _store(self, ready: Sequence[tuple[NewMessage, Topic]]) -> None:
        counts = _counts(ready)
        for topic, count in counts.items():
            self.depths.check(topic, count)
        is_relaxed = all(topic.is_relaxed for topic in counts)
        self._context.pubsub.writer.write([message for message, _ in ready], is_relaxed=is_relaxed)

    def _topic(self, endpoint: Endpoint, name: str, *, check_pattern: bool) -> tuple[Topic, str]:
        """The topic of this name, and the pattern that lets the endpoint publish to it."""
        pattern = endpoint.patterns.publish(name)
        if check_pattern and pattern is None:
            log.info("Endpoint %r has no pattern for publishing to %r.", endpoint.name, name[:200])
            raise Forbidden(msg=NOT_AUTHORIZED)
        topic = self._context.pubsub.directory.topic(name) or self._topic_of_others(name)
        if topic is None:
            raise ResourceNotFound(msg=NO_SUCH_TOPIC)
        if not topic.is_active:
            raise ServiceUnavailable(msg="Topic is inactive")
        return topic, pattern or ""

    def _topic_of_others(self, name: str) -> Topic | None:
        """A topic that another worker has made a moment ago; it is not looked for more often than a few times a second."""
        if monotonic() - self._caught_up < CATCH_UP_INTERVAL:
            return None
        self._caught_up = monotonic()
        self._context.listener.catch_up()
        return self._context.pubsub.directory.topic(name)

    def _prepared(
        self, endpoint: Endpoint, message: NewMessage, topic: Topic, pattern: str
    ) -> NewMessage | None:
        """The message as it is stored; None if the topic's hook does not want it."""
        found = self._context.pubsub.hooks.before_publish(topic, message) if topic.hook_service else message
        if found is None:
            return None
        limit = topic.limit_message_expiry * 1000
        if limit and not 0 < found.expiration <= limit:
            found.expiration = limit
        if found.has_gd is None:
            found.has_gd = topic.has_gd
        found.topic_id = topic.id
        found.endpoint_id, found.endpoint_name, found.pub_pattern = endpoint.id, endpoint.name, pattern
        return found


def _counts(ready: Sequence[tuple[NewMessage, Topic]]) -> dict[Topic, int]:
    """How many messages there are for each topic."""
    counts: dict[Topic, int] = {}
    for _, topic in ready:
        counts[topic] = counts.get(topic, 0) + 1
    return counts
