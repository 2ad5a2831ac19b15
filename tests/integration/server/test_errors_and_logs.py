"""What callers are told of errors, what the logs say, and how the two belong together."""

from __future__ import annotations

import re

import pytest

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest

pytestmark = pytest.mark.usefixtures("services")
CANARY = "canary-in-"


@pytest.fixture
def server(cluster: ClusterUnderTest) -> ServerUnderTest:
    """The server with two workers."""
    return cluster.servers[1]


class TestErrorBodies:
    def test_every_response_has_a_cid_of_its_own(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("cids", "t.echo", method="GET")
        paths = ("/cids", "/nothing-here", "/zato/ping", "/zato/admin/invoke", "/health/live", "/metrics")
        answers = [server.get(path) for path in paths] + [server.post("/cids"), server.get("/cids")]
        cids = [answer.headers["X-Zato-CID"] for answer in answers]
        assert len(set(cids)) == len(cids)
        assert all(re.fullmatch("[0-9a-f]{24}", cid) for cid in cids)

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            ("BadRequest", 400),
            ("Forbidden", 403),
            ("NotFound", 404),
            ("Conflict", 409),
            ("TooManyRequests", 429),
            ("InternalServerError", 500),
            ("ServiceUnavailable", 503),
        ],
    )
    def test_an_error_that_a_service_raises_for_its_caller_is_told(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, error: str, status: int
    ) -> None:
        name = f"refusing-{error}"
        cluster.channel(name, "t.refusing")
        answer = server.post(f"/{name}", json={"error": error})
        assert answer.status_code == status
        assert answer.json()["details"] == "Because of the test"
        assert answer.json()["cid"] == answer.headers["X-Zato-CID"]

    def test_any_other_error_is_told_nobody_but_the_log(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("broken", "t.broken")
        answer = server.post("/broken", json={})
        cid = answer.headers["X-Zato-CID"]
        assert answer.status_code == 500
        assert answer.json() == {"result": "Error", "cid": cid, "details": "An error has occurred"}
        assert answer.headers["Content-Type"] == "application/json"
        (line,) = server.logged("server", cid=cid, level="ERROR")
        assert "KeyError: 'canary-in-an-exception'" in line["traceback"]
        assert "tests_of_channels.py@" in line["traceback"]
        (access,) = server.logged("access", cid=cid)
        assert (access["status"], access["error"]) == (500, "KeyError")

    def test_the_30_form_is_a_setting_of_the_channel(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("old-form", "t.broken", error_format="3.0")
        answer = server.post("/old-form", json={})
        cid = answer.headers["X-Zato-CID"]
        assert answer.json() == {
            "zato_env": {"result": "ZATO_ERROR", "cid": cid, "details": "An error has occurred"}
        }

    def test_the_form_of_the_cluster_holds_where_a_channel_says_nothing(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("no-form", "t.broken")
        cluster.channel("own-form", "t.broken", error_format="3.2")
        cluster.write("zato.cluster.edit", name="tests", error_format="3.0")
        try:
            assert "zato_env" in server.post("/no-form").json()
            assert "zato_env" in server.get("/no-channel-at-all").json()
            assert "zato_env" not in server.post("/own-form").json()
        finally:
            cluster.write("zato.cluster.edit", name="tests", error_format="3.2")
        assert "zato_env" not in server.post("/no-form").json()

    def test_channels_without_json_get_plain_sentences(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("plain-errors", "t.broken", data_format="")
        answer = server.post("/plain-errors")
        assert (answer.status_code, answer.text) == (500, "An error has occurred")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"

    def test_no_body_has_a_traceback_or_what_an_exception_says(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        for data_format in ("json", "form", ""):
            for form in ("3.2", "3.0"):
                name = f"silent-{data_format}-{form}"
                cluster.channel(name, "t.broken", data_format=data_format, error_format=form)
                answer = server.post(f"/{name}", data=b"{}")
                shown = answer.text + repr(answer.headers)
                assert answer.status_code == 500
                assert not [word for word in ("Traceback", "File ", ".py", CANARY) if word in shown]


class TestLogs:
    def test_the_access_log_has_a_line_for_each_request(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("logged", "t.sized", url_path="/logged/{id}", data_format="")
        answer = server.get(
            "/logged/1?size=500&token=canary-in-query", headers={"User-Agent": "agent " + "x" * 1000}
        )
        (line,) = server.logged("access", cid=answer.headers["X-Zato-CID"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
        assert 0 < line.pop("ms") < 10_000
        assert line.pop("agent") == ("agent " + "x" * 1000)[:256]
        assert line == {
            "cid": answer.headers["X-Zato-CID"],
            "client": "127.0.0.1",
            "channel": "logged",
            "caller": None,
            "method": "GET",
            "path": "/logged/1",
            "status": 200,
            "size": 500,
        }

    def test_the_client_in_the_access_log_is_the_one_that_a_trusted_proxy_names(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        answer = server.get("/zato/ping", headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.7"})
        (line,) = server.logged("access", cid=answer.headers["X-Zato-CID"])
        assert line["client"] == "203.0.113.7"

    def test_unusual_requests_are_logged_as_whole_lines(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        path = "/nothing/%0A%7B%22cid%22:1%7D/%FF%FE/" + "x" * 1000
        answer = server.get(path, headers={"User-Agent": b"\xff\xfe\x80"})
        assert answer.status_code == 404
        (line,) = server.logged("access", cid=answer.headers["X-Zato-CID"])
        assert line["path"].startswith('/nothing/\n{"cid":1}/')
        assert len(line["path"]) == 256

    def test_what_a_service_logs_has_the_callers_cid(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("logging", "t.logging")
        answer = server.post("/logging", json={"id": 77})
        (line,) = server.logged("server", message="Order 77 arrived")
        assert line["cid"] == answer.headers["X-Zato-CID"]
        assert line["level"] == "INFO"
        assert line["logger"] == "tests_of_channels.Logging"

    def test_the_access_log_can_have_a_sample_of_the_requests(self, cluster: ClusterUnderTest) -> None:
        server = cluster.servers[0]
        cluster.channel("sampled", "t.echo")
        cluster.write("zato.cluster.edit", name="tests", access_log_sample=10)
        try:
            for _ in range(40):
                server.get("/sampled")
        finally:
            cluster.write("zato.cluster.edit", name="tests", access_log_sample=1)
        last = server.get("/sampled").headers["X-Zato-CID"]
        server.logged("access", cid=last)
        assert 3 <= len(server.logged("access", channel="sampled")) - 1 <= 5
