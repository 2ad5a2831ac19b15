"""Publishers: each publishes what its plan says, one call after the other, and repeats a call until it knows what became of it."""

from __future__ import annotations

import random
import threading

from junctor.cli.chaos.calls import Caller, Outcome
from junctor.cli.chaos.history import FAIL, INFO, INVOKE, OK, PUBLISH, History, Sent
from junctor.cli.chaos.messages import body_of, sent_of
from junctor.cli.chaos.plan import BATCH, Draft, Plan, Publisher, drafts_of
from junctor.cli.chaos.scenery import Scenery

FIRST_WAIT, LAST_WAIT = 0.1, 1.5  # seconds before a call is repeated


class Publishing(threading.Thread):
    """A publisher at work, until ``stopping`` is set.

    ``acknowledged`` counts messages; ``certain`` are the ids of those that every subscription must receive, for they never expire.

    A call whose outcome is unknown is repeated with the same message ids, and "Duplicate msg_id" means then that it worked before.
    What is still unknown when ``giving_up`` is set stays so.
    """

    def __init__(
        self, plan: Plan, publisher: Publisher, scenery: Scenery, history: History, caller: Caller
    ) -> None:
        super().__init__(name=publisher.name, daemon=True)
        self.stopping = threading.Event()
        self.giving_up = threading.Event()
        self.acknowledged = 0
        self.certain: list[str] = []
        self.topic = publisher.topic
        self._plan, self._publisher, self._scenery = plan, publisher, scenery
        self._history, self._caller = history, caller
        self._next_call = drafts_of(plan, publisher)
        self._draw = random.Random(f"{plan.seed}:{publisher.name}:pauses")  # noqa: S311 - reproducible, not secret

    def run(self) -> None:
        """Publishes until it is stopped."""
        while not self.stopping.is_set():
            self._publish(self._next_call())
            self.stopping.wait(self._draw.expovariate(1 / self._publisher.pause))
        self._caller.close()

    def _publish(self, drafts: list[Draft]) -> None:
        publisher, history = self._publisher, self._history
        sent = tuple(sent_of(self._scenery.run, publisher.name, draft) for draft in drafts)
        bodies = [body_of(item, draft.size) for item, draft in zip(sent, drafts, strict=True)]
        operation = history.new_operation()
        common = {"operation": operation, "value": publisher.topic}
        history.add(INVOKE, PUBLISH, publisher.name, sent=sent, **common)
        attempt = 0
        while True:
            outcome = self._call(sent, bodies)
            attempt += 1
            if outcome.is_done or (outcome.is_duplicate and attempt > 1):
                history.add(OK, PUBLISH, publisher.name, sent=sent, **common)
                self.acknowledged += len(sent)
                self.certain += [item.id for item in sent if not item.expiration]
                return
            kind = FAIL if outcome.is_refused else INFO
            history.add(kind, PUBLISH, publisher.name, text=outcome.text, **common)
            wait = min(LAST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))
            if self.giving_up.wait(wait * self._draw.uniform(0.5, 1.0)):
                return

    def _call(self, sent: tuple[Sent, ...], bodies: list[str]) -> Outcome:
        topic = self._scenery.topic(self._publisher.topic)
        if self._publisher.kind != BATCH:
            [message] = [self._message(item, body) for item, body in zip(sent, bodies, strict=True)]
            return self._caller.post(f"/zato/pubsub/topic/{topic}", message)
        messages = [self._message(item, body, unit=1000) for item, body in zip(sent, bodies, strict=True)]
        return self._caller.post(self._scenery.publish_path, {"topic": topic, "messages": messages})

    def _message(self, sent: Sent, body: str, *, unit: int = 1) -> dict[str, object]:
        """The fields of a message; ``unit`` is how many of the surface's units of time a second has."""
        fields: dict[str, object] = {"data": body, "msg_id": sent.id, "priority": sent.priority}
        return fields | ({"expiration": sent.expiration * unit} if sent.expiration else {})
