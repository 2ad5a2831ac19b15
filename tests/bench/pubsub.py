"""Publish/subscribe on two cores: rates, latencies, what idle topics cost, and RabbitMQ beside it.

    python tests/bench/pubsub.py [--seconds 10] [--backlog 100000] [--idle-seconds 20] [--no-rabbitmq]

One server with two workers on a PostgreSQL that syncs each commit; messages are guaranteed ones of 200 bytes.  Measured are: publishers
over REST, 32 at a time, each of whom waits for its answer, to a WebSocket client that acknowledges; a service that publishes in batches of
200; a WebSocket client that resumes with a backlog; the time from publishing to receiving while nothing else happens; and the
CPU of all processes while nothing happens at all, with 10 topics and as many subscriptions, and with 1,000.  RabbitMQ has a
quorum queue, persistent messages and publisher confirms, and is loaded in the same way through kombu.

Prints lines of ``name=value`` and fails below the goals; a ratio is Junctor's rate to RabbitMQ's, and no goal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from harness import BenchmarkFailed
from pubsub_cluster import Load, PubSubBench, pubsub_cluster

from tests.helpers.rabbitmq import HOW_TO_INSTALL, RabbitMQServer

PUBLISHERS = 32
IDLE_RATE = 20  # messages a second that leave the server idle in between
FEW, MANY = 10, 1000  # topics, each with a subscription
MOST_RATIO, MOST_MORE = (
    1.1,
    0.5,
)  # by how much, and how many percent of a core, measurements of the same thing differ
NO_LIMIT = float("inf")
SETTLING = 5.0  # seconds after a change of the configuration


@dataclass
class Figures:
    """What was measured so far; ``missed`` says which goals were not met."""

    missed: list[str] = field(default_factory=list)
    _values: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float, *, least: float = 0.0, most: float = NO_LIMIT) -> None:
        """Notes and prints a figure, which should be within these limits."""
        self._values[name] = value
        print(f"{name}={value:.2f}{_goal(least, most)}", flush=True)
        if not least <= value <= most:
            self.missed.append(name)

    def __getitem__(self, name: str) -> float:
        return self._values[name]


def _goal(least: float, most: float) -> str:
    if least:
        return f" (goal: >= {least:,.0f})"
    return "" if most == NO_LIMIT else f" (goal: <= {most:,.1f})"


def main() -> int:
    """0 if the goals are met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--no-rabbitmq", action="store_true", help="Junctor alone")
    given = parser.parse_args()
    if not given.no_rabbitmq and not RabbitMQServer.is_installed():
        raise BenchmarkFailed(f"{HOW_TO_INSTALL}; or give --no-rabbitmq")
    figures = Figures()
    with pubsub_cluster() as bench:
        _measure_rate(bench, given.seconds, figures)
        _measure_latency(bench, given.seconds, figures)
        _measure_batches(bench, given.backlog, figures)
        _measure_idle(bench, given.idle_seconds, figures)
    if not given.no_rabbitmq:
        _compare_with_rabbitmq(given.seconds, figures)
    for name in figures.missed:
        print(f"{name} misses its goal")
    return 1 if figures.missed else 0


def _checked(received: dict[str, float], published: float) -> dict[str, float]:
    """What a subscriber has received.  Raises ``BenchmarkFailed`` if a message is missing, or came twice."""
    if received["messages"] != published or received["duplicates"]:
        raise BenchmarkFailed(f"of {published} messages, the subscriber got {received}")
    return received


def _measure_rate(bench: PubSubBench, seconds: float, figures: Figures) -> None:
    bench.topics("/bench/rate", "/bench/warm-up")
    bench.publishers("/bench/warm-up", "--connections", PUBLISHERS, "--seconds", 2).result()
    subscriber = bench.subscriber("/bench/rate")
    subscriber.line()
    sent = bench.publishers("/bench/rate", "--connections", PUBLISHERS, "--seconds", seconds).result()
    figures.add("rest_publish_rate", sent["rate"])
    figures.add("rest_publish_p99_ms", sent["p99"])
    received = _checked(subscriber.result(sent["published"]), sent["published"])
    figures.add("rest_to_websocket_rate", received["rate"], least=1000)
    figures.add("rest_to_websocket_p50_ms", received["p50"])
    figures.add("rest_to_websocket_p99_ms", received["p99"], most=100)


def _measure_latency(bench: PubSubBench, seconds: float, figures: Figures) -> None:
    bench.topics("/bench/latency")
    subscriber = bench.subscriber("/bench/latency")
    subscriber.line()
    options = ("--connections", 1, "--rate", IDLE_RATE, "--seconds", seconds)
    sent = bench.publishers("/bench/latency", *options).result()
    received = _checked(subscriber.result(sent["published"]), sent["published"])
    figures.add("idle_publish_p50_ms", sent["p50"])
    figures.add("idle_latency_p50_ms", received["p50"], most=20)
    figures.add("idle_latency_p99_ms", received["p99"])


def _measure_batches(bench: PubSubBench, backlog: int, figures: Figures) -> None:
    """A client subscribes and goes; a service publishes in batches; the client resumes."""
    topic = "/bench/backlog"
    bench.topics(topic)
    away = bench.subscriber(topic)
    sub_key = away.line()["sub_key"]
    away.kill()
    bench.publish(topic, backlog // 10)
    rate = bench.publish(topic, backlog - backlog // 10, first=backlog // 10)
    figures.add("batch_publish_rate", rate, least=5000)
    back = bench.subscriber(topic, "--sub-key", sub_key, "--count", backlog)
    back.line()
    received = _checked(back.result(), backlog)
    figures.add("drain_rate", received["rate"], least=10_000)


def _measure_idle(bench: PubSubBench, seconds: float, figures: Figures) -> None:
    used = []
    for first, last in ((0, FEW), (FEW, MANY)):
        names = [f"/bench/idle/{number}" for number in range(first, last)]
        bench.topics(*names)
        bench.make(
            pubsub_subscription=[
                {"name": f"bench {name}", "endpoint": "bench service", "topic": name} for name in names
            ]
        )
        time.sleep(SETTLING)
        used.append(_cpu(bench, seconds))
        most = used[0] * MOST_RATIO + MOST_MORE if first else NO_LIMIT
        figures.add(f"idle_cpu_percent_{last}", used[-1], most=most)


def _cpu(bench: PubSubBench, seconds: float) -> float:
    """How much of a core everything needs while nothing happens, in percent."""

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    processes, began = bench.processes(), time.monotonic()
    before = spent()
    time.sleep(seconds)
    return (spent() - before) / (time.monotonic() - began) * 100


def _compare_with_rabbitmq(seconds: float, figures: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name:
        Path(name).chmod(0o755)
        server = RabbitMQServer(Path(name))
        try:
            server.start()
            rate = _load_rabbitmq(server, "rate", "--connections", PUBLISHERS, "--seconds", seconds)
            latency = _load_rabbitmq(
                server, "latency", "--connections", 1, "--rate", IDLE_RATE, "--seconds", seconds
            )
        finally:
            server.stop()
    figures.add("rabbitmq_publish_rate", rate[0]["rate"])
    figures.add("rabbitmq_end_to_end_rate", rate[1]["rate"])
    figures.add("rabbitmq_end_to_end_p99_ms", rate[1]["p99"])
    figures.add("rabbitmq_idle_latency_p50_ms", latency[1]["p50"])
    figures.add("publish_ratio", figures["rest_publish_rate"] / rate[0]["rate"])
    figures.add("batch_publish_ratio", figures["batch_publish_rate"] / rate[0]["rate"])
    figures.add("end_to_end_ratio", figures["rest_to_websocket_rate"] / rate[1]["rate"])
    figures.add("latency_ratio", figures["idle_latency_p50_ms"] / latency[1]["p50"])


def _load_rabbitmq(
    server: RabbitMQServer, queue: str, *options: object
) -> tuple[dict[str, float], dict[str, float]]:
    """What publishers and a consumer measured."""
    subscriber = Load("rabbitmq_load.py", "subscribe", server.url, queue)
    subscriber.line()
    sent = Load("rabbitmq_load.py", "publish", server.url, queue, *options).result()
    return sent, _checked(subscriber.result(sent["published"]), sent["published"])


if __name__ == "__main__":
    sys.exit(main())
