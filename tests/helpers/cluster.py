"""A real cluster for tests: servers as processes of their own, on a database and a Redis that are given.

Tests talk to it as anybody would: over HTTP, through its files, with signals.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests

from junctor.server.client import AdminClient
from junctor.sql.engine import connect
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import succeeds, wait_until

START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 20.0  # seconds
CLUSTER = "tests"
LOG_LINES_SHOWN = 40


class ServerUnderTest:
    """One server: a gunicorn master with its workers, in a directory of its own."""

    def __init__(self, name: str, directory: Path, environ: Mapping[str, str], *, workers: int) -> None:
        self.name = name
        self.directory = directory
        self.port = free_port()
        self.worker_count = workers
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._members: list[psutil.Process] = []
        self._session = requests.Session()
        self._session.trust_env = False
        (directory / "pickup" / "incoming" / "services").mkdir(parents=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The master's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def pickup_directory(self) -> Path:
        """Where service files are dropped."""
        return self.directory / "pickup" / "incoming" / "services"

    @property
    def command(self) -> list[str]:
        """What starts the master in the foreground."""
        return [sys.executable, "-m", "junctor.server.main", str(self.directory)]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the master is given."""
        return self._environ | {
            "JUNCTOR_SERVER_NAME": self.name,
            "JUNCTOR_HOST": LOOPBACK,
            "JUNCTOR_PORT": str(self.port),
            "JUNCTOR_WORKERS": str(self.worker_count),
        }

    def start(self) -> None:
        """Starts the master and returns at once; see ``wait_until_ready``."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JUNCTOR_")}
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=inherited | self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_ready(self) -> None:
        """Every worker answers, or has been given time enough to."""
        wait_until(self._is_ready_or_ended, START_TIMEOUT, f"{self.name} did not get ready: {self.output()}")
        assert self.is_running(), f"{self.name} ended: {self.output()}"

    def _is_ready_or_ended(self) -> bool:
        return not self.is_running() or (self.is_ready() and len(self.workers()) == self.worker_count)

    def is_running(self) -> bool:
        """Whether the master is there."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether a worker says that it is ready."""
        try:
            return self.get("/health/ready").ok
        except requests.ConnectionError:
            return False

    def workers(self) -> list[psutil.Process]:
        """The processes of the workers."""
        return psutil.Process(self.pid).children()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the master."""
        assert self._process is not None
        self._process.send_signal(number)

    def disconnect(self) -> None:
        """Closes the kept connection."""
        self._session.close()
        gc.collect()  # responses that wait for it have sockets

    def begin_to_stop(self) -> None:
        """Tells the server to stop, once; see ``wait_until_stopped``."""
        self.disconnect()
        self._members = [psutil.Process(self.pid), *self.workers()]
        for member in self._members:
            member.resume()
        self.signal(signal.SIGTERM)

    def wait_until_stopped(self) -> int:
        """The exit code; what does not end in time is killed, and the test fails."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_TIMEOUT)
        finally:
            self.kill()

    def kill(self) -> None:
        """Nothing of the server is left, and it was not asked."""
        if self._process is None:
            return
        if self.is_running():
            self._members += [psutil.Process(self.pid), *self.workers()]
        for member in self._members:
            succeeds(member.kill, psutil.NoSuchProcess)
        self._process.wait(STOP_TIMEOUT)
        psutil.wait_procs(self._members, STOP_TIMEOUT)
        self._members = []

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer to a request on the kept connection."""
        return self._session.request(method, self.url + path, **{"timeout": 15, **options})

    def get(self, path: str, **options: Any) -> requests.Response:
        """The answer to a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """The answer to a POST."""
        return self.request("POST", path, **options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the server's series of this name which have these labels."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def log(self, name: str = "server") -> list[dict[str, Any]]:
        """The lines of ``server.log`` or ``access.log``, rotated files included, oldest first."""
        directory = self.directory / "logs"
        files = [*directory.glob(f"{name}.log"), *directory.glob(f"{name}.log.[0-9]*")]
        files.sort(key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)
        return [orjson.loads(line) for path in files for line in path.read_bytes().splitlines()]

    def logged(self, name: str = "server", **fields: Any) -> list[dict[str, Any]]:
        """The lines of a log with these values in these fields; waits until there is one."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log(name) if all(line.get(key) == fields[key] for key in fields)]

        return wait_until(found, 5, f"{self.name} has no such line in {name}.log: {fields}")

    def output(self) -> str:
        """The end of what the processes printed and logged, for the messages of failing tests."""
        texts = [self.directory / "output", self.directory / "logs" / "server.log"]
        lines = [
            line
            for path in texts
            if path.exists()
            for line in path.read_text("utf-8", "replace").splitlines()
        ]
        return "\n".join(lines[-LOG_LINES_SHOWN:])


class ClusterUnderTest:
    """Servers of one cluster on an object database with the current schema.

    ``workers`` says how many servers there are, and how many workers each has.
    """

    def __init__(
        self,
        directory: Path,
        *,
        odb_url: str,
        redis_url: str,
        workers: Sequence[int] = (1, 2),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        key = new_key_line()
        self.directory = directory
        self.odb_url = odb_url
        self.keyring = Keyring(parse_keys(key))
        self.admin_password = secrets.token_urlsafe(12)
        self.public_api_password = secrets.token_urlsafe(12)
        environ = {
            "JUNCTOR_CLUSTER": CLUSTER,
            "JUNCTOR_ODB_URL": odb_url,
            "JUNCTOR_REDIS_URL": redis_url,
            "JUNCTOR_SECRET_KEYS": key,
            "JUNCTOR_HEARTBEAT": "0.5",
            "JUNCTOR_GRACEFUL_TIMEOUT": "10",
            "JUNCTOR_ODB_POOL_SIZE": "2",
        }
        environ |= {f"JUNCTOR_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        self.servers = [
            ServerUnderTest(f"server{number}", directory / f"server{number}", environ, workers=count)
            for number, count in enumerate(workers, start=1)
        ]
        self._clients = [AdminClient(server.url, self.admin_password) for server in self.servers]

    def create(self) -> None:
        """Makes the cluster in the database; nothing is started."""
        from junctor.server.admin.bootstrap import (
            create_cluster,  # slow to import; most tests need no cluster
        )

        engine = connect(self.odb_url)
        try:
            create_cluster(
                engine,
                CLUSTER,
                self.keyring,
                servers=[(server.name, LOOPBACK, server.port) for server in self.servers],
                admin_password=self.admin_password,
                public_api_password=self.public_api_password,
            )
        finally:
            engine.dispose()

    def start(self) -> None:
        """Every worker of every server is ready, and known to the cluster."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_until_ready()
        wait_until(self._is_complete, START_TIMEOUT, "not every worker has reported to the cluster")

    def _is_complete(self) -> bool:
        expected = sorted(worker.pid for server in self.servers for worker in server.workers())
        return sorted(worker["pid"] for worker in self.workers()) == expected

    def disconnect(self) -> None:
        """Closes the connections that the helpers keep open, for which a stopping worker would wait."""
        for client in self._clients:
            client.close()
        for server in self.servers:
            server.disconnect()

    def stop(self) -> None:
        """Every process has ended."""
        self.disconnect()
        left = [server for server in self.servers if server.is_running()]
        for server in left:
            server.begin_to_stop()
        codes = [server.wait_until_stopped() for server in left]
        assert not any(codes), f"exit codes {codes}"

    def kill(self) -> None:
        """Ends everything without asking."""
        for server in self.servers:
            server.kill()

    def store(self) -> Store:
        """The cluster's store, for looking at the database; the caller disposes of its engine."""
        return Store.open(connect(self.odb_url), CLUSTER, self.keyring)

    def admin(self, server: int = 0) -> AdminClient:
        """A client of the administrative services on one of the servers."""
        return self._clients[server]

    def invoke(self, service: str, payload: Any = None, *, server: int = 0) -> Any:
        """The answer of an administrative service; raises what ``AdminClient.invoke`` does."""
        return self._clients[server].invoke(service, payload)

    def workers(self) -> list[dict[str, Any]]:
        """Every worker that the cluster knows of, with its ``server``."""
        status = self.invoke("junctor.cluster.status")
        return [worker for server in status["servers"] for worker in server["workers"]]

    def deploy(self, **files: str) -> dict[str, Any]:
        """The answer to the deployment of files, given by their names without ``.py``; every worker has them then."""
        listed = [{"name": f"{name}.py", "content": content} for name, content in files.items()]
        return converged(self.invoke("junctor.service.deploy", {"files": listed}))

    def channel(self, name: str, service: str, /, **fields: Any) -> dict[str, Any]:
        """The answer to the creation of a REST channel; every worker has it then.  Its path is its name by default."""
        given = {"name": name, "url_path": f"/{name}", "service": service, **fields}
        return converged(self.invoke("zato.channel-rest.create", given))

    def write(self, service: str, /, **fields: Any) -> dict[str, Any]:
        """The answer of an administrative service that changes something; every worker has it then."""
        return converged(self.invoke(service, fields))

    def is_everywhere(self, condition: Callable[[ServerUnderTest], bool], timeout: float = 10.0) -> None:
        """Waits until a condition holds on each server."""
        for server in self.servers:
            wait_until(lambda server=server: condition(server), timeout, f"not so on {server.name}")  # type: ignore[misc]


def converged(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a write, after a look whether every worker has it."""
    assert answer["converged"], answer
    return answer


def running(cluster: ClusterUnderTest) -> Iterator[ClusterUnderTest]:
    """The cluster, created and started; at the end nothing of it is left."""
    try:
        cluster.create()
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()
