"""A run in figures over time: which faults there were when, how much was published and received, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from junctor.cli.chaos.history import FAULT, INVOKE, OK, PUBLISH, RECEIVE, Event
from junctor.cli.chaos.ledger import Ledger

BINS = 120  # intervals that a run is divided into, at most
SMALLEST_BIN = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Span:
    """A fault as it came to pass, from ``start`` to ``end`` in seconds; ``text`` says what it happened to."""

    kind: str
    start: float
    end: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """``acknowledged`` and ``received`` are messages a second, the latencies seconds, one value for each interval of ``bin`` seconds.

    A latency is the time from the first attempt to publish until the first reception at a subscription; it belongs to the interval of the
    reception.  None = nothing was received.
    """

    seconds: float
    bin: float
    spans: tuple[Span, ...] = ()
    acknowledged: tuple[float, ...] = ()
    received: tuple[float, ...] = ()
    median: tuple[float | None, ...] = ()
    slowest: tuple[float | None, ...] = ()
    overall: dict[str, float] = field(default_factory=dict)


def figures_of(events: Sequence[Event], ledger: Ledger) -> Figures:
    """The figures of a run."""
    seconds = max(ledger.end, SMALLEST_BIN)
    size = max(SMALLEST_BIN, seconds / BINS)
    count = int(seconds / size) + 1
    acknowledged, received = [0] * count, [0] * count
    for event in events:
        place = int(event.time / size)
        if event.f == PUBLISH and event.type == OK:
            acknowledged[place] += len(event.sent)
        elif event.f == RECEIVE:
            received[place] += len(event.received)
    waits = _waits(ledger)
    binned: list[list[float]] = [[] for _ in range(count)]
    for time, wait in waits:
        binned[int(time / size)].append(wait)
    ordered = sorted(wait for _, wait in waits)
    return Figures(
        seconds,
        size,
        tuple(_spans(events, seconds)),
        tuple(number / size for number in acknowledged),
        tuple(number / size for number in received),
        tuple(percentile(sorted(found), 50) for found in binned),
        tuple(max(found, default=None) for found in binned),
        {name: percentile(ordered, rank) or 0.0 for name, rank in (("p50", 50), ("p99", 99), ("max", 100))},
    )


def percentile(ordered: Sequence[float], rank: float) -> float | None:
    """The smallest of ``ordered`` that ``rank`` per cent of them do not exceed; None if there are none."""
    if not ordered:
        return None
    place = -(-len(ordered) * rank // 100)
    return ordered[max(0, int(place) - 1)]


def _waits(ledger: Ledger) -> list[tuple[float, float]]:
    """For each first reception, when it was and how long the message took."""
    found = []
    for receptions in ledger.receptions.values():
        seen = set()
        for reception in receptions:
            item = ledger.published.get(reception.id)
            if item is not None and reception.id not in seen:
                seen.add(reception.id)
                found.append((reception.time, max(0.0, reception.time - item.invoked)))
    return found


def _spans(events: Iterable[Event], seconds: float) -> list[Span]:
    begun: dict[int, Event] = {}
    spans = []
    for event in events:
        if event.f != FAULT:
            continue
        if event.type == INVOKE:
            begun[event.operation] = event
        elif (start := begun.pop(event.operation, None)) is not None:
            spans.append(Span(start.process, start.time, event.time, event.text or start.text))
    spans += [Span(event.process, event.time, seconds, event.text) for event in begun.values()]
    return sorted(spans, key=lambda span: span.start)
