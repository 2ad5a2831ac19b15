"""Single Sign-On in a cluster of its own; the database is that of the module."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.connections import one_at_a_time
from tests.helpers.sso import SsoUnderTest

_numbers = itertools.count(1)


@pytest.fixture
def sso_store(module_engine: Engine, keyring: Keyring) -> Store:
    """A cluster that nobody else uses; there are others in the database."""
    return Store.create(module_engine, f"cluster {next(_numbers)}", keyring)


@pytest.fixture(autouse=True)
def nobody_waits_for_a_second_connection(module_engine: Engine) -> Iterator[None]:
    """Whatever a test tries, the server never asks for a connection while it has one."""
    with one_at_a_time(module_engine) as places:
        yield
    assert places == []


@pytest.fixture
def sso(sso_store: Store) -> Iterator[SsoUnderTest]:
    """A worker of a new cluster."""
    made = SsoUnderTest(sso_store)
    yield made
    made.stop()
