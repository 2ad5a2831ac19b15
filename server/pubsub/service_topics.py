"""Topics of services: publishing to a service by its name, which then has a queue of its own (facts sheet, section 5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from junctor.server.pubsub.directory import INTERNAL_ENDPOINT
from junctor.sql.objects.pubsub import NOTIFY
from junctor.sql.transaction import Transaction

if TYPE_CHECKING:
    from junctor.server.context import Context

PREFIX: Final = "/zato/s/to/"
log = logging.getLogger(__name__)


class ServiceTopics:
    """Makes the topic and the subscription of a service when somebody publishes to it for the first time."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def topic_of(self, name: str) -> str:
        """The topic of this name, or else that of the service of this name; ``name`` itself if it is neither.

        May raise ``StoreUnavailable``.
        """
        directory = self._context.pubsub.directory
        if directory.topic(name) is not None or name not in self._context.services:
            return name
        topic = f"{PREFIX}{name}"
        if directory.topic(topic) is None:
            with self._context.store.transaction(who="junctor") as transaction:
                _create(transaction, topic, name)
            if transaction.changes:
                self._context.publisher.publish(transaction.version)
                log.info("Service %s has a topic now: %s", name, topic)
            self._context.listener.catch_up()
        return topic


def _create(transaction: Transaction, topic: str, service: str) -> None:
    """Both objects, unless another worker has made them meanwhile."""
    if transaction.find("pubsub_topic", topic) is not None:
        return
    internal = {"is_internal": True}
    transaction.create("pubsub_topic", {"name": topic, "has_gd": True}, system=internal)
    fields = {
        "name": topic,
        "endpoint": INTERNAL_ENDPOINT,
        "topic": topic,
        "delivery_method": NOTIFY,
        "service": service,
        "delivery_batch_size": 1,
        "wrap_one_msg_in_list": False,
    }
    transaction.create("pubsub_subscription", fields, system=internal)
