"""The object database in a process that gevent has patched: nothing blocks, and what is stopped half-way breaks nothing.

Each test is a program of its own, since a process that runs tests must not be patched.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

HEAD = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from sqlalchemy import text
from junctor.sql import engine as engines
from junctor.sql.engine import database_errors
from junctor.sql.errors import JunctorError, StoreUnavailable
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store

URL = sys.stdin.readline().strip()

def run(engine, statement):
    with database_errors(), engine.connect() as connection:
        return connection.scalar(text(statement))

def until(condition):
    with gevent.Timeout(10, AssertionError("not true within 10 s")):
        while not condition():
            gevent.sleep(0.01)

def running(engine, what):
    return run(engine, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
               f"AND pid <> pg_backend_pid() AND query LIKE '%{what}%'")
"""


def run_program(body: str, database: str) -> None:
    """Runs a program under gevent; what it asserts is asserted."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(body) + "\nprint('done')"],
        input=f"{database}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stdout + done.stderr


def test_a_slow_query_lets_others_run(database: str) -> None:
    run_program(
        """
        engine = engines.connect(URL)
        run(engine, "SELECT 1")
        slow = gevent.spawn(run, engine, "SELECT 1 FROM pg_sleep(3)")
        until(lambda: running(engine, "pg_sleep"))
        turns = 0
        while not slow.ready() and turns < 200:
            run(engine, "SELECT 1")
            turns += 1
        assert turns == 200, f"only {turns} turns while the slow query ran"
        assert not slow.ready()
        assert slow.get(timeout=20) == 1
        """,
        database,
    )


def test_connecting_lets_others_run_and_is_given_up_in_time(database: str) -> None:
    run_program(
        """
        from gevent import socket
        engines.CONNECT_TIMEOUT = 1
        silent = socket.create_server(("127.0.0.1", 0))
        engine = engines.connect(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d")
        waiting = gevent.spawn(run, engine, "SELECT 1")
        connection, _ = silent.accept()
        assert not waiting.ready()
        waiting.join(timeout=15)
        assert isinstance(waiting.exception, StoreUnavailable), waiting.exception
        """,
        database,
    )


def test_a_query_whose_greenlet_is_killed_leaves_the_pool_sound(database: str) -> None:
    run_program(
        """
        engine, watcher = engines.connect(URL, pool_size=1), engines.connect(URL)
        for _ in range(3):
            greenlet = gevent.spawn(run, engine, "SELECT 'stopped' FROM pg_sleep(30)")
            until(lambda: running(watcher, "pg_sleep"))
            greenlet.kill(timeout=5)
            assert isinstance(greenlet.value, gevent.GreenletExit), (greenlet.value, greenlet.exception)
            # The pool's one connection works, and answers this question, not the one before.
            assert run(engine, "SELECT 'next'") == "next"
            assert engine.pool.checkedout() == 0
            until(lambda: not running(watcher, "pg_sleep"))
        """,
        database,
    )


def test_a_query_that_takes_longer_than_its_caller_waits_leaves_the_pool_sound(database: str) -> None:
    run_program(
        """
        engine, watcher = engines.connect(URL, pool_size=1), engines.connect(URL)
        run(engine, "SELECT 1")
        for _ in range(3):
            timeout = gevent.Timeout(0.2)
            try:
                with timeout:
                    run(engine, "SELECT 'stopped' FROM pg_sleep(30)")
                assert False, "not stopped"
            except gevent.Timeout as error:
                assert error is timeout
            assert run(engine, "SELECT 'next'") == "next"
            assert engine.pool.checkedout() == 0
            until(lambda: not running(watcher, "pg_sleep"))
        """,
        database,
    )


def test_a_writer_that_is_killed_gives_the_configuration_free(database: str) -> None:
    run_program(
        """
        engine = engines.connect(URL)
        store = Store.create(engine, "test", Keyring(parse_keys(new_key_line())))

        def work():
            with store.transaction(who="killed") as transaction:
                transaction.create("service", {"name": "a"})
                transaction.connection.execute(text("SELECT pg_sleep(30)"))

        greenlet = gevent.spawn(work)
        until(lambda: running(engine, "pg_sleep"))
        greenlet.kill(timeout=5)
        with store.transaction(who="next") as transaction:  # within the lock time-out, not after the 30 s
            transaction.create("service", {"name": "b"})
        assert store.version() == 2
        assert [found.name for found in store.find("service").objects] == ["b"]
        """,
        database,
    )


def test_many_greenlets_write_and_none_is_lost(database: str) -> None:
    run_program(
        """
        engine = engines.connect(URL, pool_size=4)
        store = Store.create(engine, "test", Keyring(parse_keys(new_key_line())))

        def work(number):
            with store.transaction(who="w") as transaction:
                transaction.create("service", {"name": f"s{number}"})
            return transaction.version

        versions = [found.get() for found in [gevent.spawn(work, number) for number in range(40)]]
        assert sorted(versions) == list(range(2, 42))
        assert store.find("service").total == 40
        """,
        database,
    )


def test_a_network_that_swallows_answers_ends_in_a_plain_error(database: str) -> None:
    run_program(
        """
        import os, signal
        engines.STATEMENT_TIMEOUT, engines.CONNECT_TIMEOUT = 1, 1
        engine = engines.connect(URL, pool_size=1)
        pid = run(engine, "SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            with engine.connect() as connection:
                assert False, "the ping before use cannot have been answered"
        except Exception as error:
            with database_errors():
                try:
                    raise error
                except Exception:
                    pass
        finally:
            os.kill(pid, signal.SIGCONT)
        assert run(engine, "SELECT 1") == 1
        """,
        database,
    )


def test_a_process_that_is_not_patched_waits_as_usual(database: str) -> None:
    program = """
import sys, gevent, psycopg2.extensions
from junctor.sql import engine as engines
engine = engines.connect(sys.stdin.readline().strip())
assert psycopg2.extensions.get_wait_callback() is None
print(engine.connect().exec_driver_sql("SELECT 'done'").scalar())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=f"{database}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr
