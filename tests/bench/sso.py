"""What log-ins cost, and whom they disturb: one worker on a core of its own, everything else on the other.

    python tests/bench/sso.py [--seconds 10] [--rounds 3] [--attempts 200]

``login``: log-ins per second through REST, beside ``hash``: bare hashes with the same parameters in a process on the same core, by turns.
``ping``: the latency of /zato/ping, asked 200 times per second, while the worker is idle and while log-ins keep it busy.
``timing``: how long refusals take, by what is wrong, in random order; each kind is compared to unknown users (Mann-Whitney's U).
Prints ``ratio=R ping_p99_ratio=P timing=T``; fails with a ratio below 0.9, a ping above 3 times idle, or with a median
that is off by more than 2 % and not by chance (p < 0.01).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import orjson
import requests
from cluster import bench_cluster
from harness import HOST, LOAD_CORE, SERVER_CORE, Load, Server, describe, run_wrk

from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.postgres import execute

LEAST_RATIO = 0.9
MOST_PING_RATIO = 3.0
MOST_DIFFERENCE = 0.02  # of the medians
LEAST_CHANCE = 0.01  # of a difference that is not just noise
ROUNDS = 210_000
TIMING_ROUNDS = 20_000  # few, so that whatever else takes time shows
PASSWORD = "correct horse battery staple 7"
SECOND_PASSWORD = "wombat kazoo theremin 9"
APP = "bench"
CONNECTIONS = 4
PINGS_PER_SECOND = 200
FAILURES_IN_A_ROW = 30  # before the counters are set back, so that nobody has to wait
BARE = """
import sys, time
from junctor.server.sso.pbkdf2 import derive
end, done, salt = time.perf_counter() + float(sys.argv[1]), 0, bytes(64)
begin = time.perf_counter()
while time.perf_counter() < end:
    derive(b"correct horse battery staple 7", salt, int(sys.argv[2]))
    done += 1
print(done / (time.perf_counter() - begin))
"""


@dataclass(frozen=True)
class Worker:
    """The cluster and its only server, which runs."""

    cluster: ClusterUnderTest
    port: int
    forget: Callable[[], None]
    """Sets all counters of failures back."""

    def login_body(self, username: str, password: str) -> bytes:
        """The body of a log-in."""
        return orjson.dumps({"username": username, "password": password, "current_app": APP})


def main() -> int:
    """0 if the goals are met, 1 if not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=200, help="of each kind, for their times")
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})  # the stores, which this process starts, too
    with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name, bench_cluster(Path(name)) as bench:
        cluster = bench.cluster
        under_test = cluster.servers[0]
        server = Server(
            "server",
            under_test.command,
            under_test.port,
            environment=under_test.environment,
            ready="/health/ready",
        )
        with server:
            _prepare(cluster)
            worker = Worker(
                cluster,
                under_test.port,
                lambda: execute(bench.postgres.url("bench"), "DELETE FROM sso_throttle"),
            )
            results = [
                _log_ins(worker, given.seconds, given.rounds),
                _pings(worker, given.seconds),
                _times(worker, given.attempts),
            ]
            cluster.disconnect()
    names = ("ratio", "ping_p99_ratio", "timing")
    print(" ".join(f"{name}={value:.3f}" for name, (value, _) in zip(names, results, strict=True)))
    return 0 if all(is_met for _, is_met in results) else 1


def _prepare(cluster: ClusterUnderTest) -> None:
    cluster.write(
        "zato.sso.edit",
        name="sso",
        hash_secret_rounds=ROUNDS,
        throttle_free_failures=50,
        throttle_address_limit=1_000_000,
        throttle_app_limit=10_000_000,
    )
    cluster.write("zato.sso-application.create", name=APP)
    for username in ("alice", "bob", "locked"):
        cluster.invoke(
            "zato.sso.admin.create-user",
            {"username": username, "password": PASSWORD, "is_locked": username == "locked"},
        )


def _log_ins(worker: Worker, seconds: float, rounds: int) -> tuple[float, bool]:
    """The ratio of log-ins to bare hashes per second, and whether it is enough."""
    load = Load(
        "/zato/sso/user/login",
        "POST",
        {"Content-Type": "application/json"},
        worker.login_body("alice", PASSWORD),
        connections=CONNECTIONS,
        seconds=seconds,
    )
    run_wrk(worker.port, Load(**{**vars(load), "seconds": 2}))
    ratios = []
    for _ in range(rounds):
        bare, reached = _bare(seconds), run_wrk(worker.port, load)
        if reached.errors:
            raise SystemExit(f"{reached.errors} log-ins failed")
        ratios.append(reached.rate / bare)
        print(f"login: {describe(reached)}; hash: {bare:.2f}/s; ratio {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    return ratio, ratio >= LEAST_RATIO


def _bare(seconds: float) -> float:
    """Hashes per second on the server's core, which is idle."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", BARE, str(seconds), str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent.parent)
    return float(done.stdout)


def _pings(worker: Worker, seconds: float) -> tuple[float, bool]:
    """The ratio of the p99 of pings while log-ins keep the worker busy and while it is idle."""
    _ping_times(worker, 1)
    idle = _ping_times(worker, seconds)
    busy_seconds = seconds + 2
    load = Load(
        "/zato/sso/user/login",
        "POST",
        {"Content-Type": "application/json"},
        worker.login_body("bob", PASSWORD),
        connections=CONNECTIONS,
        seconds=busy_seconds,
    )
    background = threading.Thread(target=run_wrk, args=(worker.port, load))
    background.start()
    time.sleep(1)
    busy = _ping_times(worker, seconds)
    background.join()
    for name, times in (("idle", idle), ("busy", busy)):
        print(f"ping, {name}: p50 {_percentile(times, 50):.2f} ms, p99 {_percentile(times, 99):.2f} ms")
    ratio = _percentile(busy, 99) / _percentile(idle, 99)
    return ratio, ratio <= MOST_PING_RATIO


def _ping_times(worker: Worker, seconds: float) -> list[float]:
    """Milliseconds from when each request was due, so that one that is late makes those behind it late, too."""
    with suppress(PermissionError):  # else, it may have to wait for the stores, which are on its core
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
    request = b"GET /zato/ping HTTP/1.1\r\nHost: bench\r\n\r\n"
    times = []
    with socket.create_connection((HOST, worker.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.perf_counter()
        for number in range(int(seconds * PINGS_PER_SECOND)):
            due = begin + number / PINGS_PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.sendall(request)
            answer = connection.recv(65536)  # it is small, and written at once
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"The ping failed: {answer!r}")
            times.append((time.perf_counter() - due) * 1000)
    return times


def _times(worker: Worker, attempts: int) -> tuple[float, bool]:
    """The greatest difference between the median time of a kind of refusal and that of unknown users, as a share of it."""
    worker.cluster.write(
        "zato.sso.edit", name="sso", hash_secret_rounds=TIMING_ROUNDS, login_inform_if_locked=False
    )
    for username in ("alice", "locked"):
        worker.cluster.invoke(
            "zato.sso.admin.change-password", {"username": username, "new_password": SECOND_PASSWORD}
        )
    numbers = count()
    kinds: dict[str, Callable[[], tuple[str, str]]] = {
        "unknown": lambda: (f"nobody{next(numbers)}", PASSWORD),
        "the same unknown": lambda: ("nobody", PASSWORD),
        "wrong": lambda: ("alice", "wrong"),
        "locked, wrong": lambda: ("locked", "wrong"),
        "locked, right": lambda: ("locked", SECOND_PASSWORD),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = [kind for kind in kinds for _ in range(attempts)]
    random.Random(1).shuffle(order)
    answers = set()
    with requests.Session() as session:
        session.trust_env = False
        for number, kind in enumerate(order):
            if number % FAILURES_IN_A_ROW == 0:
                worker.forget()
            body = worker.login_body(*kinds[kind]())
            begin = time.perf_counter()
            answer = session.post(
                f"http://{HOST}:{worker.port}/zato/sso/user/login",
                data=body,
                headers={"Content-Type": "application/json"},
            )
            times[kind].append((time.perf_counter() - begin) * 1000)
            told = {name: value for name, value in answer.json().items() if name != "cid"}
            answers.add((answer.status_code, orjson.dumps(told)))
    if len(answers) != 1:
        raise SystemExit(f"the answers differ: {answers}")
    return _compared(times)


def _compared(times: dict[str, list[float]]) -> tuple[float, bool]:
    unknown = times["unknown"]
    base, worst, is_told = statistics.median(unknown), 0.0, False
    for kind, measured in times.items():
        median = statistics.median(measured)
        difference = median / base - 1
        chance = _p_value(unknown, measured) if kind != "unknown" else 1.0
        worst = max(worst, abs(difference))
        is_told |= abs(difference) > MOST_DIFFERENCE and chance < LEAST_CHANCE
        print(f"timing, {kind}: median {median:.2f} ms, {difference:+.2%}, p={chance:.3f}")
    return worst, not is_told


def _p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely such a difference is by chance: Mann-Whitney's U, two-sided, by the normal approximation (no ties among times)."""
    ranks = {id(value): rank for rank, value in enumerate(sorted([*one, *other]), start=1)}
    rank_sum = sum(ranks.get(id(value), 0) for value in one)
    n, m = len(one), len(other)
    u = rank_sum - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(z) / math.sqrt(2))


def _percentile(times: Sequence[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


if __name__ == "__main__":
    sys.exit(main())
