"""What programs build on: JSON from every command, exit codes, and the commands that need no cluster."""

import json
import re
import subprocess

import pytest

from junctor.cli import manifest
from junctor.cli.exit_codes import ExitCode

OBJECT_TYPES = [info.command for info in manifest.load() if "list" in info.all_verbs]


@pytest.mark.parametrize("object_type", OBJECT_TYPES)
def test_every_list_is_one_json_document(quickstart, object_type):
    answer = quickstart.json(f"list-{object_type}", "--internal")

    assert len(answer["items"]) == answer["total"]


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "ping",
        "wait",
        "info",
        "version",
        "history",
        "odb check",
        "odb history",
        "secret new-key",
        "enmasse export",
        "enmasse schema",
        "service versions shop.py",
        "invoke zato.ping",
    ],
)
def test_every_answer_is_one_json_document(quickstart, command):
    assert isinstance(quickstart.json(*command.split()), dict | list)


def test_json_may_be_asked_for_after_the_command(quickstart):
    ran = quickstart.run("version", "--json")

    assert ran.json == quickstart.json("version")


def test_the_environment_may_come_from_the_current_directory_or_a_variable(quickstart):
    here = quickstart.run("--json", "info", cwd=quickstart.path)
    variable = quickstart.run("--json", "info", env={"JUNCTOR_ENV": str(quickstart.path)})

    assert here.json == variable.json == quickstart.json("info")


def test_info_tells_where_everything_is_and_no_password(quickstart):
    info = quickstart.json("info")

    assert (info["path"], info["address"]) == (str(quickstart.path), quickstart.address)
    assert set(info["servers"]) == {"server1", "server2"}
    text = quickstart.junctor("info")
    passwords = [path.read_text().strip() for path in (quickstart.path / "secrets").iterdir()]
    assert not [password for password in passwords if password in text or password in json.dumps(info)]


def test_help_lists_every_exit_code(quickstart):
    text = quickstart.run("--help").out

    assert [int(code) for code in re.findall(r"^ +(\d+)  \w", text, re.MULTILINE)] == list(ExitCode)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_completion_for_a_shell(quickstart, shell):
    script = quickstart.run("completion", shell)

    assert script.code == 0
    assert "junctor" in script.out


def test_bash_completes_commands(quickstart):
    script = quickstart.run("completion", "bash").out
    ask = 'COMP_WORDS=(junctor create-ch); COMP_CWORD=1; _junctor_completion junctor; echo "${COMPREPLY[@]}"'

    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"],
        env=quickstart.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.split() == ["create-channel-rest", "create-channel-websocket"]
