"""How much waits, where, and since when: for ``/metrics``, and for administrators who ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent
from sqlalchemy import Connection, Row, text

from junctor.server.pubsub.filled import FILLED, limited, pairs
from junctor.server.pubsub.ownership import LEASE_PREFIX
from junctor.sql.engine import database_errors

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.metrics import Gauge
    from junctor.server.pubsub.partitions import Partitions
    from junctor.sql.store import Store

MAX_COUNTED: Final = 1_000_000  # messages of a queue; a longer one is told as having so many
MAX_SERIES: Final = 1000  # labels of their own; what is beyond is told as one sum
MAX_LISTED: Final = 1000  # subscriptions that an administrator gets at a time
MAX_SAMPLE: Final = 10.0  # seconds
TIMEOUT: Final = 20.0  # seconds
OTHERS: Final = "(others)"  # the label of what is beyond
UNSUBSCRIBED: Final = "(nobody)"  # the endpoint of messages that nobody has subscribed to
APPLICATIONS: Final = (
    "(applications)"  # the subscription of those that applications made: they come and go, series would not
)

# Of each queue that has messages: how many, and when the oldest of them was published.
_WAITING: Final = text(
    FILLED  # noqa: S608 - a constant
    + """
    SELECT filled.sub_id, counted.depth, extract(epoch FROM clock_timestamp() - oldest.pub_time)::float8 AS age
    FROM filled
    CROSS JOIN LATERAL (
        SELECT count(*) AS depth FROM (SELECT FROM pubsub_queue q WHERE q.sub_id = filled.sub_id LIMIT :most) queued
    ) counted
    CROSS JOIN LATERAL (
        SELECT min(head.message_id) AS id FROM generate_series(1, 9) AS priority
        CROSS JOIN LATERAL (
            SELECT q.message_id FROM pubsub_queue q
            WHERE q.sub_id = filled.sub_id AND q.priority = priority.priority ORDER BY q.message_id LIMIT 1
        ) head
    ) first
    LEFT JOIN pubsub_message oldest ON oldest.id = first.id
    WHERE filled.sub_id IS NOT NULL
"""
)
_DEAD: Final = text(
    "SELECT sub_id, count(*) FROM pubsub_dead_letter WHERE cluster_id = :cluster_id GROUP BY sub_id"
)
_NAMES: Final = text("""
    SELECT s.id, t.name AS topic, e.name AS endpoint, s.name AS subscription, s.is_internal
    FROM pubsub_subscription s JOIN pubsub_topic t ON t.id = s.topic_id JOIN pubsub_endpoint e ON e.id = s.endpoint_id
    WHERE s.cluster_id = :cluster_id AND s.id = ANY (CAST(:ids AS bigint[]))
    UNION ALL
    SELECT -t.id, t.name, :nobody, '', false FROM pubsub_topic t WHERE t.cluster_id = :cluster_id AND -t.id = ANY (CAST(:ids AS bigint[]))
""")
# An owner counts only while it has its lease.
_SUBSCRIPTIONS: Final = text("""
    SELECT s.id, s.sub_key, s.name, t.id AS topic_id, t.name AS topic, e.name AS endpoint, s.delivery_method, s.active_status,
           s.ext_client_id, st.worker_id, w.server, w.pid, cardinality(st.in_flight) AS in_flight,
           st.last_interaction, st.last_interaction_type,
           coalesce(l.expires > clock_timestamp() AND w.id IS NOT NULL, false) AS is_owned
    FROM pubsub_subscription s JOIN pubsub_topic t ON t.id = s.topic_id JOIN pubsub_endpoint e ON e.id = s.endpoint_id
    LEFT JOIN pubsub_state st ON st.sub_id = s.id
    LEFT JOIN worker w ON w.id = st.worker_id
    LEFT JOIN lease l ON l.cluster_id = s.cluster_id AND l.name = :prefix || st.worker_id AND l.worker_id = st.worker_id
    WHERE s.cluster_id = :cluster_id AND (:topic = '' OR t.name = :topic) AND (:endpoint = '' OR e.name = :endpoint)
      AND (:sub_key = '' OR s.sub_key = :sub_key)
    ORDER BY t.name, s.id OFFSET :offset LIMIT :limit
""")
# The messages of topics between two ids.
_PUBLISHED: Final = text("""
    SELECT topic_id, (SELECT count(*) FROM pubsub_message m
                      WHERE m.topic_id = given.topic_id AND m.id > :low AND m.id <= :high) AS count
    FROM unnest(CAST(:topics AS bigint[])) AS given (topic_id)
""")
_LAST: Final = text("SELECT last_value FROM pubsub_message_id_seq")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a queue: how many messages, the age of the oldest in seconds, and how many became dead letters."""

    depth: int = 0
    age: float = 0.0
    dead: int = 0

    def __add__(self, other: Waiting) -> Waiting:
        return Waiting(self.depth + other.depth, max(self.age, other.age), self.dead + other.dead)


def waiting(connection: Connection, cluster_id: int) -> dict[int, Waiting]:
    """What waits, by the ids of subscriptions, those of topics below zero; queues of other clusters are among them.

    Empty queues are left out.  ``depth`` is ``MAX_COUNTED`` at the most.
    """
    found = {
        row.sub_id: Waiting(row.depth, max(0.0, row.age or 0.0))
        for row in connection.execute(_WAITING, {"most": MAX_COUNTED})
    }
    for sub_id, count in connection.execute(_DEAD, {"cluster_id": cluster_id}):
        found[sub_id] = replace(found.get(sub_id, Waiting()), dead=count)
    return found


class Gauges:
    """The gauges of ``/metrics``, which one worker of the cluster sets: a queue is the cluster's, not a server's."""

    def __init__(self, context: Context, partitions: Partitions) -> None:
        self._context = context
        self._partitions = partitions
        self._series: dict[tuple[str, str, str], tuple[Gauge, Gauge, Gauge]] = {}

    def update(self) -> None:
        """Counts, and sets them.  Raises ``StoreUnavailable``."""
        cluster_id = self._context.store.cluster_id
        with database_errors(), limited(self._context.pubsub.engine, TIMEOUT) as connection:
            found = waiting(connection, cluster_id)
            given = {"cluster_id": cluster_id, "ids": list(found), "nobody": UNSUBSCRIBED}
            names = connection.execute(_NAMES, given).all()
        self._set(_labelled(names, found))
        self._context.metrics.gauge("junctor_pubsub_partitions").set(self._partitions.count())

    def reset(self) -> None:
        """Another worker sets them from now on; the sum over all workers must be right."""
        self._set({})
        self._context.metrics.gauge("junctor_pubsub_partitions").set(0)

    def _set(self, values: Mapping[tuple[str, str, str], Waiting]) -> None:
        sums: dict[tuple[str, str, str], Waiting] = dict.fromkeys(self._series, Waiting())
        for labels, value in values.items():
            is_known = labels in self._series or len(self._series) < MAX_SERIES
            key = labels if is_known else (OTHERS, OTHERS, OTHERS)
            if key not in self._series:
                self._series[key] = self._made(*key)
            sums[key] = sums.get(key, Waiting()) + value
        for key, value in sums.items():
            depth, age, dead = self._series[key]
            depth.set(value.depth)
            age.set(round(value.age, 1))
            dead.set(value.dead)

    def _made(self, topic: str, endpoint: str, subscription: str) -> tuple[Gauge, Gauge, Gauge]:
        metrics, labels = (
            self._context.metrics,
            {"topic": topic, "endpoint": endpoint, "subscription": subscription},
        )
        return (
            metrics.gauge("junctor_pubsub_depth", **labels),
            metrics.gauge("junctor_pubsub_oldest_seconds", **labels),
            metrics.gauge("junctor_pubsub_dead_letters", **labels),
        )


def _labelled(names: Iterable[Row[Any]], found: Mapping[int, Waiting]) -> dict[tuple[str, str, str], Waiting]:
    """Sums by topic, endpoint and subscription."""
    sums: dict[tuple[str, str, str], Waiting] = {}
    for row in names:
        labels = (row.topic, row.endpoint, APPLICATIONS if row.is_internal else row.subscription)
        sums[labels] = sums.get(labels, Waiting()) + found[row.id]
    return sums


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which subscriptions to tell about: of a topic, of an endpoint, with a key, or all.

    ``sample`` is for how many seconds to watch them, for the rates; 0 = no rates.
    """

    topic: str = ""
    endpoint: str = ""
    sub_key: str = ""
    sample: float = 0.0
    offset: int = 0
    limit: int = MAX_LISTED


def statistics(store: Store, wanted: Wanted) -> dict[str, Any]:
    """The subscriptions with their depth, age of the oldest message, owner and rates; and messages that nobody subscribed to.

    ``published_per_second`` is of the topic, and ``delivered_per_second`` what left the queue otherwise than it came: delivered, expired
    or deleted.  Both are over ``sample`` seconds.  Raises ``StoreUnavailable``.
    """
    with database_errors(), limited(store.engine, TIMEOUT) as connection:
        rows = _subscriptions(connection, store.cluster_id, wanted)
        before, first = waiting(connection, store.cluster_id), connection.execute(_LAST).scalar_one()
        given = {"cluster_id": store.cluster_id, "ids": [sub for sub in before if sub < 0], "nobody": ""}
        parked = connection.execute(_NAMES, given).all()
    started, after = monotonic(), before
    published: dict[int, int] = {}
    if wanted.sample > 0:
        gevent.sleep(min(wanted.sample, MAX_SAMPLE))
        with database_errors(), limited(store.engine, TIMEOUT) as connection:
            after, last = waiting(connection, store.cluster_id), connection.execute(_LAST).scalar_one()
            asked = {"topics": sorted({row.topic_id for row in rows}), "low": first, "high": last}
            published = pairs(connection.execute(_PUBLISHED, asked))
    seconds = monotonic() - started
    items = []
    for row in rows:
        item = _shown(row, after.get(row.id, Waiting()))
        if wanted.sample > 0:
            come = published.get(row.topic_id, 0)
            went = come + before.get(row.id, Waiting()).depth - after.get(row.id, Waiting()).depth
            item["published_per_second"] = round(come / seconds, 1)
            item["delivered_per_second"] = round(max(0, went) / seconds, 1)
        items.append(item)
    waits = [
        {
            "topic_name": row.topic,
            "depth": before[row.id].depth,
            "oldest_seconds": round(before[row.id].age, 1),
        }
        for row in parked
        if wanted.topic in ("", row.topic) and not (wanted.sub_key or wanted.endpoint)
    ]
    return {"items": items, "unsubscribed": waits}


def _subscriptions(connection: Connection, cluster_id: int, wanted: Wanted) -> list[Row[Any]]:
    given = {
        "cluster_id": cluster_id,
        "prefix": LEASE_PREFIX,
        "topic": wanted.topic,
        "endpoint": wanted.endpoint,
        "sub_key": wanted.sub_key,
        "offset": wanted.offset,
        "limit": wanted.limit,
    }
    return list(connection.execute(_SUBSCRIPTIONS, given).all())


def _shown(row: Row[Any], waits: Waiting) -> dict[str, Any]:
    return {
        "id": row.id,
        "subscription": row.name,
        "sub_key": row.sub_key,
        "topic_name": row.topic,
        "endpoint_name": row.endpoint,
        "ext_client_id": row.ext_client_id,
        "delivery_method": row.delivery_method,
        "active_status": row.active_status,
        "depth": waits.depth,
        "oldest_seconds": round(waits.age, 1),
        "dead_letters": waits.dead,
        "in_flight": row.in_flight or 0,
        "owner_server": row.server if row.is_owned else None,
        "owner_pid": row.pid if row.is_owned else None,
        "last_interaction": row.last_interaction.isoformat() if row.last_interaction else None,
        "last_interaction_type": row.last_interaction_type or "",
    }
