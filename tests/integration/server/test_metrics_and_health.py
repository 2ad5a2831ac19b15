"""What monitoring sees: health, and metrics over all workers of a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("services")


@pytest.fixture
def server(cluster: ClusterUnderTest) -> ServerUnderTest:
    """The server with two workers."""
    return cluster.servers[1]


def call_on_all_workers(server: ServerUnderTest, path: str, least: int) -> int:
    """How many requests it took until every worker had answered one; at least ``least``."""
    pids = set()
    count = 0

    def is_enough() -> bool:
        nonlocal count
        pids.add(server.get(path, headers={"Connection": "close"}).json()["pid"])
        count += 1
        return len(pids) == server.worker_count and count >= least

    wait_until(is_enough, 20, "one worker gets no requests")
    return count


def test_a_server_is_live_and_ready(server: ServerUnderTest) -> None:
    assert server.get("/health/live").json() == {"live": True}
    ready = server.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reason": ""})


def test_requests_are_counted_exactly_over_all_workers(
    cluster: ClusterUnderTest, server: ServerUnderTest
) -> None:
    cluster.channel("m-exact", "t.echo")
    count = call_on_all_workers(server, "/m-exact", 60)
    for _ in range(7):
        server.post("/m-exact", data=b"{")

    def counted() -> tuple[float, float, float, float]:
        return (
            server.metric("junctor_requests_total", channel="m-exact", status="200"),
            server.metric("junctor_requests_total", channel="m-exact", status="400"),
            server.metric("junctor_request_seconds_count", channel="m-exact"),
            server.metric("junctor_request_seconds_bucket", channel="m-exact", le="+Inf"),
        )

    wait_until(lambda: counted() == (count, 7, count + 7, count + 7), 5, f"not {count}")


def test_metrics_are_in_the_text_format_with_the_versions_of_all_workers(
    cluster: ClusterUnderTest, server: ServerUnderTest
) -> None:
    version = cluster.channel("m-format", "t.echo")["config_version"]
    cluster.invoke("t.echo", server=1)

    def versions() -> set[float]:
        families = {
            family.name: family for family in text_string_to_metric_families(server.get("/metrics").text)
        }
        assert families["junctor_requests"].type == "counter"
        assert families["junctor_service_seconds"].type == "histogram"
        samples = families["junctor_config_version"].samples
        assert {sample.labels["server"] for sample in samples} == {"server2"}
        assert len({sample.labels["pid"] for sample in samples}) == len(samples)
        return {sample.value for sample in samples}

    wait_until(lambda: versions() == {version}, 5)
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Zato-Forwarded-For", "Forwarded", "Via"])
def test_metrics_are_not_for_those_who_come_through_a_proxy(server: ServerUnderTest, header: str) -> None:
    refused = server.get("/metrics", headers={header: "203.0.113.7"})
    assert refused.status_code == 403
    assert "junctor_requests_total" not in refused.text


def test_the_sockets_of_the_metrics_are_for_the_servers_user_alone(server: ServerUnderTest) -> None:
    for name in ("metrics.in", "metrics.out"):
        assert Path(server.directory / "run" / name).stat().st_mode & 0o077 == 0


def test_no_process_shows_a_secret_in_its_command_line(
    cluster: ClusterUnderTest, server: ServerUnderTest
) -> None:
    for process in server.workers():
        shown = " ".join(process.cmdline())
        assert not re.search(r"postgresql|redis|:[A-Za-z0-9_-]{43}=", shown)
        assert cluster.admin_password not in shown


def test_services_do_not_see_the_servers_secrets_in_their_environment(cluster: ClusterUnderTest) -> None:
    cluster.deploy(
        environment="import os\nfrom zato.server.service import Service\n\nclass E(Service):\n    name = 'm.env'\n\n"
        "    def handle(self):\n        self.response.payload = dict(os.environ)\n"
    )
    seen = cluster.invoke("m.env")
    assert not {"JUNCTOR_ODB_URL", "JUNCTOR_REDIS_URL", "JUNCTOR_SECRET_KEYS"} & set(seen)
    assert seen["JUNCTOR_SERVER_NAME"] == "server1"
