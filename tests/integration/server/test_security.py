"""Who gets through to a channel, and what the others are told."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest

pytestmark = pytest.mark.usefixtures("services")


@pytest.fixture
def server(cluster: ClusterUnderTest) -> ServerUnderTest:
    """The server with two workers."""
    return cluster.servers[1]


def secured(cluster: ClusterUnderTest, name: str, kind: str = "basic-auth", **fields: Any) -> None:
    """A channel ``/NAME`` with a security definition of this name."""
    cluster.write(f"zato.security.{kind}.create", name=name, **fields)
    cluster.channel(name, "t.echo", security=name)


class TestBasicAuth:
    def test_the_caller_is_known_to_the_service_and_to_the_access_log(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "basic", username="anna", password="pass:wörd")
        answer = server.get("/basic", auth=(b"anna", "pass:wörd".encode()))
        assert answer.status_code == 200
        assert (answer.json()["caller"], answer.json()["caller_type"]) == ("basic", "basic_auth")
        (line,) = server.logged("access", cid=answer.json()["cid"])
        assert (line["caller"], line["channel"], line["status"]) == ("basic", "basic", 200)

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Basic",
            "Basic !!!",
            "Basic " + b64encode(b"otto:right").decode(),
            "Basic " + b64encode(b"anna:wrong").decode(),
            "Basic " + b64encode(b"anna:").decode(),
            "Basic " + b64encode(b"anna").decode(),
            "Basic " + b64encode(b":right").decode(),
            "Basic " + b64encode(b"\xff\xfe:\xff").decode(),
            "Basic " + "A" * 8000,
            "Bearer " + b64encode(b"anna:right").decode(),
            "Digest username=anna",
        ],
    )
    def test_everybody_else_gets_one_and_the_same_answer(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, header: str | None
    ) -> None:
        name = "basic refusing"
        if cluster.invoke("zato.security.basic-auth.get-list", {"query": name})["total"] == 0:
            cluster.write(
                "zato.security.basic-auth.create", name=name, username="anna", password="right", realm="Test"
            )
            cluster.channel(name, "t.echo", url_path="/basic-refusing", security=name)
        refused = server.get("/basic-refusing", headers={} if header is None else {"Authorization": header})
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="Test", charset="UTF-8"'
        cid = refused.headers["X-Zato-CID"]
        assert refused.json() == {
            "result": "Error",
            "cid": cid,
            "details": "You are not authorized to access this resource.",
            "error": "Unauthorized",
        }
        kept = {"date", "x-zato-cid", "content-length", "content-type", "www-authenticate"}
        assert {key.lower() for key in refused.headers} == kept

    def test_refused_requests_are_in_the_access_log_without_a_caller(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "refused-and-logged", username="anna", password="right")
        refused = server.get("/refused-and-logged", auth=("anna", "canary-wrong-password"))
        (line,) = server.logged("access", cid=refused.headers["X-Zato-CID"])
        assert (line["status"], line["caller"], line["error"]) == (401, None, "Unauthorized")
        assert "canary-wrong-password" not in server.output()

    def test_a_definition_without_a_password_lets_nobody_in(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "no-password", username="anna")
        for auth in (None, ("anna", ""), ("anna", "x"), ("", "")):
            assert server.get("/no-password", auth=auth).status_code == 401

    def test_a_definition_that_is_not_active_lets_nobody_in(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "asleep", username="anna", password="right", is_active=False)
        assert server.get("/asleep", auth=("anna", "right")).status_code == 401
        cluster.write("zato.security.basic-auth.edit", name="asleep", is_active=True)
        assert server.get("/asleep", auth=("anna", "right")).status_code == 200

    def test_a_changed_password_holds_from_the_next_request_on(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "changing", username="anna", password="first")
        assert server.get("/changing", auth=("anna", "first")).status_code == 200
        cluster.write("zato.security.basic-auth.edit", name="changing", password="second")
        assert server.get("/changing", auth=("anna", "first")).status_code == 401
        assert server.get("/changing", auth=("anna", "second")).status_code == 200

    def test_renaming_a_definition_keeps_its_channels_working(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "old-name", username="anna", password="right")
        cluster.write("zato.security.basic-auth.edit", name="old-name", new_name="new-name")
        assert cluster.invoke("zato.channel-rest.get", {"name": "old-name"})["security"] == "new-name"
        assert server.get("/old-name", auth=("anna", "right")).json()["caller"] == "new-name"
        assert server.get("/old-name").status_code == 401

    def test_a_channel_can_get_and_lose_its_definition(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "on-and-off", username="anna", password="right")
        cluster.write("zato.channel-rest.edit", name="on-and-off", security="")
        assert server.get("/on-and-off").status_code == 200
        cluster.write("zato.channel-rest.edit", name="on-and-off", security="on-and-off")
        assert server.get("/on-and-off").status_code == 401

    def test_refused_logins_are_counted(self, cluster: ClusterUnderTest, server: ServerUnderTest) -> None:
        secured(cluster, "counted", username="anna", password="right")
        for _ in range(3):
            server.get("/counted", auth=("anna", "wrong"))
        cluster.is_everywhere(
            lambda one: (
                one is not server or one.metric("junctor_logins_refused_total", channel="counted") == 3
            )
        )


class TestApiKeys:
    def test_the_key_in_the_header_lets_a_caller_in(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "keyed", "apikey", key="key-ä")
        answer = server.get("/keyed", headers={"X-API-Key": "key-ä".encode()})
        assert (answer.json()["caller"], answer.json()["caller_type"]) == ("keyed", "apikey")

    @pytest.mark.parametrize("given", [None, "", "wrong", "right ", "Right", "r" * 8190])
    def test_any_other_key_is_refused(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, given: str | None
    ) -> None:
        if cluster.invoke("zato.security.apikey.get-list", {"query": "keys refusing"})["total"] == 0:
            cluster.write(
                "zato.security.apikey.create", name="keys refusing", key="right", header="X-Own-Key"
            )
            cluster.channel("keys refusing", "t.echo", url_path="/keys-refusing", security="keys refusing")
        refused = server.get("/keys-refusing", headers={} if given is None else {"X-Own-Key": given})
        if given == "right ":  # white space around a header's value is no part of it: RFC 9110, section 5.5
            assert refused.status_code == 200
        else:
            assert refused.status_code in (401, 431)
            assert refused.headers.get("WWW-Authenticate", "zato-apikey") == "zato-apikey"

    def test_an_empty_stored_key_lets_nobody_in(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "empty-key", "apikey")
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "anything"}):
            refused = server.get("/empty-key", headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "zato-apikey")

    def test_the_key_may_be_in_any_header(self, cluster: ClusterUnderTest, server: ServerUnderTest) -> None:
        secured(cluster, "in-content-type", "apikey", key="right", header="content-type")
        assert server.post("/in-content-type", headers={"Content-Type": "right"}).status_code == 200
        assert server.post("/in-content-type", headers={"Content-Type": "wrong"}).status_code == 401


class TestBuiltinChannels:
    def test_ping_is_for_everybody(self, server: ServerUnderTest) -> None:
        answer = server.get("/zato/ping")
        body = answer.json()
        assert body["zato_ping_response"] == {"pong": "zato"}
        assert body["zato_env"] == {
            "result": "ZATO_OK",
            "cid": answer.headers["X-Zato-CID"],
            "details": "",
        }

    def test_a_service_can_be_invoked_by_its_name(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        auth = ("pubapi", cluster.public_api_password)
        assert server.post("/zato/api/invoke/t.raw", auth=auth).status_code == 200
        seen = server.post("/zato/api/invoke/t.echo?x=1", auth=auth, json={"a": 1}).json()
        assert seen["input"] == {"a": 1}
        assert seen["caller"] == "pubapi"
        assert server.get("/zato/api/invoke/t.echo?x=1", auth=auth).json()["input"] == {"x": "1"}
        assert server.get("/zato/api/invoke/zato.ping", auth=auth).json() == {"pong": "zato"}

    def test_a_service_that_is_not_there_is_a_bad_request(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        refused = server.get("/zato/api/invoke/t.nothing", auth=("pubapi", cluster.public_api_password))
        assert refused.status_code == 400
        assert "t.nothing" in refused.json()["details"]

    def test_invocation_by_name_needs_credentials_and_is_not_for_administration(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        assert server.get("/zato/api/invoke/t.echo").status_code == 401
        for name in ("zato.channel-rest.get-list", "junctor.cluster.status", "zato.service.invoke"):
            refused = server.get(f"/zato/api/invoke/{name}", auth=("pubapi", cluster.public_api_password))
            assert refused.status_code == 403
            assert refused.json()["error"] == "Forbidden"

    def test_names_that_callers_make_up_are_no_metrics(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        server.get("/zato/api/invoke/made.up.name", auth=("pubapi", cluster.public_api_password))
        assert "made.up.name" not in server.get("/metrics").text

    def test_administration_needs_the_administrators_password(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        for auth in (
            None,
            ("admin.invoke", ""),
            ("admin.invoke", "x"),
            ("pubapi", cluster.public_api_password),
        ):
            refused = server.post("/zato/admin/invoke", auth=auth, json={"name": "zato.ping"})
            assert refused.status_code == 401
            assert refused.json()["zato_env"]["result"] == "ZATO_ERROR"
