"""Our HTTP worker beside gunicorn's gevent worker: the same Falcon JSON echo, one process, 16 keep-alive connections.

    python tests/bench/worker.py [--seconds 5] [--rounds 3] [--connections 16]

Prints both and ``ratio=R p99=MS``; fails below a ratio of 2.2 or with a p99 of 15 ms or more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import (
    Load,
    Server,
    alternate,
    describe,
    free_port,
    gunicorn_command,
    median,
    ratio,
)

LEAST_RATIO = 2.2
MOST_P99 = 15.0

WORKERS = {"stock": "gevent", "ours": "junctor.server.http_worker.HTTPWorker"}

# 201 bytes, as in the measurements that the goals come from.
BODY = b'{"name":"' + b"x" * 190 + b'"}'


def servers() -> list[Server]:
    """One server for each worker class."""
    found = []
    for name, worker_class in WORKERS.items():
        port = free_port()
        command = gunicorn_command("falcon_echo:application", worker_class=worker_class, port=port)
        found.append(Server(name, command, port, directory=HERE))
    return found


def main() -> int:
    """0 if the goals are met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    headers = {"Content-Type": "application/json"}
    load = Load("/echo", "POST", headers, BODY, connections=given.connections, seconds=given.seconds)
    results = alternate(servers(), load, rounds=given.rounds)
    for name, measured in results.items():
        print(f"{name}: {describe(median(measured))}")
    reached, p99 = ratio(results, "ours", "stock"), median(results["ours"]).p99
    print(f"ratio={reached:.2f} p99={p99:.2f}")
    return 0 if reached >= LEAST_RATIO and p99 < MOST_P99 else 1


if __name__ == "__main__":
    sys.exit(main())
