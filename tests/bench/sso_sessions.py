"""Verifying a session of Single Sign-On beside a plain authenticated REST channel; one worker, 16 connections.

    python tests/bench/sso_sessions.py [--seconds 5] [--rounds 3] [--connections 16]

``channel`` is a POST to a channel with Basic Auth and a service that declares its input and output, and answers a constant; ``ping`` is the
same without declarations, so that nothing is checked; ``verify`` is POST /zato/sso/user/session, with the
tokens of a super-user and of a user, which looks at both sessions, both users, the application and the addresses, and counts it for the
audit trail.  ``wrong`` verifies tokens of nobody, each of which asks the database.  All on the same server, by turns.  Prints
``ratio=R``, and ``cpu_ratio``: the same of what each request costs the server's processor, which is true also while other programs take
their share of it, both beside ``channel``.  Fails if both are below 0.8.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from cluster import BenchCluster, bench_cluster
from harness import BenchmarkFailed, Load, Result, Server, describe, median, run_wrk

from tests.helpers.sso import SsoUnderTest

LEAST_RATIO = 0.8
PASSWORD = "benchmark"
SOURCE = """
from zato.server.service import Service


class Ping(Service):
    name = "bench.ping"

    def handle(self):
        self.response.payload = {"status": "ok", "cid": self.cid, "is_valid": True}


class Channel(Service):
    name = "bench.channel"

    class SimpleIO:
        input_required = "current_app", "current_ust", "target_ust"
        output_required = "status", "cid", "is_valid"

    def handle(self):
        self.response.payload.status = "ok"
        self.response.payload.cid = self.cid
        self.response.payload.is_valid = True
"""


def main() -> int:
    """0 if the goal is met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name, bench_cluster(Path(name)) as bench:
        own, target = _sessions(bench)
        server = bench.cluster.servers[0]
        junctor = Server(
            "junctor", server.command, server.port, environment=server.environment, ready="/health/ready"
        )
        with junctor as running:
            bench.cluster.deploy(bench=SOURCE)
            bench.cluster.write(
                "zato.security.basic-auth.create", name="bench", username="bench", password=PASSWORD
            )
            for kind in ("ping", "channel"):
                path = f"/bench/{kind}"
                bench.cluster.channel(kind, f"bench.{kind}", url_path=path, security="bench")
            return _measure(running, _loads(own, target, given), given.rounds)


def _sessions(bench: BenchCluster) -> tuple[str, str]:
    """The tokens of a super-user and of a user."""
    store = bench.cluster.store()
    sso = SsoUnderTest(store)
    sso.application("CRM")
    sso.user("bench1", is_super_user=True)
    sso.user("bench2")
    tokens = sso.log_in("bench1"), sso.log_in("bench2")
    sso.stop()
    store.engine.dispose()
    return tokens


def _loads(own: str, target: str, given: argparse.Namespace) -> dict[str, Load]:
    size = {"connections": given.connections, "seconds": given.seconds}
    headers = {"Content-Type": "application/json"}
    basic = "Basic " + b64encode(f"bench:{PASSWORD}".encode()).decode()

    def body(target: str) -> bytes:
        return json.dumps({"current_app": "CRM", "current_ust": own, "target_ust": target}).encode()

    verify = "/zato/sso/user/session"
    return {
        "ping": Load("/bench/ping", "POST", headers | {"Authorization": basic}, body(target), **size),
        "channel": Load("/bench/channel", "POST", headers | {"Authorization": basic}, body(target), **size),
        "verify": Load(verify, "POST", headers, body(target), **size),
        "wrong": Load(verify, "POST", headers, body("zust" + "0" * 52), **size),
    }


def _measure(server: Server, loads: dict[str, Load], rounds: int) -> int:
    results: dict[str, list[Result]] = {name: [] for name in loads}
    costs: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(rounds):
        for name, load in loads.items():
            before = _cpu(server)
            result = run_wrk(server.port, load)
            costs[name].append((_cpu(server) - before) / max(result.requests, 1) * 1e6)
            if result.errors:
                raise BenchmarkFailed(f"{name}: {result.errors} of {result.requests} requests failed.")
            results[name].append(result)
    for name, measured in results.items():
        print(
            f"{name}: {describe(median(measured))}, {statistics.median(costs[name]):.0f} µs of the processor"
        )
    ratio = median(results["verify"]).rate / median(results["channel"]).rate
    cpu_ratio = statistics.median(costs["channel"]) / statistics.median(costs["verify"])
    print(f"ratio={ratio:.2f} cpu_ratio={cpu_ratio:.2f}")
    return 0 if max(ratio, cpu_ratio) >= LEAST_RATIO else 1


def _cpu(server: Server) -> float:
    """The seconds that the server's processes have computed so far."""
    times = [process.cpu_times() for process in server.processes()]
    return sum(spent.user + spent.system for spent in times)


if __name__ == "__main__":
    sys.exit(main())
