"""What people are told when something is wrong: one message, an exit code that is documented, and never a traceback."""

import json
import socket

import pytest

from tests.helpers.ports import ports_in_a_row


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nclass Broken(:\n", "broken.py, line 2: SyntaxError: invalid syntax"),
        ("import os\n\nimport no_such_module\n", "line 3: ModuleNotFoundError: No module named"),
        ('def f():\n    raise ValueError("bad")\n\nf()\n', "broken.py, line 2: ValueError: bad"),
    ],
)
def test_a_service_file_that_does_not_load_is_named_with_its_line_and_the_reason(quickstart, source, reason):
    message = quickstart.refused(3, "deploy", quickstart.file("broken.py", source))

    assert message.startswith("Error: broken.py, line ")
    assert reason in message


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["create-chanel-rest"], "Did you mean one of: 'create-channel-rest'"),
        (2, ["edit-channel-rest", "x", "--timeot", "5"], "Did you mean one of: '--method', '--timeout'?"),
        (2, ["create-channel-rest", "x"], "Missing: --url-path, --service."),
        (
            3,
            ["create-channel-rest", "x", "--url-path", "/x", "--service", "nix"],
            "there is no service 'nix'",
        ),
        (3, ["edit-channel-rest", "SHOP", "--timeout", "ten"], "timeout: must be a whole number, not text."),
        (3, ["edit-channel-rest", "SHOP", "--timeout", "0"], "timeout: must be between 1 and 3600 s, is 0."),
        (3, ["edit-channel-rest", "SHOP", "--method", "FETCH"], "method: "),
        (3, ["invoke", "shop.price", "--payload", '{"a": '], "payload: is not valid JSON"),
        (3, ["deploy", "/no/such/file.py"], "/no/such/file.py cannot be read: No such file or directory."),
        (3, ["wait", "--version", "999999"], "there is no version 999999 yet"),
        (4, ["edit-channel-rest", "nix", "--timeout", "5"], "There is no REST channel 'nix'."),
        (4, ["invoke", "nix"], "There is no active service 'nix'."),
        (4, ["rollback", "nix.py"], "nix.py"),
        (5, ["create-security-basic-auth", "USER", "--username", "x"], "USER"),
        (5, ["service", "undeploy", "shop.py"], "Service 'shop.price' is in use by REST channel '"),
        (7, ["--password-file", "WRONG", "list-channel-rest"], "does not accept the credentials"),
    ],
)
def test_a_mistake_is_explained(shop, code, arguments, message):
    wrong = shop.quickstart.file("wrong.txt", "wrong")
    words = {"SHOP": shop.channel, "USER": shop.security, "WRONG": str(wrong)}

    told = shop.quickstart.refused(code, *(words.get(word, word) for word in arguments))

    assert told.startswith("Error: ")
    assert words.get(message, message) in told


def test_all_problems_of_an_object_are_told_at_once_and_as_json_for_programs(quickstart):
    wrong = ("--timeout", "0", "--data-format", "morse", "--max-body-size", "-1")
    right = ("--url-path", "/x", "--service", "shop.price")

    ran = quickstart.run("--json", "--path", quickstart.path, "create-channel-rest", "x", *right, *wrong)

    failure = json.loads(ran.err)
    assert (ran.code, failure["exit_code"]) == (3, 3)
    assert {problem["field"] for problem in failure["problems"]} == {
        "timeout",
        "data_format",
        "max_body_size",
    }
    assert not ran.out


def test_a_service_that_fails_is_told_with_its_cid_and_without_its_secrets(quickstart):
    source = """
        from zato.server.service import Service


        class Failing(Service):
            name = "t.failing"

            def handle(self):
                raise RuntimeError("the password is hunter2")
        """
    quickstart.junctor("deploy", quickstart.file("failing.py", source.replace("\n        ", "\n")))

    message = quickstart.refused(11, "invoke", "t.failing")

    assert "hunter2" not in message
    cid = message.partition("under the CID ")[2].partition(".")[0]
    logged = [path for path in quickstart.logs() if cid in path.read_text("utf-8", "replace")]
    assert {path.name for path in logged} >= {"server.log"}


@pytest.mark.parametrize("command", [["status"], ["ping"], ["list-channel-rest"], ["enmasse", "--export"]])
def test_a_cluster_that_does_not_answer_is_told(quickstart, command):
    address = f"http://127.0.0.1:{ports_in_a_row(1)}"
    password = quickstart.file("password.txt", "x")

    ran = quickstart.run("--address", address, "--password-file", password, *command)

    assert ran.code == (1 if command == ["status"] else 6)
    assert address in ran.out + ran.err


def test_a_directory_that_is_no_environment_is_told(quickstart):
    for path in (quickstart.home, quickstart.home / "nowhere"):
        ran = quickstart.run("--path", path, "status")
        assert (ran.code, ran.out) == (8, "")
        assert f"{path} is not an environment" in ran.err


def test_without_an_environment_the_ways_to_name_one_are_told(quickstart):
    ran = quickstart.run("list-channel-rest")

    assert ran.code == 8
    assert "--path ENV" in ran.err


@pytest.mark.parametrize("taken", ["server", "balancer"])
def test_a_port_that_is_taken_is_told_before_anything_is_created(quickstart, taken):
    path = quickstart.home / f"taken-{taken}"
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        port = thief.getsockname()[1]
        base, balancer = (port, ports_in_a_row(1)) if taken == "server" else (ports_in_a_row(2), port)
        ports = ("--port-base", str(base), "--lb-port", str(balancer))

        ran = quickstart.run("quickstart", "create", path, *ports)

    assert ran.code in (8, 9)
    assert str(port) in ran.err
    assert "python" in ran.err
    assert not path.exists()
