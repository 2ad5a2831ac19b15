"""A cluster that publishes and subscribes for benchmarks, and the processes that load it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from cluster import BenchCluster, bench_cluster
from harness import HOST, BenchmarkFailed, free_port

from tests.helpers.postgres import execute

HERE = Path(__file__).resolve().parent
USER, PASSWORD = "bench", "bench-password"
PATH = "/bench"
LOAD_TIMEOUT = 300.0  # seconds
MOST_BUSY = 0.9  # of a core: what a load may need before it is what is measured
SOURCE = '''
from time import monotonic

from gevent.pool import Pool
from zato.server.service import Service


class Publish(Service):
    """Publishes batches, several at a time, whose messages are numbered; answers with how many seconds that took."""

    name = "bench.publish"

    def handle(self):
        given = self.request.payload
        topic, size, filling = given["topic"], given["batch"], "x" * 180
        end = given["first"] + given["count"]

        def publish(first):
            numbers = range(first, min(first + size, end))
            made = [{"data": f"{monotonic():.6f} {number} {filling}"} for number in numbers]
            self.pubsub.publish(topic, data_list=made)

        began = monotonic()
        pool = Pool(given["at_once"])
        for _ in pool.imap_unordered(publish, range(given["first"], end, size)):
            pass
        self.response.payload = {"seconds": monotonic() - began}


class Take(Service):
    """Receives messages, and does nothing with them."""

    name = "bench.take"

    def handle(self):
        pass
'''


class Load:
    """A process that publishes or subscribes, and prints a line of JSON for each thing it has to say."""

    def __init__(self, script: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict[str, Any]:
        """What it says next.  Raises ``BenchmarkFailed`` if it has ended without a word."""
        assert self._process.stdout is not None
        return self._parsed(self._process.stdout.readline())

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield self._parsed(line)

    def tell(self, what: object) -> None:
        """Gives it a line on its standard input."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and its output says why
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()

    def result(self, tell: object = "") -> dict[str, Any]:
        """What it says at the end, after it was told something on its standard input."""
        try:
            output, errors = self._process.communicate(f"{tell}\n", timeout=LOAD_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchmarkFailed("a load did not end") from None
        return self._parsed(output, errors)

    def errors(self) -> str:
        """The end of what it complained about, once it has ended or is ended now."""
        self._process.kill()
        assert self._process.stderr is not None
        return self._process.stderr.read()[-2000:]

    def kill(self) -> None:
        """It is gone."""
        self._process.kill()
        self._process.communicate()

    def _parsed(self, output: str, errors: str = "") -> dict[str, Any]:
        if not output:
            raise BenchmarkFailed(f"a load failed: {errors or self._process.communicate()[1]}"[-2000:])
        found: dict[str, Any] = json.loads(output)
        if found.get("busy", 0) > MOST_BUSY:
            print(
                f"a load was busy for {found['busy']:.0%} of the time: the server could do more", flush=True
            )
        return found


@dataclass(frozen=True, slots=True)
class PubSubBench:
    """A cluster with one server, which runs, and whose clients may publish and subscribe to every topic."""

    bench: BenchCluster
    ws_port: int

    def publishers(self, topic: str, *options: object) -> Load:
        """Publishers over REST."""
        port = self.bench.cluster.servers[0].port
        return Load("pubsub_load.py", "publish", port, topic, "--user", f"{USER}:{PASSWORD}", *options)

    def subscriber(self, topic: str, *options: object) -> Load:
        """A WebSocket client that subscribes; its first line has the ``sub_key``."""
        return Load("pubsub_load.py", "subscribe", self.ws_port, PATH, topic, *options)

    def publish(self, topic: str, count: int, *, batch: int = 200, at_once: int = 4, first: int = 0) -> float:
        """How many messages a second a service publishes in batches."""
        request = {"topic": topic, "count": count, "batch": batch, "at_once": at_once, "first": first}
        answer = self.bench.cluster.servers[0].post("/publish", json=request, timeout=LOAD_TIMEOUT)
        if not answer.ok:
            raise BenchmarkFailed(f"publishing failed: {answer.text[:1000]}")
        return float(count / answer.json()["seconds"])

    def make(self, **objects: Sequence[dict[str, object]]) -> None:
        """These objects, by type, are there, and every worker has them."""
        document = {"document": objects, "wait": 60}
        answer = self.bench.cluster.admin().invoke("junctor.enmasse.import", document, timeout=330)
        if not answer["converged"]:
            raise BenchmarkFailed("a worker did not take the configuration")

    def topics(self, *names: str, **fields: object) -> None:
        """These topics are there."""
        self.make(pubsub_topic=[{"name": name, "max_depth_gd": 10_000_000, **fields} for name in names])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement in the cluster's database."""
        return execute(self.bench.cluster.odb_url, statement)

    def processes(self) -> list[psutil.Process]:
        """Those of the server, of PostgreSQL and of Valkey."""
        roots = [self.bench.cluster.servers[0].pid, self.bench.postgres.pid, self.bench.valkey.pid]
        return [one for root in map(psutil.Process, roots) for one in (root, *root.children(recursive=True))]


@contextmanager
def pubsub_cluster(*, workers: int = 2) -> Iterator[PubSubBench]:
    """A cluster that works, on a PostgreSQL that syncs what it commits."""
    with (
        tempfile.TemporaryDirectory(prefix="junctor-bench-") as name,
        bench_cluster(Path(name), workers=(workers,)) as bench,
    ):
        bench.cluster.start()
        bench.cluster.deploy(bench=SOURCE)
        made = PubSubBench(bench, free_port())
        everything = ["pub=/**", "sub=/**"]
        made.make(
            security_basic_auth=[{"name": "bench", "username": USER, "password": PASSWORD}],
            channel_rest=[
                {
                    "name": "bench publish",
                    "url_path": "/publish",
                    "service": "bench.publish",
                    "data_format": "json",
                    "timeout": int(LOAD_TIMEOUT),
                }
            ],
            channel_websocket=[
                {
                    "name": "bench",
                    "address": f"ws://{HOST}:{made.ws_port}{PATH}",
                    "service": "helpers.web-sockets-gateway",
                    "gateway_services": ["zato.pubsub.*"],
                }
            ],
            pubsub_endpoint=[
                {"name": "bench rest", "security": "bench", "topic_patterns": everything},
                {
                    "name": "bench wsx",
                    "endpoint_type": "wsx",
                    "ws_channel": "bench",
                    "topic_patterns": everything,
                },
                {
                    "name": "bench service",
                    "endpoint_type": "service",
                    "service": "bench.take",
                    "topic_patterns": everything,
                },
            ],
        )
        yield made
        bench.cluster.stop()
