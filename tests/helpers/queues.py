"""Topics, subscriptions and messages in the database, made without a server: what a test finds there is what it has put there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text

from junctor.server.pubsub.message import encode_data
from junctor.sql.store import Store
from tests.helpers.objects import add

_numbers = itertools.count(1)
_STORE = text("""
    WITH stored AS (
        INSERT INTO pubsub_message (cluster_id, topic_id, msg_id, data, data_type, size, priority, pub_time, expires_at, keep_until,
                                    expiration, correl_id, endpoint_name, deliver_to_sk)
        VALUES (:cluster_id, :topic_id, :msg_id, :data, :data_type, :size, :priority, :pub_time, :expires_at, :keep_until,
                :expiration, :correl_id, 'tester', CAST(:deliver_to_sk AS jsonb))
        RETURNING id
    ), queued AS (
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id, expires_at, not_before, attempts, last_error)
        SELECT sub_id, :priority, stored.id, :topic_id, :expires_at, :not_before, :attempts, :last_error
        FROM stored, unnest(CAST(:subs AS bigint[])) AS sub_id
    )
    SELECT id FROM stored
""")


class Queues:
    """Publish/subscribe of one cluster, as it is stored."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def topic(self, name: str = "/orders", **fields: Any) -> int:
        """The id of a new topic."""
        return add(self.store, "pubsub_topic", name, **fields).id

    def subscription(self, topic: str = "/orders", name: str = "", **fields: Any) -> int:
        """The id of a new subscription of a new endpoint: one that pulls, unless ``fields`` say otherwise."""
        number = next(_numbers)
        endpoint = fields.pop("endpoint", "")
        if not endpoint:
            endpoint = f"endpoint {number}"
            add(self.store, "pubsub_endpoint", endpoint, endpoint_type="internal", topic_patterns=["sub=/**"])
        given = {"delivery_method": "pull", **fields, "topic": topic, "endpoint": endpoint}
        system = given.pop("system", None)
        with self.store.transaction(who="tester") as transaction:
            made = transaction.create(
                "pubsub_subscription", {"name": name or f"subscription {number}", **given}, system=system
            )
        return made.id

    def sub_key(self, sub_id: int) -> str:
        """The key of a subscription."""
        return str(self.store.get_by_id("pubsub_subscription", sub_id)["sub_key"])

    def publish(
        self,
        topic_id: int,
        subs: Iterable[int] = (),
        data: Any = "data",
        *,
        age: float = 0.0,
        expires_in: float | None = None,
        kept_for: float | None = None,
        due_in: float | None = None,
        **fields: Any,
    ) -> tuple[int, str]:
        """The id and the msg_id of a message that was published ``age`` seconds ago and is in the queues ``subs``.

        The other times are in seconds from now.
        """
        now = datetime.now(UTC)

        def moment(seconds: float | None) -> datetime | None:
            return None if seconds is None else now + timedelta(seconds=seconds)

        text_, data_type, size = encode_data(data)
        values: dict[str, Any] = {
            "cluster_id": self.store.cluster_id,
            "topic_id": topic_id,
            "msg_id": f"zpsm{next(_numbers):024}",
            "data": text_,
            "data_type": data_type,
            "size": size,
            "priority": 5,
            "pub_time": moment(-age),
            "expires_at": moment(expires_in),
            "keep_until": moment(kept_for),
            "not_before": moment(due_in),
            "expiration": 0,
            "correl_id": "",
            "deliver_to_sk": None,
            "attempts": 0,
            "last_error": None,
            "subs": list(subs),
        } | fields
        if values["deliver_to_sk"] is not None:
            values["deliver_to_sk"] = orjson.dumps(values["deliver_to_sk"]).decode()
        with self.store.engine.begin() as connection:
            made = connection.execute(_STORE, values).scalar_one()
        return int(made), str(values["msg_id"])

    def bury(self, sub_id: int, topic_id: int, data: Any = "data", **fields: Any) -> tuple[int, str]:
        """The id and the msg_id of a dead letter, whose message is not stored any more."""
        message_id, msg_id = self.publish(topic_id, data=data, **fields)
        letter = self.one(
            """
            WITH gone AS (DELETE FROM pubsub_message WHERE id = :id RETURNING *)
            INSERT INTO pubsub_dead_letter (cluster_id, sub_id, topic_id, message_id, msg_id, message, priority, attempts, reason)
            SELECT cluster_id, :sub_id, topic_id, id, msg_id, to_jsonb(gone), priority, 3, 'HTTP 500' FROM gone RETURNING id
            """,
            id=message_id,
            sub_id=sub_id,
        )
        return int(letter), msg_id

    def own(self, sub_id: int, worker_id: int | None, in_flight: Iterable[int] = (), **fields: Any) -> None:
        """Says who delivers for a subscription, and what it has taken."""
        self.run(
            """
            INSERT INTO pubsub_state (sub_id, worker_id, epoch, in_flight, last_interaction)
            VALUES (:sub_id, :worker_id, 1, :in_flight, clock_timestamp() - make_interval(secs => :idle))
            """,
            **{"sub_id": sub_id, "worker_id": worker_id, "in_flight": list(in_flight), "idle": 0, **fields},
        )

    def worker(self) -> int:
        """The id of a worker that is alive, and holds its lease."""
        worker = self.one(
            "INSERT INTO worker (cluster_id, server, host, pid) VALUES (:cluster, 'server1', 'h', 4711) RETURNING id",
            cluster=self.store.cluster_id,
        )
        self.run(
            """
            INSERT INTO lease (cluster_id, name, worker_id, expires)
            VALUES (:cluster, :name, :worker, clock_timestamp() + interval '1 hour')
            """,
            cluster=self.store.cluster_id,
            name=f"pubsub.worker.{worker}",
            worker=worker,
        )
        return int(worker)

    def queue(self, sub_id: int) -> list[int]:
        """The ids of the messages in a queue, in the order of their delivery."""
        rows = self.rows(
            "SELECT message_id FROM pubsub_queue WHERE sub_id = :sub_id ORDER BY priority DESC, message_id",
            sub_id=sub_id,
        )
        return [row["message_id"] for row in rows]

    def stored(self) -> list[int]:
        """The ids of all messages."""
        return [row["id"] for row in self.rows("SELECT id FROM pubsub_message ORDER BY id")]

    def one(self, statement: str, **values: Any) -> Any:
        """The first column of the first row."""
        with self.store.engine.begin() as connection:
            return connection.execute(text(statement), values).scalar()

    def rows(self, statement: str, **values: Any) -> list[Mapping[str, Any]]:
        """All rows."""
        with self.store.engine.begin() as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def run(self, statement: str, **values: Any) -> None:
        """Does something to the database."""
        with self.store.engine.begin() as connection:
            connection.execute(text(statement), values)
