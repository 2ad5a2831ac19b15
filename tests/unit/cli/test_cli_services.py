import pytest

from junctor.cli.exit_codes import ExitCode
from junctor.cli.services import parse_payload
from junctor.sql.errors import InvalidInput
from tests.helpers.admin_server import Refused

DEPLOY = "junctor.service.deploy"
LIVE = {"config_version": 7, "converged": True, "missing": []}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "orders.py"
    path.write_text("# orders\n")
    return path


def test_deploy_sends_the_files_and_names_the_services(cluster, server, file):
    server.answers[DEPLOY] = {"services": [{"file": "orders.py", "service": "orders.get"}], **LIVE}
    ran = cluster("deploy", str(file))
    assert server.payload(DEPLOY) == {"files": [{"name": "orders.py", "content": "# orders\n"}], "wait": 5.0}
    assert "Deployed orders.get (orders.py)." in ran.out
    assert "Version 7 is live on all workers." in ran.out


def test_deploy_takes_the_python_files_of_a_directory(cluster, server, file):
    server.answers[DEPLOY] = {"services": [], **LIVE}
    (file.parent / "notes.txt").touch()
    (file.parent / "bills.py").touch()
    ran = cluster("deploy", str(file.parent))
    assert [item["name"] for item in server.payload(DEPLOY)["files"]] == ["bills.py", "orders.py"]
    assert "Deployed bills.py, which has no services." in ran.out


def test_a_refused_file_is_shown_with_its_line_and_the_reason(cluster, server, file):
    def refuse(payload):
        raise Refused(400, "orders.py, line 1: SyntaxError: '(' was never closed", error="DeploymentRefused")

    server.answers[DEPLOY] = refuse
    ran = cluster("deploy", str(file), code=ExitCode.INVALID)
    assert "orders.py, line 1: SyntaxError" in ran.err


def test_every_file_that_cannot_be_read_is_named(cluster, server, tmp_path, file):
    (tmp_path / "binary.py").write_bytes(b"\xff\xff")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "orders.py").touch()
    files = ["/none.py", str(tmp_path / "binary.py"), str(file), str(tmp_path / "more" / "orders.py")]
    err = cluster("deploy", *files, code=ExitCode.INVALID).err
    for text in (
        "/none.py cannot be read",
        "binary.py is not UTF-8 text",
        "there is another file of this name",
    ):
        assert text in err
    assert not server.calls


def test_a_directory_without_python_files_is_refused(cluster, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no Python files" in cluster("deploy", str(tmp_path / "empty"), code=ExitCode.INVALID).err


def test_a_response_that_is_json_is_printed_as_json(cluster, server):
    server.answers["orders.get"] = {"état": [1, 2]}
    ran = cluster("invoke", "orders.get", "--payload", '{"id": 7}')
    assert ran.json == {"état": [1, 2]}
    assert "état" in ran.out
    assert server.payload("orders.get") == {"id": 7}


def test_a_response_that_is_text_is_printed_as_it_is(cluster, server):
    server.answers["orders.get"] = "as it is"
    assert cluster("invoke", "orders.get").out == "as it is\n"
    server.answers["orders.get"] = ""
    assert cluster("invoke", "orders.get").out == "(None)\n"


def test_with_json_a_text_is_printed_as_json_too(cluster, server):
    server.answers["orders.get"] = "as it is"
    assert cluster("invoke", "orders.get", "--json").json == "as it is"


@pytest.mark.parametrize(
    ("given", "payload"),
    [
        (None, None),
        ('{"a": 1}', {"a": 1}),
        ("[1]", [1]),
        ("plain text", "plain text"),
        ("7", 7),
        ('"x"', "x"),
    ],
)
def test_a_payload_is_json_or_text(given, payload):
    assert parse_payload(given) == payload


def test_a_payload_that_was_meant_to_be_json_is_refused():
    with pytest.raises(InvalidInput, match="not valid JSON"):
        parse_payload('{"a": ')


def test_a_payload_comes_from_a_file_or_from_standard_input(cluster, server, tmp_path):
    (tmp_path / "payload.json").write_text('{"id": 1}')
    server.answers["orders.get"] = {}
    cluster("invoke", "orders.get", "--payload", f"@{tmp_path / 'payload.json'}")
    cluster("invoke", "orders.get", "--payload", "-", stdin='{"id": 2}')
    assert [payload for _, payload in server.calls] == [{"id": 1}, {"id": 2}]
    cluster("invoke", "orders.get", "--payload", "@/none", code=ExitCode.INVALID)


def test_a_service_that_does_not_exist_and_one_that_fails_have_different_codes(cluster, server):
    def fail(payload):
        raise Refused(500, "An error has occurred")

    server.answers["orders.get"] = fail
    cluster("invoke", "orders.none", code=ExitCode.NOT_FOUND)
    cluster("invoke", "orders.get", code=ExitCode.REMOTE)


def test_zatos_form_of_invoke_takes_an_environment_first(cluster, server, junctor):
    server.answers["orders.get"] = {"a": 1}
    assert cluster("service", "invoke", "orders.get").json == {"a": 1}
    assert (
        "/none is not an environment"
        in junctor("service", "invoke", "/none", "orders.get", code=ExitCode.ENVIRONMENT).err
    )
    junctor("service", "invoke", "a", "b", "c", code=ExitCode.USAGE)


def test_rollback_deploys_an_earlier_version(cluster, server):
    server.answers["junctor.service.rollback"] = {"name": "orders.py", "number": 2, **LIVE}
    assert (
        "Deployed orders.py, version 2, again."
        in cluster("rollback", "/some/where/orders.py", "--number", "2").out
    )
    assert server.payload("junctor.service.rollback") == {"name": "orders.py", "number": 2, "wait": 5.0}


def test_versions_are_listed(cluster, server):
    items = [{"number": 2, "at": "2026-01-01T00:00:00.123+00:00", "who": "a", "digest": "d" * 64}]
    server.answers["junctor.service.versions"] = {"items": items}
    line = cluster("service", "versions", "orders.py").out.splitlines()[1]
    assert line.split() == ["2", "2026-01-01T00:00:00", "a", "d" * 19]


def test_undeploy_deletes_a_file(cluster, server):
    server.answers["zato.service-source.delete"] = {"name": "orders.py", **LIVE}
    assert "Deleted orders.py." in cluster("service", "undeploy", "orders.py").out


@pytest.mark.usefixtures("somebody_there")
def test_undeploy_asks_when_somebody_is_there(cluster, server):
    cluster("service", "undeploy", "orders.py", stdin="n\n", code=ExitCode.INTERRUPTED)
    assert not server.calls
