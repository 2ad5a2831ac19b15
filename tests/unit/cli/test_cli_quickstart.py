import pytest

from junctor.cli import quickstart
from junctor.cli.exit_codes import ExitCode
from tests.helpers.ports import free_port


@pytest.fixture
def refusing(monkeypatch):
    """Creations that end before anything is made, once the plan is known; the plans."""
    plans = []

    def refuse(plan):
        plans.append(plan)
        raise quickstart.EnvironmentProblem("Enough.")

    monkeypatch.setattr(quickstart, "_check_ports", refuse)
    return plans


def test_a_plan_has_what_the_options_say(junctor, tmp_path, refusing):
    options = (
        "--servers",
        "3",
        "--port-base",
        "18000",
        "--lb-port",
        "18100",
        "--cluster-name",
        "c",
        "--haproxy",
        "external",
    )
    junctor("quickstart", "create", str(tmp_path / "env"), *options, code=ExitCode.ENVIRONMENT)
    (plan,) = refusing
    assert [(server.name, server.port) for server in plan.servers] == [
        ("server1", 18000), ("server2", 18001), ("server3", 18002)
    ]  # fmt: skip
    assert (plan.cluster, plan.load_balancer.port, plan.haproxy) == ("c", 18100, "external")
    assert (plan.odb_url, plan.redis_url) == ("", "")


def test_urls_come_from_the_environment_without_a_warning(junctor, tmp_path, refusing, monkeypatch):
    monkeypatch.setenv("JUNCTOR_ODB_URL", "postgresql://u:hunter2@h/d")
    ran = junctor("quickstart", "create", str(tmp_path / "env"), code=ExitCode.ENVIRONMENT)
    assert refusing[0].odb_url == "postgresql://u:hunter2@h/d"
    assert "Warning" not in ran.err


def test_a_password_on_the_command_line_is_warned_about(junctor, tmp_path, refusing):
    url = "redis://:hunter2@h"
    err = junctor(
        "quickstart", "create", str(tmp_path / "env"), "--redis-url", url, code=ExitCode.ENVIRONMENT
    ).err
    assert "$JUNCTOR_REDIS_URL" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    "options",
    [
        ("--servers", "0"),
        ("--workers", "x"),
        ("--servers", "2", "--port-base", "65535"),
        ("--port-base", "18000", "--lb-port", "18001"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(junctor, tmp_path, options):
    junctor("quickstart", "create", str(tmp_path / "env"), *options, code=ExitCode.USAGE)
    assert not (tmp_path / "env").exists()


def test_a_directory_that_holds_something_else_is_refused(junctor, tmp_path):
    (tmp_path / "file").touch()
    options = ("--servers", "1", "--port-base", str(free_port()), "--lb-port", str(free_port()))
    assert (
        "is not empty"
        in junctor("quickstart", "create", str(tmp_path), *options, code=ExitCode.ENVIRONMENT).err
    )


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_where_there_is_no_environment_there_is_nothing_to_run(junctor, tmp_path, verb):
    junctor("quickstart", verb, str(tmp_path), code=ExitCode.ENVIRONMENT)
