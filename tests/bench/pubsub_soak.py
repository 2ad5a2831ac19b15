"""Publish/subscribe under a steady load for a long time: does anything grow that should not?

    python tests/bench/pubsub_soak.py [--minutes 60] [--rate 300] [--interval 10]

Publishers over REST send ``--rate`` messages a second to a topic with two WebSocket clients, one of which is off for the middle half
of the time, so that its queue fills and is drained again.  Every ``--interval`` seconds, a line has: how many rows wait; the sizes of the
message and queue partitions; dead rows; 99th percentiles of publishing and of delivering to the client that is
always there, since the line before; and the memory of the server's workers.

At the end, ``bounded`` or ``not bounded``, and why: nothing was lost, the queues are empty, and tables and memory are no larger than
they have to be, allowances aside.  It ends by itself.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from harness import BenchmarkFailed
from pubsub_cluster import Load, PubSubBench, pubsub_cluster

from tests.helpers.waiting import wait_until

TOPIC = "/bench/soak"
MIB = 2**20
WARM_UP = 0.2  # of the time: what memory and tables are then, they may be at the end
MOST_GROWTH, MOST_MORE_MEMORY = 1.25, 32 * MIB  # of the memory of workers
# Pages of rows that are gone are used again, and not given back: while one client was away, its queue has needed some.
MOST_QUEUE_A_ROW = 400  # bytes
MOST_IDLE_QUEUE = 16 * MIB
# Messages are kept for an hour, and deleted in batches; theirs are rows of 200 bytes, what is known of them, and two indexes.
KEPT, MOST_MESSAGE_A_ROW = 2 * 3600.0, 1000  # seconds, bytes
DRAIN_TIMEOUT, ACKNOWLEDGED_WITHIN = 120.0, 10.0  # seconds
TABLES = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relname LIKE 'pubsub_message%'), 0),
           coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relname LIKE 'pubsub_queue%'), 0),
           coalesce(sum(pg_stat_get_dead_tuples(c.oid)), 0), (SELECT count(*) FROM pubsub_queue)
    FROM pg_class c
    WHERE c.relkind = 'r' AND (c.relname LIKE 'pubsub_message%' OR c.relname LIKE 'pubsub_queue%')
"""
HEAD = "   time   waiting  messages    queues      dead  publish p99  delivery p99   workers"


@dataclass(frozen=True, slots=True)
class Sample:
    """How things are at one time; sizes are bytes, and latencies milliseconds."""

    seconds: float
    waiting: int
    messages: int
    queues: int
    dead: int
    publish_p99: float
    delivery_p99: float
    workers: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f}s {self.waiting:9,} {self.messages / MIB:7.1f}M {self.queues / MIB:8.1f}M {self.dead:9,} "
            f"{self.publish_p99:9.1f} ms {self.delivery_p99:10.1f} ms {self.workers / MIB:8.1f}M"
        )


class Reporter:
    """Reads what a load says from time to time."""

    def __init__(self, load: Load) -> None:
        self.last: dict[str, Any] = {}
        self._load = load
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def result(self, tell: object = "") -> dict[str, Any]:
        """What it says at the end, after it was told something."""
        self._load.tell(tell)
        self._thread.join(DRAIN_TIMEOUT)
        if "rate" not in self.last:
            raise BenchmarkFailed(f"a load failed: {self._load.errors()}")
        return self.last

    def _read(self) -> None:
        for line in self._load.lines():
            self.last = line


def main() -> int:
    """0 if everything is bounded, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--interval", type=float, default=10)
    given = parser.parse_args()
    with pubsub_cluster() as bench:
        bench.topics(TOPIC)
        problems = _soak(bench, given.minutes * 60, given.rate, given.interval)
    for problem in problems:
        print(f"    {problem}")
    print("not bounded" if problems else "bounded")
    return 1 if problems else 0


def _soak(bench: PubSubBench, seconds: float, rate: float, interval: float) -> list[str]:
    """What is wrong after so long."""
    every = ("--every", interval)
    away = ("--client", "away", "--away", seconds / 4, seconds * 3 / 4)
    subscribers = [bench.subscriber(TOPIC, *every), bench.subscriber(TOPIC, *every, *away)]
    for subscriber in subscribers:
        subscriber.line()
    present, absent = map(Reporter, subscribers)
    publisher = Reporter(bench.publishers(TOPIC, "--rate", rate, "--seconds", seconds, *every))
    print(HEAD, flush=True)
    began, samples = time.monotonic(), []
    for number in range(1, int(seconds / interval) + 1):
        time.sleep(max(0.0, began + number * interval - time.monotonic()))
        samples.append(_sample(bench, time.monotonic() - began, publisher.last, present.last))
        print(samples[-1], flush=True)
    published = publisher.result()["published"]
    received = [reporter.result(published) for reporter in (present, absent)]
    print(f"published={published} present={received[0]} absent={received[1]}")
    with suppress(AssertionError):  # the verdict says so
        wait_until(lambda: not bench.query("SELECT 1 FROM pubsub_queue LIMIT 1"), ACKNOWLEDGED_WITHIN)
    samples.append(_sample(bench, time.monotonic() - began, {}, {}))
    print(samples[-1], flush=True)
    return [*_lost(published, received), *_unbounded(samples, min(published, KEPT * rate))]


def _sample(bench: PubSubBench, seconds: float, publisher: dict[str, Any], present: dict[str, Any]) -> Sample:
    [(messages, queues, dead, waiting)] = bench.query(TABLES)
    workers = sum(worker.memory_full_info().uss for worker in bench.bench.cluster.servers[0].workers())
    p99s = publisher.get("p99", 0.0), present.get("p99", 0.0)
    return Sample(seconds, waiting, int(messages), int(queues), int(dead), *p99s, workers)


def _lost(published: int, received: list[dict[str, Any]]) -> list[str]:
    problems = []
    for name, got in zip(("present", "absent"), received, strict=True):
        if got.get("messages") != published:
            problems.append(f"the {name} client got {got.get('messages')} of {published} messages")
        if got.get("unmarked"):
            problems.append(f"the {name} client got {got['unmarked']} again that did not say so")
    return problems


def _unbounded(samples: list[Sample], kept: float) -> list[str]:
    """What has grown too much until everything was delivered; so many messages may be kept that nobody waits for."""
    first, last = samples[int(len(samples) * WARM_UP)], samples[-1]
    most_waiting = max(sample.waiting for sample in samples)
    problems = []
    if last.waiting:
        problems.append(f"{last.waiting} rows are left in the queues")
    if last.workers > first.workers * MOST_GROWTH + MOST_MORE_MEMORY:
        problems.append(
            f"the workers' memory grew from {first.workers / MIB:.0f} to {last.workers / MIB:.0f} MiB"
        )
    if last.queues > most_waiting * MOST_QUEUE_A_ROW + MOST_IDLE_QUEUE:
        problems.append(
            f"the queues have {last.queues / MIB:.0f} MiB; at most {most_waiting} rows were in them"
        )
    if last.messages > (most_waiting + kept) * MOST_MESSAGE_A_ROW + MOST_IDLE_QUEUE:
        problems.append(f"the messages have {last.messages / MIB:.0f} MiB")
    return problems


if __name__ == "__main__":
    sys.exit(main())
