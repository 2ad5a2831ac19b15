"""A history as accounts: what was published and acknowledged, and what each subscription received of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from junctor.cli.chaos.history import (
    ACKNOWLEDGE,
    FAIL,
    FAULTS_OVER,
    INFO,
    INVOKE,
    LINK,
    OK,
    PHASE,
    PUBLISH,
    PULL,
    RECEIVE,
    Event,
    Sent,
)
from junctor.cli.chaos.plan import Plan


@dataclass(frozen=True, slots=True)
class Published:
    """A message that somebody tried to publish, at ``invoked`` for the first time; ``acknowledged`` is None if that never worked."""

    sent: Sent
    publisher: str
    topic: str
    invoked: float
    acknowledged: float | None = None


@dataclass(frozen=True, slots=True)
class Reception:
    """A message that arrived; ``count`` is its delivery_count, ``is_intact`` whether it has the content that was published."""

    id: str
    time: float
    count: int
    is_intact: bool


@dataclass(slots=True)
class Ledger:
    """The accounts of a run.

    ``receptions`` are by subscription, in the order of arrival.  ``confirmed`` is when, by subscription and id, the cluster said that a
    message is acknowledged.  ``uncertain`` is how many messages may have been handed over to a subscription in answers that were lost;
    ``refusals`` are calls that were refused for good, in words.  ``calm`` is when the last fault was over, ``end`` when the run was.
    """

    published: dict[str, Published] = field(default_factory=dict)
    receptions: dict[str, list[Reception]] = field(default_factory=dict)
    confirmed: dict[str, dict[str, float]] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    calm: float = 0.0
    end: float = 0.0

    @classmethod
    def of(cls, plan: Plan, events: Iterable[Event]) -> Ledger:
        """The accounts of the events of a run of ``plan``."""
        ledger = cls(receptions={subscriber.name: [] for subscriber in plan.subscribers})
        pulls: dict[int, Event] = {}
        for event in events:
            ledger.end = max(ledger.end, event.time)
            if event.f == PUBLISH:
                ledger._take_publish(event)
            elif event.f == RECEIVE:
                ledger._take_receive(event)
            elif event.f == PULL:
                ledger._take_pull(event, pulls)
            elif event.f == ACKNOWLEDGE:
                ledger._take_acknowledge(event)
            elif event.f == LINK and event.type == FAIL:
                ledger._refuse(event)
            elif event.f == PHASE and event.value == FAULTS_OVER:
                ledger.calm = event.time
        for lost in pulls.values():  # the run ended before their answers came
            ledger._doubt(lost)
        return ledger

    def acknowledged(self, topic: str) -> Iterable[Published]:
        """What was published to ``topic`` and acknowledged, in the order of the attempts."""
        return (
            item for item in self.published.values() if item.topic == topic and item.acknowledged is not None
        )

    def by_topic(self) -> Mapping[str, dict[str, Published]]:
        """What was acknowledged, by topic and id."""
        topics: dict[str, dict[str, Published]] = {}
        for item in self.published.values():
            if item.acknowledged is not None:
                topics.setdefault(item.topic, {})[item.sent.id] = item
        return topics

    def _take_publish(self, event: Event) -> None:
        if event.type == INVOKE:
            for sent in event.sent:
                made = Published(sent, event.process, str(event.value), event.time)
                self.published.setdefault(sent.id, made)
        elif event.type == OK:
            for sent in event.sent:
                known = self.published.get(sent.id)
                first = known.invoked if known else event.time
                self.published[sent.id] = Published(
                    sent, event.process, str(event.value), first, acknowledged=event.time
                )
        elif event.type == FAIL:
            self._refuse(event)

    def _take_receive(self, event: Event) -> None:
        taken = self.receptions.setdefault(event.process, [])
        taken += (Reception(item.id, event.time, item.count, item.is_intact) for item in event.received)

    def _take_acknowledge(self, event: Event) -> None:
        if event.type == OK:
            over = self.confirmed.setdefault(event.process, {})
            for item in event.received:
                over.setdefault(item.id, event.time)
        elif event.type == FAIL:
            self._refuse(event)

    def _take_pull(self, event: Event, pulls: dict[int, Event]) -> None:
        if event.type == INVOKE:
            pulls[event.operation] = event
            return
        begun = pulls.pop(event.operation, None)
        if event.type == INFO and begun is not None:
            self._doubt(begun)
        elif event.type == FAIL:
            self._refuse(event)

    def _refuse(self, event: Event) -> None:
        self.refusals.append(f"{event.process} at {event.time:.2f} s, {event.f}: {event.text}")

    def _doubt(self, pull: Event) -> None:
        self.uncertain[pull.process] = self.uncertain.get(pull.process, 0) + int(pull.value or 0)
