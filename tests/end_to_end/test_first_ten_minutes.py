"""What a newcomer does first: make a cluster, deploy a service, give it a channel, call it, change it, remove it."""

import pytest
import requests

COMPONENTS = ["PostgreSQL", "Redis (Valkey)", "server1", "server2", "Load balancer (HAProxy)"]


def test_creating_an_environment_tells_where_it_will_be_and_how_to_get_in(quickstart):
    created = quickstart.created

    assert created["created"]
    assert created["address"] == quickstart.address
    assert created["ping"] == f"{quickstart.address}/zato/ping"
    assert [(item["username"], item["password"]) for item in created["credentials"]] == [
        quickstart.admin,
        quickstart.public,
    ]


def test_files_with_passwords_are_closed_to_others(quickstart):
    secrets = quickstart.path / "secrets"

    assert all(path.stat().st_mode & 0o077 == 0 for path in [secrets, *secrets.iterdir()])


def test_starting_what_runs_changes_nothing_and_says_so(quickstart):
    before = quickstart.workers()

    ran = quickstart.start()

    assert [line.partition("] ")[2] for line in ran.out.splitlines() if "runs already" in line] == [
        f"{component['name']} runs already (port {component['address'].rpartition(':')[2]})"
        for component in quickstart.status()["components"]
    ]
    assert quickstart.workers() == before


def test_creating_it_again_is_refused_unless_it_may_exist(quickstart):
    refused = quickstart.run("quickstart", "create", quickstart.path)
    told = quickstart.run("--json", "quickstart", "create", quickstart.path, "--skip-if-exists")

    assert refused.code == 5
    assert "quickstart start" in refused.err
    assert (told.code, told.json["created"]) == (0, False)
    assert "credentials" not in told.json


def test_status_shows_every_component_and_every_worker(quickstart):
    status = quickstart.status()

    assert status["healthy"]
    assert [(item["name"], item["state"]) for item in status["components"]] == [
        (name, "running") for name in COMPONENTS
    ]
    assert all(item["memory"] > 0 and item["started"] > 0 for item in status["components"])
    workers = {server["name"]: server["workers"] for server in status["cluster"]["servers"]}
    for server in ("server1", "server2"):
        [worker] = workers[server]
        assert worker["pid"] == quickstart.worker(server).pid
        assert worker["applied_version"] == status["cluster"]["config_version"]
        assert (worker["state"], worker["lag"], worker["problems"]) == ("running", 0, {})


def test_people_see_the_same_as_tables(quickstart):
    text = quickstart.junctor("status")

    assert all(name in text for name in COMPONENTS)
    assert str(quickstart.worker("server2").pid) in text


def test_ping_says_that_the_cluster_answers(quickstart):
    assert quickstart.json("ping")["address"] == quickstart.address
    assert quickstart.call("GET", "/zato/ping").json()["zato_ping_response"] == {"pong": "zato"}


def test_a_channel_answers_through_the_load_balancer_and_tells_the_cid(shop):
    response = shop.price()

    assert response.status_code == requests.codes.ok
    assert (response.json()["product"], response.json()["total"]) == ("tea", 12)
    assert len(response.headers["X-Zato-CID"]) == 24


def test_both_servers_answer(shop):
    workers = shop.quickstart.workers()

    servers = {workers[shop.price().json()["pid"]] for _ in range(20)}

    assert servers == {"server1", "server2"}


@pytest.mark.parametrize("auth", [("nobody", "x"), ("user", "wrong"), ("user", "")])
def test_nobody_else_is_let_in(shop, auth):
    username, password = auth
    response = shop.price(auth=(shop.security if username == "user" else username, password))

    assert response.status_code == requests.codes.unauthorized
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert "total" not in response.text


def test_an_edit_is_live_when_the_command_returns(shop):
    answer = shop.quickstart.json("edit-channel-rest", shop.channel, "--method", "POST")

    assert answer["converged"]
    assert {shop.price(method="GET").status_code for _ in range(4)} == {405}
    assert {shop.price(method="POST").status_code for _ in range(4)} == {200}


def test_an_edit_of_something_that_changed_meanwhile_is_refused(shop):
    version = shop.quickstart.json("get-channel-rest", shop.channel)["version"]
    edit = ("edit-channel-rest", shop.channel, "--expected-version", str(version), "--timeout")
    shop.quickstart.junctor(*edit, "7")

    assert "changed" in shop.quickstart.refused(5, *edit, "8")

    assert shop.quickstart.json("get-channel-rest", shop.channel)["timeout"] == 7


def test_list_and_get_show_what_was_created(shop):
    listed = shop.quickstart.json("list-channel-rest", "--query", shop.channel)
    got = shop.quickstart.json("get-channel-rest", shop.channel)
    security = shop.quickstart.json("get-security-basic-auth", shop.security)

    assert listed["total"] == 1
    assert listed["items"] == [got]
    assert (got["service"], got["security"], got["timeout"]) == ("shop.price", shop.security, 30)
    assert "password" not in security
    assert security["secrets"]["password"]


def test_history_tells_who_changed_what(shop):
    shop.quickstart.junctor("edit-channel-rest", shop.channel, "--timeout", "9")

    edit, creation = [
        item
        for item in shop.quickstart.json("history", "--limit", "5")["items"]
        if item["kind"] == "channel_rest" and item["name"] == shop.channel
    ]

    assert (edit["verb"], edit["who"], edit["differences"]["timeout"]) == ("edit", "admin.invoke", [30, 9])
    assert (creation["verb"], creation["differences"]["service"]) == ("create", [None, "shop.price"])
    assert "timeout: 30 -> 9" in shop.quickstart.junctor("history", "--limit", "5")


def test_what_is_in_use_is_not_deleted_and_the_user_is_named(shop):
    message = shop.quickstart.refused(5, "delete-security-basic-auth", shop.security)

    assert message == f"Error: Basic Auth '{shop.security}' is in use by REST channel '{shop.channel}'.\n"
    assert shop.price().ok


def test_a_rename_keeps_references(shop):
    shop.quickstart.junctor("edit-security-basic-auth", shop.security, "--new-name", f"{shop.security}-2")

    assert shop.quickstart.json("get-channel-rest", shop.channel)["security"] == f"{shop.security}-2"
    assert shop.price().ok


def test_what_is_deleted_is_gone_from_all_servers(shop):
    shop.quickstart.junctor("delete-channel-rest", shop.channel)
    shop.quickstart.junctor("delete-security-basic-auth", shop.security)

    assert {shop.price().status_code for _ in range(4)} == {404}
    assert "no REST channel" in shop.quickstart.refused(4, "get-channel-rest", shop.channel)


def test_zatos_names_of_commands_work(shop):
    name = f"{shop.channel}-zato"
    quickstart = shop.quickstart

    quickstart.junctor("create", "basic-auth", "--name", name, "--username", name, "--password", "secret")
    quickstart.junctor("delete", "basic-auth", "--name", name)

    assert quickstart.json("list-security-basic-auth", "--query", name)["total"] == 0


def test_a_service_is_invoked_by_its_name(quickstart):
    answer = quickstart.json("invoke", "shop.price", "--payload", '{"product": "milk", "quantity": 2}')

    assert (answer["product"], answer["total"]) == ("milk", 8)


def test_any_service_is_called_over_http_with_the_public_credentials(quickstart):
    path, order = "/zato/api/invoke/shop.price", {"product": "milk", "quantity": 2}

    assert quickstart.call("POST", path, json=order, auth=quickstart.public).json()["total"] == 8
    assert quickstart.call("POST", path, json=order).status_code == requests.codes.unauthorized


def test_a_server_is_stopped_and_started_alone(quickstart):
    stopped = quickstart.run("stop", quickstart.path / "server2")
    components = {item["name"]: item["state"] for item in quickstart.status()["components"]}
    answers = {quickstart.call("GET", "/zato/ping").status_code for _ in range(6)}
    started = quickstart.run("start", quickstart.path / "server2")

    assert (stopped.code, stopped.out) == (0, "server2 stopped.\n")
    assert components == dict.fromkeys(COMPONENTS, "running") | {"server2": "stopped"}
    assert answers == {200}
    assert (started.code, started.out.partition("\n")[0]) == (0, "server2 started.")
    quickstart.wait_until_healthy()
