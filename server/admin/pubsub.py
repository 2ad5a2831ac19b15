"""Messages of publish/subscribe for administrators: browse, explain, edit, delete, replay, statistics (facts sheet, section 4.10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from junctor.server.admin.objects import DEFAULT_PAGE
from junctor.server.admin.service import AdminService
from junctor.server.pubsub import browse, replay, stats
from junctor.server.pubsub.browse import MAX_PAGE, Queue, Wanted
from junctor.server.pubsub.explain import explain
from junctor.server.pubsub.maintenance import tell_owners
from junctor.sql.errors import InvalidInput

TOPIC = "pubsub_topic"
REPLAY_SECONDS = 10.0  # that one call may take; who wants the rest replayed calls again
MAX_ID = 2**62


class MessageService(AdminService):
    """A service about stored messages."""

    zato_dont_import = True

    def topic_id(self, fields: dict[str, Any], *, is_needed: bool = True) -> int:
        """The id of the topic that ``topic_name`` names, or ``id`` or ``name``; 0 if none is given.  Raises ``NotFound``."""
        store = self.context.store
        object_id = fields.get("id")
        if object_id is not None:
            if isinstance(object_id, bool) or not isinstance(object_id, int):
                raise InvalidInput.one("id", "must be a whole number.")
            return store.get_by_id(TOPIC, object_id).id
        name = self.text(fields, "topic_name", "") or self.text(fields, "name", "")
        if not name and is_needed:
            raise InvalidInput.one("topic_name", "is required.")
        return store.get(TOPIC, name).id if name else 0

    def queue(self, fields: dict[str, Any]) -> Queue:
        """The queue that ``sub_key`` names, or ``subscription``, its name.  Raises ``InvalidInput``, ``NotFound``."""
        sub_key, name = self.text(fields, "sub_key", ""), self.text(fields, "subscription", "")
        if not sub_key and not name:
            raise InvalidInput.one("sub_key", "is required.")
        return browse.find_queue(self.context.store, sub_key=sub_key, name=name)

    def wanted(self, fields: dict[str, Any]) -> Wanted:
        """What to look for.  Raises ``InvalidInput``."""
        return Wanted(
            msg_id=self.text(fields, "msg_id", ""),
            correl_id=self.text(fields, "correl_id", ""),
            query=self.text(fields, "query", ""),
            since=moment(fields, "since"),
            until=moment(fields, "until"),
            cursor=self.text(fields, "cursor", ""),
            limit=int(self.number(fields, "limit", DEFAULT_PAGE, high=MAX_PAGE)),
        )

    def last(self, fields: dict[str, Any]) -> int | None:
        """Where a call before this one left off, which has more to do.  Raises ``InvalidInput``."""
        if fields.get("last") is None:
            return None
        return int(self.number(fields, "last", 0, high=MAX_ID))


class GetTopicMessages(MessageService):
    """The stored messages of a topic, newest first; nobody receives less for it."""

    name = "zato.pubsub.topic.get-gd-message-list"

    def handle(self) -> None:
        """``topic_name``; ``msg_id``, ``correl_id``, ``query`` (in the data), ``since`` and ``until`` (ISO 8601); ``limit`` and ``cursor``.

        The answer's ``cursor`` leads to the next page, '' if there is none; a page of a search may have fewer than ``limit``.
        """
        fields = self.fields
        page = browse.topic_messages(self.context.store, self.topic_id(fields), self.wanted(fields))
        self.response.payload = {"items": page.items, "cursor": page.cursor}


class GetQueueMessages(MessageService):
    """The messages in a queue, in the order of their delivery; nobody receives less for it."""

    name = "zato.pubsub.endpoint.get-endpoint-queue-messages-gd"

    def handle(self) -> None:
        """``sub_key``, or ``topic_name`` for what nobody has subscribed to; the rest as in ``zato.pubsub.topic.get-gd-message-list``."""
        fields, store = self.fields, self.context.store
        if fields.get("topic_name") and not (fields.get("sub_key") or fields.get("subscription")):
            topic_id = self.topic_id(fields)
            page = browse.queue_messages(store, -topic_id, topic_id, self.wanted(fields))
        else:
            queue = self.queue(fields)
            page = browse.queue_messages(store, queue.sub_id, queue.topic_id, self.wanted(fields))
        self.response.payload = {"items": page.items, "cursor": page.cursor}


class GetTopicMessage(MessageService):
    """A stored message with all of its data."""

    name = "zato.pubsub.message.get-from-topic-gd"

    def handle(self) -> None:
        """``msg_id``; ``topic_name``, if several topics have one of this id."""
        fields = self.fields
        topic_id = self.topic_id(fields, is_needed=False)
        self.response.payload = browse.message(
            self.context.store, self.text(fields, "msg_id"), topic_id=topic_id
        )


class GetQueueMessage(MessageService):
    """A message in a queue, with all of its data and what is known of its delivery."""

    name = "zato.pubsub.message.get-from-queue-gd"

    def handle(self) -> None:
        """``sub_key``, ``msg_id``."""
        fields = self.fields
        queue, msg_id = self.queue(fields), self.text(fields, "msg_id")
        self.response.payload = browse.queued_message(
            self.context.store, queue.sub_id, queue.topic_id, msg_id
        )


class Explain(MessageService):
    """Says of each subscription why a message was not delivered to it, or what has become of it there."""

    name = "zato.pubsub.message.explain"

    def handle(self) -> None:
        """``msg_id``; ``topic_name`` or ``sub_key``, if that is all that matters."""
        fields = self.fields
        self.response.payload = explain(
            self.context.store,
            self.text(fields, "msg_id"),
            topic_id=self.topic_id(fields, is_needed=False),
            sub_key=self.text(fields, "sub_key", ""),
        )


class UpdateMessage(MessageService):
    """Changes a message that is in a queue, for all of its queues; refused while it is being delivered."""

    name = "zato.pubsub.message.update-gd"

    def handle(self) -> None:
        """``topic_name``, ``msg_id``; new ``data``, ``mime_type``, ``priority``, ``expiration`` (ms), ``correl_id``, ``in_reply_to``."""
        fields = self.fields
        topic_id, msg_id = self.topic_id(fields), self.text(fields, "msg_id")
        changes: dict[str, Any] = {name: fields[name] for name in browse.EDITABLE if name in fields}
        queues = browse.edit(self.context.store, topic_id, msg_id, changes)
        tell_owners(self.context, queues)
        self.logger.info("Message %s was changed by %s.", msg_id, self.who)
        self.response.payload = browse.message(self.context.store, msg_id, topic_id=topic_id)


class DeleteFromQueue(MessageService):
    """Deletes a message from a queue; other subscriptions receive it all the same."""

    name = "zato.pubsub.message.queue-delete-gd"

    def handle(self) -> None:
        """``sub_key``, ``msg_id``; the answer has the ``count`` of deleted messages."""
        fields = self.fields
        queue, msg_id = self.queue(fields), self.text(fields, "msg_id")
        count = browse.delete(self.context.store, [queue.sub_id], queue.topic_id, msg_id)
        self.logger.info("Message %s was deleted from a queue of %s by %s.", msg_id, queue.name, self.who)
        self.response.payload = {"msg_id": msg_id, "count": count}


class DeleteFromTopic(MessageService):
    """Deletes a message from all queues of its topic, and from what can be replayed."""

    name = "zato.pubsub.message.topic-delete-gd"

    def handle(self) -> None:
        """``topic_name``, ``msg_id``; the answer has the ``count`` of queues that it was in."""
        fields = self.fields
        msg_id = self.text(fields, "msg_id")
        count = browse.delete_everywhere(self.context.store, self.topic_id(fields), msg_id)
        self.logger.info("Message %s was deleted from %d queues by %s.", msg_id, count, self.who)
        self.response.payload = {"msg_id": msg_id, "count": count}


class ClearQueue(MessageService):
    """Deletes all messages of a queue that were published until now."""

    name = "zato.pubsub.endpoint.clear-endpoint-queue"

    def handle(self) -> None:
        """``sub_key``; the answer has the ``count`` of deleted messages.

        A call takes some seconds at the most.  If that was not all, ``is_complete`` is false, and another call with the answer's ``last``
        goes on.
        """
        fields = self.fields
        queue = self.queue(fields)
        done = browse.clear_queue(self.context.store, queue.sub_id, self.last(fields))
        self.logger.info("%d messages of %s were deleted by %s.", done.count, queue.name, self.who)
        self.response.payload = cleared(done)


class ClearTopic(MessageService):
    """Deletes all messages of a topic that were published until now: from its queues, and from what can be replayed."""

    name = "zato.pubsub.topic.clear"

    def handle(self) -> None:
        """``topic_name``; otherwise as ``zato.pubsub.endpoint.clear-endpoint-queue``."""
        fields = self.fields
        topic_id = self.topic_id(fields)
        done = browse.clear_topic(self.context.store, topic_id, self.last(fields))
        self.logger.info("%d messages of topic %d were deleted by %s.", done.count, topic_id, self.who)
        self.response.payload = cleared(done)


class Replay(MessageService):
    """Delivers again what a topic has kept, to one subscription."""

    name = "zato.pubsub.topic.replay"

    def handle(self) -> None:
        """``sub_key``; ``since`` and ``until`` (ISO 8601), and ``from_msg_id``, all there is by default.

        The answer has the ``count`` of queued messages.  A call takes some seconds at the most.  If that was not all, ``is_complete`` is
        false, and another call with the answer's ``after`` and ``last`` goes on.
        """
        fields, store = self.fields, self.context.store
        queue = self.queue(fields)
        wanted = replay.Range(
            moment(fields, "since"), moment(fields, "until"), self.text(fields, "from_msg_id", "")
        )
        last, count, deadline = self.last(fields), 0, monotonic() + REPLAY_SECONDS
        if last is None:
            step = replay.start(store, queue.topic_id, wanted)
        else:
            after = int(self.number(fields, "after", 0, high=MAX_ID))
            step = replay.Step(0, after, last, is_complete=False)
        for step in replay.replay(store, queue.topic_id, queue.sub_id, wanted, step):  # noqa: B020 - it goes on from the one before
            count += step.added
            if monotonic() > deadline:
                break
        if count:
            tell_owners(self.context, [queue.sub_id])
        self.logger.info("%d messages are replayed to %s for %s.", count, queue.name, self.who)
        self.response.payload = {
            "count": count,
            "after": step.after,
            "last": step.last,
            "is_complete": step.is_complete,
        }


class Statistics(MessageService):
    """What waits in each queue, since when, who delivers it, and how fast messages come and go."""

    name = "zato.pubsub.stats"

    def handle(self) -> None:
        """``topic_name``, ``endpoint_name`` or ``sub_key``, all by default; ``offset``, ``limit``; ``sample``, seconds for rates."""
        fields = self.fields
        topic, endpoint = self.text(fields, "topic_name", ""), self.text(fields, "endpoint_name", "")
        if topic:
            self.context.store.get(TOPIC, topic)
        if endpoint:
            self.context.store.get("pubsub_endpoint", endpoint)
        wanted = stats.Wanted(
            topic=topic,
            endpoint=endpoint,
            sub_key=self.queue(fields).sub_key if fields.get("sub_key") or fields.get("subscription") else "",
            sample=self.number(fields, "sample", 0, high=stats.MAX_SAMPLE),
            offset=int(self.number(fields, "offset", 0, high=2**31)),
            limit=int(self.number(fields, "limit", stats.MAX_LISTED, high=stats.MAX_LISTED)),
        )
        self.response.payload = stats.statistics(self.context.store, wanted)


class GetQueues(Statistics):
    """The queues of an endpoint: what waits in each, since when, and who delivers it."""

    name = "zato.pubsub.endpoint.get-endpoint-queue-list"

    def handle(self) -> None:
        """``endpoint_name``; ``offset`` and ``limit``."""
        self.text(self.fields, "endpoint_name")
        super().handle()


SERVICES = (
    GetTopicMessages,
    GetQueueMessages,
    GetTopicMessage,
    GetQueueMessage,
    Explain,
    UpdateMessage,
    DeleteFromQueue,
    DeleteFromTopic,
    ClearQueue,
    ClearTopic,
    Replay,
    Statistics,
    GetQueues,
)


def moment(fields: dict[str, Any], name: str) -> datetime | None:
    """A time among the fields, None if there is none: ISO 8601, UTC without a zone, or seconds since the epoch.

    Raises ``InvalidInput``.
    """
    value = fields.get(name)
    if value in (None, ""):
        return None
    try:
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    except (ValueError, OverflowError):
        raise InvalidInput.one(name, "must be a time: ISO 8601, or seconds since the epoch.") from None


def cleared(done: browse.Cleared) -> dict[str, Any]:
    """What the answer says of it."""
    return {"count": done.count, "last": done.last, "is_complete": done.is_complete}
