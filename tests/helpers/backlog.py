"""Queues full of messages, made directly in the database: for tests of whoever empties them."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import Engine, text

from junctor.sql.store import Store
from tests.helpers.objects import add

_numbers = itertools.count(1)


def add_subscriptions(store: Store, count: int = 1, **fields: Any) -> list[int]:
    """The ids of so many subscriptions to one topic, each of an endpoint and a service of its own."""
    number = next(_numbers)
    topic = f"/backlog/{number}"
    add(store, "pubsub_topic", topic)
    ids = []
    with store.transaction(who="tester") as transaction:
        for place in range(count):
            name = f"receiver-{number}-{place}"
            transaction.create("service", {"name": name})
            transaction.create(
                "pubsub_endpoint",
                {"name": name, "endpoint_type": "service", "service": name, "topic_patterns": ["sub=/**"]},
            )
            given = {"name": name, "endpoint": name, "topic": topic, "service": name, **fields}
            ids.append(transaction.create("pubsub_subscription", given).id)
    return ids


def fill(
    engine: Engine, sub_id: int, count: int = 1, *, data: str = "", priority: str = "5", **row: str
) -> None:
    """Puts messages into a queue: their data is 'N', then ``data``; ``priority`` and the columns of ``row`` are SQL of ``n``, from 1."""
    columns = "".join(f", {name}" for name in row)
    values = "".join(f", {value}" for value in row.values())
    with engine.begin() as connection:
        topic, cluster = connection.execute(
            text("SELECT topic_id, cluster_id FROM pubsub_subscription WHERE id = :id"), {"id": sub_id}
        ).one()
        connection.execute(
            text(f"""
            WITH made AS (
                INSERT INTO pubsub_message (cluster_id, topic_id, msg_id, data, size, priority)
                SELECT :cluster, :topic, 'zpsm' || gen_random_uuid(), n || :data, length(n || :data), ({priority})
                FROM generate_series(1, :count) AS n
                ORDER BY n
                RETURNING id, priority
            )
            INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id{columns})
            SELECT :sub, priority, id, :topic{values}
            FROM (SELECT made.*, row_number() OVER (ORDER BY id) AS n FROM made) AS numbered
            """),
            {"cluster": cluster, "topic": topic, "sub": sub_id, "count": count, "data": data},
        )


def queued(engine: Engine, sub_id: int) -> list[Any]:
    """The rows of a queue, in the order in which they are delivered, with the ``data`` of each message."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text("""
                SELECT q.*, m.data FROM pubsub_queue q JOIN pubsub_message m ON m.id = q.message_id
                WHERE sub_id = :id ORDER BY q.priority DESC, q.message_id
                """),
                {"id": sub_id},
            )
        )


def state(engine: Engine, sub_id: int) -> Any:
    """The row that says who owns a subscription; None if nobody ever did."""
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT * FROM pubsub_state WHERE sub_id = :id"), {"id": sub_id}
        ).one_or_none()
