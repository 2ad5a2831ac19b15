"""A cluster for benchmarks: real stores and a database of its own; its servers are started by whoever measures them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from junctor.sql import schema
from junctor.sql.engine import connect
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.postgres import PostgresServer
from tests.helpers.valkey import ValkeyServer


@contextmanager
def bench_cluster(
    directory: Path, *, workers: Sequence[int] = (1,), **settings: object
) -> Iterator[ClusterUnderTest]:
    """A cluster that exists, but does not run, on a PostgreSQL that writes to the disk as in production, and a Valkey."""
    directory.chmod(0o755)
    for name in ("postgres", "valkey"):
        (directory / name).mkdir()
    postgres, valkey = (
        PostgresServer(directory / "postgres", durable=True),
        ValkeyServer(directory / "valkey"),
    )
    postgres.create()
    postgres.start()
    valkey.start()
    try:
        postgres.execute("CREATE DATABASE bench")
        url = postgres.url("bench")
        engine = connect(url)
        schema.upgrade(engine)
        engine.dispose()
        cluster = ClusterUnderTest(
            directory, odb_url=url, redis_url=valkey.url, workers=workers, settings=settings
        )
        cluster.create()
        yield cluster
    finally:
        valkey.stop()
        postgres.stop()
