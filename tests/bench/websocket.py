"""WebSockets: messages a second, memory of idle connections, and calls over a link between two clusters.

    python tests/bench/websocket.py [--seconds 5] [--rounds 3] [--connections 16] [--idle 10000] [--calls 2000]

``bare`` is an echo of ws4py on gevent with wsaccel, ``channel`` a service of Junctor that returns its input, through a session, a JSON
envelope, metrics and the invoker; one worker each, the same messages, by turns.  Then the memory of a worker with many idle clients
that have logged in, and the time of a call over a link beside that of a local ``self.invoke`` of the same service.

Prints ``ratio=R``, ``idle_mib=M``, ``link_p50_ms=...``; fails below a ratio of 0.6 and above 500 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from cluster import BenchCluster, bench_cluster
from harness import HOST, LOAD_CORE, BenchmarkFailed, Result, Server, describe, free_port, median, ratio

from tests.helpers.waiting import wait_until

LEAST_RATIO = 0.6
MOST_IDLE = 500 * 2**20  # bytes
LOADS = 2  # processes that hold the idle connections
CONNECTION = "bench"
TIMEOUT = 120.0  # seconds
MOST_BUSY = 0.9  # of a core: what the load may need before it is what is measured

SOURCE = """
from time import perf_counter

from zato.server.service import Service


class Echo(Service):
    name = "bench.echo"

    def handle(self):
        self.response.payload = self.request.payload


class Calls(Service):
    '''How long calls take, in milliseconds, over the link and to a service of this worker.'''

    name = "bench.calls"

    def handle(self):
        count, data = self.request.payload["count"], {"text": "x" * 190}
        remote, local = [], []
        with self.out.wsx.get("bench").conn.client() as client:
            for _ in range(count):
                before = perf_counter()
                client.invoke({"service": "bench.echo", "request": data})
                remote.append((perf_counter() - before) * 1000)
        for _ in range(count):
            before = perf_counter()
            self.invoke("bench.echo", data)
            local.append((perf_counter() - before) * 1000)
        self.response.payload = {"remote": remote, "local": local}
"""


def main() -> int:
    """0 if the goals are met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=2000)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        benches = [stack.enter_context(_bench(stack, number, given.idle + 1000)) for number in (1, 2)]
        port = free_port()
        for bench in benches[:1]:
            with _server("channel", bench):
                bench.cluster.deploy(bench=SOURCE)
                bench.cluster.write(
                    "zato.channel.web-socket.create",
                    name="bench",
                    address=f"ws://{HOST}:{port}/bench",
                    service="bench.echo",
                    max_connections=given.idle + 1000,
                )
        reached = _measure_echo(benches[0], port, given)
        memory = _measure_idle(benches[0], port, given.idle)
        _measure_link(benches[0], benches[1], given.calls)
    return 0 if reached >= LEAST_RATIO and memory <= MOST_IDLE else 1


@contextmanager
def _bench(stack: ExitStack, number: int, connections: int) -> Iterator[BenchCluster]:
    name = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"junctor-bench-{number}-"))
    with bench_cluster(Path(name), max_connections=connections) as bench:
        yield bench


def _server(name: str, bench: BenchCluster, core: int = 0) -> Server:
    server = bench.cluster.servers[0]
    return Server(
        name,
        server.command,
        server.port,
        environment=server.environment,
        core=core,
        ready="/health/ready",
    )


def _load(port: int, path: str, *options: object, core: int = LOAD_CORE) -> list[str]:
    script = [sys.executable, str(HERE / "websocket_load.py"), str(port), path]
    return ["taskset", "-c", str(core), *script, *map(str, options)]


def _measure_echo(bench: BenchCluster, port: int, given: argparse.Namespace) -> float:
    """How many times as many messages as the bare echo the channel answers."""
    bare_port = free_port()
    bare = Server("bare", [sys.executable, str(HERE / "websocket_echo.py"), str(bare_port)], bare_port)
    sides = ((bare, bare_port, "/", ()), (_server("channel", bench), port, "/bench", ("--log-in",)))
    results: dict[str, list[Result]] = {server.name: [] for server, *_ in sides}
    size = ("--connections", given.connections, "--seconds", given.seconds)
    for number in range(1, given.rounds + 1):
        for server, at, path, options in sides:
            with server:
                results[server.name].append(_run(_load(at, path, *size, *options)))
            print(f"[{number}/{given.rounds}] {server.name}: {_shown(results[server.name][-1])}", flush=True)
    for name, measured in results.items():
        print(f"{name}: {_shown(median(measured))}")
    reached = ratio(results, "channel", "bare")
    print(f"ratio={reached:.2f}")
    return reached


def _run(command: list[str]) -> Result:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"the load failed: {done.stderr[-1000:]}")
    found = json.loads(done.stdout)
    if found["busy"] > MOST_BUSY:
        print(
            f"the load itself was busy for {found['busy']:.0%} of the time: the server could do more",
            flush=True,
        )
    return Result(found["rate"], found["p50"], found["p99"], found["messages"], 0)


def _shown(result: Result) -> str:
    return describe(result).replace("requests/s", "messages/s")


def _measure_idle(bench: BenchCluster, port: int, count: int) -> int:
    """The bytes of memory of a server with so many idle clients."""
    with _server("idle", bench) as server, ExitStack() as stack:
        before = server.memory()
        loads = [
            stack.enter_context(
                subprocess.Popen(
                    _load(port, "/bench", "--connections", count // LOADS, "--log-in", "--idle"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(LOADS)
        ]
        connected = 0
        for load in loads:
            assert load.stdout is not None
            connected += json.loads(load.stdout.readline() or '{"connected": 0}')["connected"]
        if connected != count // LOADS * LOADS:
            raise BenchmarkFailed(f"only {connected} of {count} clients are connected")
        memory = server.memory()
        for load in loads:
            assert load.stdin is not None
            load.stdin.close()
    each = (memory - before) / connected / 1024
    print(
        f"idle_connections={connected} idle_mib={memory / 2**20:.1f} idle_before_mib={before / 2**20:.1f} kib_each={each:.1f}"
    )
    return memory


def _measure_link(caller: BenchCluster, callee: BenchCluster, calls: int) -> None:
    """Prints how long calls over a link take, from one core to the other."""
    port = free_port()
    with _server("caller", caller), _server("callee", callee, LOAD_CORE):
        callee.cluster.deploy(bench=SOURCE)
        callee.cluster.write(
            "zato.channel.web-socket.create",
            name="gateway",
            address=f"ws://{HOST}:{port}/link",
            service="helpers.web-sockets-gateway",
            gateway_services=["bench.*"],
        )
        caller.cluster.write(
            "zato.outgoing-websocket.create",
            name=CONNECTION,
            address=f"ws://{HOST}:{port}/link",
            is_zato=True,
        )
        caller.cluster.channel("calls", "bench.calls", timeout=300, data_format="json")
        server = caller.cluster.servers[0]
        wait_until(lambda: server.post("/calls", json={"count": 100}).ok, 30, "The link was not made")
        answer = server.post("/calls", json={"count": calls}, timeout=300).json()
    remote, local = (statistics.quantiles(answer[side], n=100) for side in ("remote", "local"))
    print(
        f"link_p50_ms={remote[49]:.3f} link_p99_ms={remote[98]:.3f} local_p50_ms={local[49]:.3f} local_p99_ms={local[98]:.3f} "
        f"link_to_local={remote[49] / local[49]:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
