"""What subscribers have in common, and those which fetch their messages: with acknowledgements, or as they are handed over."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from junctor.cli.chaos.calls import Caller
from junctor.cli.chaos.history import ACKNOWLEDGE, FAIL, INFO, INVOKE, OK, PULL, RECEIVE, History, Received
from junctor.cli.chaos.messages import received_of
from junctor.cli.chaos.plan import HAND_OVER, KILL_SERVER, KILL_WORKER, Plan, Subscriber
from junctor.cli.chaos.scenery import Scenery

ANSWER, REFUSE, DAWDLE, BREAK_OFF = "answer", "refuse", "dawdle", "break-off"
LONG_POLL = 2.0  # seconds that a pull waits for messages
IDLE, AFTER_ERROR = 0.1, 0.4  # seconds
NACK_DELAY = 1  # seconds
DAWDLING: Final = (0.5, 3.0)  # seconds
BETWEEN_LAPSES: Final = (0.5, 2.5)  # seconds
KILLS: Final = (KILL_WORKER, KILL_SERVER)
BEFORE_KILL, AFTER_KILL = (
    0.6,
    1.2,
)  # seconds around the death of an owner in which what it has sent is not acknowledged


class Behaviour:
    """How one subscriber behaves from delivery to delivery; once ``calm`` is set it always answers.

    What arrives just before a worker is killed is kept until after that: so there is something that was sent and not acknowledged.
    ``received`` counts receptions, ``ids`` are those of the messages.
    """

    def __init__(self, plan: Plan, subscriber: Subscriber, history: History, calm: threading.Event) -> None:
        self.subscriber = subscriber
        self.calm = calm
        self.received = 0
        self.ids: set[str] = set()
        self._history = history
        self._draw = random.Random(f"{plan.seed}:{subscriber.name}:behaviour")  # noqa: S311 - reproducible, not secret
        self._kills = [fault.at for fault in plan.faults if fault.kind in KILLS]
        self._good_until = 0.0
        self._lock = threading.Lock()

    def choose(self) -> str:
        """What it does with the next delivery.

        Between two lapses there is some time: each may hold up the queue for seconds, and this is not to measure how long queues get.
        """
        with self._lock:
            if self.calm.is_set():
                return ANSWER
            if self._until_kill() is not None:
                return DAWDLE
            if time.monotonic() < self._good_until:
                return ANSWER
            what = self._drawn(self._draw.random())
            if what != ANSWER:
                self._good_until = time.monotonic() + self._draw.uniform(*BETWEEN_LAPSES)
        return what

    def _drawn(self, drawn: float) -> str:
        subscriber = self.subscriber
        for share, what in (
            (subscriber.refuses, REFUSE),
            (subscriber.is_slow, DAWDLE),
            (subscriber.breaks_off, BREAK_OFF),
        ):
            if drawn < share:
                return what
            drawn -= share
        return ANSWER

    def dawdle(self) -> None:
        """Takes its time."""
        until_kill = self._until_kill()
        with self._lock:
            length = self._draw.uniform(*DAWDLING) if until_kill is None else until_kill + AFTER_KILL
        self.calm.wait(length)

    def _until_kill(self) -> float | None:
        """In how many seconds a worker is killed; None if none is very soon."""
        now = self._history.now
        return next((at - now for at in self._kills if 0 <= at - now < BEFORE_KILL), None)

    def note(self, messages: Iterable[Mapping[str, Any]], text: str = "") -> tuple[Received, ...]:
        """What has arrived, which is in the history now."""
        received = tuple(received_of(message) for message in messages)
        if received:
            self._history.add(OK, RECEIVE, self.subscriber.name, received=received, text=text)
        with self._lock:
            self.received += len(received)
            self.ids.update(item.id for item in received)
        return received


class Pulling(threading.Thread):
    """A subscriber that fetches its messages until ``stopping`` is set.

    ``uncertain`` is how many messages there may have been, at the most, in answers that were lost.
    """

    def __init__(self, behaviour: Behaviour, scenery: Scenery, history: History, caller: Caller) -> None:
        super().__init__(name=behaviour.subscriber.name, daemon=True)
        self.stopping = threading.Event()
        self.uncertain = 0
        self._behaviour, self._scenery = behaviour, scenery
        self._history, self._caller = history, caller
        self._sub_key = scenery.sub_keys[behaviour.subscriber.name]

    def run(self) -> None:
        """Fetches until it is stopped."""
        while not self.stopping.is_set():
            self.stopping.wait(self._pull())
        self._caller.close()

    def _pull(self) -> float:
        """Fetches once; how long to wait now, in seconds."""
        subscriber, history = self._behaviour.subscriber, self._history
        operation = history.new_operation()
        history.add(INVOKE, PULL, subscriber.name, operation=operation, value=subscriber.batch)
        topic = self._scenery.topic(subscriber.topic)
        request = {"sub_key": self._sub_key, "batch_size": subscriber.batch, "wait": LONG_POLL}
        if subscriber.kind != HAND_OVER:
            request |= {"ack_mode": "explicit", "order": "oldest"}
        outcome = self._caller.post(f"/zato/pubsub/topic/{topic}", request)
        if not outcome.is_done:
            kind = FAIL if outcome.is_refused else INFO
            self.uncertain += 0 if outcome.is_refused else subscriber.batch
            history.add(kind, PULL, subscriber.name, operation=operation, text=outcome.text)
            return AFTER_ERROR
        history.add(OK, PULL, subscriber.name, operation=operation)
        received = self._behaviour.note(outcome.answer)
        if not received:
            return IDLE
        if subscriber.kind != HAND_OVER:
            self._acknowledge([item.id for item in received])
        return 0.0

    def _acknowledge(self, ids: list[str]) -> None:
        """Acknowledges the messages, or hands them back, or does nothing."""
        what = self._behaviour.choose()
        if what == BREAK_OFF:
            return
        if what == DAWDLE:
            self._behaviour.dawdle()
        request: dict[str, Any] = {"sub_key": self._sub_key, "msg_id_list": ids}
        path = "/zato/pubsub/ack"
        if what == REFUSE:
            path, request["delay"] = "/zato/pubsub/nack", NACK_DELAY
        outcome = self._caller.post(path, request)
        name = self._behaviour.subscriber.name
        if outcome.is_done and what != REFUSE:
            self._history.add(OK, ACKNOWLEDGE, name, received=tuple(Received(item) for item in ids))
        elif not outcome.is_done:
            kind = FAIL if outcome.is_refused else INFO
            self._history.add(kind, ACKNOWLEDGE, name, text=outcome.text)
