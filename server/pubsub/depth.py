"""How full the queues of a topic are: while one of them is full, nothing more is published to the topic.

Rows are counted in the database, because many workers publish and many take, but seldom: see ``Depths``.  So a queue may get somewhat
longer than its limit, by what all workers publish between two counts.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from junctor.server.pubsub.writer_sql import RECEIVING
from junctor.sql.engine import database_errors
from junctor.sql.errors import ServiceUnavailable

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Topic

INTERVAL: Final = 1.0  # seconds after which a worker that publishes counts again, however little it was
INTERVAL_FULL: Final = 0.05  # seconds between two counts while a queue is full
SHARE: Final = 20  # a count that takes t seconds is followed by none for so many times t
MAX_TOPICS: Final = 10_000  # that are remembered

# Whether a queue of a topic has so many rows; none is counted further than that.
_IS_FULL: Final = text(
    f"""
    SELECT EXISTS (
        SELECT FROM (
            SELECT id FROM pubsub_subscription WHERE topic_id = :topic AND {RECEIVING}
            UNION ALL SELECT -CAST(:topic AS bigint)
        ) queues
        WHERE :most <= (SELECT count(*) FROM (SELECT FROM pubsub_queue WHERE sub_id = queues.id LIMIT :most) counted)
    )
    """  # noqa: S608 - made of constants
)


class _Known:
    """What was counted last, and what this worker has published since."""

    __slots__ = ("counted_at", "is_counting", "is_full", "published", "took")

    def __init__(self) -> None:
        self.counted_at = -INTERVAL
        self.took = 0.0
        self.published = 0
        self.is_full = self.is_counting = False

    def is_due(self, topic: Topic, now: float) -> bool:
        """Whether to count now."""
        age = now - self.counted_at
        if self.is_counting or age < self.took * SHARE:
            return False
        if self.is_full:
            return age >= INTERVAL_FULL
        return age >= INTERVAL or self.published >= topic.depth_check_freq


class Depths:
    """The limits of the topics' queues.

    A worker counts after ``depth_check_freq`` messages, or a second after the last time, when it publishes; while a queue is full, with
    each publish, up to 20 times a second.  Counting long queues takes at most a twentieth of the time, and one count at a time.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[int, _Known] = {}

    def check(self, topic: Topic, count: int) -> None:
        """To be called before ``count`` messages are stored.

        Raises ``ServiceUnavailable`` while a queue of the topic is full, and ``StoreUnavailable``.
        """
        known = self._known.get(topic.id)
        if known is None:
            if len(self._known) >= MAX_TOPICS:
                self._known.clear()
            known = self._known[topic.id] = _Known()
        if known.is_due(topic, monotonic()):
            self._count(topic, known)
        if known.is_full:
            raise ServiceUnavailable(
                msg=f"Topic {topic.name} is full: one of its queues has {topic.max_depth_gd} messages, which is its maximum depth; "
                "publish again when its subscribers have caught up."
            )
        known.published += count

    def forget(self, topic_id: int) -> None:
        """Counts anew the next time: something about the topic was changed."""
        self._known.pop(topic_id, None)

    def _count(self, topic: Topic, known: _Known) -> None:
        known.is_counting = True
        started = monotonic()
        published = known.published
        try:
            with database_errors(), self._context.pubsub.engine.connect() as connection:
                given = {"topic": topic.id, "most": topic.max_depth_gd}
                known.is_full = bool(connection.execute(_IS_FULL, given).scalar_one())
        finally:
            known.counted_at = monotonic()
            known.took = known.counted_at - started
            known.published -= published
            known.is_counting = False
