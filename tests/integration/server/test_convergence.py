"""Whatever dies or stops for a while, every worker has the newest configuration in the end.

Each test breaks a cluster of its own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
import requests

from junctor.server.client import AdminClient, RemoteError
from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import succeeds, wait_until

from .conftest import SERVICES, OwnCluster, drop, service

pytestmark = pytest.mark.chaos
POLL = 0.5  # seconds
Make = Callable[..., OwnCluster]


def started(own: Make, **options: object) -> OwnCluster:
    """A cluster that runs, with a channel /echo."""
    made = own(settings={"poll_interval": POLL}, **options)
    made.cluster.start()
    made.cluster.deploy(tests_of_channels=SERVICES)
    made.cluster.channel("echo", "t.echo")
    return made


def serves(server: ServerUnderTest, path: str) -> bool:
    """Whether every worker of a server has the channel of this path."""
    pids = {
        answer.json()["pid"]
        for answer in (server.get(path, headers={"Connection": "close"}) for _ in range(8))
        if answer.status_code == 200
    }
    return len(pids) == server.worker_count


def add(cluster: ClusterUnderTest, name: str, *, server: int = 0) -> int:
    """The version of the configuration that has one more channel, /NAME; nobody is waited for."""
    given = {"name": name, "url_path": f"/{name}", "service": "t.echo", "wait": 0}
    found: int = cluster.invoke("zato.channel-rest.create", given, server=server)["config_version"]
    return found


class Load(threading.Thread):
    """Requests, one after another on a kept connection, until it is stopped; ``failures`` are those not answered with 200."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.failures: list[str] = []
        self.count = 0
        self._url = url
        self._ends = threading.Event()

    def run(self) -> None:
        """Sends requests."""
        with requests.Session() as session:
            session.trust_env = False
            while not self._ends.is_set():
                try:
                    answer = session.get(self._url, timeout=10)
                    if answer.status_code != requests.codes.ok:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                except requests.RequestException as error:
                    self.failures.append(repr(error))
                self.count += 1

    def stop(self) -> None:
        """Ends it."""
        self._ends.set()
        self.join(20)


@pytest.fixture
def load() -> Iterator[Callable[[str], Load]]:
    """Starts a load that ends with the test."""
    running: list[Load] = []

    def start(url: str) -> Load:
        running.append(Load(url))
        running[-1].start()
        wait_until(lambda: running[-1].count > 5)
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture(scope="class")
def breakable(own_of_class: Make) -> OwnCluster:
    """A cluster that runs, for the tests of a class."""
    return started(own_of_class)


class TestWhatBreaks:
    """The cluster is whole again after each test."""

    def test_a_killed_worker_is_replaced_by_one_with_the_newest_configuration(
        self, breakable: OwnCluster
    ) -> None:
        cluster = breakable.cluster
        server = cluster.servers[1]
        for _ in range(5):
            server.get("/echo")
        counted = wait_until(lambda: server.metric("junctor_requests_total", channel="echo"))
        wait_until(lambda: server.metric("junctor_requests_total", channel="echo") == 5)
        killed = server.workers()[0]
        killed.kill()
        version = add(cluster, "after-kill")
        wait_until(lambda: killed.pid not in {worker.pid for worker in server.workers()}, 15)
        wait_until(lambda: serves(server, "/after-kill"), 15)
        done = cluster.invoke("junctor.cluster.wait", {"version": version, "timeout": 15})
        assert done["converged"], done
        wait_until(lambda: killed.pid not in {worker["pid"] for worker in cluster.workers()}, 15)
        assert counted <= 5 <= server.metric("junctor_requests_total", channel="echo")
        assert f'pid="{killed.pid}"' not in server.get("/metrics").text

    def test_a_paused_worker_is_named_and_catches_up_when_it_goes_on(self, breakable: OwnCluster) -> None:
        cluster = breakable.cluster
        paused = cluster.servers[1].workers()[0]
        paused.suspend()
        version = add(cluster, "during-pause")
        missing = cluster.invoke("junctor.cluster.wait", {"version": version, "timeout": 0.5})
        assert missing["converged"] is False
        assert [(worker["server"], worker["pid"]) for worker in missing["missing"]] == [
            ("server2", paused.pid)
        ]
        lagging = [worker for worker in cluster.workers() if worker["lag"]]
        assert [worker["pid"] for worker in lagging] == [paused.pid]
        answer = cluster.invoke("zato.security.apikey.create", {"name": "told", "wait": 0.2})
        assert (answer["converged"], [item["pid"] for item in answer["missing"]]) == (False, [paused.pid])
        paused.resume()
        done = cluster.invoke("junctor.cluster.wait", {"version": answer["config_version"], "timeout": 10})
        assert done["converged"], done
        wait_until(lambda: serves(cluster.servers[1], "/during-pause"))

    def test_without_redis_changes_arrive_within_the_poll_interval_and_with_it_at_once_again(
        self, breakable: OwnCluster
    ) -> None:
        cluster = breakable.cluster
        breakable.valkey.kill()
        for number in range(3):
            version = add(cluster, f"no-redis-{number}")
            done = cluster.invoke("junctor.cluster.wait", {"version": version, "timeout": POLL + 5})
            assert done["converged"], done
            path = f"/no-redis-{number}"
            wait_until(lambda path=path: serves(cluster.servers[1], path))  # type: ignore[misc]
        cluster.servers[0].logged(logger="junctor.server.bus.client", level="WARNING")
        for server in cluster.servers:
            server.logged(logger="junctor.server.bus.listener", level="WARNING")
        breakable.valkey.start()
        for server in cluster.servers:
            server.logged(message="Redis is back.")
        assert cluster.channel("redis-again", "t.echo")["converged"]

    def test_the_servers_work_on_while_postgresql_is_away_and_converge_when_it_is_back(
        self, breakable: OwnCluster, load: Callable[[str], Load]
    ) -> None:
        cluster = breakable.cluster
        requests_all_along = load(cluster.servers[1].url + "/echo")
        writer_ends = threading.Event()
        written: list[int] = []
        refused: set[int] = set()

        def write() -> None:
            client = AdminClient(cluster.servers[0].url, cluster.admin_password)
            number = 0
            while not writer_ends.is_set():
                number += 1
                fields = {"name": f"w-{number}", "url_path": f"/w-{number}", "service": "t.echo", "wait": 0}
                try:
                    written.append(client.invoke("zato.channel-rest.create", fields)["config_version"])
                except RemoteError as error:
                    refused.add(error.status)
                    writer_ends.wait(0.05)  # a writer that is not in a hurry
            client.close()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        wait_until(lambda: len(written) > 3)
        breakable.postgres.kill()
        cluster.servers[0].logged(logger="junctor.server.bus.listener", level="WARNING")
        assert cluster.servers[1].is_ready()
        breakable.postgres.start()
        before = len(written)
        wait_until(lambda: len(written) > before + 3, 20)
        writer_ends.set()
        writer.join(20)
        done = cluster.invoke("junctor.cluster.wait", {"timeout": 10})
        assert done["converged"], done
        assert written == sorted(set(written))
        assert refused <= {503}
        requests_all_along.stop()
        assert not requests_all_along.failures
        listed = cluster.invoke("zato.channel-rest.get-list", {"query": "w-", "limit": 1000})["items"]
        assert len(listed) >= len(written)
        cluster.is_everywhere(lambda server: serves(server, listed[-1]["url_path"]))

    def test_a_server_that_starts_later_has_all_services_and_no_worker_of_its_former_self(
        self, breakable: OwnCluster
    ) -> None:
        cluster = breakable.cluster
        server = cluster.servers[1]
        former = {worker.pid for worker in server.workers()}
        server.kill()
        server.start()
        server.wait_until_ready()
        wait_until(lambda: serves(server, "/echo"), 10)
        wait_until(lambda: former.isdisjoint({worker["pid"] for worker in cluster.workers()}), 15)
        assert cluster.channel("after-restart", "t.echo")["converged"]

    def test_files_are_picked_up_whoever_watches_and_each_text_once(self, breakable: OwnCluster) -> None:
        cluster = breakable.cluster
        server = cluster.servers[1]

        drop(server, "p_first.py", service("p.first", "1"))
        wait_until(lambda: serves_service(cluster, "p.first"))
        for number, worker in enumerate(server.workers()):
            worker.kill()
            drop(server, f"p_orphan_{number}.py", service(f"p.orphan.{number}", "1"))
            wait_until(lambda number=number: serves_service(cluster, f"p.orphan.{number}"), 20)  # type: ignore[misc]
        server.kill()
        cluster.invoke("zato.service-source.delete", {"name": "p_first.py", "wait": 0})
        drop(server, "p_while_down.py", service("p.while.down", "1"))
        server.start()
        server.wait_until_ready()
        wait_until(lambda: serves_service(cluster, "p.while.down"), 10)
        assert not serves_service(cluster, "p.first")

    def test_a_file_that_is_dropped_while_postgresql_is_away_is_deployed_later(
        self, breakable: OwnCluster
    ) -> None:
        cluster = breakable.cluster
        breakable.postgres.stop()
        drop(cluster.servers[0], "p_later.py", service("p.later", "1"))
        told = "p_later.py cannot be deployed now and will be tried again: "
        wait_until(lambda: any(line["message"].startswith(told) for line in cluster.servers[0].log()), 15)
        breakable.postgres.start()
        wait_until(lambda: serves_service(cluster, "p.later"), 20)


def serves_service(cluster: ClusterUnderTest, name: str) -> bool:
    """Whether the cluster, with its database, knows a service."""
    try:
        return bool(cluster.invoke("zato.service.get-list", {"query": name})["total"])
    except RemoteError:
        return False


def test_a_server_waits_for_its_database_and_says_so(own: Make) -> None:
    made = own(workers=(1,))
    server = made.cluster.servers[0]
    made.postgres.stop()
    server.start()
    wait_until(lambda: succeeds(lambda: server.get("/health/live"), requests.ConnectionError), 20)
    starting = "The server is starting."
    wait_until(lambda: server.get("/health/ready").json()["reason"] != starting, 20)
    unready = server.get("/health/ready")
    assert (unready.status_code, unready.json()["ready"]) == (503, False)
    assert "The object database" in unready.json()["reason"]
    assert made.postgres.password not in unready.text + server.output()
    refused = server.get("/zato/ping")
    assert refused.status_code == 503
    assert (refused.json()["error"], refused.headers["X-Zato-CID"]) == (
        "ServiceUnavailable",
        refused.json()["cid"],
    )
    assert server.get("/health/live").status_code == 200
    made.postgres.start()
    server.wait_until_ready()
    assert server.get("/zato/ping").status_code == 200


def test_a_reload_loses_no_request_and_takes_up_new_settings(own: Make, load: Callable[[str], Load]) -> None:
    cluster = started(own, workers=(2,)).cluster
    server = cluster.servers[0]
    before = {worker.pid for worker in server.workers()}
    loads = [load(server.url + "/echo") for _ in range(4)]
    (server.directory / "server.toml").write_text("access_log = false\n", encoding="utf-8")
    cluster.disconnect()
    server.signal(signal.SIGHUP)
    wait_until(
        lambda: before.isdisjoint({worker.pid for worker in server.workers()}),
        20,
        "the workers are the old ones",
    )
    wait_until(lambda: len(server.workers()) == 2, 20)
    wait_until(server.is_ready)
    counts = [one.count for one in loads]
    wait_until(lambda: all(one.count > count + 20 for one, count in zip(loads, counts, strict=True)))
    for one in loads:
        one.stop()
    assert not [failure for one in loads for failure in one.failures]
    total = sum(one.count for one in loads)
    wait_until(lambda: server.metric("junctor_requests_total", channel="echo") == total, 10, f"not {total}")
    # The new workers go by the new settings, so what they answered is in no log.
    cid = server.get("/echo").headers["X-Zato-CID"]
    assert cluster.channel("after-reload", "t.echo")["converged"]
    assert not [line for line in server.log("access") if line["cid"] == cid]


def test_two_processes_rotate_a_log_without_losing_a_line(own: Make) -> None:
    made = own(workers=(2,), settings={"log_file_size": 20_000, "log_file_count": 50})
    cluster, server = made.cluster, made.cluster.servers[0]
    cluster.start()
    cluster.deploy(tests_of_channels=SERVICES)
    cluster.channel("echo", "t.echo")
    seen: dict[str, int] = {}
    for _ in range(600):
        answer = server.get("/echo", headers={"Connection": "close"})
        seen[answer.headers["X-Zato-CID"]] = answer.json()["pid"]
    assert len(set(seen.values())) == 2
    last = next(reversed(seen))
    for cid in (last, *[cid for cid, pid in seen.items() if pid != seen[last]][-1:]):
        server.logged("access", cid=cid)
    lines = server.log("access")
    assert len(list((server.directory / "logs").glob("access.log.[0-9]*"))) >= 3
    assert sorted(line["cid"] for line in lines if line["channel"] == "echo") == sorted(seen)


def test_a_stopping_server_finishes_the_calls_that_are_under_way(own: Make, tmp_path: object) -> None:
    cluster = started(own, workers=(1,)).cluster
    server = cluster.servers[0]
    cluster.channel("slow", "t.slow")
    answers: list[requests.Response] = []
    body = {"where": str(tmp_path), "seconds": 1}
    caller = threading.Thread(
        target=lambda: answers.append(requests.post(server.url + "/slow", json=body, timeout=10)), daemon=True
    )
    caller.start()
    wait_until(lambda: _exists(tmp_path, "started"))
    cluster.stop()
    caller.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert _exists(tmp_path, "finished")


def _exists(directory: object, name: str) -> bool:
    return any(path.name == name for path in directory.iterdir())  # type: ignore[attr-defined]
