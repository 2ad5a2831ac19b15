"""What the benchmarks share: a server on one core, wrk on another, configurations by turns, medians.

    stock = Server("stock", gunicorn_command(app, directory, worker_class="gevent"))
    ours = Server("ours", gunicorn_command(app, directory, worker_class="junctor.server.http_worker.HTTPWorker"))
    results = alternate([stock, ours], Load(url="/echo", method="POST", body=b"{}"), rounds=3)
    print(ratio(results, "ours", "stock"))

The host is noisy, so only ratios within one run mean anything: every round measures each configuration once, and the
middle one of the rounds counts.  Needs ``wrk`` (Debian has it) and two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

SERVER_CORE = 0
LOAD_CORE = 1
HOST = "127.0.0.1"

# How long a server may take to answer its first connection, and to stop, in seconds.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
_POLL = 0.05

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class BenchmarkFailed(Exception):
    """The benchmark could not be run, or what it measured does not count; says why."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def gunicorn_command(application: str, *, worker_class: str, port: int, workers: int = 1) -> list[str]:
    """The command that serves ``application`` (``module:name``) with gunicorn and a worker class."""
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class", worker_class]
    command += ["--workers", str(workers), "--worker-connections", "2000", "--log-level", "warning"]
    return [*command, "--bind", f"{HOST}:{port}", application]


@dataclass
class Server(AbstractContextManager["Server"]):
    """A server in a process of its own, pinned to ``core``; entering starts it, leaving stops it.

    ``command`` must listen on ``port`` of the loopback address and, if there is a path ``ready``, answer it with success.  Raises
    BenchmarkFailed, with the end of its log, if it does not within START_TIMEOUT.
    """

    name: str
    command: Sequence[str]
    port: int
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    core: int = SERVER_CORE
    ready: str = ""

    def __enter__(self) -> Server:
        with tempfile.TemporaryFile() as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *self.command],
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._wait_until_it_listens()
            except BenchmarkFailed as failed:
                self.__exit__(None, None, None)
                log.seek(0)
                raise BenchmarkFailed(f"{failed}: {log.read()[-2000:].decode(errors='replace')}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = self.processes()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for member in family:
                if member.is_running():
                    member.kill()
            self.process.wait()

    def processes(self) -> list[psutil.Process]:
        """The server's process and all of its descendants."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> int:
        """The bytes of memory that only the server's processes have, all of them together."""
        return sum(member.memory_full_info().uss for member in self.processes())

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            try:
                with socket.create_connection((HOST, self.port), timeout=1):
                    pass
                if self.ready:
                    urllib.request.urlopen(f"http://{HOST}:{self.port}{self.ready}", timeout=1).close()
                return
            except OSError:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(_POLL)
                    raise BenchmarkFailed(f"{self.name} stopped at once") from None
        raise BenchmarkFailed(f"{self.name} does not listen on port {self.port}")


@dataclass(frozen=True)
class Load:
    """What wrk asks, and how: ``seconds`` long, over as many connections, from ``core``."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    connections: int = 16
    seconds: float = 5
    threads: int = 1
    core: int = LOAD_CORE

    def script(self) -> str:
        """The Lua that makes wrk send this."""
        lines = [f"wrk.method = {_lua(self.method)}"]
        lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in self.headers.items()]
        if self.body:
            lines.append(f"wrk.body = {_lua(self.body.decode('latin-1'))}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Result:
    """What wrk measured: requests per second, and milliseconds at the median and below which 99 % stay."""

    rate: float
    p50: float
    p99: float
    requests: int
    errors: int


def run_wrk(port: int, load: Load) -> Result:
    """The result of one run of wrk.  Raises BenchmarkFailed if it cannot be run; errors are counted in the result."""
    if shutil.which("wrk") is None:
        raise BenchmarkFailed("wrk is not installed: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(load.script())
        script.flush()
        command = [
            "taskset",
            "-c",
            str(load.core),
            "wrk",
            "--latency",
            f"-t{load.threads}",
            f"-c{load.connections}",
        ]
        command += [f"-d{load.seconds:g}s", "-s", script.name, f"http://{HOST}:{port}{load.url}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=load.seconds + 60, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"wrk failed: {done.stdout}{done.stderr}")
    return parse_wrk(done.stdout)


def parse_wrk(output: str) -> Result:
    """The result that wrk printed.  Raises BenchmarkFailed if that is not what it is."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.M)
    count = re.search(r"^\s*(\d+) requests in", output, re.M)
    if rate is None or count is None:
        raise BenchmarkFailed(f"wrk printed no rate: {output}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(failed[1]) if failed else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    return Result(float(rate[1]), _percentile(output, 50), _percentile(output, 99), int(count[1]), errors)


def _percentile(output: str, percent: int) -> float:
    """A latency of wrk's table, in milliseconds."""
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", output, re.M)
    if found is None:
        raise BenchmarkFailed(f"wrk printed no {percent}% latency: {output}")
    return float(found[1]) * _UNITS[found[2]]


def _lua(text: str) -> str:
    """A Lua string literal."""
    return '"' + "".join(char if char.isalnum() else f"\\{ord(char):03d}" for char in text) + '"'


def alternate(
    servers: Sequence[Server], load: Load | Mapping[str, Load], *, rounds: int = 3, warm_up: float = 1
) -> dict[str, list[Result]]:
    """The results of each server, by its name: in every round each one is started, warmed up and measured once.

    ``load`` is the same for all, or one for each name.  Raises BenchmarkFailed if any request failed.
    """
    results: dict[str, list[Result]] = {server.name: [] for server in servers}
    for number in range(1, rounds + 1):
        for server in servers:
            wanted = load if isinstance(load, Load) else load[server.name]
            with server:
                run_wrk(server.port, _shortened(wanted, warm_up))
                result = run_wrk(server.port, wanted)
            if result.errors:
                raise BenchmarkFailed(f"{server.name}: {result.errors} of {result.requests} requests failed")
            results[server.name].append(result)
            print(f"[{number}/{rounds}] {server.name}: {describe(result)}", flush=True)
    return results


def _shortened(load: Load, seconds: float) -> Load:
    return Load(**{**load.__dict__, "seconds": seconds})


def timed(action: Callable[[], object]) -> float:
    """How many seconds ``action`` took."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def median(results: Sequence[Result]) -> Result:
    """The medians of several results, each figure for itself; requests and errors are summed."""
    return Result(
        statistics.median(result.rate for result in results),
        statistics.median(result.p50 for result in results),
        statistics.median(result.p99 for result in results),
        sum(result.requests for result in results),
        sum(result.errors for result in results),
    )


def ratio(results: Mapping[str, Sequence[Result]], name: str, baseline: str) -> float:
    """How many times as many requests per second as ``baseline`` the server ``name`` has answered."""
    return median(results[name]).rate / median(results[baseline]).rate


def describe(result: Result) -> str:
    """A result in a line."""
    return f"{result.rate:,.0f} requests/s, p50 {result.p50:.2f} ms, p99 {result.p99:.2f} ms"
