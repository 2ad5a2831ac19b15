"""The administrative services: who may do what is tested elsewhere; here is what they do and what they refuse."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from junctor.server.client import AdminClient, ClusterUnreachable, RemoteError
from junctor.sql.errors import InvalidInput, Unauthorized
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.ports import free_port
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("services")


class TestInvocation:
    def test_the_cids_of_a_call_and_of_the_changes_that_it_made_are_one(
        self, cluster: ClusterUnderTest
    ) -> None:
        payload = b64encode(orjson.dumps({"name": "a-cid", "key": "x"})).decode()
        answer = cluster.servers[0].post(
            "/zato/admin/invoke",
            auth=("admin.invoke", cluster.admin_password),
            json={"name": "zato.security.apikey.create", "payload": payload, "data_format": "json"},
        )
        assert answer.json()["zato_env"]["cid"] == answer.headers["X-Zato-CID"]
        made = orjson.loads(b64decode(answer.json()["zato_service_invoke_response"]))
        (change, *_) = cluster.invoke("junctor.config.history", {"limit": 1})["items"]
        assert (change["cid"], change["version"]) == (answer.headers["X-Zato-CID"], made["config_version"])

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({}, "name: is required"),
            ({"name": 5}, "name: must be text"),
            ({"name": "t.echo", "payload": "!"}, "payload: must be base64"),
            ({"name": "t.echo", "payload": 5}, "payload: must be base64"),
            ({"name": "t.echo", "payload": "ew=="}, "payload: is not JSON"),
        ],
    )
    def test_a_wrong_invocation_is_refused(
        self, cluster: ClusterUnderTest, fields: dict[str, Any], problem: str
    ) -> None:
        answer = cluster.servers[0].post(
            "/zato/admin/invoke", auth=("admin.invoke", cluster.admin_password), json=fields
        )
        assert answer.status_code == 400
        assert problem in answer.json()["zato_env"]["details"]

    def test_text_payloads_go_through_as_they_are(self, cluster: ClusterUnderTest) -> None:
        answer = cluster.servers[0].post(
            "/zato/admin/invoke",
            auth=("admin.invoke", cluster.admin_password),
            json={
                "name": "t.echo",
                "payload": b64encode("größer".encode()).decode(),
                "data_format": "",
                "timeout": 5,
            },
        )
        seen = orjson.loads(b64decode(answer.json()["zato_service_invoke_response"]))
        assert seen["payload"] == "'größer'"

    def test_an_asynchronous_call_is_answered_with_its_cid(self, cluster: ClusterUnderTest) -> None:
        payload = b64encode(b'{"id": "async"}').decode()
        answer = cluster.servers[0].post(
            "/zato/admin/invoke",
            auth=("admin.invoke", cluster.admin_password),
            json={"name": "t.logging", "payload": payload, "is_async": True},
        )
        made = orjson.loads(b64decode(answer.json()["zato_service_invoke_response"]))
        (line,) = cluster.servers[0].logged(message="Order async arrived")
        assert line["cid"] == made["cid"]

    def test_a_payload_that_is_no_object_is_refused(self, cluster: ClusterUnderTest) -> None:
        with pytest.raises(RemoteError, match="must be a JSON object") as refused:
            cluster.invoke("zato.channel-rest.get", ["x"])
        assert refused.value.status == 400

    def test_the_client_tells_what_went_wrong(self, cluster: ClusterUnderTest) -> None:
        wrong = AdminClient(cluster.servers[0].url, "wrong")
        with pytest.raises(Unauthorized, match="does not accept the credentials"):
            wrong.invoke("zato.ping")
        nobody = AdminClient(f"http://127.0.0.1:{free_port()}/", "x")
        with pytest.raises(ClusterUnreachable, match=r"No server answers at .*Connection refused"):
            nobody.invoke("zato.ping")
        with pytest.raises(RemoteError) as refused:
            cluster.invoke("t.broken")
        assert (refused.value.status, str(refused.value)) == (500, "An error has occurred")
        cluster.servers[0].logged(cid=refused.value.cid, level="ERROR")
        for client in (wrong, nobody):
            client.close()


class TestObjects:
    def test_lists_are_paged_filtered_and_without_the_servers_own_objects(
        self, cluster: ClusterUnderTest
    ) -> None:
        for number in range(5):
            cluster.write("zato.security.apikey.create", name=f"a-page-{number}")
        name = "zato.security.apikey.get-list"
        page = cluster.invoke(name, {"query": "A-PAGE", "offset": 1, "limit": 2})
        assert ([item["name"] for item in page["items"]], page["total"]) == (["a-page-1", "a-page-2"], 5)
        own = cluster.invoke("zato.security.basic-auth.get-list", {"query": "invoke"})
        assert own == {"items": [], "total": 0}
        internal = cluster.invoke("zato.security.basic-auth.get-list", {"internal": True, "query": "invoke"})
        assert [item["name"] for item in internal["items"]] == ["admin.invoke"]

    @pytest.mark.parametrize(
        ("service", "payload", "problem"),
        [
            ("get-list", {"limit": "5"}, "limit: must be a number from 0 to 10000"),
            ("get-list", {"offset": -1}, "offset: must be a number"),
            ("get-list", {"query": 5}, "query: must be text"),
            ("get-list", {"internal": "false"}, "internal: must be true or false"),
            ("get", {}, "name: is required"),
            ("get", {"id": "5"}, "id: must be a whole number"),
            ("get", {"id": True}, "id: must be a whole number"),
            ("edit", {"name": "x", "expected_version": "1"}, "expected_version: must be a whole number"),
            ("create", {"name": "x", "wait": 301}, "wait: must be a number from 0 to 300"),
            ("create", {"name": "x", "wait": True}, "wait: must be a number"),
        ],
    )
    def test_wrong_arguments_are_refused(
        self, cluster: ClusterUnderTest, service: str, payload: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(InvalidInput, match=problem):
            cluster.invoke(f"zato.security.apikey.{service}", payload)

    def test_an_id_names_an_object_whatever_its_name_becomes(self, cluster: ClusterUnderTest) -> None:
        made = cluster.write("zato.security.apikey.create", name="a-first")
        edited = cluster.write("zato.security.apikey.edit", id=made["id"], name="a-second")
        assert (edited["id"], edited["version"]) == (made["id"], 2)
        assert cluster.invoke("zato.security.apikey.get", {"id": made["id"]})["name"] == "a-second"
        gone = cluster.write("zato.security.apikey.delete", id=made["id"])
        assert gone["name"] == "a-second"

    def test_without_waiting_the_answer_does_not_say_that_all_have_it(
        self, cluster: ClusterUnderTest
    ) -> None:
        made = cluster.invoke("zato.security.apikey.create", {"name": "a-hurry", "wait": 0})
        assert (made["converged"], made["missing"]) == (False, [])
        done = cluster.invoke("junctor.cluster.wait", {"version": made["config_version"], "timeout": 10})
        assert done == {"version": made["config_version"], "converged": True, "missing": []}

    def test_a_service_that_is_switched_off_cannot_be_invoked(self, cluster: ClusterUnderTest) -> None:
        cluster.channel("a-off", "t.sized")
        cluster.write("zato.service.edit", name="t.sized", is_active=False)
        try:
            for server in cluster.servers:
                assert server.get("/a-off?size=1").status_code == 404
        finally:
            cluster.write("zato.service.edit", name="t.sized", is_active=True)
        assert cluster.servers[1].get("/a-off?size=1").status_code == 200


class TestHistory:
    def test_it_tells_who_changed_what_and_how(self, cluster: ClusterUnderTest) -> None:
        cluster.write("zato.security.apikey.create", name="a-history", key="canary-a", header="X-A")
        cluster.write("zato.security.apikey.edit", name="a-history", key="canary-b", header="X-B")
        last = cluster.write("zato.security.apikey.delete", name="a-history")
        items = cluster.invoke("junctor.config.history", {"limit": 3})["items"]
        assert [(item["verb"], item["kind"], item["name"]) for item in items] == [
            (verb, "security_api_key", "a-history") for verb in ("delete", "edit", "create")
        ]
        assert {item["who"] for item in items} == {"admin.invoke"}
        assert [item["version"] for item in items] == [last["config_version"] - n for n in range(3)]
        edit = items[1]["differences"]
        assert edit["header"] == ["X-A", "X-B"]
        before, after = edit["secrets"]
        assert before != after
        assert "canary" not in repr(items)

    def test_it_goes_back_page_by_page(self, cluster: ClusterUnderTest) -> None:
        newest = cluster.invoke("junctor.config.history", {"limit": 4})["items"]
        older = cluster.invoke("junctor.config.history", {"limit": 2, "before": newest[1]["version"]})[
            "items"
        ]
        assert older == newest[2:]

    @pytest.mark.parametrize("payload", [{"limit": 5000}, {"before": "5"}, {"before": True}])
    def test_wrong_arguments_are_refused(self, cluster: ClusterUnderTest, payload: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match=r"must be a (whole )?number"):
            cluster.invoke("junctor.config.history", payload)


class TestStatus:
    def test_it_shows_each_worker_of_each_server(self, cluster: ClusterUnderTest) -> None:
        status = cluster.invoke("junctor.cluster.status", server=1)
        assert status["cluster"] == "tests"
        shown = {server["name"]: server for server in status["servers"]}
        for server in cluster.servers:
            assert (shown[server.name]["host"], shown[server.name]["port"]) == ("127.0.0.1", server.port)
            workers = shown[server.name]["workers"]
            assert sorted(item["pid"] for item in workers) == sorted(item.pid for item in server.workers())
            assert {item["state"] for item in workers} == {"running"}
            assert all(20_000_000 < item["memory"] < 1_000_000_000 for item in workers)
        wait_until(lambda: {worker["lag"] for worker in cluster.workers()} == {0})

    def test_waiting_for_a_version_that_is_not_there_is_refused(self, cluster: ClusterUnderTest) -> None:
        newest = cluster.invoke("junctor.cluster.wait", {})["version"]
        with pytest.raises(InvalidInput, match=f"the newest one is {newest}"):
            cluster.invoke("junctor.cluster.wait", {"version": newest + 1})
        with pytest.raises(InvalidInput, match="version: must be a whole number"):
            cluster.invoke("junctor.cluster.wait", {"version": "1"})


class TestBulk:
    def document(self, cluster: ClusterUnderTest, **kinds: list[dict[str, Any]]) -> dict[str, Any]:
        return cluster.write("junctor.enmasse.import", document=kinds)

    def test_one_import_makes_objects_that_refer_to_each_other(self, cluster: ClusterUnderTest) -> None:
        made = self.document(
            cluster,
            channel_rest=[
                {"name": "b-one", "url_path": "/b-one", "service": "t.echo", "security": "b-anna"},
                {"name": "b-two", "url_path": "/b-two", "service": "t.echo"},
            ],
            security_basic_auth=[{"name": "b-anna", "username": "anna", "password": "canary"}],
        )
        assert [change["name"] for change in made["changes"]] == ["b-anna", "b-one", "b-two"]
        assert {change["version"] for change in made["changes"]} == {made["config_version"]}
        for server in cluster.servers:
            assert server.get("/b-one", auth=("anna", "canary")).status_code == 200
            assert server.get("/b-two").status_code == 200

    def test_secrets_that_a_document_does_not_name_stay_and_other_fields_get_their_defaults(
        self, cluster: ClusterUnderTest
    ) -> None:
        self.document(
            cluster, security_basic_auth=[{"name": "b-kept", "username": "a", "password": "p", "realm": "R"}]
        )
        self.document(cluster, security_basic_auth=[{"name": "b-kept", "username": "b"}])
        cluster.channel("b-kept", "t.echo", security="b-kept")
        answer = cluster.servers[1].get("/b-kept")
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="Junctor"')
        assert cluster.servers[1].get("/b-kept", auth=("b", "p")).status_code == 200

    def test_two_objects_exchange_what_they_are_in_one_import(self, cluster: ClusterUnderTest) -> None:
        one, two = {"username": "one", "password": "p1"}, {"username": "two", "password": "p2"}
        for fields in ((one, two), (two, one)):
            listed = [{"name": f"b-swap-{n}", **item} for n, item in enumerate(fields)]
            self.document(cluster, security_basic_auth=listed)
            if fields[0] is one:
                cluster.channel("b-swap", "t.echo", security="b-swap-0")
            for server in cluster.servers:
                accepted = server.get("/b-swap", auth=(fields[0]["username"], fields[0]["password"]))
                assert accepted.json()["caller"] == "b-swap-0"
                refused = server.get("/b-swap", auth=(fields[1]["username"], fields[1]["password"]))
                assert refused.status_code == 401

    def test_a_dry_run_tells_what_would_change_and_changes_nothing(self, cluster: ClusterUnderTest) -> None:
        before = cluster.invoke("junctor.cluster.wait", {})["version"]
        answer = cluster.invoke(
            "junctor.enmasse.import", {"document": {"security_api_key": [{"name": "b-dry"}]}, "dry_run": True}
        )
        assert [(change["verb"], change["name"]) for change in answer["changes"]] == [("create", "b-dry")]
        assert answer["dry_run"] is True
        assert cluster.invoke("junctor.cluster.wait", {})["version"] == before
        assert cluster.invoke("zato.security.apikey.get-list", {"query": "b-dry"})["total"] == 0

    def test_an_import_is_all_or_nothing_and_tells_every_problem(self, cluster: ClusterUnderTest) -> None:
        document = {
            "security_api_key": [{"name": "b-all"}, {"name": "b-all"}, {"header": "X"}, "text"],
            "channel_rest": [{"name": "b-bad", "url_path": "no", "service": "b.none", "colour": "red"}],
            "security_basic_auth": {"name": "b"},
            "planet": [],
        }
        with pytest.raises(InvalidInput) as refused:
            cluster.invoke("junctor.enmasse.import", {"document": document})
        assert sorted(problem.field for problem in refused.value.problems) == [
            "channel_rest[0].colour",
            "planet",
            "security_api_key[1]",
            "security_api_key[2]",
            "security_api_key[3]",
            "security_basic_auth",
        ]
        assert cluster.invoke("zato.security.apikey.get-list", {"query": "b-all"})["total"] == 0

    def test_a_name_that_another_type_of_the_family_has_is_a_problem(self, cluster: ClusterUnderTest) -> None:
        cluster.write("zato.security.apikey.create", name="b-family")
        with pytest.raises(InvalidInput, match=r"security_basic_auth\[0\]: .*'b-family' exists already"):
            self.document(cluster, security_basic_auth=[{"name": "b-family", "username": "x"}])

    def test_an_import_on_an_older_version_is_a_conflict(self, cluster: ClusterUnderTest) -> None:
        version = cluster.invoke("junctor.enmasse.export")["config_version"]
        cluster.write("zato.security.apikey.create", name="b-conflict")
        with pytest.raises(RemoteError, match="changed by somebody else") as refused:
            cluster.invoke("junctor.enmasse.import", {"document": {}, "base_version": version})
        assert refused.value.status == 409

    def test_pruning_deletes_what_its_owner_has_made_and_does_not_name_any_more(
        self, cluster: ClusterUnderTest
    ) -> None:
        kinds = {
            "security_api_key": [{"name": "b-p1"}, {"name": " b-p2 "}],
            "channel_rest": [{"name": "b-pc", "url_path": "/b-pc", "service": "t.echo", "security": "b-p1"}],
        }
        cluster.write("zato.security.apikey.create", name="b-p-other")
        cluster.write("junctor.enmasse.import", document=kinds, owner="team-p", prune=True)
        again = cluster.invoke(
            "junctor.enmasse.import", {"document": kinds, "owner": "team-p", "prune": True}
        )
        assert again["changes"] == []
        kinds = {"security_api_key": [{"name": "b-p2"}]}
        answer = cluster.write("junctor.enmasse.import", document=kinds, owner="team-p", prune=True)
        assert [(item["verb"], item["name"]) for item in answer["changes"]] == [
            ("delete", "b-pc"),
            ("delete", "b-p1"),
        ]
        left = cluster.invoke("zato.security.apikey.get-list", {"query": "b-p"})["items"]
        assert [item["name"] for item in left] == ["b-p-other", "b-p2"]
        assert cluster.servers[1].get("/b-pc").status_code == 404

    def test_what_somebody_else_uses_is_not_pruned(self, cluster: ClusterUnderTest) -> None:
        kinds = {"security_api_key": [{"name": "b-held"}]}
        cluster.write("junctor.enmasse.import", document=kinds, owner="team-h")
        cluster.channel("b-holder", "t.echo", security="b-held")
        with pytest.raises(InvalidInput, match=r"cannot be pruned: .*'b-held' is in use by REST channel"):
            cluster.invoke("junctor.enmasse.import", {"document": {}, "owner": "team-h", "prune": True})

    @pytest.mark.parametrize(
        ("service", "payload", "problem"),
        [
            ("import", {}, "document: must be an object"),
            ("import", {"document": []}, "document: must be an object"),
            ("import", {"document": {}, "prune": True}, "owner: is required for pruning"),
            ("import", {"document": {}, "owner": "x", "prune": "false"}, "prune: must be true or false"),
            ("import", {"document": {}, "dry_run": 1}, "dry_run: must be true or false"),
            ("export", {"kinds": ["planet"]}, "there are no types planet to export"),
            ("export", {"internal": "no"}, "internal: must be true or false"),
        ],
    )
    def test_wrong_arguments_are_refused(
        self, cluster: ClusterUnderTest, service: str, payload: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(InvalidInput, match=problem):
            cluster.invoke(f"junctor.enmasse.{service}", payload)

    def test_an_export_is_sorted_without_defaults_and_of_the_types_that_were_asked_for(
        self, cluster: ClusterUnderTest
    ) -> None:
        cluster.write("zato.security.apikey.create", name="b-z")
        cluster.write("zato.security.apikey.create", name="b-a", header="X-Other", key="canary")
        document = cluster.invoke("junctor.enmasse.export", {"kinds": ["security_api_key"]})["document"]
        assert list(document) == ["security_api_key"]
        names = [item["name"] for item in document["security_api_key"]]
        assert names == sorted(names)
        assert {"name": "b-a", "header": "X-Other"} in document["security_api_key"]
        assert {"name": "b-z"} in document["security_api_key"]
        with_own = cluster.invoke("junctor.enmasse.export", {"internal": True})["document"]
        assert "admin.invoke" in [item["name"] for item in with_own["security_basic_auth"]]
