"""The command line against a whole cluster that it made itself."""

import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from junctor.cli.cluster import Cluster
from junctor.cli.environment import Environment
from junctor.cli.exit_codes import ExitCode
from tests.helpers.command import run
from tests.helpers.waiting import wait_until

SERVICE = """
from zato.server.service import Service

class Hello(Service):
    name = "cli.hello"
    input = "-who"

    def handle(self):
        self.response.payload = {"hello": self.request.input.who}
"""
BROKEN = "import os\nclass Hello(\n"


@pytest.fixture
def service(tmp_path):
    path = tmp_path / "cli_hello.py"
    path.write_text(SERVICE)
    return str(path)


@pytest.fixture
def deployed(junctor, service):
    junctor("deploy", service)
    return "cli.hello"


def test_an_environment_that_exists_is_told_about(environment):
    path = str(environment.path)
    assert "exists already" in run("quickstart", "create", path, code=ExitCode.CONFLICT).err
    found = run("quickstart", "create", path, "--skip-if-exists", "--json").json
    assert found["created"] is False
    assert "credentials" not in found


def test_a_port_that_is_taken_is_told_before_anything_is_made(environment, public_directory):
    port = environment.settings.load_balancer.port
    other = public_directory / "other"
    ran = run("quickstart", "create", str(other), "--lb-port", str(port), "--port-base", "1024", code=None)
    assert ran.code == ExitCode.ENVIRONMENT
    assert "is taken by" in ran.err
    assert not other.exists()


def test_everything_runs_and_says_so(junctor, environment):
    found = junctor("status", "--json").json
    assert found["healthy"]
    assert {item["state"] for item in found["components"]} == {"running"}
    assert "running" in junctor("status", str(environment.path / "server1")).out
    junctor("ping")
    junctor("wait")
    assert all(
        not item["started"] for item in run("start", str(environment.path), "--json").json["components"]
    )


def test_a_service_is_deployed_invoked_and_rolled_back(junctor, service, tmp_path):
    assert "Deployed cli.hello" in junctor("deploy", service).out
    assert junctor("invoke", "cli.hello", "--payload", '{"who": "you"}').json == {"hello": "you"}
    (tmp_path / "cli_hello.py").write_text(SERVICE.replace('"hello"', '"bye"'))
    junctor("deploy", service)
    assert junctor("invoke", "cli.hello", "--payload", '{"who": "you"}').json == {"bye": "you"}
    junctor("rollback", "cli_hello.py")
    assert junctor("invoke", "cli.hello", "--payload", '{"who": "you"}').json == {"hello": "you"}
    assert "3" in junctor("service", "versions", "cli_hello.py").out


def test_a_broken_file_is_refused_with_its_line(junctor, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    err = junctor("deploy", str(tmp_path / "broken.py"), code=ExitCode.INVALID).err
    assert "broken.py, line 2" in err


def test_a_secured_channel_is_made_used_changed_and_deleted(junctor, deployed):
    made = junctor("create-basic-auth", "cli", "--username", "cli", "--generate-password", "--json").json
    junctor("create-channel-rest", "cli", "--url-path", "/cli", "--service", deployed, "--security", "cli")
    address = junctor("info", "--json").json["address"]
    assert status_of(f"{address}/cli") == 401
    assert status_of(f"{address}/cli", ("cli", made["generated"]["password"])) == 200
    assert "cli" in junctor("list-channel-rest").out
    junctor("edit-channel-rest", "cli", "--url-path", "/changed")
    assert status_of(f"{address}/cli") == 404
    assert "in use by REST channel" in junctor("delete-basic-auth", "cli", code=ExitCode.CONFLICT).err
    junctor("delete-channel-rest", "cli")
    junctor("delete-basic-auth", "cli")
    junctor("get-basic-auth", "cli", code=ExitCode.NOT_FOUND)
    newest = junctor("history", "--limit", "1", "--json").json["items"][0]
    assert (newest["kind"], newest["verb"], newest["name"]) == ("security_basic_auth", "delete", "cli")


def test_what_is_exported_is_imported_without_a_change(junctor, deployed, tmp_path):
    channel = f"channel_rest:\n- {{name: e, url_path: /e, service: {deployed}, security: e}}\n"
    text = f"security:\n- {{name: e, type: basic_auth, username: e, password: s3cret}}\n{channel}"
    (tmp_path / "in.yml").write_text(text)
    assert "2 created" in junctor("enmasse", "--import", "--input", str(tmp_path / "in.yml")).out
    junctor("enmasse", "drift", "-i", str(tmp_path / "in.yml"))
    for name in ("out.yml", "out.json"):
        junctor("enmasse", "export", "-o", str(tmp_path / name))
        assert "s3cret" not in (tmp_path / name).read_text()
        junctor("enmasse", "drift", "-i", str(tmp_path / name))
    (tmp_path / "bad.yml").write_text("channel_rest:\n- name: e\n  url_path: nope\n  service: e\n")
    err = junctor("enmasse", "plan", "-i", str(tmp_path / "bad.yml"), code=ExitCode.INVALID).err
    assert "bad.yml:4: REST channel 'e': service" in err


def test_keys_are_rotated_while_the_cluster_works_and_retired_after_a_restart(junctor, environment, deployed):
    # given a secret
    junctor("create-api-key", "rotated", "--key-stdin", stdin="abc\n")
    before = environment.read_secret("keyring")
    # when the key is rotated
    found = junctor("secret", "rotate", "--json").json
    # then the cluster works with both, and goes on writing
    assert found["encrypted"] >= 3
    assert environment.read_secret("keyring").endswith(before)
    junctor("secret", "set", "api-key", "rotated", "--generate")
    status = junctor("secret", "status", "--json").json
    assert (status["keys"][0], len(status["keys"]), status["unreadable"]) == (found["key"], 2, 0)
    # and the old key stays until the server was restarted
    assert "restart it first" in junctor("secret", "retire", code=ExitCode.ENVIRONMENT).err
    server = str(environment.path / "server1")
    assert "server1 stopped" in run("stop", server).out
    assert run("status", server, "--json", code=ExitCode.NO).json["healthy"] is False
    assert "server1 started" in run("start", server).out
    junctor("secret", "retire")
    assert len(environment.read_secret("keyring").splitlines()) == 1
    junctor("get-api-key", "rotated")


def test_a_reload_replaces_every_worker(junctor):
    def pids():
        servers = junctor("status", "--json", code=None).json["cluster"]["servers"]
        return {worker["pid"] for server in servers for worker in server["workers"]}

    before = pids()
    assert "server1 reloaded" in junctor("reload").out
    junctor("wait")
    assert not pids() & before


def test_stores_are_not_reloaded_and_only_servers_run_in_the_foreground(environment):
    run("reload", str(environment.path / "redis"), code=ExitCode.ENVIRONMENT)
    run("start", "--fg", str(environment.path / "load-balancer"), code=ExitCode.ENVIRONMENT)


def test_the_load_balancer_is_reloaded_by_itself(environment):
    directory = environment.path / "load-balancer"
    assert run("reload", str(directory), "--json").json == {"reloaded": ["load-balancer"], "notes": []}
    (directory / "haproxy.local.cfg").write_text("global\n    nonsense\n")
    refused = run("reload", str(directory), code=ExitCode.ENVIRONMENT).err
    assert "haproxy.local.cfg, line 2 (nonsense) : unknown keyword 'nonsense'" in refused
    (directory / "haproxy.local.cfg").unlink()
    assert "load-balancer reloaded" in run("reload", str(directory)).out


def test_an_agent_that_does_not_run_is_shown_and_started_again(environment):
    Cluster(environment).haproxy.agent.daemon().kill()
    shown = run("status", str(environment.path), code=ExitCode.NO).out
    assert "Load balancer (HAProxy): Its agent does not run: 'junctor start' starts it" in shown
    started = run("start", str(environment.path / "load-balancer")).out
    assert "load-balancer runs already. Its agent was started." in started
    run("status", str(environment.path))


def test_a_server_runs_in_the_foreground_for_a_supervisor(environment):
    server = Cluster(environment).servers[0]
    directory = str(environment.path / server.name)
    run("start", directory, "--fg", code=ExitCode.PROCESS)
    run("stop", directory)
    script = "from junctor.cli.main import root; root.main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "start", directory, "--fg"], stderr=subprocess.DEVNULL
    ) as process:
        wait_until(server.ping, 30, "the server did not start")
        assert server.daemon().status().pid == process.pid
        run("stop", directory)
        assert process.wait(10) == 0
    run("start", directory)


@pytest.mark.parametrize("name", ["redis", "load-balancer"])
def test_a_component_is_stopped_and_started_by_itself(environment, name):
    directory = str(environment.path / name)
    assert f"{name} stopped" in run("stop", directory).out
    assert f"{name} was not running" in run("stop", directory).out
    assert f"{name} started" in run("start", directory).out
    assert f"{name} runs already" in run("start", directory).out


def test_the_schema_is_checked_and_its_history_shown(junctor):
    assert junctor("odb", "check", "--json").json["up_to_date"]
    assert all(step["applied"] for step in junctor("odb", "history", "--json").json)
    junctor("odb", "upgrade")


def test_passwords_are_only_where_nobody_else_can_read_them(environment):
    secrets = environment.path / "secrets"
    assert secrets.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in secrets.iterdir())
    password = environment.read_secret("admin-invoke-password")
    outside = [
        file for file in environment.path.rglob("*.log*") if password in file.read_text(errors="replace")
    ]
    assert outside == []


def status_of(url, credentials=None):
    request = urllib.request.Request(url)
    if credentials:
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        manager.add_password(None, url, *credentials)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    else:
        opener = urllib.request.build_opener()
    try:
        with opener.open(request, timeout=10) as response:
            json.loads(response.read())
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_creation_that_failed_is_begun_afresh(public_directory, options, monkeypatch):
    # given a creation that fails in the middle
    path = public_directory / "afresh"
    failing = (*options[:2], "--port-base", "1", "--lb-port", "2")
    monkeypatch.setattr("junctor.cli.quickstart.ports.is_free", lambda host, port: True)
    with monkeypatch.context() as patch:
        patch.setattr("junctor.cli.quickstart._create_cluster", lambda *_: 1 / 0)
        run("quickstart", "create", str(path), *failing, code=ExitCode.BUG)
    assert "was interrupted" in run("info", str(path), code=ExitCode.ENVIRONMENT).err
    # when it is tried again
    ran = run("quickstart", "create", str(path), *failing, "--json")
    # then
    assert "interrupted" in ran.err
    assert ran.json["created"]
    assert {item["username"] for item in ran.json["credentials"]} == {"admin.invoke", "pubapi"}
    Environment.open(path).remove()
