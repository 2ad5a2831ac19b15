"""Whether a run kept the promises of publish/subscribe: a function for each, over its ledger.

The promises: what was acknowledged reaches every subscription, soon after the faults are over; nothing else does; a message that comes
again says so; a publisher's messages of one priority come in their order.  A subscription that takes messages as they are handed over is
promised less: what was in an answer that was lost may be lost with it, and nothing comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from junctor.cli.chaos.history import Event
from junctor.cli.chaos.ledger import Ledger, Published, Reception
from junctor.cli.chaos.plan import HAND_OVER, Plan, Subscriber

DEFAULT_BOUND = 60.0  # seconds from the last fault, or from the acknowledgement, until a message has arrived


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: at which subscription, for which message."""

    subscription: str
    message: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a promise; ``checked`` is of how many cases."""

    name: str
    promise: str
    checked: int
    violations: tuple[Violation, ...]

    @property
    def is_kept(self) -> bool:
        """Whether there is no violation."""
        return not self.violations


@dataclass(frozen=True, slots=True)
class Tally:
    """A subscription in numbers: messages that it should have, has, has more than once, and receptions."""

    name: str
    kind: str
    topic: str
    expected: int
    received: int
    repeated: int
    receptions: int
    slowest: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that is said of a run in the end."""

    verdicts: tuple[Verdict, ...]
    tallies: tuple[Tally, ...]
    attempted: int
    acknowledged: int
    expired: int = field(default=0)

    @property
    def is_kept(self) -> bool:
        """Whether every promise was kept."""
        return all(verdict.is_kept for verdict in self.verdicts)


def judge(plan: Plan, events: Iterable[Event], bound: float = DEFAULT_BOUND) -> Judgement:
    """The verdicts on a history; see ``DEFAULT_BOUND`` for ``bound``."""
    ledger = Ledger.of(plan, events)
    verdicts = [check(plan, ledger) for check in CHECKS]
    verdicts.insert(1, late(plan, ledger, bound))
    acknowledged = [item for item in ledger.published.values() if item.acknowledged is not None]
    tallies = [_tally(ledger, subscriber) for subscriber in plan.subscribers]
    expired = sum(tally.expected - tally.received for tally in tallies if tally.kind != HAND_OVER)
    return Judgement(
        tuple(verdicts), tuple(tallies), len(ledger.published), len(acknowledged), max(0, expired)
    )


def lost(plan: Plan, ledger: Ledger) -> Verdict:
    """Every acknowledged message that does not expire was received by every subscription that acknowledges by itself."""
    checked, found = 0, []
    for subscriber, wanted in _expected(plan, ledger):
        got = {reception.id for reception in ledger.receptions[subscriber.name]}
        checked += len(wanted)
        for item in wanted:
            if item.sent.id not in got:
                text = f"published by {item.publisher}, acknowledged at {item.acknowledged:.2f} s, never received"
                found.append(Violation(subscriber.name, item.sent.id, text))
    return Verdict(
        "No loss",
        "Every acknowledged message is received by every subscription.",
        checked,
        tuple(found),
    )


def late(plan: Plan, ledger: Ledger, bound: float) -> Verdict:
    """What arrived did so within ``bound`` seconds after the faults were over, or after it was acknowledged if that was later."""
    checked, found = 0, []
    for subscriber, wanted in _expected(plan, ledger):
        first = _first_times(ledger.receptions[subscriber.name])
        for item in wanted:
            arrived = first.get(item.sent.id)
            if arrived is None:
                continue  # that is loss
            checked += 1
            since = max(item.acknowledged or 0.0, ledger.calm)
            if arrived - since > bound:
                text = f"arrived {arrived - since:.1f} s after the last fault or its acknowledgement"
                found.append(Violation(subscriber.name, item.sent.id, text))
    return Verdict(
        "No standstill",
        f"Everything is received within {bound:g} s after the last fault.",
        checked,
        tuple(found),
    )


def invented(plan: Plan, ledger: Ledger) -> Verdict:
    """Only what was published to the topic arrives, and whole."""
    checked, found = 0, []
    topics = {subscriber.name: subscriber.topic for subscriber in plan.subscribers}
    for name, receptions in ledger.receptions.items():
        checked += len(receptions)
        for reception in receptions:
            item = ledger.published.get(reception.id)
            if item is None:
                found.append(Violation(name, reception.id, "was never published"))
            elif item.topic != topics.get(name):
                found.append(Violation(name, reception.id, f"was published to {item.topic}"))
            elif not reception.is_intact:
                found.append(Violation(name, reception.id, "arrived with another content"))
    return Verdict(
        "No invention",
        "Nothing is received that was not published to the topic, and everything is received unchanged.",
        checked,
        tuple(found),
    )


def unmarked(plan: Plan, ledger: Ledger) -> Verdict:
    """A message arrives at most once with delivery_count 0 at a subscription; at one that is handed over, at most once at all."""
    checked, found = 0, []
    for subscriber in plan.subscribers:
        receptions = ledger.receptions[subscriber.name]
        is_handed_over = subscriber.kind == HAND_OVER
        counted = Counter(item.id for item in receptions if is_handed_over or item.count == 0)
        checked += len(counted)
        for message, times in counted.items():
            if times > 1:
                how = "although it was handed over" if is_handed_over else "with delivery_count 0"
                found.append(Violation(subscriber.name, message, f"received {times} times {how}"))
    return Verdict(
        "No unmarked duplicate",
        "A message that comes again has a delivery_count above 0; what is acknowledged by handing it over never comes again.",
        checked,
        tuple(found),
    )


def returned(plan: Plan, ledger: Ledger) -> Verdict:
    """What the cluster has confirmed to be acknowledged does not arrive any more."""
    del plan
    found = []
    for name, confirmed in ledger.confirmed.items():
        for reception in ledger.receptions.get(name, ()):
            over = confirmed.get(reception.id)
            if over is not None and reception.time > over:
                text = f"arrived at {reception.time:.2f} s, although acknowledged at {over:.2f} s"
                found.append(Violation(name, reception.id, text))
    return Verdict(
        "No return",
        "What was fetched and acknowledged, and confirmed to be, never comes again.",
        sum(map(len, ledger.confirmed.values())),
        tuple(found),
    )


def disordered(plan: Plan, ledger: Ledger) -> Verdict:
    """What a publisher published with one priority arrives in that order, when it arrives for the first time.

    Where errors do not block, a message may be overtaken while it waits to be delivered again, so only those count that came at once.
    """
    checked, found = 0, []
    for subscriber in plan.subscribers:
        if subscriber.kind == HAND_OVER:
            continue  # the newest first, as documented
        latest: dict[tuple[str, int], Published] = {}
        for reception, item in _first_receptions(ledger, subscriber):
            if reception.count > 0 and not subscriber.is_strict:
                continue
            checked += 1
            lane = (item.publisher, item.sent.priority)
            before = latest.get(lane)
            if before is not None and before.sent.number > item.sent.number:
                text = f"arrived at {reception.time:.2f} s, after {before.sent.id} of the same publisher and priority"
                found.append(Violation(subscriber.name, item.sent.id, text))
            else:
                latest[lane] = item
    return Verdict(
        "Order",
        "Messages of one publisher and priority are received in the order in which they were published.",
        checked,
        tuple(found),
    )


def handed_over(plan: Plan, ledger: Ledger) -> Verdict:
    """A subscription that is handed over loses no more than answers that were lost could have contained."""
    checked, found = 0, []
    by_topic = ledger.by_topic()
    for subscriber in plan.subscribers:
        if subscriber.kind != HAND_OVER:
            continue
        got = {reception.id for reception in ledger.receptions[subscriber.name]}
        wanted = [item for item in by_topic.get(subscriber.topic, {}).values() if not item.sent.expiration]
        missing = [item for item in wanted if item.sent.id not in got]
        allowed = ledger.uncertain.get(subscriber.name, 0)
        checked += len(wanted)
        if len(missing) > allowed:
            text = (
                f"{len(missing)} messages are missing, and answers that were lost had {allowed} at the most"
            )
            found.append(Violation(subscriber.name, missing[0].sent.id, text))
    return Verdict(
        "Hand-over",
        "Without acknowledgements, only what was in an answer that was lost may be lost.",
        checked,
        tuple(found),
    )


def refused(plan: Plan, ledger: Ledger) -> Verdict:
    """Nobody was told for good that what it does is not possible, for all of it is."""
    del plan
    found = tuple(Violation("", "", text) for text in ledger.refusals)
    return Verdict(
        "No refusal",
        "While parts of the cluster are down, calls fail in ways that ask for another attempt, never for good.",
        len(ledger.published),
        found,
    )


CHECKS: Final[Sequence[Callable[[Plan, Ledger], Verdict]]] = (
    lost,
    invented,
    unmarked,
    returned,
    disordered,
    handed_over,
    refused,
)


def _expected(plan: Plan, ledger: Ledger) -> Iterator[tuple[Subscriber, list[Published]]]:
    """What each subscription must have received, those excepted that are handed over."""
    by_topic = ledger.by_topic()
    for subscriber in plan.subscribers:
        if subscriber.kind != HAND_OVER:
            wanted = by_topic.get(subscriber.topic, {}).values()
            yield subscriber, [item for item in wanted if not item.sent.expiration]


def _first_receptions(ledger: Ledger, subscriber: Subscriber) -> Iterator[tuple[Reception, Published]]:
    seen = set()
    for reception in ledger.receptions[subscriber.name]:
        item = ledger.published.get(reception.id)
        if item is not None and reception.id not in seen:
            seen.add(reception.id)
            yield reception, item


def _first_times(receptions: Iterable[Reception]) -> dict[str, float]:
    times: dict[str, float] = {}
    for reception in receptions:
        times.setdefault(reception.id, reception.time)
    return times


def _tally(ledger: Ledger, subscriber: Subscriber) -> Tally:
    receptions = ledger.receptions[subscriber.name]
    first = _first_times(receptions)
    expected = list(ledger.acknowledged(subscriber.topic))
    waits = [
        first[item.sent.id] - item.invoked for item in ledger.published.values() if item.sent.id in first
    ]
    times = Counter(reception.id for reception in receptions)
    return Tally(
        subscriber.name,
        subscriber.kind,
        subscriber.topic,
        len(expected),
        sum(item.sent.id in first for item in expected),
        sum(count > 1 for count in times.values()),
        len(receptions),
        max(waits, default=0.0),
    )
