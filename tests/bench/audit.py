"""How fast audit events are written and linked, and how long the hub is held up meanwhile.

python -m tests.bench.audit POSTGRES_URL [EVENTS]     (a maintenance database; one is made and dropped)
"""

from gevent import monkey

monkey.patch_all()

import logging
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import gevent
from gevent.pool import Pool

from junctor.server.audit.trail import Event
from junctor.sql import engine as engines
from junctor.sql import schema
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.audit import AuditUnderTest
from tests.helpers.postgres import PostgresServer, fresh_database

CALLERS = 200


def main(url: str, count: int) -> None:
    """Prints the figures."""
    with fresh_database(url) as database, tempfile.TemporaryDirectory() as directory:
        engine = engines.connect(database)
        schema.upgrade(engine)
        store = Store.create(engine, "bench", Keyring(parse_keys(new_key_line())))
        audit = AuditUnderTest(store, Path(directory))
        audit.context.logs.install("INFO")
        worst = [0.0]
        watcher = gevent.spawn(watch, worst)
        pool, started = Pool(CALLERS), perf_counter()
        for number in range(count):
            pool.spawn(audit.trail.note, Event(cid=f"cid{number}", op="user.login", actor="zusr1", app="CRM"))
        pool.join()
        seconds = perf_counter() - started
        print(
            f"{count / seconds:.0f} notes/s by {CALLERS} greenlets; the hub was late by {worst[0] * 1000:.0f} ms at most"
        )
        worst[0], started = 0.0, perf_counter()
        while audit.trail.chain.link_next().count:
            gevent.sleep(0)
        seconds = perf_counter() - started
        print(f"{count / seconds:.0f} links/s; the hub was late by {worst[0] * 1000:.0f} ms at most")
        worst[0], started = 0.0, perf_counter()
        found = audit.trail.verifier.verify(lambda _step: gevent.sleep(0))
        seconds = perf_counter() - started
        print(
            f"{found.checked / seconds:.0f} verified/s, {found.problem_count} problems; the hub was late by {worst[0] * 1000:.0f} ms"
        )
        started, used = perf_counter(), process_time()
        with engine.begin() as connection:
            for number in range(1000):
                audit.record(connection, f"r{number}")
        print(
            f"{perf_counter() - started:.2f} ms for an event in a transaction, {process_time() - used:.2f} ms of the processor"
        )
        watcher.kill()
        audit.stop()
        engine.dispose()


def watch(worst: list[float]) -> None:
    """Measures how late the hub is."""
    while True:
        before = perf_counter()
        gevent.sleep(0.001)
        worst[0] = max(worst[0], perf_counter() - before - 0.001)


if __name__ == "__main__":
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    if len(sys.argv) > 1:
        main(sys.argv[1], events)
    else:
        with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name:
            Path(name).chmod(0o755)
            (Path(name) / "postgres").mkdir()
            server = PostgresServer(Path(name) / "postgres")
            server.create()
            server.start()
            try:
                main(server.url(), events)
            finally:
                server.stop()
    logging.shutdown()
