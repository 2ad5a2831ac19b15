"""The topics of a remote cluster that this one subscribes to: by one worker of the cluster, which has the lease for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent

from junctor.sql.errors import JunctorError, RemoteCallFailed

SERVICE: Final = "zato.pubsub.pubapi.subscribe-wsx"
RETRY_INTERVAL: Final = 30.0  # seconds
OK: Final = "ok"
log = logging.getLogger(__name__)


class Subscriptions:
    """Subscribes over one connection, and tries again what failed; ``results`` has 'ok' or an error for each topic that was tried.

    ``call`` sends a message to the remote gateway and raises what goes wrong.
    """

    def __init__(
        self, name: str, topics: Sequence[str], call: Callable[[dict[str, Any]], Any], known: dict[str, str]
    ) -> None:
        self._name = name
        self._topics = topics
        self._call = call
        self._known = known  # what was logged already, over earlier connections, too
        self.results: dict[str, str] = {}
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins to subscribe."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stops trying."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _run(self) -> None:
        while pending := [topic for topic in self._topics if self.results.get(topic) != OK]:
            for topic in pending:
                self.results[topic] = self._subscribe(topic)
                self._log(topic, self.results[topic])
            if all(result == OK for result in self.results.values()):
                return
            gevent.sleep(RETRY_INTERVAL)

    def _subscribe(self, topic: str) -> str:
        try:
            self._call({"service": SERVICE, "request": {"topic_name": topic}})
        except RemoteCallFailed as error:
            return f"{error.status} {error.reason}"  # without its CID, which is another one each time
        except JunctorError as error:
            return error.message
        return OK

    def _log(self, topic: str, result: str) -> None:
        """Each state of a topic once, however often it is tried."""
        if self._known.get(topic) == result:
            return
        self._known[topic] = result
        if result == OK:
            log.info("Outgoing WebSocket connection %r is subscribed to %r.", self._name, topic)
        else:
            log.warning(
                "Outgoing WebSocket connection %r is not subscribed to %r, and tries again every %g s: %s",
                self._name,
                topic,
                RETRY_INTERVAL,
                result,
            )
