"""Keeping a worker's live objects at the newest version of the configuration.

A message on Redis wakes the worker; so does the clock, every ``poll_interval`` seconds.  Either way it asks the database what
is new, so a lost message, a dead Redis or a paused worker delays a change and never loses it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import redis
from gevent.event import Event
from gevent.lock import Semaphore

from junctor.server.bus.client import connect, sessions_topic, topic
from junctor.server.runtime.registry import Registry
from junctor.sql.errors import JunctorError, StoreUnavailable
from junctor.sql.store import Store

RECONNECT_PAUSE = 0.5  # seconds
log = logging.getLogger(__name__)


class Listener:
    """Follows the change feed for one worker.

    ``applied`` is called, in the listener's greenlet, with each version that the worker has applied.  ``woken`` is called with each
    message about it, for whoever else follows something in the database, and ``sessions_changed`` with each about sessions of Single
    Sign-On, '' when there may have been some that were missed.  Neither may block or raise.
    """

    sessions_changed: Callable[[str], None]

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        redis_url: str,
        poll_interval: float,
        applied: Callable[[int], None],
        woken: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._redis_url = redis_url
        self._poll_interval = poll_interval
        self._applied = applied
        self._woken = woken
        self._wake = Event()
        self._turn = Semaphore()
        self._greenlets: list[gevent.Greenlet] = []
        self._is_down = False
        self.sessions_changed = _ignore

    def start(self) -> None:
        """Begins to follow; returns at once."""
        self._greenlets = [gevent.spawn(self._follow)]
        if self._redis_url:
            self._greenlets.append(gevent.spawn(self._listen))

    def stop(self) -> None:
        """Ends it."""
        gevent.killall(self._greenlets, block=False)

    def catch_up(self) -> int:
        """Applies whatever is new and returns the version that the worker is at; raises ``StoreUnavailable``.

        Callers wait for each other, so when this returns, everything that was committed before it was called has been applied.
        """
        with self._turn:
            news = self._store.news(self._registry.version)
            if news.version != self._registry.version:
                if news.is_complete:
                    self._registry.apply(news)
                else:
                    self._registry.replace_all(self._store.snapshot())
                self._applied(self._registry.version)
            return self._registry.version

    def wake(self) -> None:
        """Makes the worker look for changes now."""
        self._wake.set()

    def _follow(self) -> None:
        while True:
            self._wake.wait(self._poll_interval)
            self._wake.clear()
            try:
                self.catch_up()
                if self._is_down:
                    log.info(
                        "The object database is back; the configuration is at version %d.",
                        self._registry.version,
                    )
                self._is_down = False
            except JunctorError as error:
                if not self._is_down:
                    level = logging.WARNING if isinstance(error, StoreUnavailable) else logging.ERROR
                    log.log(
                        level,
                        "Changes cannot be read: %s The worker goes on with version %d.",
                        error,
                        self._registry.version,
                    )
                self._is_down = True
            except Exception:
                log.exception("Applying a change failed; trying again.")
                gevent.sleep(RECONNECT_PAUSE)

    def _listen(self) -> None:
        """Turns messages of Redis into wake-ups; whenever the connection is new, there may have been messages that it missed."""
        was_down = False
        while True:
            client = connect(self._redis_url, timeout=None)
            try:
                with client.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis has no type for it
                    sessions = sessions_topic(self._store.cluster_id).encode()
                    subscription.subscribe(topic(self._store.cluster_id), sessions)
                    for message in subscription.listen():
                        if message["type"] == "subscribe" and was_down:
                            log.info("Redis is back.")
                            was_down = False
                        if message["channel"] == sessions:
                            self._sessions_message(message)
                            continue
                        self._wake.set()
                        self._woken()
            except (redis.RedisError, OSError, ValueError) as error:
                if not was_down:
                    log.warning(
                        "Redis cannot be reached (%s): changes are found by asking every %g s.",
                        error,
                        self._poll_interval,
                    )
                was_down = True
            finally:
                client.close()
            gevent.sleep(RECONNECT_PAUSE)

    def _sessions_message(self, message: dict[str, Any]) -> None:
        is_news = message["type"] == "message"
        self.sessions_changed(message["data"].decode("ascii", "replace") if is_news else "")


def _ignore(_message: str) -> None:
    """Nobody wants to know."""


class Convergence:
    """Which version every live worker has applied; see ``junctor.sql.tables.process``."""

    def __init__(self, behind: Callable[[int], list[dict[str, object]]]) -> None:
        self._behind = behind

    def wait(self, version: int, timeout: float) -> list[dict[str, object]]:
        """The live workers that have not applied ``version`` after ``timeout`` seconds at the most; none when all have."""
        deadline = time.monotonic() + timeout
        pause = 0.005
        while missing := self._behind(version):
            left = deadline - time.monotonic()
            if left <= 0:
                return missing
            gevent.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.25)
        return []
