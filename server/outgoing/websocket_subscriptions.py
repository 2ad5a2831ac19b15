"""The topics of a remote cluster that this one subscribes to: by one worker of the cluster, which has the lease for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from junctor.server.outgoing.reconnect import Pause
from junctor.sql.errors import JunctorError, RemoteCallFailed

SERVICE: Final = "zato.pubsub.pubapi.subscribe-wsx"
UNSUBSCRIBE: Final = "zato.pubsub.pubapi.unsubscribe"
LIST: Final = "pubsub.subscription.get-list"
CHECK_INTERVAL: Final = (
    60.0  # seconds, after which somebody at the remote end may have deleted a subscription
)
ACK_WAIT: Final = (
    3600  # seconds: hooks may wait for each other, and whether the link is dead is for pings to tell
)
END_INTERVAL: Final = 0.5  # seconds between attempts to end them
OPTIONS: Final = {"unsub_on_wsx_close": False, "ack_mode": "explicit", "ack_wait": ACK_WAIT}
REFUSED: Final = frozenset(
    (403, 404)
)  # statuses of a service that the remote end does not have, or not for us
OK: Final = "ok"
log = logging.getLogger(__name__)

Call = Callable[[dict[str, Any]], Any]


@dataclass(slots=True)
class Known:
    """What is known of the subscriptions of one link, over all of its connections: their keys, by topic, and what was logged."""

    keys: dict[str, str] = field(default_factory=dict, repr=False)
    logged: dict[str, str] = field(default_factory=dict)


class Subscriptions:
    """Subscribes over one connection to the topics that are wanted, and ends the subscriptions to others that this cluster had.

    What failed is tried again.  ``results`` has 'ok' or an error for each topic that was tried.  ``call`` sends a message to the remote
    gateway and returns the answer, or raises what goes wrong.  The remote end finds the subscriptions of earlier connections again by
    the id of the client, so their keys and queues stay the same.
    """

    def __init__(self, name: str, topics: Sequence[str], call: Call, known: Known) -> None:
        self._name = name
        self._topics = topics
        self._call = call
        self._known = known
        self._may_list = True
        self.results: dict[str, str] = {}
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins to subscribe."""
        self._greenlet = gevent.spawn(self._run)

    def change(self, topics: Sequence[str]) -> None:
        """Other topics are wanted from now on."""
        self._topics = topics
        for topic in [topic for topic in self.results if topic not in topics]:
            del self.results[topic]
        self._wake.set()

    def stop(self) -> None:
        """Stops trying."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _run(self) -> None:
        pause = Pause()
        while True:
            self._wake.clear()
            is_done = self._subscribe_to_missing()
            if self._topics:
                self._look()
            is_done = end_others(self._name, self._topics, self._call, self._known) and is_done
            if is_done:
                pause.reset()
            else:
                pause.failed()
            self._wake.wait(CHECK_INTERVAL if is_done else pause.left)

    def _subscribe_to_missing(self) -> bool:
        """Whether all topics are subscribed to now."""
        for topic in self._topics:
            if self.results.get(topic) != OK:
                result = self._subscribe(topic)
                if topic in self._topics:  # still
                    self.results[topic] = result
                    self._log(topic, result)
        return all(self.results.get(topic) == OK for topic in self._topics)

    def _subscribe(self, topic: str) -> str:
        try:
            answer = self._call({"service": SERVICE, "request": {"topic_name": topic, **OPTIONS}})
        except RemoteCallFailed as error:
            return f"{error.status} {error.reason}"  # without its CID, which is another one each time
        except JunctorError as error:
            return error.message
        found = answer.get("sub_key") if isinstance(answer, dict) else None
        if isinstance(found, str) and found:
            self._known.keys[topic] = found
        return OK

    def _look(self) -> None:
        """Learns what subscriptions there are: some may have been deleted, and some be left from before this worker was the owner."""
        if not self._may_list:
            return
        try:
            answer = self._call({"service": LIST, "request": {}})
        except RemoteCallFailed as error:
            self._may_list = error.status not in REFUSED
            return
        except JunctorError as error:
            log.debug("The subscriptions of %r are not known: %s", self._name, error)
            return
        if not isinstance(answer, list):
            self._may_list = False
            return
        found = {
            item["topic_name"]: item["sub_key"]
            for item in answer
            if isinstance(item, dict) and item.keys() >= {"topic_name", "sub_key"}
        }
        for topic in self._topics:
            if self.results.get(topic) == OK and topic not in found:
                self.results[topic] = "The subscription was deleted at the remote end."
                self._log(topic, self.results[topic])
        self._known.keys.clear()
        self._known.keys.update(found)

    def _log(self, topic: str, result: str) -> None:
        """Each state of a topic once, however often it is tried."""
        logged = self._known.logged
        if logged.get(topic) == result:
            return
        logged[topic] = result
        if result == OK:
            log.info("Outgoing WebSocket connection %r is subscribed to %r.", self._name, topic)
        else:
            log.warning(
                "Outgoing WebSocket connection %r is not subscribed to %r, and tries again: %s",
                self._name,
                topic,
                result,
            )


def end_others(name: str, topics: Sequence[str], call: Call, known: Known) -> bool:
    """Ends the subscriptions of a link to topics that are not among these; whether all of them are over.

    One that the remote end does not know, or does not let this one end, is not tried again.
    """
    is_done = True
    for topic in [topic for topic in known.keys if topic not in topics]:
        try:
            call({"service": UNSUBSCRIBE, "request": {"topic_name": topic, "sub_key": known.keys[topic]}})
        except RemoteCallFailed as error:
            if error.status not in REFUSED:
                is_done = False
                continue
            log.warning(
                "Outgoing WebSocket connection %r leaves a subscription to %r at the remote end: %d %s",
                *(name, topic, error.status, error.reason),
            )
        except JunctorError as error:
            log.debug("Outgoing WebSocket connection %r cannot unsubscribe now: %s", name, error)
            is_done = False
            continue
        else:
            log.info("Outgoing WebSocket connection %r is not subscribed to %r any more.", name, topic)
        known.keys.pop(topic, None)
        known.logged.pop(topic, None)
    return is_done


def end_all(name: str, call: Call, known: Known, timeout: float) -> None:
    """Ends all subscriptions of a link that is deleted, if that can be done within ``timeout`` seconds."""
    until = monotonic() + timeout
    while not end_others(name, (), call, known):
        if monotonic() > until:
            topics = ", ".join(map(repr, known.keys))
            log.warning(
                "Outgoing WebSocket connection %r leaves subscriptions at the remote end to %s.", name, topics
            )
            return
        gevent.sleep(END_INTERVAL)
