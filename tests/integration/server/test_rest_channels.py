"""REST channels: what each of their attributes does, over HTTP."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("services")


@pytest.fixture
def server(cluster: ClusterUnderTest) -> ServerUnderTest:
    """The server with two workers."""
    return cluster.servers[1]


class TestPaths:
    @pytest.mark.parametrize(
        ("pattern", "path", "params"),
        [
            ("/p1/{id}", "/p1/5", {"id": "5"}),
            ("/p2/{a}/x/{b}", "/p2/1/x/2", {"a": "1", "b": "2"}),
            ("/p3/{rest}", "/p3/a/b/c", {"rest": "a/b/c"}),
            ("/p4/{name}.json", "/p4/orders.json", {"name": "orders"}),
            ("/p5/{id}", "/p5/K%C3%B6ln%20S%C3%BCd", {"id": "Köln Süd"}),
            ("/p6/{id}", "/p6/a@b.c,d:e", {"id": "a@b.c,d:e"}),
            ("/p7", "/p7", {}),
        ],
    )
    def test_a_pattern_gives_the_service_the_parts_of_the_path(
        self,
        cluster: ClusterUnderTest,
        server: ServerUnderTest,
        pattern: str,
        path: str,
        params: dict[str, str],
    ) -> None:
        cluster.channel(f"path {pattern}", "t.echo", url_path=pattern)
        answer = server.get(path)
        assert answer.status_code == 200
        assert answer.json()["params"] == params

    def test_a_path_is_matched_as_a_whole_and_as_it_is_written(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("whole", "t.echo", url_path="/whole/{id}/end")
        assert server.get("/whole/1/end").status_code == 200
        for path in ("/whole/1/end/", "/Whole/1/end", "/x/whole/1/end", "/whole//end", "/whole/1/end2"):
            assert server.get(path).status_code == 404, path

    def test_a_placeholder_does_not_match_a_slash_unless_it_may(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("one segment", "t.echo", url_path="/seg/{id}", match_slash=False)
        assert server.get("/seg/a").status_code == 200
        assert server.get("/seg/a/b").status_code == 404
        cluster.write("zato.channel-rest.edit", name="one segment", match_slash=True)
        assert server.get("/seg/a/b").json()["params"] == {"id": "a/b"}

    def test_a_channel_that_is_not_active_is_not_there(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("sleeping", "t.echo", is_active=False)
        assert server.get("/sleeping").status_code == 404
        cluster.write("zato.channel-rest.edit", name="sleeping", is_active=True)
        assert server.get("/sleeping").status_code == 200
        cluster.write("zato.channel-rest.edit", name="sleeping", is_active=False)
        assert server.get("/sleeping").status_code == 404

    def test_a_channel_follows_its_path_when_that_changes(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("moving", "t.echo", url_path="/moving/from")
        cluster.write("zato.channel-rest.edit", name="moving", url_path="/moving/to")
        assert server.get("/moving/to").status_code == 200
        assert server.get("/moving/from").status_code == 404
        cluster.write("zato.channel-rest.delete", name="moving")
        assert server.get("/moving/to").status_code == 404


class TestMethods:
    def test_other_methods_than_the_channels_get_405_with_those_that_it_takes(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("methods", "t.echo", method="post,GET")
        assert server.get("/methods").json()["method"] == "GET"
        assert server.post("/methods", json={}).json()["method"] == "POST"
        refused = server.request("DELETE", "/methods")
        assert refused.status_code == 405
        assert refused.headers["Allow"] == "GET, POST"

    def test_a_channel_without_methods_takes_all(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("any method", "t.echo", url_path="/any-method")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert server.request(method, "/any-method").json()["method"] == method
        assert server.request("HEAD", "/any-method").content == b""

    def test_channels_share_a_path_by_their_methods(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("shared GET", "t.echo", url_path="/shared/{id}", method="GET")
        cluster.channel("shared POST", "t.echo", url_path="/shared/{id}", method="POST")
        assert server.get("/shared/1").json()["channel"] == "shared GET"
        assert server.post("/shared/1").json()["channel"] == "shared POST"
        refused = server.request("PUT", "/shared/1")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, POST")

    def test_a_service_with_handlers_by_method_refuses_the_others(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("verbs", "t.verbs", data_format="")
        assert server.get("/verbs").text == "got"
        assert server.request("DELETE", "/verbs").status_code == 204
        refused = server.post("/verbs")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "DELETE, GET")
        assert "X-Zato-CID" in refused.headers


class TestInput:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, "query"),
            ({"url_params_pri": "path-over-qs"}, "path"),
            ({"params_pri": "msg-over-channel-params"}, "body"),
            ({"params_pri": "msg-over-channel-params", "url_params_pri": "path-over-qs"}, "body"),
        ],
    )
    def test_the_priorities_decide_whose_value_a_name_has(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, fields: dict[str, str], expected: str
    ) -> None:
        name = "-".join(["priority", *fields.values()])
        cluster.channel(name, "t.echo", url_path=f"/{name}/{{who}}", **fields)
        seen = server.post(f"/{name}/path?who=query&q=1", json={"who": "body", "b": 2}).json()
        assert seen["input"] == {"who": expected, "q": "1", "b": 2}
        assert seen["params"] == {"who": "path"}
        assert seen["query"] == {"who": "query", "q": "1"}

    def test_without_merging_the_body_alone_is_the_input(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("unmerged", "t.echo", url_path="/unmerged/{id}", merge_url_params_req=False)
        seen = server.post("/unmerged/1?q=2", json={"b": 3}).json()
        assert seen["input"] == {"b": 3}
        assert (seen["params"], seen["query"]) == ({"id": "1"}, {"q": "2"})

    def test_a_query_parameter_that_is_repeated_is_a_list(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("lists", "t.echo")
        assert server.get("/lists?a=1&b=2&a=3&c=").json()["input"] == {"a": ["1", "3"], "b": "2", "c": ""}

    def test_too_many_parameters_are_refused(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("many", "t.echo")
        refused = server.get("/many?" + "&".join("abc"[n % 3] for n in range(2000)))
        assert refused.status_code == 400
        assert "1000 parameters" in refused.json()["details"]


class TestDataFormats:
    def test_json_is_parsed(self, cluster: ClusterUnderTest, server: ServerUnderTest) -> None:
        cluster.channel("as json", "t.echo", url_path="/as-json")
        answer = server.post("/as-json", data=b'{"a": [1, {"b": "\xc3\xa4"}]}')
        assert answer.json()["payload"] == "{'a': [1, {'b': 'ä'}]}"
        assert answer.headers["Content-Type"] == "application/json"

    def test_what_is_not_json_is_refused_with_the_reason(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("no json", "t.echo", url_path="/no-json")
        for body in (b"{", b"\xff\xfe", b"[1,]", b"[" * 5000):
            refused = server.post("/no-json", data=body)
            assert refused.status_code == 400
            assert "not valid JSON" in refused.json()["details"]

    def test_a_form_is_parsed(self, cluster: ClusterUnderTest, server: ServerUnderTest) -> None:
        cluster.channel("as form", "t.echo", url_path="/as-form", data_format="form")
        answer = server.post("/as-form", data={"a": "1", "b": ["x y", "ö"]})
        assert answer.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert answer.json()["input"] == {"a": "1", "b": ["x y", "ö"]}

    def test_raw_bodies_go_through_unchanged(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("as is", "t.raw", url_path="/as-is", data_format="")
        body = bytes(range(256)) * 100
        answer = server.post("/as-is", data=body)
        assert answer.content == body
        assert answer.headers["Content-Type"].startswith("text/plain")

    def test_a_channel_without_a_data_format_gives_form_fields_apart(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("raw form", "t.echo", url_path="/raw-form", data_format="")
        seen = server.post("/raw-form", data={"a": "1"}).json()
        assert (seen["form"], seen["payload"], seen["input"]) == ({"a": "1"}, repr(b"a=1"), {})


class TestResponses:
    def test_the_channels_content_type_is_used_and_the_services_own_wins(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("typed", "t.custom", content_type="application/vnd.test+json; charset=utf-8")
        default = server.post("/typed", json={"payload": {"a": 1}})
        assert default.headers["Content-Type"] == "application/vnd.test+json; charset=utf-8"
        assert server.post("/typed", json={"content_type": "text/csv"}).headers["Content-Type"] == "text/csv"

    def test_a_service_gives_status_and_headers(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("custom", "t.custom")
        answer = server.post("/custom", json={"status_code": 201, "headers": {"Location": "/x", "X-N": 5}})
        assert (answer.status_code, answer.headers["Location"], answer.headers["X-N"]) == (201, "/x", "5")

    def test_a_service_sets_cookies(self, cluster: ClusterUnderTest, server: ServerUnderTest) -> None:
        cluster.channel("cookies", "t.custom")
        answer = server.post("/cookies", json={"headers": {"Set-Cookie": "a=1; HttpOnly"}})
        assert answer.headers["Set-Cookie"] == "a=1; HttpOnly"

    @pytest.mark.parametrize("status", ["404 Not Here", 503, "201"])
    def test_a_status_may_be_a_number_or_a_line(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, status: str | int
    ) -> None:
        name = f"status-{str(status)[:3]}"
        cluster.channel(name, "t.custom")
        answer = server.post(f"/{name}", json={"status_code": status, "payload": "x"})
        assert (answer.status_code, answer.text) == (int(str(status)[:3]), "x")

    def test_the_length_is_that_of_the_body_whatever_the_service_says(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("lengths", "t.custom")
        for length in ("3", "300"):
            answer = server.post(
                "/lengths", json={"headers": {"Content-Length": length}, "payload": "x" * 30}
            )
            assert answer.content == b"x" * 30
            assert answer.headers["Content-Length"] == "30"

    @pytest.mark.parametrize(
        "made",
        [
            {"status_code": "banana"},
            {"status_code": 42},
            {"status_code": None},
            {"status_code": 1000},
            {"headers": {"X-Injected": "a\r\nSet-Cookie: b"}},
            {"headers": {"X Bad": "a"}},
            {"headers": {"X-Snowman": "☃"}},
            {"content_type": "text/plain\r\nX-Injected: 1"},
            {"content_encoding": "gzip\r\nX-Injected: 1"},
        ],
    )
    def test_a_response_that_cannot_be_sent_is_an_error_of_the_service(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, made: dict[str, Any]
    ) -> None:
        name = f"unsendable {made!r}".encode().hex()[-40:]
        cluster.channel(name, "t.custom")
        answer = server.post(f"/{name}", json=made)
        assert answer.status_code == 500
        assert not {"X-Injected", "Set-Cookie"} & set(answer.headers)
        assert answer.json() == {
            "result": "Error",
            "cid": answer.headers["X-Zato-CID"],
            "details": "An error has occurred",
        }
        server.logged("access", cid=answer.headers["X-Zato-CID"], status=500)

    def test_large_responses_are_compressed_for_clients_that_take_it(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("zipped", "t.sized", content_encoding="gzip", data_format="")
        for size in (2_000, 200_000):
            with requests.get(f"{server.url}/zipped?size={size}", stream=True, timeout=10) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert answer.headers["Vary"] == "Accept-Encoding"
                assert gzip.decompress(answer.raw.read()) == b"x" * size

    @pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "deflate, gzip; q=0.0"])
    def test_nothing_is_compressed_for_others(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, accepted: str
    ) -> None:
        name = f"unzipped-{accepted.encode().hex()}"
        cluster.channel(name, "t.sized", content_encoding="gzip", data_format="")
        answer = server.get(f"/{name}?size=2000", headers={"Accept-Encoding": accepted})
        assert answer.content == b"x" * 2000
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Vary"] == "Accept-Encoding"

    def test_small_responses_are_not_compressed(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("too small", "t.sized", url_path="/too-small", content_encoding="gzip")
        assert "Content-Encoding" not in server.get("/too-small?size=100").headers


class TestLimits:
    def test_a_service_that_takes_too_long_is_stopped_and_the_caller_gets_504(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, tmp_path: Path
    ) -> None:
        cluster.channel("in time", "t.slow", url_path="/in-time", timeout=1)
        answer = server.post("/in-time", json={"where": str(tmp_path), "seconds": 30})
        assert answer.status_code == 504
        assert "did not finish in 1 s" in answer.json()["details"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["left", "started"]

    def test_bodies_over_the_channels_limit_get_413(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("small", "t.raw", max_body_size=1000, data_format="")
        assert server.post("/small", data=b"x" * 1000).status_code == 200
        refused = server.post("/small", data=b"x" * 1001)
        assert refused.status_code == 413
        assert "1000 bytes" in refused.text

    def test_chunked_bodies_over_the_limit_get_413(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        cluster.channel("small chunks", "t.raw", url_path="/small-chunks", max_body_size=1000, data_format="")

        def chunks(count: int) -> Iterator[bytes]:
            yield from (b"x" * 100 for _ in range(count))

        assert server.post("/small-chunks", data=chunks(10)).content == b"x" * 1000
        assert server.post("/small-chunks", data=chunks(11)).status_code == 413

    def test_the_clusters_limit_holds_for_channels_without_one(self, cluster: ClusterUnderTest) -> None:
        server = cluster.servers[0]
        cluster.channel("clusters limit", "t.raw", url_path="/clusters-limit", data_format="")
        (settings,) = cluster.invoke("zato.cluster.get-list")["items"]
        cluster.write("zato.cluster.edit", name=settings["name"], max_body_size=50_000)
        try:
            assert server.post("/clusters-limit", data=b"x" * 50_000).status_code == 200
            assert server.post("/clusters-limit", data=b"x" * 50_001).status_code == 413
        finally:
            cluster.write("zato.cluster.edit", name=settings["name"], max_body_size=settings["max_body_size"])
        assert server.post("/clusters-limit", data=b"x" * 50_001).status_code == 200

    def test_a_client_that_goes_away_does_not_disturb_the_server(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, tmp_path: Path
    ) -> None:
        cluster.channel("gone", "t.slow")
        body = f'{{"where": "{tmp_path}", "seconds": 0.3}}'.encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            head = f"POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until((tmp_path / "started").exists)
        wait_until((tmp_path / "left").exists)
        assert server.get("/health/ready").status_code == 200
