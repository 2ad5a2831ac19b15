"""A cluster for benchmarks: real stores and a database of its own; its servers are started by whoever measures them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from junctor.sql import schema
from junctor.sql.engine import connect
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.postgres import PostgresServer
from tests.helpers.valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class BenchCluster:
    """A cluster that exists, and its stores, which run."""

    cluster: ClusterUnderTest
    postgres: PostgresServer
    valkey: ValkeyServer


@contextmanager
def bench_cluster(
    directory: Path, *, workers: Sequence[int] = (1,), **settings: object
) -> Iterator[BenchCluster]:
    """A cluster that does not run yet, on a PostgreSQL that writes to the disk as in production, and a Valkey."""
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
    cluster = None
    try:
        postgres.execute("CREATE DATABASE bench")
        url = postgres.url("bench")
        engine = connect(url)
        schema.upgrade(engine)
        engine.dispose()
        cluster = ClusterUnderTest(
            directory,
            odb_url=url,
            redis_url=valkey.url,
            workers=workers,
            settings={"heartbeat": 2.0} | settings,
        )
        cluster.create()
        yield BenchCluster(cluster, postgres, valkey)
    finally:
        if cluster is not None:
            cluster.kill()
        valkey.stop()
        postgres.stop()
