"""What the tests of running servers share: services to call, and clusters that a test may break."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.postgres import PostgresServer
from tests.helpers.valkey import ValkeyServer

SERVICES = '''
import os

import gevent
from zato.server.service import Service


class Echo(Service):
    """Answers with what it sees of the request."""

    name = "t.echo"

    def handle(self):
        http = self.request.http
        raw = self.request.raw_request
        self.response.payload = {
            "method": http.method,
            "path": http.path,
            "params": http.params,
            "query": http.GET,
            "form": http.POST,
            "input": dict(self.request.input),
            "payload": repr(self.request.payload),
            "raw": len(raw),
            "caller": self.channel.security.name,
            "caller_type": self.channel.security.type,
            "channel": self.channel.name,
            "cid": self.cid,
            "pid": os.getpid(),
        }


class Raw(Service):
    """Answers with the body that it was given."""

    name = "t.raw"

    def handle(self):
        self.response.payload = self.request.raw_request


class Sized(Service):
    """Answers with as many letters as it is asked for."""

    name = "t.sized"

    def handle(self):
        self.response.payload = "x" * int(self.request.input["size"])


class Custom(Service):
    """Answers with the status, headers and content type that it is given."""

    name = "t.custom"

    def handle(self):
        for name, value in self.request.payload.items():
            if name == "headers":
                self.response.headers.update(value)
            else:
                setattr(self.response, name, value)


class Slow(Service):
    """Waits, and says so in files: 'started' at first, and 'finished' if it gets there."""

    name = "t.slow"

    def handle(self):
        where = self.request.payload["where"]
        open(os.path.join(where, "started"), "w").close()
        try:
            gevent.sleep(self.request.payload["seconds"])
            open(os.path.join(where, "finished"), "w").close()
        finally:
            open(os.path.join(where, "left"), "w").close()
        self.response.payload = {"done": True}


class Broken(Service):
    """Raises what no caller may see."""

    name = "t.broken"

    def handle(self):
        password = "canary-in-a-local-variable"
        raise KeyError("canary-in-an-exception")


class Logging(Service):
    """Writes a line to the log."""

    name = "t.logging"

    def handle(self):
        self.logger.info("Order %s arrived", self.request.payload["id"])


class Refusing(Service):
    """Raises the error of the name that it is given."""

    name = "t.refusing"

    def handle(self):
        import zato.common.exception as exceptions

        raise getattr(exceptions, self.request.payload["error"])(self.cid, "Because of the test")


class Verbs(Service):
    """Has a handler for each of two methods."""

    name = "t.verbs"

    def handle_GET(self):
        self.response.payload = "got"

    def handle_DELETE(self):
        self.response.status_code = 204
'''
_numbers = itertools.count(1)


def service(name: str, answer: str, head: str = "") -> str:
    """The source of a file with one service, which answers with an expression's value."""
    return (
        f"{head}\nfrom zato.server.service import Service\n\n\nclass {name.title().replace('.', '')}(Service):\n"
        f"    name = {name!r}\n\n    def handle(self):\n        self.response.payload = {answer}\n"
    )


def drop(server: ServerUnderTest, file_name: str, source: str | bytes) -> Path:
    """Copies a file into the pickup directory of a server, as ``cp`` does."""
    path = server.pickup_directory / file_name
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return path


@pytest.fixture(scope="session")
def services(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The shared cluster, with the services ``t.*``."""
    cluster.deploy(tests_of_channels=SERVICES)
    return cluster


@dataclass(frozen=True, slots=True)
class OwnCluster:
    """A cluster with stores of its own, all of which a test may stop, kill and start again."""

    cluster: ClusterUnderTest
    postgres: PostgresServer
    valkey: ValkeyServer


def _makes_clusters(public_directory: Path) -> Iterator[Callable[..., OwnCluster]]:
    """Makes clusters, not started; takes what ``ClusterUnderTest`` takes."""
    from junctor.sql import engine as engines
    from junctor.sql import schema

    made: list[OwnCluster] = []

    def make(**options: object) -> OwnCluster:
        directory = public_directory / f"own-{next(_numbers)}"
        postgres, valkey = PostgresServer(directory / "postgres"), ValkeyServer(directory / "valkey")
        for path in (directory, postgres.directory, valkey.directory):
            path.mkdir()
        made.append(
            OwnCluster(
                ClusterUnderTest(directory, odb_url=postgres.url(), redis_url=valkey.url, **options),  # type: ignore[arg-type]
                postgres,
                valkey,
            )
        )
        postgres.create()
        postgres.start()
        valkey.start()
        engine = engines.connect(postgres.url())
        schema.upgrade(engine)
        engine.dispose()
        made[-1].cluster.create()
        return made[-1]

    try:
        yield make
        for one in made:
            one.cluster.stop()
    finally:
        for one in made:
            one.cluster.kill()
            one.valkey.kill()
            one.postgres.stop()


@pytest.fixture
def own(public_directory: Path) -> Iterator[Callable[..., OwnCluster]]:
    """Makes a cluster for one test."""
    yield from _makes_clusters(public_directory)


@pytest.fixture(scope="class")
def own_of_class(public_directory: Path) -> Iterator[Callable[..., OwnCluster]]:
    """Makes a cluster for the tests of a class, each of which leaves it as it was."""
    yield from _makes_clusters(public_directory)
