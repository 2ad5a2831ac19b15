"""An authenticated REST channel with declared input and output beside a bare Falcon echo, one worker, 16 keep-alive connections.

    python tests/bench/rest.py [--seconds 5] [--rounds 3] [--connections 16]

``stock`` is the echo on gunicorn's gevent worker, ``worker`` the echo on our worker, ``channel`` the whole of Junctor: routing, Basic Auth,
parsing and checking the input, a service, rendering the output, metrics and the access log.  Prints all three, the memory of an idle
worker,
and ``ratio_stock=R ratio_worker=R``; fails below 1.5 and 0.5, or when the channel's p99 is more than twice the one of ``worker``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from cluster import bench_cluster
from harness import Load, Server, alternate, describe, free_port, gunicorn_command, median, ratio

LEAST_RATIO_STOCK = 1.5
LEAST_RATIO_WORKER = 0.5
MOST_P99_RATIO = 2.0

SOURCE = """
from zato.server.service import Float, Int, Service


class Price(Service):
    name = "bench.price"

    class SimpleIO:
        input_required = "customer", Int("quantity"), Float("unit_price")
        input_optional = "coupon", "comment"
        output_required = "customer", Float("total"), "comment"

    def handle(self):
        order = self.request.input
        self.response.payload.customer = order.customer
        self.response.payload.total = order.quantity * order.unit_price
        self.response.payload.comment = order.comment
"""
# 201 bytes, as the echo's body in the measurements that the goals come from.
BODY = (
    b'{"customer":"C-1001","quantity":"3","unit_price":"9.5","coupon":"WELCOME","comment":"'
    + b"x" * 114
    + b'"}'
)
PASSWORD = "benchmark"


def main() -> int:
    """0 if the goals are met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name, bench_cluster(Path(name)) as bench:
        cluster = bench.cluster
        server = cluster.servers[0]
        junctor = Server(
            "channel", server.command, server.port, environment=server.environment, ready="/health/ready"
        )
        with junctor as running:
            cluster.deploy(bench=SOURCE)
            cluster.write(
                "zato.security.basic-auth.create", name="bench", username="bench", password=PASSWORD
            )
            cluster.channel("bench", "bench.price", url_path="/bench/price", method="POST", security="bench")
            print(f"memory of an idle server with one worker: {running.memory() / 2**20:.1f} MiB of its own")
        servers = [junctor]
        for kind, worker_class in (("stock", "gevent"), ("worker", "junctor.server.http_worker.HTTPWorker")):
            port = free_port()
            command = gunicorn_command("falcon_echo:application", worker_class=worker_class, port=port)
            servers.append(Server(kind, command, port, directory=HERE))
        return _measure(servers, given)


def _measure(servers: list[Server], given: argparse.Namespace) -> int:
    token = b64encode(f"bench:{PASSWORD}".encode()).decode()
    json = {"Content-Type": "application/json"}
    size = {"connections": given.connections, "seconds": given.seconds}
    echo = Load("/echo", "POST", json, BODY, **size)
    channel = Load("/bench/price", "POST", json | {"Authorization": f"Basic {token}"}, BODY, **size)
    results = alternate(servers, {"channel": channel, "stock": echo, "worker": echo}, rounds=given.rounds)
    for name, measured in results.items():
        print(f"{name}: {describe(median(measured))}")
    stock, worker = ratio(results, "channel", "stock"), ratio(results, "channel", "worker")
    p99 = median(results["channel"]).p99 / median(results["worker"]).p99
    print(f"ratio_stock={stock:.2f} ratio_worker={worker:.2f} p99_ratio={p99:.2f}")
    return 0 if stock >= LEAST_RATIO_STOCK and worker >= LEAST_RATIO_WORKER and p99 <= MOST_P99_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
