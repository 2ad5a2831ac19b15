"""Connections to PostgreSQL: pooled, bounded in time, cooperative under gevent, and back by themselves after a restart of the database."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from junctor.sql.errors import InvalidInput, SchemaOutdated, StoreUnavailable

CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 30  # seconds
LOCK_TIMEOUT = 10  # seconds
IDLE_IN_TRANSACTION_TIMEOUT = 60  # seconds
CLIENT_CHECK_INTERVAL = 2  # seconds after which the server notices that who waits for a statement is gone
POOL_TIMEOUT = 10  # seconds
READ_ONLY = "25006"  # a standby, as after a fail-over
UNDEFINED = {"42P01", "42703", "3F000"}  # undefined table, column, schema (PostgreSQL, appendix A)


def driver_url(url: str) -> str:
    """``url`` naming the psycopg2 driver: SQLAlchemy 2.1 takes plain ``postgresql://`` for psycopg 3.

    Raises ``InvalidInput``.
    """
    problem = InvalidInput.one(
        "odb_url", "must be of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
    )
    found = re.fullmatch(r"(?:postgres|postgresql|postgresql\+psycopg2)://(.+)", url)
    if not found:
        raise problem
    try:
        make_url(f"postgresql+psycopg2://{found[1]}")
    except (ArgumentError, ValueError):
        raise problem from None  # their messages have the password in them
    return f"postgresql+psycopg2://{found[1]}"


def connect(url: str, *, pool_size: int = 5, application: str = "junctor") -> Engine:
    """An engine for the object database; nothing is connected until it is used.

    Up to ``pool_size`` connections stay open, and twice as many for a peak.  Connections are tried before use, so those that a restart
    of the database broke are replaced unseen.  In a process that gevent has patched, waiting for the database lets others run.
    """
    if "gevent" in sys.modules:
        _cooperate()
    options = {
        "statement_timeout": f"{STATEMENT_TIMEOUT}s",
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT}s",
        "client_connection_check_interval": f"{CLIENT_CHECK_INTERVAL}s",
        "timezone": "UTC",
    }
    return create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=POOL_TIMEOUT,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": application[:63],
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )


def _cooperate() -> None:
    """Makes psycopg2 wait in gevent's hub; without this, a slow query would stop every request of the worker."""
    from gevent import monkey

    if monkey.is_module_patched("socket"):
        psycopg2.extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    from gevent.socket import wait_read, wait_write

    is_connecting = connection.status == psycopg2.extensions.STATUS_SETUP
    timeout = CONNECT_TIMEOUT if is_connecting else STATEMENT_TIMEOUT + CONNECT_TIMEOUT
    waits = {psycopg2.extensions.POLL_READ: wait_read, psycopg2.extensions.POLL_WRITE: wait_write}
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        try:
            waits[state](connection.fileno(), timeout=timeout)
        except TimeoutError as error:
            raise psycopg2.OperationalError(f"no answer from the server within {timeout} s") from error


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns the driver's errors into ``StoreUnavailable`` and ``SchemaOutdated``, each with one plain sentence."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable("The object database is busy: no connection became free in time.") from error
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailable(f"The object database cannot be used: {_first_line(error)}") from error
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) in UNDEFINED:
            raise SchemaOutdated from error
        raise
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(f"The object database went away: {_first_line(error)}") from error
        if getattr(error.orig, "pgcode", None) == READ_ONLY:
            raise StoreUnavailable(f"The object database cannot be used: {_first_line(error)}") from error
        raise


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__
