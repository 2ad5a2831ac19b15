"""Outgoing REST connections, from a service of one server to a channel of the other."""

from __future__ import annotations

import pytest

from tests.helpers.cluster import ClusterUnderTest

CALLER = """
from zato.server.service import Service


class Call(Service):
    name = "o.call"

    def handle(self):
        asked = self.request.payload
        connection = self.out.rest[asked["connection"]].conn
        response = connection.post(self.cid, asked.get("data"), params=asked.get("params"))
        self.response.payload = {
            "status": response.status_code,
            "data": response.data,
            "same": self.out.plain_http[asked["connection"]].conn is connection,
        }
"""


@pytest.fixture
def calling(services: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster with the service that calls, on channel /call."""
    if services.invoke("zato.service.get-list", {"query": "o.call"})["total"] == 0:
        services.deploy(outgoing_caller=CALLER)
        services.channel("call", "o.call")
    return services


def call(cluster: ClusterUnderTest, connection: str, **asked: object) -> tuple[int, dict[str, object]]:
    """The status and the body of what /call of server 1 answers."""
    answer = cluster.servers[0].post("/call", json={"connection": connection, **asked})
    return answer.status_code, answer.json()


def test_a_service_calls_a_channel_of_another_server(calling: ClusterUnderTest) -> None:
    calling.channel("o-target", "t.echo", url_path="/o/{id}", method="POST")
    calling.write(
        "zato.outgoing-rest.create", name="o-plain", host=calling.servers[1].url, url_path="/o/{id}"
    )
    status, body = call(calling, "o-plain", data={"a": 1}, params={"id": "5", "q": "x"})
    assert status == 200
    assert body["same"] is True
    assert body["status"] == 200
    data = body["data"]
    assert isinstance(data, dict)
    assert (data["params"], data["query"], data["channel"]) == ({"id": "5"}, {"q": "x"}, "o-target")
    assert data["input"] == {"a": 1, "id": "5", "q": "x"}


def test_changed_credentials_are_used_at_once_on_both_ends(calling: ClusterUnderTest) -> None:
    for kind, fields in (
        ("basic-auth", {"username": "crm", "password": "first"}),
        ("apikey", {"key": "first"}),
    ):
        name = f"o-{kind}"
        calling.write(f"zato.security.{kind}.create", name=name, **fields)
        calling.channel(name, "t.echo", security=name)
        calling.write(
            "zato.outgoing-rest.create",
            name=name,
            host=calling.servers[1].url,
            url_path=f"/{name}",
            security=name,
        )
        assert call(calling, name)[1]["status"] == 200
        secret = "password" if "password" in fields else "key"
        calling.write(f"zato.security.{kind}.edit", name=name, **{secret: "second"})
        assert call(calling, name)[1]["status"] == 200
        calling.write("zato.channel-rest.edit", name=name, security="")
        calling.write(f"zato.security.{kind}.edit", name=name, is_active=False)
        status, body = call(calling, name)
        assert (status, body["details"]) == (500, "An error has occurred")
        calling.servers[0].logged(level="ERROR", cid=body["cid"])


def test_a_connection_follows_its_configuration(calling: ClusterUnderTest) -> None:
    calling.channel("o-edited", "t.echo")
    calling.write(
        "zato.outgoing-rest.create", name="o-edited", host=calling.servers[1].url, url_path="/nowhere"
    )
    assert call(calling, "o-edited")[1]["status"] == 404
    calling.write("zato.outgoing-rest.edit", name="o-edited", url_path="/o-edited")
    assert call(calling, "o-edited")[1]["status"] == 200
    calling.write("zato.outgoing-rest.edit", name="o-edited", new_name="o-renamed")
    assert call(calling, "o-renamed")[1]["status"] == 200
    assert call(calling, "o-edited")[0] != 200
    calling.write("zato.outgoing-rest.edit", name="o-renamed", is_active=False)
    assert call(calling, "o-renamed")[0] == 500
    calling.write("zato.outgoing-rest.delete", name="o-renamed")
    assert call(calling, "o-renamed")[0] != 200


def test_a_connection_without_an_answer_fails_in_time(calling: ClusterUnderTest) -> None:
    calling.write(
        "zato.outgoing-rest.create", name="o-dead", host="http://127.0.0.1:1", url_path="/", timeout=2
    )
    status, body = call(calling, "o-dead")
    assert status == 500
    assert body["details"] == "An error has occurred"
