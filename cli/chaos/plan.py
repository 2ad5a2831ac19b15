"""What a run does, and when: who publishes, who subscribes how, and which faults come.  All of it follows from the seed.

The same seed, number of seconds and set of possible faults give the same plan on every machine, so that a run which found something can
be run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

MIN_SECONDS, MAX_SECONDS = 5, 14_400  # longer histories do not fit into memory
MAX_PUBLISHERS = 6
FIRST_FAULT = 1.0  # seconds after the start, so that there is something under way
CALM_END = 1.0  # seconds without a new fault before the publishers stop
GAP = (0.4, 2.5)  # seconds between the end of a fault and the next one
OVERLAP = 0.3  # of the faults begin while the one before has not ended
PAUSE = (0.01, 0.08)  # seconds between two calls of a publisher, on average
LARGEST_BATCH = 20
PUSHED, FETCHED = (
    (1, 5, 20, 100),
    (10, 30, 100),
)  # messages of a delivery; fetching them one by one would not keep up
SIZES: Final = ((20, 300), (300, 4_000), (4_000, 40_000))  # characters of filler; small ones are common
SIZE_WEIGHTS: Final = (80, 17, 3)
PRIORITY_WEIGHTS: Final = (1, 1, 1, 2, 20, 2, 1, 1, 2)  # of 1 to 9
EXPIRING = 0.03  # of the messages expire, soon
EXPIRATIONS = (2, 8)  # seconds

PULL, HAND_OVER, NOTIFY, SERVICE, WEB_SOCKET = "pull", "hand-over", "notify", "service", "websocket"
SUBSCRIBERS: Final = (NOTIFY, SERVICE, WEB_SOCKET, PULL, HAND_OVER)
CALLED_BACK: Final = frozenset({NOTIFY, SERVICE})  # the cluster must be able to reach this process
REST, BATCH = "rest", "batch"

KILL_WORKER, PAUSE_WORKER, KILL_SERVER, RELOAD = "kill-worker", "pause-worker", "kill-server", "reload"
KILL_POSTGRES, RESTART_POSTGRES, KILL_REDIS = "kill-postgres", "restart-postgres", "kill-redis"
CUT_LINKS, REFUSE_LINKS = "cut-links", "refuse-links"
# Seconds between the beginning of a fault and its end, when what was taken away is given back; 0 = it has no end of its own.
LENGTHS: Final[dict[str, tuple[float, float]]] = {
    KILL_WORKER: (0.0, 0.0),
    PAUSE_WORKER: (1.0, 20.0),
    KILL_SERVER: (0.2, 4.0),
    RELOAD: (0.0, 0.0),
    KILL_POSTGRES: (0.1, 3.0),
    RESTART_POSTGRES: (0.0, 0.0),
    KILL_REDIS: (0.2, 4.0),
    CUT_LINKS: (0.0, 0.0),
    REFUSE_LINKS: (0.5, 3.0),
}
FAULTS: Final = tuple(LENGTHS)
LINK_FAULTS: Final = (CUT_LINKS, REFUSE_LINKS)
# A server that is to start needs the database, so none of these begins before another has ended.
EXCLUSIVE: Final = frozenset({KILL_SERVER, RELOAD, KILL_POSTGRES, RESTART_POSTGRES})


@dataclass(frozen=True, slots=True)
class Publisher:
    """Somebody who publishes, a call after the other; ``pause`` is the average time between two, in seconds."""

    name: str
    kind: str
    topic: str
    pause: float
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Somebody who receives.

    ``is_strict`` is whether errors hold up what comes behind.  The others are how often, of all deliveries, it refuses, is slow, or
    is gone without an answer.
    """

    name: str
    kind: str
    topic: str
    is_strict: bool
    batch: int
    refuses: float = 0.0
    is_slow: float = 0.0
    breaks_off: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong ``at`` seconds after the start, for ``length`` seconds.

    ``target`` is the number of the server or worker that it happens to, of as many as there are by then, counted from 0.
    """

    at: float
    kind: str
    length: float
    target: int

    @property
    def end(self) -> float:
        """When it is over."""
        return self.at + self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    seconds: float
    topics: tuple[str, ...]
    publishers: tuple[Publisher, ...]
    subscribers: tuple[Subscriber, ...]
    faults: tuple[Fault, ...]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


@dataclass(frozen=True, slots=True)
class Draft:
    """What is published next: ``number`` counts the messages of a publisher from 1; ``expiration`` is in seconds, 0 = never."""

    number: int
    size: int
    priority: int
    expiration: int


def make_plan(
    seed: int,
    seconds: float,
    *,
    faults: Sequence[str] = FAULTS,
    kinds: Sequence[str] = SUBSCRIBERS,
) -> Plan:
    """The plan of ``seed`` for a run of ``seconds``, with faults and subscribers of these kinds."""
    draw = random.Random(f"{seed}:who")  # noqa: S311 - reproducible, not secret
    topics = tuple(f"t{number}" for number in range(1, draw.randint(2, 3) + 1))
    publishers = tuple(_publishers(draw, topics))
    subscribers = tuple(_subscribers(draw, topics, kinds))
    return Plan(seed, seconds, topics, publishers, subscribers, tuple(_faults(seed, seconds, faults)))


def plan_of(given: Any) -> Plan:
    """The plan that ``as_dict`` has been made of; raises ``msgspec.ValidationError``."""
    return msgspec.convert(given, Plan)


def drafts_of(plan: Plan, publisher: Publisher) -> Callable[[], list[Draft]]:
    """A function that returns what the publisher publishes with its next call."""
    draw = random.Random(f"{plan.seed}:{publisher.name}")  # noqa: S311 - reproducible, not secret
    number = 0

    def next_call() -> list[Draft]:
        nonlocal number
        count = draw.randint(1, publisher.batch)
        made = [_draft(draw, number + offset) for offset in range(1, count + 1)]
        number += count
        return made

    return next_call


def describe(plan: Plan) -> list[str]:
    """The plan in words, a line each."""
    lines = [f"Seed {plan.seed}, {plan.seconds:g} s, topics {', '.join(plan.topics)}"]
    for publisher in plan.publishers:
        size = f", up to {publisher.batch} at a time" if publisher.batch > 1 else ""
        lines.append(f"{publisher.name} publishes to {publisher.topic} ({publisher.kind}{size})")
    for subscriber in plan.subscribers:
        order = "strict" if subscriber.is_strict else "not strict"
        lines.append(
            f"{subscriber.name} receives {subscriber.topic} ({subscriber.kind}, {order}, up to {subscriber.batch})"
        )
    for fault in plan.faults:
        length = f" for {fault.length:.1f} s" if fault.length else ""
        lines.append(f"{fault.at:6.1f} s  {fault.kind}{length}")
    return lines


def _publishers(draw: random.Random, topics: Sequence[str]) -> list[Publisher]:
    made = []
    for number in range(1, draw.randint(len(topics) + 1, MAX_PUBLISHERS) + 1):
        kind = BATCH if number % 3 == 0 else REST
        topic = topics[(number - 1) % len(topics)]
        batch = draw.randint(2, LARGEST_BATCH) if kind == BATCH else 1
        pause = draw.uniform(*PAUSE) * batch  # so that lists are no more messages than single ones
        made.append(Publisher(f"publisher{number}", kind, topic, round(pause, 3), batch))
    return made


def _subscribers(draw: random.Random, topics: Sequence[str], kinds: Sequence[str]) -> list[Subscriber]:
    """One of each kind at least; each topic has one at least."""
    wanted = [*kinds, *(draw.choice(kinds) for _ in range(max(1, len(topics) - len(kinds) + 1)))]
    offset = draw.randrange(len(topics))
    made = []
    for number, kind in enumerate(wanted, start=1):
        is_push = kind in (NOTIFY, SERVICE, WEB_SOCKET)
        made.append(
            Subscriber(
                name=f"{kind}{number}",
                kind=kind,
                topic=topics[(number + offset) % len(topics)],
                is_strict=is_push and draw.random() < 0.6,
                batch=draw.choice(PUSHED if is_push else FETCHED),
                refuses=round(draw.uniform(0, 0.10), 3),
                is_slow=round(draw.uniform(0.02, 0.30), 3),
                breaks_off=round(draw.uniform(0, 0.05), 3),
            )
        )
    return made


def _faults(seed: int, seconds: float, kinds: Sequence[str]) -> list[Fault]:
    """Faults one after the other, some of which overlap; each kind comes before any comes again, if there is time."""
    draw = random.Random(f"{seed}:faults")  # noqa: S311 - reproducible, not secret
    made: list[Fault] = []
    waiting: list[str] = []
    at = FIRST_FAULT + draw.uniform(0, 0.5)
    while kinds and at < seconds - CALM_END:
        if not waiting:
            waiting = draw.sample(sorted(kinds), len(kinds))
        kind = waiting.pop()
        at = max([at, *(other.end for other in made if {kind, other.kind} <= EXCLUSIVE)])
        length = min(draw.uniform(*LENGTHS[kind]), max(0.0, seconds - at))
        made.append(Fault(round(at, 2), kind, round(length, 2), draw.randrange(1000)))
        gap = draw.uniform(*GAP)
        at += gap if draw.random() < OVERLAP else length + gap
    return [fault for fault in made if fault.at < seconds]


def _draft(draw: random.Random, number: int) -> Draft:
    low, high = draw.choices(SIZES, SIZE_WEIGHTS)[0]
    size = draw.randint(low, high)
    priority = draw.choices(range(1, 10), PRIORITY_WEIGHTS)[0]
    expiration = draw.randint(*EXPIRATIONS) if draw.random() < EXPIRING else 0
    return Draft(number, size, priority, expiration)
