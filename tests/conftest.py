"""The real stores and the objects that tests of every kind ask for by name.

``JUNCTOR_TEST_ODB_URL`` names another PostgreSQL to run the tests on; its user must be allowed to create databases.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine, make_url

from junctor.sql import engine as engines
from junctor.sql import schema
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.cluster import ClusterUnderTest, running
from tests.helpers.network import refuse_other_machines
from tests.helpers.postgres import PostgresServer, connected, execute, fresh_database
from tests.helpers.valkey import ValkeyServer

CLUSTER = "test"
_numbers = itertools.count(1)

refuse_other_machines()
# A run tells the same every time; look for new examples with HYPOTHESIS_PROFILE=explore.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def public_directory() -> Iterator[Path]:
    """A directory that an unprivileged account may pass; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="junctor-tests-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres(public_directory: Path) -> Iterator[str]:
    """The URL of the maintenance database of a PostgreSQL that lasts as long as the tests."""
    if given := os.environ.get("JUNCTOR_TEST_ODB_URL"):
        yield engines.driver_url(given)
        return
    directory = public_directory / "postgres"
    directory.mkdir()
    server = PostgresServer(directory)
    server.create()
    server.start()
    yield server.url()
    server.stop()


@pytest.fixture
def own_postgres(public_directory: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL for one test, which may do to it what it likes."""
    directory = public_directory / f"postgres-{next(_numbers)}"
    directory.mkdir()
    server = PostgresServer(directory)
    server.create()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a database with the current schema and no rows."""
    name = f"junctor_template_{os.getpid()}"
    execute(postgres, f"CREATE DATABASE {name}")
    engine = engines.connect(_database(postgres, name))
    schema.upgrade(engine)
    engine.dispose()
    yield name
    execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The URL of a database without any tables."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def database(postgres: str, template: str) -> Iterator[str]:
    """The URL of a database with the current schema and no rows."""
    with fresh_database(postgres, template) as url:
        yield url


@pytest.fixture(scope="module")
def module_engine(postgres: str, template: str) -> Iterator[Engine]:
    """Connections to one database for all tests of a module: several times as fast as one for each."""
    with connected(postgres, template) as made:
        yield made


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """Connections to a database with the current schema and no rows."""
    engine = engines.connect(database)
    yield engine
    engine.dispose()


@pytest.fixture
def keyring() -> Keyring:
    """A keyring with a key of its own."""
    return Keyring(parse_keys(new_key_line()))


@pytest.fixture
def store(engine: Engine, keyring: Keyring) -> Store:
    """The store of a cluster that has been created a moment ago."""
    return Store.create(engine, CLUSTER, keyring)


@pytest.fixture(scope="session")
def valkey(public_directory: Path) -> Iterator[ValkeyServer]:
    """A Valkey that lasts as long as the tests; who stops it starts it again."""
    directory = public_directory / "valkey"
    directory.mkdir()
    server = ValkeyServer(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster(
    public_directory: Path, postgres: str, template: str, valkey: ValkeyServer
) -> Iterator[ClusterUnderTest]:
    """Two servers, one of them with two workers, that many tests share: each uses names of its own, and harms nothing."""
    directory = public_directory / "cluster"
    directory.mkdir()
    with fresh_database(postgres, template) as url:
        yield from running(ClusterUnderTest(directory, odb_url=url, redis_url=valkey.url))
