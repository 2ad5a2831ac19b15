"""A cluster whose processes tests kill, pause and hinder; each test finds it whole again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.quickstart import SERVERS, QuickstartUnderTest, running
from tests.helpers.waiting import succeeds

STOCK = '''
import os

from zato.server.service import Service


class Stock(Service):
    """How many there are, and which process says so."""

    name = "stock.get"

    def handle(self):
        self.response.payload = {"item": self.request.input.get("item"), "pid": os.getpid()}
'''
AUTH = ("stock", "open sesame")
CHANNEL = "stock"
_numbers = itertools.count(1)


class ChaosQuickstart:
    """The environment, and how tests see whether it works."""

    def __init__(self, environment: QuickstartUnderTest) -> None:
        self.environment = environment

    def works(self) -> bool:
        """Whether the channel answers as it did before, and lets nobody else in."""
        call = self.environment.call
        inside, outside = call("GET", "/stock/7", auth=AUTH), call("GET", "/stock/7", auth=("stock", "x"))
        return inside.ok and inside.json()["item"] == "7" and outside.status_code == 401

    def timeout(self) -> int:
        """The channel's time-out in the object database."""
        found: int = self.environment.json("get-channel-rest", CHANNEL)["timeout"]
        return found

    def edit(self, timeout: int) -> int:
        """The version at which every worker has another time-out of the channel."""
        answer = self.environment.json("edit-channel-rest", CHANNEL, "--timeout", str(timeout))
        assert answer["converged"], answer
        version: int = answer["config_version"]
        return version

    def new_timeout(self) -> int:
        """A time-out that the channel has never had."""
        return 100 + next(_numbers)


@pytest.fixture(scope="session")
def environment(public_directory: Path) -> Iterator[QuickstartUnderTest]:
    """The environment that all tests share, with a service, a security definition and a channel."""
    for made in running(public_directory / "chaos"):
        made.junctor("deploy", made.file("stock.py", STOCK))
        password = ("--password-file", made.file("password.txt", AUTH[1]))
        made.junctor("create-security-basic-auth", "stock", "--username", AUTH[0], *password)
        options = ("--url-path", "/stock/{item}", "--service", "stock.get", "--security", "stock")
        made.junctor("create-channel-rest", CHANNEL, *options)
        yield made


@pytest.fixture
def cluster(environment: QuickstartUnderTest) -> Iterator[ChaosQuickstart]:
    """The cluster, which runs and works, whatever an earlier test has left behind."""
    environment.start()
    environment.wait_until_healthy()
    yield ChaosQuickstart(environment)
    for process in environment.processes():
        succeeds(process.resume, psutil.NoSuchProcess)


@pytest.fixture
def near(environment: QuickstartUnderTest):
    """Runs a command that asks the first server directly, for when the load balancer might choose one that hangs."""
    address = ("--address", f"http://127.0.0.1:{environment.port_base}")

    def run(*arguments):
        return environment.run("--json", "--path", environment.path, *address, *arguments)

    return run


@pytest.fixture
def workers(environment: QuickstartUnderTest) -> dict[str, psutil.Process]:
    """The worker of each server, as they are when the test begins."""
    return {server: environment.worker(server) for server in SERVERS}
