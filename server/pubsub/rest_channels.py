"""The REST channels of publish/subscribe, and the other objects that come with every cluster (facts sheet, sections 4.2 and 4.9).

The channels have no security definition: who may call depends on the topic, and the services find out who is calling.
"""

from __future__ import annotations

from typing import Any, Final

from junctor.server.pubsub import pubapi
from junctor.server.pubsub.directory import INTERNAL_ENDPOINT
from junctor.server.pubsub.pull import MAX_WAIT
from junctor.sql.store import Store
from junctor.sql.transaction import Transaction

TIMEOUT: Final = int(MAX_WAIT) + 30  # seconds
DEMO: Final = "zato.pubsub.demo"
DEMO_ENDPOINT: Final = "zato.pubsub.demo.endpoint"
DEMO_TOPIC: Final = "/zato/demo/sample"


def _channel(path: str, service: str, methods: str) -> dict[str, Any]:
    return {
        "url_path": f"/zato/pubsub/{path}",
        "service": service,
        "method": methods,
        "error_format": "3.0",
        "timeout": TIMEOUT,
    }


CHANNELS: Final[dict[str, dict[str, Any]]] = {
    "zato.pubsub.topic": _channel("topic/{topic}", pubapi.TopicService.name, "POST,PATCH"),
    "zato.pubsub.subscribe": _channel("subscribe/topic/{topic}", pubapi.SubscribeService.name, "POST,DELETE"),
    "zato.pubsub.msg": _channel("msg/{msg_id}", pubapi.MessageService.name, "GET"),
    "zato.pubsub.ack": _channel("ack", pubapi.Acknowledge.name, "POST"),
    "zato.pubsub.nack": _channel("nack", pubapi.Reject.name, "POST"),
}

# By their kinds; the password of the demo's user is empty, so nobody is let in until it has one.
OBJECTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("security_basic_auth", {"name": DEMO, "username": DEMO}),
    ("pubsub_topic", {"name": DEMO_TOPIC}),
    (
        "pubsub_endpoint",
        {
            "name": INTERNAL_ENDPOINT,
            "endpoint_type": "internal",
            "topic_patterns": ["pub=/**", "sub=/**"],
        },
    ),
    (
        "pubsub_endpoint",
        {
            "name": DEMO_ENDPOINT,
            "endpoint_type": "rest",
            "security": DEMO,
            "topic_patterns": ["pub=/zato/demo/*", "sub=/zato/demo/*"],
        },
    ),
)


def has_objects(store: Store) -> bool:
    """Whether all of them are there."""
    return all(store.id_of(kind, fields["name"]) is not None for kind, fields in OBJECTS)


def create_objects(transaction: Transaction) -> None:
    """Creates those that are not there; what an administrator has changed stays as it is."""
    for kind, fields in OBJECTS:
        if transaction.find(kind, fields["name"]) is None:
            transaction.create(kind, fields, system={"is_internal": True})
