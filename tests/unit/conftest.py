"""One database for all tests of a run, with a cluster of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.postgres import connected

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_engine(postgres: str, template: str) -> Iterator[Engine]:
    """Connections to a database with the current schema, in which many tests have their clusters."""
    with connected(postgres, template) as engine:
        yield engine


@pytest.fixture
def cluster_name() -> str:
    """A name that no other cluster has."""
    return f"cluster-{next(_numbers)}"


@pytest.fixture
def store(shared_engine: Engine, keyring: Keyring, cluster_name: str) -> Store:
    """The store of a cluster that has been created a moment ago."""
    return Store.create(shared_engine, cluster_name, keyring)
