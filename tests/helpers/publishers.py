"""What publishes in tests: the writing half of publish/subscribe, on a real database, without a worker around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine, delete, text

from junctor.server.metrics import Metrics
from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.hooks import Hooks
from junctor.server.pubsub.live import Endpoint, Subscription, Topic
from junctor.server.pubsub.message import MILLISECONDS, NewMessage, new_message
from junctor.server.pubsub.publishing import Publishing
from junctor.server.pubsub.writer import Writer
from junctor.sql.base import METADATA
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.objects import add


class Told:
    """Stands for the hints, and for the deliveries: remembers what they were told."""

    def __init__(self) -> None:
        self.owners: list[dict[int, int | None]] = []
        self.subscriptions: list[int] = []

    def due(self, owners: Mapping[int, int | None]) -> None:
        """New messages."""
        self.owners.append(dict(owners))

    def changed(self, subscription_id: int) -> None:
        """A change of a subscription."""
        self.subscriptions.append(subscription_id)


class PublisherUnderTest:
    """A worker's publishing parts; ``load`` has them know the objects that there are."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store, self.engine, self.told = store, engine, Told()
        self.metrics = Metrics()
        self.context: Any = SimpleNamespace(
            store=store, metrics=self.metrics, listener=SimpleNamespace(catch_up=self.load)
        )
        self.pubsub = self.context.pubsub = SimpleNamespace(
            engine=engine, hints=self.told, deliveries=self.told
        )
        self.pubsub.directory = Directory(self.context)
        self.pubsub.hooks = Hooks(self.context)
        self.pubsub.publishing = Publishing(self.context)
        self.pubsub.writer = self.writer = Writer(self.context)

    def load(self) -> None:
        """Makes all objects live, as they are in the database now."""
        objects = self.store.snapshot().objects
        for cls in (Topic, Endpoint, Subscription):
            for config in objects[cls.kind]:
                cls(config, self.context).take_over(None)

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        return self.metrics.counter(name, **labels).value

    def row(self, statement: str, **values: Any) -> Any:
        """The one row that a query returns."""
        with self.engine.connect() as connection:
            return connection.execute(text(statement), values).one()

    def queue(self, sub_id: int) -> list[str]:
        """The data in a queue, in the order of delivery."""
        statement = text(
            "SELECT m.data FROM pubsub_queue q JOIN pubsub_message m ON m.id = q.message_id "
            "WHERE q.sub_id = :sub ORDER BY q.priority DESC, q.message_id"
        )
        with self.engine.connect() as connection:
            return list(connection.execute(statement, {"sub": sub_id}).scalars())


@contextmanager
def publisher(store: Store, engine: Engine) -> Iterator[PublisherUnderTest]:
    """The parts, with a writer that runs."""
    made = PublisherUnderTest(store, engine)
    made.writer.start()
    try:
        yield made
    finally:
        made.writer.stop()


def add_topic(store: Store, name: str, subscribers: int = 0, **fields: Any) -> tuple[int, list[int]]:
    """The ids of a topic and of so many subscriptions to it, from which messages are pulled."""
    topic = add(store, "pubsub_topic", name, **fields).id
    subscriptions = []
    for number in range(subscribers):
        who = f"{name} subscriber {number}"
        add(store, "pubsub_endpoint", who, endpoint_type="internal", topic_patterns=["sub=/**"])
        subscriptions.append(
            add(store, "pubsub_subscription", who, endpoint=who, topic=name, delivery_method="pull").id
        )
    return topic, subscriptions


def message(topic_id: int, data: Any = "x", **fields: Any) -> NewMessage:
    """A message as the pipeline hands it to the writer."""
    made = new_message("/any", {"data": data, **fields}, expiration_unit=MILLISECONDS)
    made.topic_id = topic_id
    return made


def emptied(engine: Engine, keyring: Keyring) -> Store:
    """The store of a new cluster, the only one, in a database that is used again."""
    with engine.begin() as connection:
        for table in reversed(
            METADATA.sorted_tables
        ):  # faster than TRUNCATE, for a few rows in tables of many files
            connection.execute(delete(table))
    return Store.create(engine, "test", keyring)
