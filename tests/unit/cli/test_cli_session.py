import pytest

from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.cli.session import ADMIN_PASSWORD, Session, checked_address, http_url, read_secret_file
from junctor.sql.errors import EnvironmentProblem, InvalidInput
from tests.helpers.admin_server import PASSWORD
from tests.helpers.ports import free_port


@pytest.fixture
def environment(tmp_path, server):
    """An environment whose server answers and whose load balancer does not."""
    port = int(server.address.rpartition(":")[2])
    plan = Plan(
        servers=(ServerAddress("server1", free_port()), ServerAddress("server2", port)),
        load_balancer=LoadBalancerAddress(free_port()),
        odb_url="postgresql://a:b@127.0.0.1/c",
        redis_url="redis://127.0.0.1",
    )
    made = Environment.create(tmp_path / "env", plan, lambda: "k:1\n")
    made.write_secret(ADMIN_PASSWORD, PASSWORD)
    made.complete()
    return made


def test_the_option_comes_before_the_variable_and_the_current_directory(environment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUNCTOR_ENV", str(tmp_path / "elsewhere"))
    assert Session(path=str(environment.path)).environment().path == environment.path
    with pytest.raises(EnvironmentProblem):
        Session().environment()


def test_the_variable_comes_before_the_current_directory(environment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUNCTOR_ENV", str(environment.path))
    assert Session().environment().path == environment.path


def test_the_current_directory_may_be_a_component(environment, monkeypatch):
    monkeypatch.chdir(environment.path / "server1")
    found, component = Session().locate()
    assert found.path == environment.path
    assert component is not None
    assert component.name == "server1"


def test_where_nothing_is_the_error_says_what_to_give(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentProblem, match="--path ENV"):
        Session().environment()


def test_a_local_cluster_is_asked_where_it_answers_with_the_environments_password(
    environment, server, junctor
):
    server.answers["zato.channel-rest.get-list"] = {"items": [], "total": 0}
    junctor("list-channel-rest", "--path", str(environment.path))
    assert server.calls


def test_when_nothing_of_an_environment_answers_its_load_balancer_is_named(environment, server, junctor):
    settings = environment.settings
    environment.save(
        type(settings)(
            **{n: getattr(settings, n) for n in settings.__slots__} | {"servers": settings.servers[:1]}
        )
    )
    err = junctor("list-channel-rest", "--path", str(environment.path), code=6).err
    assert f"127.0.0.1:{settings.load_balancer.port}" in err


def test_an_address_takes_the_password_of_an_environment_only_when_that_is_named(
    environment, server, junctor, monkeypatch
):
    server.answers["zato.channel-rest.get-list"] = {"items": [], "total": 0}
    junctor("list-channel-rest", "--address", server.address, "--path", str(environment.path))
    monkeypatch.setenv("JUNCTOR_ENV", str(environment.path))
    assert "no password" in junctor("list-channel-rest", "--address", server.address, code=8).err


def test_address_and_password_come_from_variables(server, junctor, monkeypatch, tmp_path):
    server.answers["zato.channel-rest.get-list"] = {"items": [], "total": 0}
    (tmp_path / "p").write_text(PASSWORD)
    monkeypatch.setenv("JUNCTOR_ADDRESS", server.address)
    monkeypatch.setenv("JUNCTOR_PASSWORD_FILE", str(tmp_path / "p"))
    junctor("list-channel-rest")
    monkeypatch.setenv("JUNCTOR_USERNAME", "somebody")
    junctor("list-channel-rest", code=7)


@pytest.mark.usefixtures("somebody_there")
def test_a_password_is_asked_for_when_somebody_is_there(server, junctor):
    server.answers["zato.channel-rest.get-list"] = {"items": [], "total": 0}
    ran = junctor("list-channel-rest", "--address", server.address, stdin=f"{PASSWORD}\n")
    assert PASSWORD not in ran.out + ran.err


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("host:17010", "http://host:17010"),
        ("http://host/", "http://host"),
        ("https://host:443/base", "https://host:443/base"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_is_made_a_url(given, address):
    assert checked_address(given) == address


@pytest.mark.parametrize(
    "given", ["", "ftp://host", "http://", "http://host:x", "http://h:0", "http://u:p@host", "http://h?q=1"]
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(InvalidInput):
        checked_address(given)


def test_an_ipv6_address_is_put_in_brackets():
    assert http_url("::1", 80) == "http://[::1]:80"


def test_a_file_of_a_secret_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read_secret_file(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not text"):
        read_secret_file(str(tmp_path / "binary"))


def test_info_shows_where_everything_is_without_passwords(environment, junctor):
    environment.write_secret("odb-password", "hunter2")
    found = junctor("info", str(environment.path), "--json").json
    assert found["path"] == str(environment.path)
    assert list(found["servers"]) == ["server1", "server2"]
    assert "hunter2" not in str(found)
    assert "server1" in junctor("info", "--path", str(environment.path)).out


def test_status_of_a_cluster_elsewhere_asks_it_alone(cluster, server):
    worker = {
        "id": 1, "pid": 7, "state": "running", "started": "2026-01-01T00:00:00+00:00", "applied_version": 3, "lag": 0,
        "memory": 94_371_840, "problems": {"outgoing_rest/crm": "does not resolve"},
    }  # fmt: skip
    servers = [{"name": "server1", "workers": [worker]}, {"name": "server2", "workers": []}]
    server.answers["junctor.cluster.status"] = {"cluster": "c", "config_version": 3, "servers": servers}
    ran = cluster("status", code=1)
    assert "outgoing_rest/crm: does not resolve" in ran.out
    assert "no live worker" in ran.out
    assert "94.4 MB" in ran.out
    assert cluster("status", "--json", code=1).json["cluster"]["config_version"] == 3
    worker["problems"] = {}
    cluster("status")


def test_status_shows_links_to_other_clusters_without_calling_one_that_is_down_a_problem(cluster, server):
    down = {
        "state": "down", "since": "2026-01-01T00:00:00+00:00", "address": "ws://other/link", "error": "refused",
        "calls": 0, "lag_ms": None, "owner": True, "subscriptions": {"/a": "ok", "/b": "404 no topic"},
    }  # fmt: skip
    up = {
        **down,
        "state": "connected",
        "error": "",
        "calls": 3,
        "lag_ms": 1.5,
        "owner": False,
        "subscriptions": {},
    }
    workers = [
        {
            "id": pid,
            "pid": pid,
            "state": "running",
            "applied_version": 3,
            "lag": 0,
            "problems": {},
            "states": state,
        }
        for pid, state in ((71, {"outgoing_websocket/B": down}), (72, {"outgoing_websocket/B": up}), (73, {}))
    ]
    servers = [{"name": "server1", "workers": workers}]
    server.answers["junctor.cluster.status"] = {"cluster": "c", "config_version": 3, "servers": servers}
    out = cluster("status").out
    assert "refused; owns the subscriptions; not subscribed to /b: 404 no topic" in " ".join(out.split())
    assert "connected" in out
    assert "1.5" in out


def test_status_of_a_cluster_that_does_not_answer_says_why(junctor, tmp_path):
    (tmp_path / "p").write_text("x")
    ran = junctor("status", "--address", "127.0.0.1:1", "--password-file", str(tmp_path / "p"), code=1)
    assert "The cluster does not answer: No server answers at http://127.0.0.1:1" in ran.out


def test_status_of_an_environment_that_is_stopped_shows_its_parts(environment, junctor):
    ran = junctor("status", str(environment.path), "--json", code=1)
    states = {item["name"]: item["state"] for item in ran.json["components"]}
    assert states["server1"] == "stopped"
    assert "server1" in junctor("status", "--path", str(environment.path), code=1).out
