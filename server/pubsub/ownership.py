"""Who delivers what: one worker at a time owns a subscription that messages are pushed to.

The owner is written in the subscription's state, with an epoch that grows with each owner.  It may act while this worker holds its lease,
one lease for all that it owns; who has lost it can neither acknowledge nor hand out anything, see ``exchange_sql.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Engine

from junctor.server.runtime.lease import Lease, Leases
from junctor.sql.engine import database_errors
from junctor.sql.errors import StoreUnavailable

LEASE_PREFIX: Final = "pubsub.worker."
MAX_CLAIMS: Final = 500  # in one transaction

# Who claims a subscription first waits until its owner's last round trip is over, and then sees all that came of it.  What was in flight
# may have been sent: its rows say so from now on.
_CLAIM: Final = """
INSERT INTO pubsub_state (sub_id)
SELECT s.id FROM pubsub_subscription s
WHERE s.id = ANY (%(subs)s) AND NOT EXISTS (SELECT FROM pubsub_state WHERE sub_id = s.id)
ORDER BY s.id
ON CONFLICT DO NOTHING;

SELECT s.sub_id FROM pubsub_state s
WHERE s.sub_id = ANY (%(subs)s) AND {free}
ORDER BY s.sub_id
FOR NO KEY UPDATE;

SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;

WITH old AS MATERIALIZED (
    SELECT s.sub_id, s.in_flight, s.worker_id FROM pubsub_state s WHERE s.sub_id = ANY (%(subs)s) AND {free}
), marked AS (
    UPDATE pubsub_queue q
    SET attempts = q.attempts + 1, first_failed_at = coalesce(q.first_failed_at, clock_timestamp()),
        last_error = coalesce(q.last_error, 'Its worker stopped before it was acknowledged.')
    FROM (SELECT old.sub_id, p.priority, i.id
          FROM old, unnest(old.in_flight) AS i (id), generate_series(1, 9) AS p (priority)) AS sent
    WHERE q.sub_id = sent.sub_id AND q.priority = sent.priority AND q.message_id = sent.id
)
UPDATE pubsub_state s
SET worker_id = %(worker)s, epoch = s.epoch + 1, in_flight = '{{}}', last_interaction = clock_timestamp(),
    last_interaction_type = 'claim'
FROM old WHERE s.sub_id = old.sub_id
RETURNING s.sub_id, s.epoch, old.worker_id
"""
_IS_FREE: Final = """(s.worker_id IS NULL OR s.worker_id = %(worker)s OR NOT EXISTS (
    SELECT FROM lease l JOIN worker w ON w.id = s.worker_id
    WHERE l.cluster_id = %(cluster)s AND l.name = %(prefix)s || s.worker_id AND l.worker_id = s.worker_id
      AND l.expires > clock_timestamp()))"""
_CLAIM_FREE: Final = _CLAIM.format(free=_IS_FREE)
_CLAIM_ANY: Final = _CLAIM.format(free="true")

# What is given back stays in flight only if it was sent: who claims the subscription next must know.
_RELEASE: Final = """
UPDATE pubsub_state s
SET worker_id = NULL, in_flight = given.in_flight::bigint[], last_interaction = clock_timestamp(), last_interaction_type = 'release'
FROM unnest(%(subs)s::bigint[], %(epochs)s::bigint[], %(sent)s::text[]) AS given (sub_id, epoch, in_flight)
WHERE s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id = %(worker)s
"""

# The id of the newest message, and the workers that may own something.
_LOOK: Final = """
SELECT s.last_value, w.id, w.server, w.host, w.pid
FROM pubsub_message_id_seq s
LEFT JOIN (lease l JOIN worker w ON w.id = l.worker_id AND w.cluster_id = l.cluster_id)
     ON l.cluster_id = %(cluster)s AND l.name = %(prefix)s || l.worker_id AND l.expires > clock_timestamp()
"""

# Which of these subscriptions have something that is due.
_DUE: Final = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT given.sub_id
FROM unnest(%(subs)s::bigint[]) AS given (sub_id)
CROSS JOIN LATERAL (
    SELECT FROM pubsub_queue q
    WHERE q.sub_id = given.sub_id
      AND (q.not_before IS NULL OR q.not_before <= statement_timestamp())
      AND (q.expires_at IS NULL OR q.expires_at > statement_timestamp())
    ORDER BY q.priority DESC, q.message_id
    LIMIT 1
) AS first
"""
# What a worker owns, whether it knows or not.
_OWNED: Final = "SELECT sub_id, epoch, in_flight FROM pubsub_state WHERE worker_id = %(worker)s"
_OWNER: Final = "SELECT worker_id FROM pubsub_state WHERE sub_id = %(sub)s"


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """A worker that is alive, and where it runs."""

    id: int
    server: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A subscription that is this worker's; ``previous`` was its owner, None if it had none."""

    sub_id: int
    epoch: int
    previous: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """The id of the newest message, and the workers that live, by their ids."""

    last_id: int
    workers: Mapping[int, WorkerPlace]


def chosen(sub_id: int, workers: Iterable[int]) -> int | None:
    """Which of ``workers`` is to own a subscription: the same for everybody who asks, and few change when a worker comes or goes."""
    return max(workers, key=lambda worker: (_weight(sub_id, worker), worker), default=None)


def _weight(sub_id: int, worker: int) -> bytes:
    return blake2b(b"%d:%d" % (sub_id, worker), digest_size=8).digest()


class Ownership:
    """What this worker owns, as the database has it.

    ``worker`` tells the id of the worker's row, None while it has none.  All methods that ask the database raise ``StoreUnavailable``.
    """

    def __init__(
        self, engine: Engine, cluster_id: int, leases: Leases, worker: Callable[[], int | None]
    ) -> None:
        self._engine = engine
        self._cluster_id = cluster_id
        self._leases = leases
        self._worker = worker
        self._lease: Lease | None = None

    @property
    def is_held(self) -> bool:
        """Whether this worker may send what it owns, now."""
        return self._lease is not None and self._lease.is_held

    def want(self, on_change: Callable[[bool], None]) -> None:
        """Asks for the worker's lease, again if the worker's row is another one by now.

        ``on_change`` is told when it is granted or lost; it must neither block nor raise.
        """
        worker = self._worker()
        name = f"{LEASE_PREFIX}{worker}"
        if worker is None or (self._lease is not None and self._lease.name == name):
            return
        self.give_up()
        self._lease = self._leases.want(name)
        self._lease.on_change = on_change

    def give_up(self) -> None:
        """The worker owns nothing any more."""
        if self._lease is not None:
            self._leases.give_up(self._lease.name)
            self._lease = None

    def claim(self, sub_ids: Sequence[int], *, by_force: bool = False) -> list[Claimed]:
        """Those of the subscriptions that are this worker's from now on: the ones without an owner that lives; all, by force."""
        claimed: list[Claimed] = []
        text = _CLAIM_ANY if by_force else _CLAIM_FREE
        for start in range(0, len(sub_ids), MAX_CLAIMS):
            part = list(sub_ids[start : start + MAX_CLAIMS])
            rows = self._run(
                text,
                subs=part,
                worker=self._own_id(),
                cluster=self._cluster_id,
                prefix=LEASE_PREFIX,
            )
            claimed += [Claimed(*row) for row in rows]
        return claimed

    def release(self, released: Sequence[tuple[int, int, Iterable[int]]]) -> None:
        """Gives subscriptions back: each with its epoch and the ids of the messages that were sent and not acknowledged."""
        if released:
            self._run(
                _RELEASE,
                subs=[sub_id for sub_id, _, _ in released],
                epochs=[epoch for _, epoch, _ in released],
                sent=["{" + ",".join(map(str, sent)) + "}" for _, _, sent in released],
                worker=self._own_id(),
            )

    def owned(self) -> list[tuple[int, int, list[int]]]:
        """All that is this worker's, with the epoch, and the ids of the messages that are in flight."""
        return [tuple(row) for row in self._run(_OWNED, worker=self._own_id())]

    def look(self) -> Look:
        """The newest message and the living workers: what is asked once a second, whatever this worker owns."""
        rows = self._run(_LOOK, cluster=self._cluster_id, prefix=LEASE_PREFIX)
        workers = {row[1]: WorkerPlace(*row[1:]) for row in rows if row[1] is not None}
        return Look(rows[0][0], workers)

    def due(self, sub_ids: Sequence[int]) -> list[int]:
        """Which of the subscriptions have a message that is due."""
        return [row[0] for row in self._run(_DUE, subs=list(sub_ids))] if sub_ids else []

    def owner_of(self, sub_id: int) -> int | None:
        """The id of the worker that owns a subscription, alive or not; None if none does."""
        rows = self._run(_OWNER, sub=sub_id)
        return rows[0][0] if rows else None

    def _own_id(self) -> int:
        worker = self._worker()
        if worker is None:
            raise StoreUnavailable("The worker is not known to the cluster yet.")
        return worker

    def _run(self, text: str, **values: Any) -> list[Any]:
        """The rows of the last of some statements, which are one transaction."""
        with database_errors(), self._engine.begin() as connection:
            result = connection.exec_driver_sql(text, values)
            return list(result.fetchall()) if result.returns_rows else []
