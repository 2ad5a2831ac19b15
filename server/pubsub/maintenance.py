"""What must be done from time to time for publish/subscribe as a whole, by one worker of the cluster: whoever has the lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event
from sqlalchemy import text

from junctor.server.pubsub.cleaning import TIMEOUT, Cleaning
from junctor.server.pubsub.filled import limited
from junctor.server.pubsub.partitions import Partitions
from junctor.server.pubsub.stats import Gauges
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.runtime.lease import Lease

LEASE: Final = "pubsub.maintenance"
PAUSE: Final = 0.1  # seconds between two steps
SHARE: Final = 50  # times as long as it took, a chore rests at least: 2% of the time go into each at the most
RETRY_PAUSE: Final = 5.0  # seconds after a chore failed
LOOK_INTERVAL: Final = 1.0  # seconds between two looks whether something is due
MAX_UNSUBSCRIBED: Final = 100  # inactive subscriptions that are deleted at a time
ORPHANED_AFTER: Final = (
    60  # seconds after the worker of its WebSocket died, a subscription that ends with it is deleted
)
log = logging.getLogger(__name__)

Steps = Callable[[], Iterator[Any]]

# Those that nobody has used for as long as their topic allows, and those that end with a WebSocket whose worker did not live to do it.
_INACTIVE: Final = text("""
    SELECT s.id
    FROM pubsub_subscription s JOIN pubsub_topic t ON t.id = s.topic_id LEFT JOIN pubsub_state st ON st.sub_id = s.id
    WHERE s.cluster_id = :cluster_id AND s.is_internal AND s.delivery_method IN ('pull', 'web-socket')
      AND (t.limit_sub_inactivity > 0 OR s.unsub_on_wsx_close)
      AND NOT EXISTS (SELECT FROM worker w WHERE w.id = st.worker_id)
      AND greatest(s.created, st.last_interaction) < clock_timestamp() - make_interval(
              secs => CASE WHEN s.unsub_on_wsx_close THEN :orphaned ELSE t.limit_sub_inactivity END)
    ORDER BY s.id LIMIT :most
""")
_OWNERS: Final = text(
    "SELECT sub_id, worker_id FROM pubsub_state WHERE sub_id = ANY (CAST(:subs AS bigint[]))"
)


class Chore:
    """Something to be done every ``interval`` seconds, step by step; one that takes long has longer rests."""

    def __init__(self, name: str, interval: float, steps: Steps) -> None:
        self.name, self.interval, self._steps = name, interval, steps
        self._under_way: Iterator[Any] | None = None
        self._used = 0.0
        self._due = 0.0

    def step(self) -> bool:
        """Does a step, if it is time for one; whether there is more to do at once.  Raises what the step raises."""
        if self._under_way is None:
            if monotonic() < self._due:
                return False
            self._under_way, self._used = self._steps(), 0.0
        started = perf_counter()
        try:
            next(self._under_way)
        except StopIteration:
            self._rest(max(self.interval, SHARE * (self._used + perf_counter() - started)))
            return False
        except BaseException:
            self._rest(min(self.interval, RETRY_PAUSE))
            raise
        self._used += perf_counter() - started
        return True

    def _rest(self, seconds: float) -> None:
        self._under_way = None
        self._due = monotonic() + seconds


class Maintenance:
    """The chores, and whether this worker does them.

    The life cycle: ``prepare`` before the worker publishes, which may raise ``StoreUnavailable``; ``start`` once the worker has its row;
    ``stop`` ends it, and neither blocks nor raises.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lease: Lease | None = None
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None
        self._failing: set[str] = set()
        self._gauges: Gauges | None = None

    def prepare(self) -> None:
        """Has partitions for the messages that come next.  Raises ``StoreUnavailable``."""
        Partitions(self._context.pubsub.engine).prepare()

    def start(self) -> None:
        """Begins to ask for the lease."""
        self._lease = self._context.links.leases.want(LEASE)
        self._lease.on_change = self._changed
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Does no more.  What a step was doing is undone by the database."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        if self._lease is not None:
            self._context.links.leases.give_up(LEASE)

    def _changed(self, is_held: bool) -> None:
        self._wake.set()
        if not is_held and self._gauges is not None:
            self._gauges.reset()  # the next owner's are those that count

    def _run(self) -> None:
        chores = self.chores()
        while True:
            self._wake.clear()
            if not self._is_held():
                self._wake.wait(LOOK_INTERVAL)
                continue
            has_more = [self._step(chore) for chore in chores if self._is_held()]
            gevent.sleep(PAUSE if any(has_more) else LOOK_INTERVAL)

    def _is_held(self) -> bool:
        return self._lease is not None and self._lease.is_held

    def _step(self, chore: Chore) -> bool:
        """A step of a chore, and whether it has more to do; what goes wrong is logged once, and tried again."""
        started = perf_counter()
        try:
            has_more = chore.step()
        except JunctorError as error:
            if chore.name not in self._failing:
                log.warning("The maintenance of publish/subscribe cannot do '%s' now: %s", chore.name, error)
            self._failing.add(chore.name)
            return False
        except Exception:  # boundary: the other chores must be done all the same
            log.exception("The maintenance of publish/subscribe failed at '%s'.", chore.name)
            return False
        if chore.name in self._failing:
            self._failing.discard(chore.name)
            log.info("The maintenance of publish/subscribe does '%s' again.", chore.name)
        if (taken := perf_counter() - started) > 0.001:
            self._context.metrics.histogram("junctor_pubsub_maintenance_seconds", chore=chore.name).observe(
                taken
            )
        return has_more

    def chores(self) -> list[Chore]:
        """Everything there is to do, the most urgent first."""
        engine = self._context.pubsub.engine
        partitions, cleaning = Partitions(engine), Cleaning(engine)
        self._gauges = gauges = Gauges(self._context, partitions)
        return [
            Chore("new partitions", 5, lambda: _once(partitions.ensure)),
            Chore("figures", 10, lambda: _once(gauges.update)),
            Chore("parked messages", 10, lambda: self._adopted(cleaning.parked())),
            Chore("expired messages", 30, lambda: self._expired(cleaning.expired())),
            Chore("dead partitions", 15, lambda: _once(partitions.drop_dead)),
            Chore("dead messages", 60, lambda: self._counted("message", cleaning.dead_messages())),
            Chore("orphaned queues", 60, lambda: self._counted("orphan", cleaning.orphans())),
            Chore("inactive subscriptions", 60, lambda: _once(self.unsubscribe_inactive)),
            Chore("deduplication", 300, lambda: self._counted("dedupe", cleaning.dedupe())),
            Chore("old dead letters", 600, lambda: self._counted("dead-letter", cleaning.dead_letters())),
        ]

    def _counted(self, what: str, steps: Iterator[int]) -> Iterator[int]:
        for count in steps:
            self._context.metrics.counter("junctor_pubsub_removed_total", what=what).inc(count)
            yield count

    def _expired(self, steps: Iterator[Mapping[int, int]]) -> Iterator[Mapping[int, int]]:
        for gone in steps:
            for topic_id, count in gone.items():
                topic = self._context.pubsub.directory.topic_by_id(topic_id)
                name = "" if topic is None else topic.name
                self._context.metrics.counter("junctor_pubsub_expired_total", topic=name).inc(count)
            yield gone

    def _adopted(self, steps: Iterator[Mapping[int, int]]) -> Iterator[Mapping[int, int]]:
        for moved in steps:
            if moved:
                log.info(
                    "%d messages that nobody had subscribed to have got a subscriber.", sum(moved.values())
                )
                tell_owners(self._context, list(moved))
            yield moved

    def unsubscribe_inactive(self) -> list[str]:
        """Deletes subscriptions that applications made and nobody used for longer than their topics allow; returns their names."""
        broker, deleted = self._context.pubsub, []
        given = {
            "cluster_id": self._context.store.cluster_id,
            "most": MAX_UNSUBSCRIBED,
            "orphaned": ORPHANED_AFTER,
        }
        with database_errors(), limited(broker.engine, TIMEOUT) as connection:
            inactive = list(connection.execute(_INACTIVE, given).scalars())
        for sub_id in inactive:
            subscription = broker.directory.subscription_by_id(sub_id)
            if subscription is not None:  # otherwise it was made, or deleted, this very moment
                broker.subscribing.unsubscribe(subscription)
                deleted.append(subscription.config.name)
        if deleted:
            log.info("%d subscriptions were deleted because nobody used them any more.", len(deleted))
        return deleted


def tell_owners(context: Context, sub_ids: list[int]) -> None:
    """Tells the workers that deliver for these subscriptions that something has come into their queues.  Raises ``StoreUnavailable``."""
    with database_errors(), limited(context.pubsub.engine, TIMEOUT) as connection:
        owners = {row.sub_id: row.worker_id for row in connection.execute(_OWNERS, {"subs": sub_ids})}
    context.pubsub.hints.due({sub_id: owners.get(sub_id) for sub_id in sub_ids})


def _once(action: Callable[[], Any]) -> Iterator[Any]:
    """A chore of a single step."""
    yield action()
