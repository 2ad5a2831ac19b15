"""What a worker tells the queues of its subscriptions, and takes from them: one round trip, one transaction, for all that waits.

Each message is recorded as in flight in the same transaction that takes it, and is sent only after its COMMIT; so whoever owns the
subscription next knows which messages may have been sent.  Rows are written for failures alone: an acknowledged one is just deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Protocol

import gevent
import psycopg2
from gevent.event import Event
from sqlalchemy import Engine

from junctor.server.pubsub import exchange_sql as sql
from junctor.server.pubsub.message import QueuedMessage
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError, StoreUnavailable

MAX_SUBSCRIPTIONS: Final = 200  # in one round trip
MAX_MESSAGES: Final = 2000  # that are taken in one
MAX_BYTES: Final = 8 * 2**20  # ... and bytes
MAX_BYTES_EACH: Final = 2**20  # of one subscription
MAX_HELD: Final = (
    128 * 2**20
)  # bytes that all subscriptions of a worker have in memory before nothing more is taken
MAX_REASON: Final = 500  # characters
FLUSH_INTERVAL: Final = 0.002  # seconds
FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0  # seconds before what failed is tried again
log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Whoever is told what came of a round trip; neither method may block or raise."""

    def fetched(self, messages: list[QueuedMessage], *, has_more: bool, wait: float | None) -> None:
        """What was asked for with ``Exchange.fetch``; ``wait`` is in how many seconds more is due, None = nothing is."""

    def lost(self) -> None:
        """The subscription is another worker's."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that was not delivered.

    It is due again ``delay`` seconds from now, at once if that is None.  ``attempts`` counts this one, if it was one; without a ``reason``
    it was none.
    """

    message: QueuedMessage
    attempts: int
    delay: float | None
    reason: str | None


@dataclass(eq=False, slots=True)
class Owned:
    """A subscription that this worker owns, with ``epoch``, and what waits for the next round trip.

    ``held`` is what the worker has of its queue in memory, by the ids of the messages: exactly that is in flight.
    ``is_under_way``: it has a part in a round trip just now.
    """

    sub_id: int
    epoch: int
    receiver: Receiver
    is_strict: bool = True
    held: dict[int, QueuedMessage] = field(default_factory=dict)
    acknowledged: list[QueuedMessage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    deaths: list[Failure] = field(default_factory=list)
    wanted: int | None = None
    is_under_way: bool = False
    is_over: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether there is something for the next round trip, other than to take messages."""
        return bool(self.acknowledged or self.failures or self.deaths)


@dataclass(slots=True)
class _Share:
    """What one subscription has in a round trip."""

    owned: Owned
    acknowledged: list[QueuedMessage]
    failures: list[Failure]
    deaths: list[Failure]
    wanted: int | None
    most: int
    held: list[int]

    def put_back(self) -> None:
        """It did not happen, or nobody knows whether it did; to do it twice does no harm."""
        owned = self.owned
        owned.acknowledged[:0], owned.failures[:0], owned.deaths[:0] = (
            self.acknowledged,
            self.failures,
            self.deaths,
        )
        if owned.wanted is None:
            owned.wanted = self.wanted

    def over(self) -> Iterable[QueuedMessage]:
        """The messages that are not held any more."""
        yield from self.acknowledged
        for failure in (*self.failures, *self.deaths):
            yield failure.message


@dataclass(slots=True)
class _Taken:
    """What one subscription has got."""

    messages: list[QueuedMessage] = field(default_factory=list)
    orphans: list[QueuedMessage] = field(default_factory=list)
    has_more: bool = False
    wait: float | None = None


class Exchange:
    """The exchange of one worker: a greenlet, a connection, and what waits for the next round trip.

    ``worker`` tells the id of the worker's row, None while it has none.  While the database is away, what waits goes on waiting; it is
    bounded by what is held.
    """

    def __init__(self, engine: Engine, worker: Callable[[], int | None]) -> None:
        self._engine = engine
        self._worker = worker
        self._pending: dict[Owned, None] = {}
        self._wake = Event()
        self._connection: Any = None
        self._greenlet: gevent.Greenlet | None = None
        self._is_down = False
        self._singly = 0
        self.held_bytes = 0
        self.rounds = 0

    def start(self) -> None:
        """Begins."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends; what waits is not done any more.  Never blocks."""
        if self._greenlet is None:
            self._disconnect()
        else:  # it closes its connection itself: while it waits for an answer, nobody else can
            self._greenlet.kill(block=False)
            self._greenlet = None

    def fetch(self, owned: Owned, most: int) -> None:
        """Asks for up to ``most`` messages that are due and not held; ``owned.receiver`` gets them.

        With 0, it is only told if the subscription is not this worker's any more.
        """
        if not owned.is_over:
            owned.wanted = most
            self._add(owned)

    def acknowledge(self, owned: Owned, messages: Iterable[QueuedMessage]) -> None:
        """They were delivered."""
        if not owned.is_over:
            owned.acknowledged += messages
            self._add(owned)

    def fail(self, owned: Owned, failures: Iterable[Failure]) -> None:
        """They were not, and go back to the queue."""
        if not owned.is_over:
            owned.failures += failures
            self._add(owned)

    def bury(self, owned: Owned, message: QueuedMessage, reason: str, attempts: int) -> None:
        """It becomes a dead letter."""
        if not owned.is_over:
            owned.deaths.append(Failure(message, attempts, None, reason))
            self._add(owned)

    def forget(self, owned: Owned, messages: Iterable[QueuedMessage]) -> None:
        """They were taken and not sent, and are not held any more."""
        for message in messages:
            if owned.held.pop(message.id, None) is not None:
                self._released(message.size)

    def leave(self, owned: Owned) -> None:
        """The subscription is not this worker's any more; nothing that it still waits for is done."""
        owned.is_over = True
        self._pending.pop(owned, None)
        self.forget(owned, list(owned.held.values()))
        owned.acknowledged, owned.failures, owned.deaths, owned.wanted = [], [], [], None

    def flush(self, owned: Owned, timeout: float) -> bool:
        """Whether all that was acknowledged and failed is in the database, after ``timeout`` seconds at the most."""
        deadline = monotonic() + timeout
        while not owned.is_over and (owned.is_waiting or owned.is_under_way):
            if monotonic() >= deadline:
                return False
            gevent.sleep(FLUSH_INTERVAL)
        return True

    def round_trip(self) -> int:
        """One round trip for what waits; how many subscriptions had a part in it.  Raises ``StoreUnavailable``.

        Whatever is raised, what waits goes on waiting.
        """
        worker = self._worker()
        shares = self._shares()
        if not shares:
            return 0
        try:
            if worker is None:
                raise StoreUnavailable("The worker is not known to the cluster yet.")
            rows = self._send(worker, shares)
        except BaseException:
            self._disconnect()
            for share in shares:
                share.owned.is_under_way = False
                if not share.owned.is_over:
                    share.put_back()
                    self._pending[share.owned] = None
            raise
        self.rounds += 1
        self._done(shares, rows)
        return len(shares)

    def _add(self, owned: Owned) -> None:
        self._pending[owned] = None
        self._wake.set()

    def _released(self, size: int) -> None:
        was_full = self.held_bytes >= MAX_HELD
        self.held_bytes -= size
        if was_full:
            self._wake.set()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                pause = FIRST_PAUSE if self._go_around() else min(2 * pause, LAST_PAUSE)
                if pause > FIRST_PAUSE:
                    gevent.sleep(pause / 2)
                    self._wake.set()
        finally:
            self._disconnect()

    def _go_around(self) -> bool:
        """Whether all that waited was done."""
        try:
            while self._has_work() and self.round_trip():
                if self._is_down:
                    log.info("The object database is back: deliveries go on.")
                self._is_down = False
                gevent.sleep(0)
        except JunctorError as error:
            if not self._is_down:
                log.warning("Deliveries of messages wait for the object database: %s", error)
            self._is_down = True
        except Exception:  # boundary: without this greenlet nothing would be delivered any more
            log.exception(
                "Queues could not be read; each subscription of the worker is tried on its own next."
            )
            self._singly = len(self._pending)
        else:
            return True
        return False

    def _has_work(self) -> bool:
        if self.held_bytes < MAX_HELD:
            return bool(self._pending)
        return any(owned.is_waiting for owned in self._pending)

    def _shares(self) -> list[_Share]:
        """The parts of the next round trip; what has no room in it stays where it is."""
        most_subscriptions = 1 if self._singly > 0 else MAX_SUBSCRIPTIONS
        self._singly -= self._singly > 0
        room = MAX_MESSAGES if self.held_bytes < MAX_HELD else 0
        waiting = min(sum(1 for owned in self._pending if owned.wanted), most_subscriptions)
        each = max(1, MAX_MESSAGES // max(1, waiting))  # so that all have a part, whatever they want
        shares: list[_Share] = []
        for owned in list(self._pending):
            if len(shares) >= most_subscriptions:
                break
            wanted = owned.wanted
            takes = wanted is not None and (room > 0 or wanted == 0)
            if not (takes or owned.is_waiting):
                continue
            most = min(wanted or 0, room, each) if takes else 0
            room -= most
            shares.append(self._share(owned, most, takes=takes))
        return shares

    def _share(self, owned: Owned, most: int, *, takes: bool) -> _Share:
        share = _Share(
            owned,
            owned.acknowledged,
            owned.failures,
            owned.deaths,
            owned.wanted if takes else None,
            most,
            [],
        )
        owned.is_under_way = True
        gone = {message.id for message in share.over()}
        share.held = [id_ for id_ in owned.held if id_ not in gone]
        owned.acknowledged, owned.failures, owned.deaths = [], [], []
        if takes:
            owned.wanted = None
        if owned.wanted is None:
            del self._pending[owned]
        return share

    def _send(self, worker: int, shares: Sequence[_Share]) -> list[Any]:
        with _driver_errors(), self._cursor() as cursor:
            subs = [share.owned.sub_id for share in shares]
            epochs = [share.owned.epoch for share in shares]
            parts = [(sql.HOLD, (worker, subs, epochs)), *_told(worker, shares)]
            parts.append(
                (
                    sql.FETCH,
                    (
                        worker,
                        subs,
                        epochs,
                        [share.most for share in shares],
                        [share.owned.is_strict for share in shares],
                        ["{" + ",".join(map(str, share.held)) + "}" for share in shares],
                        MAX_BYTES_EACH,
                        MAX_BYTES,
                    ),
                )
            )
            cursor.execute(b";".join(cursor.mogrify(text, values) for text, values in parts))
            rows: list[Any] = cursor.fetchall()
            return rows

    def _cursor(self) -> Any:
        if self._connection is None or self._connection.closed:
            with database_errors():
                fairy = self._engine.raw_connection()
            fairy.detach()  # its settings and statements are nothing for others
            connection: Any = fairy.dbapi_connection
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SESSION)
                cursor.execute(";".join(sql.PREPARE))
            self._connection = connection
        return self._connection.cursor()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except psycopg2.Error as error:
                log.debug("A broken connection could not be closed: %s", error)

    def _done(self, shares: Sequence[_Share], rows: Sequence[Any]) -> None:
        """Tells everybody what has come of it, which has been committed."""
        taken = _taken(rows)
        for share in shares:
            owned = share.owned
            owned.is_under_way = False
            self.forget(owned, share.over())
            if owned.is_over:
                continue
            got = taken.get(owned.sub_id)
            if got is None:
                self.leave(owned)
                owned.receiver.lost()
                continue
            for message in (*got.messages, *got.orphans):
                owned.held[message.id] = message
                self.held_bytes += message.size
            if got.orphans:
                log.error(
                    "Subscription %d: %d messages of its queue are not stored any more.",
                    owned.sub_id,
                    len(got.orphans),
                )
                self.acknowledge(owned, got.orphans)
            if share.wanted:
                owned.receiver.fetched(got.messages, has_more=got.has_more, wait=got.wait)


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Like ``database_errors``, for what the driver itself raises."""
    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StoreUnavailable(f"The object database cannot be used: {reason}") from error


def _told(worker: int, shares: Sequence[_Share]) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """The statements about what was delivered, and what was not."""
    acknowledged = [(share.owned, message) for share in shares for message in share.acknowledged]
    if acknowledged:
        yield sql.ACKNOWLEDGE, (worker, *_keys(acknowledged))
    failures = [(share.owned, failure) for share in shares for failure in share.failures]
    if failures:
        keys = _keys([(owned, failure.message) for owned, failure in failures])
        attempts = [failure.attempts for _, failure in failures]
        reasons = [_line(failure.reason) for _, failure in failures]
        yield sql.FAIL, (worker, *keys, attempts, [failure.delay for _, failure in failures], reasons)
    deaths = [(share.owned, failure) for share in shares for failure in share.deaths]
    if deaths:
        keys = _keys([(owned, failure.message) for owned, failure in deaths])
        attempts = [failure.attempts for _, failure in deaths]
        yield sql.BURY, (worker, *keys, attempts, [_line(failure.reason) or "" for _, failure in deaths])


def _keys(items: Sequence[tuple[Owned, QueuedMessage]]) -> tuple[list[int], ...]:
    return (
        [owned.sub_id for owned, _ in items],
        [owned.epoch for owned, _ in items],
        [message.priority for _, message in items],
        [message.id for _, message in items],
    )


def _line(reason: str | None) -> str | None:
    """A reason as it can be stored."""
    return reason if reason is None else reason.replace("\0", "")[:MAX_REASON]


def _orphan(id_: int, sub_id: int, priority: int) -> QueuedMessage:
    """A message of which nothing is left but its row in a queue."""
    return QueuedMessage(
        id=id_,
        sub_id=sub_id,
        priority=priority,
        attempts=0,
        topic_id=0,
        msg_id="",
        data="",
        data_type="text",
        size=0,
        mime_type="",
        pub_time=0.0,
    )


def _taken(rows: Sequence[Any]) -> dict[int, _Taken]:
    """What came of a round trip, by subscription; those that are another worker's are missing."""
    found: dict[int, _Taken] = {}
    last = 5 + sql.FIELDS
    for row in rows:
        taken = found.get(row[0])
        if taken is None:
            taken = found[row[0]] = _Taken(has_more=bool(row[1]), wait=row[2])
        if row[3] is None:
            continue
        if row[10] is None:
            taken.orphans.append(_orphan(*row[5:8]))
        else:
            taken.messages.append(QueuedMessage(*row[5:last]))
    return found
