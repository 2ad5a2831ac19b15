import json

import pytest

from junctor.cli.exit_codes import ExitCode
from tests.helpers.admin_server import Refused

IMPORT, EXPORT = "junctor.enmasse.import", "junctor.enmasse.export"
CHANGE = {"kind": "channel_rest", "name": "a", "verb": "create", "differences": {"url_path": [None, "/a"]}}
DOCUMENT = {"channel_rest": [{"name": "a", "url_path": "/a", "service": "s"}]}
YAML = "channel_rest:\n  - name: a\n    url_path: /a\n    service: s\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "all.yml"
    path.write_text(YAML)
    return str(path)


@pytest.fixture
def importing(server):
    server.answers[IMPORT] = {"changes": [CHANGE], "config_version": 8, "converged": True, "missing": []}
    return server


@pytest.fixture
def exporting(server):
    server.answers[EXPORT] = {"config_version": 8, "document": DOCUMENT}
    return server


def test_export_writes_yaml_that_says_where_it_is_from(cluster, exporting):
    out = cluster("enmasse", "export").out
    assert out.startswith("# Junctor configuration; no secrets are in it.")
    assert out.endswith(YAML)
    assert exporting.payload(EXPORT) == {"internal": False}


def test_export_writes_a_file_in_the_format_of_its_name(cluster, exporting, tmp_path):
    assert "1 objects of version 8" in cluster("enmasse", "export", "-o", str(tmp_path / "x.json")).out
    assert json.loads((tmp_path / "x.json").read_text()) == DOCUMENT
    cluster("enmasse", "export", "-o", str(tmp_path / "x"), "--format", "json")
    assert json.loads((tmp_path / "x").read_text()) == DOCUMENT


def test_export_into_a_directory_that_is_not_there_is_refused(cluster, exporting):
    cluster("enmasse", "export", "-o", "/none/x.yml", code=ExitCode.ENVIRONMENT)


def test_export_takes_types_by_any_of_their_names(cluster, exporting):
    cluster("enmasse", "export", "--types", "rest-channel, basic_auth,x", "--internal")
    assert exporting.payload(EXPORT) == {
        "internal": True,
        "kinds": ["channel_rest", "security_basic_auth", "x"],
    }


def test_import_sends_the_document_and_shows_what_changed(cluster, importing, file):
    ran = cluster("enmasse", "import", "-i", file)
    assert importing.payload(IMPORT) == {
        "document": DOCUMENT, "dry_run": False, "owner": "", "prune": False, "wait": 5.0
    }  # fmt: skip
    assert ran.out.splitlines() == [
        "+ channel_rest a",
        "    url_path: /a",
        "1 created.",
        "Version 8 is live on all workers.",
    ]


def test_a_plan_is_a_dry_run(cluster, importing, file):
    assert "1 would be created." in cluster("enmasse", "plan", "-i", file).out
    assert "1 would be created." in cluster("enmasse", "import", "-i", file, "--dry-run").out
    assert all(payload["dry_run"] for _, payload in importing.calls)


def test_drift_exits_with_one_when_there_are_differences(cluster, importing, file):
    cluster("enmasse", "drift", "-i", file, code=ExitCode.NO)
    importing.answers[IMPORT] = {"changes": [], "config_version": 8}
    assert "Nothing to change" in cluster("enmasse", "drift", "-i", file).out


def test_options_of_an_import_are_passed_on(cluster, importing, file):
    cluster("enmasse", "import", "-i", file, "--owner", "crm", "--prune", "--base-version", "7", "--no-wait")
    sent = importing.payload(IMPORT)
    assert (sent["owner"], sent["prune"], sent["base_version"], sent["wait"]) == ("crm", True, 7, 0)


def test_zatos_form_is_accepted(cluster, importing, exporting, file, tmp_path):
    cluster("enmasse", "--import", "--input", file, "--replace-odb-objects")
    assert importing.payload(IMPORT)["document"] == DOCUMENT
    cluster(
        "enmasse",
        "--export",
        "--output",
        str(tmp_path / "out.yml"),
        "--dump-format",
        "yaml",
        "--include-type",
        "all",
    )
    assert (tmp_path / "out.yml").exists()


def test_zatos_form_takes_an_environment_first(junctor):
    err = junctor("enmasse", "/none", "--export", code=ExitCode.ENVIRONMENT).err
    assert "/none is not an environment" in err


def test_a_document_comes_from_standard_input(cluster, importing):
    cluster("enmasse", "import", "-i", "-", stdin=YAML)
    cluster("enmasse", "import", "-i", "-", stdin=json.dumps(DOCUMENT))
    assert [payload["document"] for _, payload in importing.calls] == [DOCUMENT, DOCUMENT]


def test_the_servers_problems_are_told_with_lines(cluster, server, file):
    def refuse(payload):
        raise Refused(
            400, "x", problems=[{"field": "channel_rest[0].service", "message": "there is no service 's'."}]
        )

    server.answers[IMPORT] = refuse
    err = cluster("enmasse", "import", "-i", file, code=ExitCode.INVALID).err
    assert f"{file}:4: REST channel 'a': service there is no service 's'." in err


def test_warnings_go_to_standard_error(cluster, importing, tmp_path):
    (tmp_path / "old.json").write_text('{"channel_plain_http": [{"name": "a", "soap_action": "x"}]}')
    ran = cluster("enmasse", "plan", "-i", str(tmp_path / "old.json"), "--json")
    assert "no field soap_action" in ran.err
    assert ran.json["changes"] == [CHANGE]


def test_variables_come_from_a_file_unless_they_are_set(cluster, importing, tmp_path, monkeypatch):
    monkeypatch.setenv("SET", "environment")
    monkeypatch.setenv("MADE_BY_TEST", "x")
    monkeypatch.delenv("MADE_BY_TEST")
    (tmp_path / "env.ini").write_text("[env]\nSET = file\nMADE_BY_TEST = 100%\n")
    (tmp_path / "f.yml").write_text("channel_rest:\n- {name: $SET, url_path: $MADE_BY_TEST}\n")
    cluster("enmasse", "plan", "-i", str(tmp_path / "f.yml"), "--env-file", str(tmp_path / "env.ini"))
    assert importing.payload(IMPORT)["document"]["channel_rest"] == [
        {"name": "environment", "url_path": "100%"}
    ]


@pytest.mark.parametrize("content", ["", "PASSWORD=hunter2\n", "[other]\n"])
def test_a_file_of_variables_that_is_none_is_refused_without_showing_it(cluster, file, tmp_path, content):
    (tmp_path / "env.ini").write_text(content)
    ran = cluster(
        "enmasse", "plan", "-i", file, "--env-file", str(tmp_path / "env.ini"), code=ExitCode.INVALID
    )
    assert "[env]" in ran.err
    assert "hunter2" not in ran.err


def test_the_schema_is_printed(cluster, server):
    server.answers["junctor.enmasse.schema"] = {"type": "object"}
    assert cluster("enmasse", "schema").json == {"type": "object"}
