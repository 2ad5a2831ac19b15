"""A cluster as a user has it, with a service that tells who answers and a channel that demands a password."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.quickstart import QuickstartUnderTest, running

SHOP = '''
import os

from zato.server.service import Int, Service


class Price(Service):
    """What so many of a product cost, and which process has computed it."""

    name = "shop.price"
    input = "product", Int("quantity")
    output = "product", Int("total"), Int("pid")

    def handle(self):
        self.response.payload.product = self.request.input.product
        self.response.payload.total = self.request.input.quantity * 4
        self.response.payload.pid = os.getpid()
'''
PASSWORD = "correct horse"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Shop:
    """A channel with its security definition, made by commands; ``path`` takes a product."""

    quickstart: QuickstartUnderTest
    channel: str
    security: str

    @property
    def auth(self) -> tuple[str, str]:
        return self.security, PASSWORD

    def price(self, *, method="GET", auth=None, path=""):
        """The answer to a call of the channel through the load balancer."""
        path = path or f"/{self.channel}/tea?quantity=3"
        return self.quickstart.call(method, path, auth=auth or self.auth)


@pytest.fixture(scope="session")
def quickstart(public_directory: Path) -> Iterator[QuickstartUnderTest]:
    """An environment that all tests share: each uses names of its own, and leaves everything running."""
    for environment in running(public_directory / "quickstart"):
        environment.junctor("deploy", environment.file("shop.py", SHOP))
        yield environment


@pytest.fixture
def own_quickstart(public_directory: Path) -> Iterator[QuickstartUnderTest]:
    """An environment for one test, which may do to it what it likes; it has nothing yet."""
    yield from running(public_directory / f"quickstart-{next(_numbers)}")


@pytest.fixture
def shop(quickstart: QuickstartUnderTest) -> Shop:
    """A channel and a security definition that no other test uses."""
    return make_shop(quickstart, f"shop{next(_numbers)}")


def make_shop(environment: QuickstartUnderTest, name: str) -> Shop:
    user = f"{name}-user"
    password = ("--password-file", environment.file("password.txt", PASSWORD))
    environment.junctor("create-security-basic-auth", user, "--username", user, *password)
    service = ("--service", "shop.price", "--security", user)
    environment.junctor("create-channel-rest", name, "--url-path", f"/{name}/{{product}}", *service)
    return Shop(environment, name, user)


@pytest.fixture
def new_shop():
    """Makes the channel of ``shop`` in another environment, to which its service is deployed, too."""

    def make(environment: QuickstartUnderTest, name: str = "shop") -> Shop:
        environment.junctor("deploy", environment.file("shop.py", SHOP))
        return make_shop(environment, name)

    return make
