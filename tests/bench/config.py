"""How fast the configuration changes, with 100, 1,000 and 10,000 REST channels, on two workers under constant load.

    python tests/bench/config.py [--channels 100 1000 10000] [--changes 100]

For each size: importing all channels in bulk; the start of the server; looking a path up; one added channel until all workers
have it (median, p99), while clients keep calling another one; the same without Redis, and the time until everything has converged
once Redis is back. Prints a line of ``name=value`` for each size. Fails when a request failed, or when p99 is more than 50 ms, or
convergence takes more than 5 s without Redis or 2 s after its return.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import requests
from cluster import BenchCluster, bench_cluster
from harness import timed

from junctor.server.channels.router import Route, Router

MOST_P99 = 50.0  # milliseconds
MOST_WITHOUT_REDIS = 5.0  # seconds
MOST_AFTER_REDIS = 2.0  # seconds
CLIENTS, PAUSE = 2, 0.01  # constant load: so many clients, each with such a pause between two calls
SOURCE = """
from zato.server.service import Service


class Echo(Service):
    name = "bench.echo"

    def handle(self):
        self.response.payload = {"ok": True}
"""


@dataclass
class ConstantLoad:
    """Clients that keep calling one URL over kept connections; ``failed`` says which answers were not 200."""

    url: str
    calls: int = 0
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> ConstantLoad:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(PAUSE):
                try:
                    status = session.get(self.url, timeout=10).status_code
                except requests.RequestException as error:
                    self.failed.append(str(error))
                else:
                    self.failed += [] if status == requests.codes.ok else [str(status)]
                self.calls += 1


def channels(count: int) -> list[dict[str, object]]:
    """Channels for a document: a third with static paths, the others with a placeholder."""
    paths = (f"/bench/{number}" if number % 3 == 0 else f"/bench/{number}/{{id}}" for number in range(count))
    return [
        {"name": f"bench {number:05}", "url_path": path, "service": "bench.echo"}
        for number, path in enumerate(paths)
    ]


def look_up(count: int) -> float:
    """Microseconds that finding a channel takes, over paths of all kinds."""
    router: Router[int] = Router()
    for number, channel in enumerate(channels(count)):
        router.add(Route(number, str(channel["url_path"]), number, name=str(channel["name"])))
    paths = [f"/bench/{number}" if number % 3 == 0 else f"/bench/{number}/x7" for number in range(count)]
    rounds = max(1, 100_000 // count)
    seconds = timed(lambda: [router.find("GET", path) for _ in range(rounds) for path in paths])
    return seconds / (rounds * count) * 1e6


def added(bench: BenchCluster, label: str, count: int) -> list[float]:
    """Milliseconds from the call that adds a channel to the answer that says that every worker has it, sorted."""
    return sorted(
        1000 * timed(lambda number=number: bench.cluster.channel(f"{label}-{number}", "bench.echo"))
        for number in range(count)
    )


def measure(count: int, changes: int) -> bool:
    """Whether the goals were met with ``count`` channels."""
    with (
        tempfile.TemporaryDirectory(prefix="junctor-bench-") as name,
        bench_cluster(Path(name), workers=(2,)) as bench,
    ):
        cluster = bench.cluster
        cluster.start()
        cluster.deploy(bench=SOURCE)
        document = {"document": {"channel_rest": channels(count)}, "wait": 60}
        client = cluster.admin()
        imported = timed(lambda: client.invoke("junctor.enmasse.import", document, timeout=330))
        cluster.stop()
        started = timed(cluster.start)
        cluster.channel("loaded", "bench.echo")
        with ConstantLoad(f"{cluster.servers[0].url}/loaded") as load:
            milliseconds = added(bench, "added", changes)
            bench.valkey.kill()
            without = max(added(bench, "without-redis", 3)) / 1000
            bench.valkey.start()
            after = max(added(bench, "after-redis", 3)) / 1000
        cluster.stop()
    p50, p99 = milliseconds[len(milliseconds) // 2], milliseconds[int(len(milliseconds) * 0.99) - 1]
    print(
        f"channels={count} import_s={imported:.1f} start_s={started:.2f} look_up_us={look_up(count):.2f} added_p50_ms={p50:.1f} "
        f"added_p99_ms={p99:.1f} without_redis_s={without:.2f} after_redis_s={after:.2f} calls={load.calls} failed={len(load.failed)}",
        flush=True,
    )
    for failure in load.failed[:5]:
        print(f"    {failure}")
    is_fast = p99 <= MOST_P99 and without <= MOST_WITHOUT_REDIS and after <= MOST_AFTER_REDIS
    return is_fast and not load.failed


def main() -> int:
    """0 if the goals are met for all sizes, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--changes", type=int, default=100)
    given = parser.parse_args()
    measures = [measure(count, given.changes) for count in given.channels]
    return 0 if all(measures) else 1


if __name__ == "__main__":
    sys.exit(main())
