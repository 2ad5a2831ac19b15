"""The settings of a server: where they come from, and what is wrong with them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from junctor.server.settings import Settings, load
from junctor.sql.errors import InvalidInput

ODB = {"JUNCTOR_ODB_URL": "postgresql://u:p@h/d"}


def written(directory: Path, text: str) -> Path:
    """The directory with this ``server.toml``."""
    (directory / "server.toml").write_text(text, encoding="utf-8")
    return directory


def problems(directory: Path, environ: dict[str, str]) -> dict[str, str]:
    """What is wrong, by setting."""
    with pytest.raises(InvalidInput) as refused:
        load(directory, environ)
    return {problem.field: problem.message for problem in refused.value.problems}


def test_without_anything_but_a_database_there_are_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, dict(ODB))
    assert (settings.port, settings.workers, settings.cluster) == (17010, 1, "junctor")
    assert settings.trusted_proxies == ["127.0.0.1/32", "::1/128"]
    assert settings.run_directory == tmp_path.resolve() / "run"
    assert settings.log_directory == tmp_path.resolve() / "logs"
    assert settings.pickup_directory == tmp_path.resolve() / "pickup" / "incoming" / "services"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    written(tmp_path, 'port = 1\nworkers = 2\nodb_url = "postgresql://file/x"\npoll_interval = 3\n')
    settings = load(tmp_path, {"JUNCTOR_PORT": "18000", "JUNCTOR_REDIS_URL": "redis://r", **ODB})
    assert (settings.port, settings.workers, settings.poll_interval) == (18000, 2, 3.0)
    assert (settings.odb_url, settings.redis_url) == (ODB["JUNCTOR_ODB_URL"], "redis://r")


def test_secrets_are_taken_out_of_the_environment_and_not_shown(tmp_path: Path) -> None:
    environ = {
        "JUNCTOR_REDIS_URL": "redis://:canary@h",
        "JUNCTOR_SECRET_KEYS": "id:canary",
        "JUNCTOR_ODB_URL": "postgresql://u:canary@h/d",
        "JUNCTOR_PORT": "1",
        "PATH": "/bin",
    }
    settings = load(tmp_path, environ)
    assert environ == {"JUNCTOR_PORT": "1", "PATH": "/bin"}
    assert settings.secret_keys == "id:canary"
    assert "canary" not in repr(settings)


def test_they_are_taken_out_even_when_something_else_is_wrong(tmp_path: Path) -> None:
    environ = {"JUNCTOR_ODB_URL": "postgresql://u:canary@h/d", "JUNCTOR_PORT": "x"}
    problems(tmp_path, environ)
    assert environ == {"JUNCTOR_PORT": "x"}


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    written(tmp_path, 'colour = "red"\nworkers = 0\nhost = 5\naccess_log = "maybe"\ntrusted_proxies = [1]\n')
    environ = {
        "JUNCTOR_PORT": "70000",
        "JUNCTOR_HEARTBEAT": "soon",
        "JUNCTOR_LOG_LEVEL": "LOUD",
        "JUNCTOR_WORKER_CLASS": "sync",
        "JUNCTOR_PROXY_PROTOCOL": "v3",
    }
    found = problems(tmp_path, environ)
    assert set(found) == {
        "JUNCTOR_ODB_URL",
        "access_log",
        "colour",
        "heartbeat",
        "host",
        "log_level",
        "port",
        "proxy_protocol",
        "trusted_proxies",
        "worker_class",
        "workers",
    }
    assert found["port"] == "must be from 1 to 65535."
    assert found["heartbeat"] == "must be a number."
    assert all(message.endswith(".") for message in found.values())


@pytest.mark.parametrize("value", ["true", "1.5", '"4x"', "[1]", '"nan"', '"inf"'])
def test_a_whole_number_is_nothing_else(tmp_path: Path, value: str) -> None:
    written(tmp_path, f"workers = {value}\n")
    assert problems(tmp_path, dict(ODB)) == {"workers": "must be a whole number."}


@pytest.mark.parametrize("value", ["nan", "inf", '"nan"', "true"])
def test_a_number_is_a_finite_one(tmp_path: Path, value: str) -> None:
    written(tmp_path, f"poll_interval = {value}\n")
    assert problems(tmp_path, dict(ODB)) == {"poll_interval": "must be a number."}


def test_limits_are_told_with_their_unit(tmp_path: Path) -> None:
    assert problems(tmp_path, {**ODB, "JUNCTOR_POLL_INTERVAL": "0"}) == {
        "poll_interval": "must be from 0.1 to 60 s."
    }
    assert problems(tmp_path, {**ODB, "JUNCTOR_LOG_FILE_SIZE": "1"}) == {
        "log_file_size": "must be from 10000 to any number B."
    }


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("YES", True), ("1", True), ("0", False), ("no", False)]
)
def test_yes_and_no_have_several_spellings(tmp_path: Path, text: str, expected: bool) -> None:
    assert load(tmp_path, {**ODB, "JUNCTOR_ACCESS_LOG": text}).access_log is expected


def test_lists_are_lists_in_the_file_and_separated_by_commas_in_the_environment(tmp_path: Path) -> None:
    written(tmp_path, 'trusted_proxies = ["10.0.0.0/8"]\n')
    assert load(tmp_path, dict(ODB)).trusted_proxies == ["10.0.0.0/8"]
    environ = {**ODB, "JUNCTOR_TRUSTED_PROXIES": "10.0.0.1, ::1,,"}
    assert load(tmp_path, environ).trusted_proxies == ["10.0.0.1", "::1"]


@pytest.mark.parametrize("address", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_are_addresses_and_networks(tmp_path: Path, address: str) -> None:
    (message,) = problems(tmp_path, {**ODB, "JUNCTOR_TRUSTED_PROXIES": address}).values()
    assert message.startswith("must be IP addresses and networks: ")
    assert address in message


@pytest.mark.parametrize("content", [b"port = \n", b"\xff\xfe", b"port = 1\nport = 2\n"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    assert problems(tmp_path, dict(ODB))[str(path)].startswith("cannot be read: ")


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUNCTOR_ODB_URL", ODB["JUNCTOR_ODB_URL"])
    monkeypatch.setenv("JUNCTOR_SERVER_NAME", "from-environment")
    assert load(tmp_path).server_name == "from-environment"


def test_each_setting_says_what_it_does() -> None:
    for item in fields(Settings):
        if item.name not in ("directory", "odb_url", "redis_url"):
            assert item.metadata["help"].endswith("."), item.name
