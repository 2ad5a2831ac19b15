import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from junctor.cli import environment_layout, process_table
from junctor.cli.environment import Environment, Plan, new_password
from junctor.cli.environment_file import ServerAddress, default_servers
from junctor.cli.environment_layout import State
from junctor.cli.process import Daemon, Launch
from junctor.server import settings as server_settings
from junctor.sql.errors import EnvironmentProblem, InvalidInput

EXTERNAL = Plan(
    odb_url="postgresql://app:s3cret%2F@db.example.com:5433/junctor",
    redis_url="redis://:hush@cache.example.com:6380/1",
)


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch):
    for name in ("JUNCTOR_ODB_URL", "JUNCTOR_REDIS_URL", "JUNCTOR_SECRET_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "env"


@pytest.fixture
def environment(path):
    environment = Environment.create(path, Plan(), lambda: "k1:abc\n")
    environment.complete()
    return environment


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_environment_can_be_opened_again(environment, path):
    opened = Environment.open(path)

    assert opened.settings == environment.settings
    assert opened.settings.cluster == "quickstart"
    assert [s.port for s in opened.settings.servers] == [17010, 17011]
    assert opened.settings.load_balancer.port == 11223


def test_its_parts_are_found_in_the_order_of_starting(environment):
    assert [(c.name, c.kind) for c in environment.components()] == [
        ("redis", "redis"),
        ("server1", "server"),
        ("server2", "server"),
        ("load-balancer", "load-balancer"),
    ]


def test_every_part_says_what_it_is_and_who_made_it_when(environment, path):
    info = json.loads((path / "server1/.junctor-info").read_text())

    assert info["component"] == "server"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", info["created_ts"])
    assert "@" in info["created_user_host"]
    assert info["version"]


def test_a_server_has_its_directories_and_learns_everything_from_us(environment, path):
    read = server_settings.load(path / "server2", environment.server_variables())

    assert read.pickup_directory.is_dir()
    assert read.log_directory.is_dir()
    assert (read.server_name, read.cluster) == ("server2", "quickstart")
    assert (read.host, read.port, read.address) == ("0.0.0.0", 17011, "127.0.0.1")
    assert (read.odb_url, read.redis_url) == (environment.odb_url(), environment.redis_url())
    assert Path(read.secret_keys).read_text() == "k1:abc\n"


def test_keys_from_the_environment_come_first(environment, monkeypatch):
    monkeypatch.setenv("JUNCTOR_SECRET_KEYS", "k2:xyz")

    assert environment.server_variables()["JUNCTOR_SECRET_KEYS"] == "k2:xyz"


def test_what_an_administrator_adds_to_a_servers_file_stays(environment, path):
    file = path / "server1/server.toml"
    file.write_text(file.read_text() + "workers = 4  # more\n")

    environment.write_server_file(environment.settings.servers[0])

    assert "workers = 4  # more" in file.read_text()


def test_nobody_else_can_read_secrets_or_settings(environment, path):
    assert mode(path / "secrets") == 0o700
    assert {mode(file) for file in (path / "secrets").iterdir()} == {0o600}
    assert mode(path / "environment.toml") == 0o600
    assert mode(path / "server1") == 0o700
    assert mode(path) == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_wide_open_umask_changes_no_mode(path):
    script = (
        "import os, pathlib; os.umask(0)\n"
        "from junctor.cli.environment import Environment, Plan\n"
        f"Environment.create(pathlib.Path({str(path)!r}), Plan()).complete()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

    assert {mode(file) for file in (path / "secrets").iterdir()} == {0o600}
    assert mode(path / "redis/run") == 0o700


def test_passwords_are_long_and_differ(environment):
    passwords = {environment.read_secret(n) for n in ("odb-password", "odb-admin-password", "redis-password")}

    assert len(passwords) == 3
    assert all(len(password) >= 32 for password in passwords)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", new_password())


def test_no_password_is_in_the_settings_or_shown(environment, path):
    text = (
        (path / "environment.toml").read_text()
        + (path / "server1/server.toml").read_text()
        + repr(environment)
    )

    assert environment.read_secret("odb-password") not in text
    assert environment.read_secret("redis-password") not in text


def test_urls_of_embedded_stores_are_complete(environment):
    odb, redis = environment.settings.odb, environment.settings.redis
    password = environment.read_secret("odb-password")

    assert environment.odb_url() == f"postgresql+psycopg2://junctor:{password}@127.0.0.1:{odb.port}/junctor"
    assert (
        environment.redis_url()
        == f"redis://:{environment.read_secret('redis-password')}@127.0.0.1:{redis.port}/0"
    )
    assert odb.port != redis.port


def test_urls_of_other_stores_are_kept_without_their_password(path):
    environment = Environment.create(path, EXTERNAL)
    text = (path / "environment.toml").read_text()

    assert "s3cret" not in text
    assert "hush" not in text
    assert environment.odb_url() == "postgresql+psycopg2://app:s3cret%2F@db.example.com:5433/junctor"
    assert environment.redis_url() == "redis://:hush@cache.example.com:6380/1"
    assert not (path / "redis").exists()
    assert not environment.has_secret("odb-admin-password")
    environment.abandon()


def test_environment_variables_come_before_the_settings(environment, monkeypatch):
    monkeypatch.setenv("JUNCTOR_ODB_URL", "postgresql://a:b@c/d")
    monkeypatch.setenv("JUNCTOR_REDIS_URL", "rediss://:x@y:1/0")

    assert environment.odb_url() == "postgresql+psycopg2://a:b@c/d"
    assert environment.redis_url() == "rediss://:x@y:1/0"


def test_secrets_can_be_written_and_replaced(environment):
    environment.write_secret("admin-invoke-password", "one")
    environment.write_secret("admin-invoke-password", "two")

    assert environment.read_secret("admin-invoke-password") == "two"


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b"])
def test_the_name_of_a_secret_is_never_a_path(environment, name):
    with pytest.raises(EnvironmentProblem, match="not the name of a secret"):
        environment.read_secret(name)


def test_a_missing_secret_is_named(environment):
    with pytest.raises(EnvironmentProblem, match=r"secrets/none cannot be read: No such file"):
        environment.read_secret("none")


def test_an_empty_directory_becomes_an_environment(path):
    path.mkdir()

    Environment.create(path, Plan()).complete()

    assert environment_layout.state_of(path) is State.COMPLETE


def test_an_environment_is_never_created_twice(environment, path):
    with pytest.raises(EnvironmentProblem, match="is an environment already"):
        Environment.create(path, Plan())


def test_a_directory_with_other_things_in_it_is_left_alone(path):
    path.mkdir()
    (path / "thesis.txt").touch()

    with pytest.raises(EnvironmentProblem, match=r"is not empty: thesis.txt"):
        Environment.create(path, Plan())

    assert os.listdir(path) == ["thesis.txt"]


def test_a_file_is_not_a_place_for_an_environment(path):
    path.touch()

    with pytest.raises(EnvironmentProblem, match="is a file"):
        Environment.create(path, Plan())


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path):
    path = tmp_path / ("x" * 100)

    with pytest.raises(EnvironmentProblem, match=r"too long a path.*may have \d+ bytes"):
        Environment.create(path, Plan())

    assert not path.exists()


def test_a_path_with_a_line_break_is_refused(tmp_path):
    with pytest.raises(EnvironmentProblem, match="unprintable"):
        Environment.create(tmp_path / "a\nb", Plan())


def test_a_place_that_cannot_be_made_is_refused():
    with pytest.raises(EnvironmentProblem, match="cannot be created"):
        Environment.create(Path("/proc/env"), Plan())


def test_clashing_servers_are_refused_before_anything_is_made(path):
    with pytest.raises(InvalidInput, match="the same port"):
        Environment.create(path, Plan(servers=(ServerAddress("a", 1), ServerAddress("b", 1))))

    assert not path.exists()


def test_a_half_created_environment_cannot_be_opened(path):
    Environment.create(path, Plan()).abandon()

    with pytest.raises(EnvironmentProblem, match=r"was interrupted.*quickstart create"):
        Environment.open(path)


def test_creating_again_removes_what_is_half_created_together_with_its_processes(path):
    first = Environment.create(path, Plan())
    directory = path / "redis"
    daemon = Daemon(
        Launch(
            "leftover",
            [sys.executable, "-c", "import time; time.sleep(60)"],
            directory,
            directory / "run/pidfile",
            directory / "x",
        )
    )
    daemon.spawn()
    pid = daemon.status().pid
    (path / "empty").mkdir()
    first.abandon()

    second = Environment.create(path, Plan(servers=default_servers(1)))

    assert second.interrupted
    assert process_table.identity(pid) is None
    assert not (path / "server2").exists()
    assert not (path / "empty").exists()
    second.complete()
    assert len(Environment.open(path).settings.servers) == 1


def test_what_somebody_put_into_a_half_created_environment_is_not_removed(path):
    Environment.create(path, Plan()).abandon()
    (path / "notes.txt").write_text("mine")

    with pytest.raises(EnvironmentProblem, match=r"so it is not removed: notes.txt"):
        Environment.create(path, Plan())

    assert (path / "notes.txt").read_text() == "mine"


def test_two_commands_cannot_create_the_same_environment(path):
    first = Environment.create(path, Plan())

    with pytest.raises(EnvironmentProblem, match=f"being created right now, by process {os.getpid()}"):
        Environment.create(path, Plan())

    first.complete()


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.touch()])
def test_what_is_no_environment_cannot_be_opened(path, make):
    make(path)

    with pytest.raises(EnvironmentProblem, match="is not an environment: there is"):
        Environment.open(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_environment_is_refused_with_their_name(environment, path):
    os.chown(path, 65534, 65534)

    with pytest.raises(EnvironmentProblem, match=r"belongs to nobody: run the command as nobody"):
        Environment.open(path)


def test_a_component_is_located_from_its_own_path(environment, path):
    located, component = Environment.locate(path / "server2")

    assert located.path == path
    assert component is not None
    assert (component.name, component.kind) == ("server2", "server")
    assert Environment.locate(path)[1] is None


def test_a_directory_beside_the_components_is_not_located(environment, path):
    with pytest.raises(EnvironmentProblem, match="is not an environment"):
        Environment.locate(path / "secrets")


def test_damaged_component_information_is_named(environment, path):
    (path / "server1/.junctor-info").write_text("{")

    with pytest.raises(EnvironmentProblem, match=r"server1/.junctor-info is damaged"):
        environment.components()


def test_a_server_can_be_added(environment, path):
    environment.add_server(ServerAddress("server3", 17012))

    assert Environment.open(path).settings.servers[-1].name == "server3"
    assert (path / "server3/server.toml").is_file()


def test_a_server_on_a_taken_port_is_not_added(environment, path):
    with pytest.raises(InvalidInput, match="the same port"):
        environment.add_server(ServerAddress("server3", 17010))

    assert not (path / "server3").exists()


def test_only_one_command_works_on_an_environment_at_a_time(environment, path, monkeypatch):
    monkeypatch.setattr("junctor.cli.environment.LOCK_TIMEOUT", 0.05)

    with environment.locked(), pytest.raises(EnvironmentProblem, match=f"process {os.getpid()}, works on"):  # noqa: SIM117 - two levels read better
        with Environment.open(path).locked():
            pytest.fail("two commands have the lock")
    with environment.locked():
        assert mode(path / ".lock") == 0o600


def test_a_removed_environment_leaves_nothing(environment, path):
    environment.remove()

    assert not path.exists()
