import json
import subprocess
import sys
from importlib import import_module

import click
import pytest

from junctor.cli import exit_codes, failures
from junctor.cli.commands import COMMANDS, SECTIONS
from junctor.cli.exit_codes import ExitCode, code_of
from junctor.cli.main import root
from junctor.cli.session import Session
from junctor.server.client import ClusterUnreachable, RemoteError, RemoteInvalidInput
from junctor.sql import errors
from tests.helpers.waiting import wait_until

SLOW = ("sqlalchemy", "requests", "gevent", "rich", "ruamel", "alembic", "cryptography", "redis", "psutil")


def every_command():
    context = click.Context(root, info_name="junctor", obj=Session())
    pending = [((name,), root.get_command(context, name)) for name in root.list_commands(context)]
    while pending:
        path, found = pending.pop()
        yield path, found
        if isinstance(found, click.Group):
            pending += [((*path, name), sub) for name, sub in found.commands.items()]


ALL = sorted((" ".join(path), found) for path, found in every_command())


def test_help_shows_every_section_every_type_and_the_exit_codes(junctor):
    out = junctor("--help").out
    for text in (*SECTIONS, "channel-rest", "security-basic-auth", "quickstart", "Exit codes:"):
        assert text in out
    for code in ExitCode:
        assert exit_codes.MEANING[code] in out


@pytest.mark.parametrize("arguments", [["--help"], ["create-channel-rest", "--help"], ["enmasse", "--help"]])
def test_help_imports_nothing_that_is_slow(arguments, tmp_path):
    # given a cache of the object types
    script = (
        "import sys\nfrom junctor.cli.main import root\n"
        f"try:\n    root.main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin"}

    def last_line():
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        return done.stdout.splitlines()[-1]

    wait_until(lambda: last_line() == "[]", 20, "the cache of the object types is never used")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_its_own_first_sentence(name):
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(import_module(f"junctor.cli.{module}"), attribute)
    assert found.get_short_help_str(limit=200) == COMMANDS[name].help.rstrip(".") or (
        found.help.partition("\n")[0] == COMMANDS[name].help
    )
    assert COMMANDS[name].section in SECTIONS


@pytest.mark.parametrize(("path", "found"), ALL, ids=[path for path, _ in ALL])
def test_every_command_and_option_has_a_help_text(path, found, junctor):
    assert found.help
    for parameter in found.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help or parameter.metavar or parameter.type, parameter.name
    assert "Usage: junctor" in junctor(*path.split(), "--help").out


@pytest.mark.parametrize(("path", "found"), ALL, ids=[path for path, _ in ALL])
def test_every_command_takes_json_and_no_two_options_have_one_name(path, found):
    flags = [flag for parameter in found.params for flag in parameter.opts if flag.startswith("-")]
    assert len(flags) == len(set(flags))
    if not isinstance(found, click.Group):
        assert "--json" in flags


def test_an_unknown_command_is_a_usage_error_that_suggests_the_nearest(junctor):
    ran = junctor("create-chanel-rest", code=ExitCode.USAGE)
    assert "Did you mean" in ran.err
    assert "create-channel-rest" in ran.err


def test_a_verb_that_a_type_does_not_have_is_an_unknown_command(junctor):
    junctor("create-service", "x", code=ExitCode.USAGE)
    junctor("create-nothing", code=ExitCode.USAGE)


def test_without_arguments_the_help_is_shown_and_the_code_is_that_of_usage(junctor):
    assert "Processes" in junctor(code=ExitCode.USAGE).err


def test_zatos_two_words_are_one_command(junctor):
    assert "Usage: junctor create-basic-auth" in junctor("create", "basic-auth", "--help").out
    assert "Usage: junctor delete-rest-channel" in junctor("delete", "rest-channel", "--help").out


def test_an_unexpected_error_is_one_message_and_a_traceback_in_a_file(junctor, monkeypatch, tmp_path):
    # given a command with a bug
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(Session, "web_address", lambda self: 1 / 0)
    # when
    ran = junctor("ping", code=ExitCode.BUG)
    # then
    log = tmp_path / "junctor" / "crashes.log"
    assert "ZeroDivisionError" in ran.err
    assert str(log) in ran.err
    assert "Traceback" not in ran.err + ran.out
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_log_of_crashes_that_cannot_be_written_is_no_further_error(junctor, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(Session, "web_address", lambda self: 1 / 0)
    assert "could not be logged" in junctor("ping", code=ExitCode.BUG).err


def test_a_log_of_crashes_does_not_grow_for_ever(junctor, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(failures, "MAX_LOG_SIZE", 10)
    monkeypatch.setattr(Session, "web_address", lambda self: 1 / 0)
    log = tmp_path / "junctor" / "crashes.log"
    junctor("ping", code=ExitCode.BUG)
    size = log.stat().st_size
    junctor("ping", code=ExitCode.BUG)
    assert log.stat().st_size < size * 1.5


def test_with_json_an_error_is_a_line_of_json(junctor):
    failure = json.loads(junctor("ping", "--json", "--address", "http://:0", code=ExitCode.INVALID).err)
    assert failure["exit_code"] == ExitCode.INVALID
    assert "address" in failure["error"]


def test_an_interrupted_command_has_a_code_of_its_own(junctor, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "web_address", interrupt)
    assert "Interrupted" in junctor("ping", code=ExitCode.INTERRUPTED).err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput.one("a", "b"), ExitCode.INVALID),
        (errors.UnknownKind("a", ["b"]), ExitCode.INVALID),
        (RemoteInvalidInput([]), ExitCode.INVALID),
        (errors.NotFound("a", "b"), ExitCode.NOT_FOUND),
        (errors.InUse("a", "b", ["c"]), ExitCode.CONFLICT),
        (ClusterUnreachable(), ExitCode.UNREACHABLE),
        (errors.NotInTime(), ExitCode.UNREACHABLE),
        (errors.Unauthorized(), ExitCode.UNAUTHORIZED),
        (errors.EnvironmentProblem(), ExitCode.ENVIRONMENT),
        (errors.ProcessFailed(), ExitCode.PROCESS),
        (errors.StoreUnavailable(), ExitCode.DATABASE),
        (errors.SchemaOutdated(), ExitCode.DATABASE),
        (errors.SecretUnreadable(), ExitCode.DATABASE),
        (RemoteError("x", status=500, cid="", error=""), ExitCode.REMOTE),
        (RemoteError("x", status=404, cid="", error=""), ExitCode.NOT_FOUND),
        (RemoteError("x", status=400, cid="", error="DeploymentRefused"), ExitCode.INVALID),
        (RemoteError("x", status=409, cid="", error="EditConflict"), ExitCode.CONFLICT),
        (RemoteError("x", status=503, cid="", error="StoreUnavailable"), ExitCode.DATABASE),
        (RemoteError("x", status=504, cid="", error=""), ExitCode.UNREACHABLE),
        (ValueError("x"), ExitCode.BUG),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    assert code_of(error) is code


def test_several_problems_are_a_line_each():
    failure = failures.describe(
        errors.InvalidInput([errors.Problem("a", "is one."), errors.Problem("", "Two.")])
    )
    assert failure.text().splitlines() == ["Error: There are 2 problems:", "  a: is one.", "  Two."]


def test_a_failure_of_the_server_names_the_cid():
    error = RemoteError("An error has occurred", status=500, cid="", error="")
    error.cid = "0123456789abcdef01234567"
    assert "under the CID 0123456789abcdef01234567." in failures.describe(error).text()


def test_the_version_is_the_installed_one(junctor):
    assert junctor("version", "--json").json == {"junctor": junctor("version").out.strip()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(junctor, shell):
    assert "_JUNCTOR_COMPLETE" in junctor("completion", shell).out


def complete(monkeypatch, capsys, line):
    words = line.split(" ")
    monkeypatch.setenv("_JUNCTOR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        root.main([])
    return [entry.partition(",")[2] for entry in capsys.readouterr().out.splitlines()]


def test_commands_of_object_types_are_completed(monkeypatch, capsys):
    assert "create-channel-rest" in complete(monkeypatch, capsys, "junctor create-ch")


def test_the_words_that_a_field_may_be_are_completed(monkeypatch, capsys):
    assert complete(monkeypatch, capsys, "junctor create-channel-rest --data-format j") == ["json"]
    assert complete(monkeypatch, capsys, "junctor edit-channel-rest --is-active ") == ["true", "false"]
