"""What a WebSocket client has subscribed to: it is subscribed to again, with the same queues, over each new session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from junctor_client.errors import BadRequest, ClientError, Forbidden, InvalidResponse, NotFound
from junctor_client.websocket_messages import Message
from junctor_client.websocket_session import Session

SUBSCRIBE = "zato.pubsub.pubapi.subscribe-wsx"
RESUME = "zato.pubsub.resume-wsx-subscription"
UNSUBSCRIBE = "zato.pubsub.pubapi.unsubscribe"
PUBLISH = "zato.pubsub.pubapi.publish-message"
FIRST_WAIT, LAST_WAIT = 0.5, 30.0  # seconds before what could not be restored is tried again

log = logging.getLogger("junctor_client.websocket")


@dataclass(slots=True)
class Wanted:
    """A subscription; ``options`` are what the server is asked for, ``sub_key`` is empty while there is none at the server.

    ``is_made`` once there was one: it is restored from then on.
    """

    topic: str
    on_message: Callable[[Message], Any] | None
    options: Mapping[str, Any]
    sub_key: str = field(default="", repr=False)
    is_made: bool = False


class Subscriptions:
    """The subscriptions of one client in one process, by their topics; ``timeout`` is in seconds, for each call."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._wanted: dict[str, Wanted] = {}
        self._stopping = threading.Event()

    def subscribe(self, session: Session, wanted: Wanted, timeout: float) -> str:
        """The key of a subscription, which is restored from now on.  Raises what ``Session.call`` does."""
        with self._lock:
            previous = self._wanted.get(wanted.topic)
            self._wanted[wanted.topic] = wanted  # its messages may come before the answer
        try:
            self._make(session, wanted, timeout)
        except BaseException:
            with self._lock:
                if previous is not None:
                    self._wanted[wanted.topic] = previous
                else:
                    del self._wanted[wanted.topic]
            raise
        return wanted.sub_key

    def unsubscribe(self, session: Session, topic: str, timeout: float) -> None:
        """Ends a subscription, with its queue.

        Raises ``ValueError`` for a topic that is not subscribed to, and what ``Session.call`` does.
        """
        with self._lock:
            wanted = self._wanted.get(topic)
        if wanted is None:
            raise ValueError(f"There is no subscription to {topic!r}.")
        _invoke(session, UNSUBSCRIBE, {"topic_name": topic, "sub_key": wanted.sub_key}, timeout)
        with self._lock:
            self._wanted.pop(topic, None)

    def callback(self, message: Message) -> Callable[[Message], Any] | None:
        """The function of the subscription that a message belongs to; None if it has none."""
        if not message.is_delivery:
            return None
        published = message.data[0] if isinstance(message.data, list) and message.data else message.data
        topic = published.get("topic_name") if isinstance(published, dict) else None
        with self._lock:
            wanted = self._wanted.get(topic) if isinstance(topic, str) else None
        return None if wanted is None else wanted.on_message

    def restore(self, session: Session) -> None:
        """Subscribes again over a new session, in a thread of its own if there is something to do."""
        with self._lock:
            left = [wanted for wanted in self._wanted.values() if wanted.is_made]
        if left:
            name = "junctor-websocket-subscriptions"
            threading.Thread(target=self._restore, args=(session, left), name=name, daemon=True).start()

    def stop(self) -> None:
        """Restores nothing any more."""
        self._stopping.set()

    def _restore(self, session: Session, left: list[Wanted]) -> None:
        wait = FIRST_WAIT
        reasons: dict[str, tuple[int, str]] = {}
        while True:
            failed = []
            for wanted in left:
                try:
                    if self._is_wanted(wanted):
                        self._make(session, wanted, self._timeout)
                except ClientError as error:
                    failed.append(wanted)
                    reason = (
                        error.status,
                        str(error.details),
                    )  # without the CID, which is another one each time
                    is_news = reasons.get(wanted.topic) != reason and not session.is_over
                    reasons[wanted.topic] = reason
                    level = logging.WARNING if is_news else logging.DEBUG
                    log.log(level, "There is no subscription to %r now: %s", wanted.topic, error)
            left = failed
            if not left or session.is_over or self._stopping.wait(wait):
                return  # the next session is another matter
            wait = min(LAST_WAIT, wait * 2)

    def _is_wanted(self, wanted: Wanted) -> bool:
        with self._lock:
            return self._wanted.get(wanted.topic) is wanted

    def _make(self, session: Session, wanted: Wanted, timeout: float) -> None:
        """Takes up a subscription where it was left; if it is not there any more, or never was, makes a new one."""
        if wanted.sub_key:
            try:
                _invoke(session, RESUME, {"sub_key": wanted.sub_key}, timeout)
                wanted.is_made = True
                return
            except (BadRequest, Forbidden, NotFound) as error:
                wanted.sub_key = ""
                log.warning("The subscription to %r is made anew: %s", wanted.topic, error)
        answer = _invoke(session, SUBSCRIBE, {"topic_name": wanted.topic, **wanted.options}, timeout)
        wanted.sub_key, wanted.is_made = str(answer_field(answer, "sub_key")), True


def answer_field(answer: Any, name: str) -> Any:
    """A field of what a service of publish/subscribe returned.  Raises ``InvalidResponse``."""
    if isinstance(answer, dict) and isinstance(answer.get("response"), dict):
        answer = answer["response"]  # as servers of Zato 3.0 have it
    if not isinstance(answer, dict) or not answer.get(name):
        raise InvalidResponse(f"The answer is not one of publish/subscribe: it has no {name}")
    return answer[name]


def _invoke(session: Session, service: str, request: Mapping[str, Any], timeout: float) -> Any:
    return session.call({"service": service, "request": dict(request)}, timeout)
