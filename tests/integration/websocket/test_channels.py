"""WebSocket channels of a real cluster: every worker serves them, through changes, reloads and the end of workers."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from junctor.sql.errors import ConnectionFailed
from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import succeeds, wait_until
from tests.helpers.websocket_client import ChannelClient, is_refusal

SERVICES = '''
import os

import gevent
from zato.server.service import Service, WSXHook


class Echo(Service):
    """Answers with what it was given, and from where."""

    name = "ws.echo"

    def handle(self):
        self.response.payload = {
            "data": self.request.payload,
            "pid": os.getpid(),
            "caller": self.channel.security.name,
        }


class Slow(Service):
    """Takes as long as it is told."""

    name = "ws.slow"

    def handle(self):
        gevent.sleep(self.request.payload)
        self.response.payload = "done"


class Hook(WSXHook):
    """Writes to the log who comes and goes."""

    name = "ws.hook"

    def on_connected(self):
        self.logger.info("Came: %s", self.request.input.ctx.ext_client_id)

    def on_disconnected(self):
        self.logger.info("Went: %s", self.request.input.ctx.ext_client_id)
'''
CHANNEL = "zato.channel.web-socket"
Connect = Callable[..., ChannelClient]


@pytest.fixture(scope="module")
def services(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The shared cluster, with the services ``ws.*``."""
    cluster.deploy(tests_of_websockets=SERVICES)
    return cluster


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients that have logged in, and that are gone after the test."""
    made: list[ChannelClient] = []

    def connect(address: str, *credentials: str, **names: Any) -> ChannelClient:
        made.append(ChannelClient(address))
        answer = made[-1].log_in(*credentials, **names)
        assert answer["meta"]["msg_type"] == "zwsx.rspa", answer
        return made[-1]

    yield connect
    for client in made:
        client.end()


def create(cluster: ClusterUnderTest, name: str, **fields: Any) -> str:
    """The address of a new channel, on a port of its own unless it is given."""
    given = {"address": f"ws://{LOOPBACK}:{free_port()}/{name}", "service": "ws.echo"} | fields
    cluster.write(f"{CHANNEL}.create", name=name, **given)
    return str(given["address"])


def workers(server: ServerUnderTest) -> set[int]:
    return {worker.pid for worker in server.workers()}


def test_every_worker_of_every_server_serves_a_channel(services: ClusterUnderTest, connect: Connect) -> None:
    address = create(services, "spread")
    everyone = set[int]().union(*(workers(server) for server in services.servers))
    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(connect(address).ask("x")["data"]["pid"])
        return seen == everyone

    wait_until(all_seen, 20, "the kernel does not spread the clients")


def test_a_path_alone_is_served_on_the_servers_port_beside_rest(
    services: ClusterUnderTest, connect: Connect
) -> None:
    create(services, "on-http", address="/on-http")
    services.channel("on-http", "ws.echo", data_format="json")
    for server in services.servers:
        client = connect(f"ws://{LOOPBACK}:{server.port}/on-http")
        assert client.ask({"a": 1})["data"]["data"] == {"a": 1}
        assert server.post("/on-http", json={"b": 2}).json()["data"] == {"b": 2}
        assert server.get("/on-http").status_code == 200


def test_a_changed_password_ends_the_sessions_of_all_workers(
    services: ClusterUnderTest, connect: Connect
) -> None:
    services.write(
        "zato.security.basic-auth.create", name="ws.crm", username="ws.crm", password="the-first-password"
    )
    address = create(services, "secured", security="ws.crm")
    clients = [connect(address, "ws.crm", "the-first-password") for _ in range(8)]
    assert clients[0].ask(1)["data"]["caller"] == "ws.crm"
    services.write(f"{CHANNEL}.edit", name="secured", token_ttl=1000)
    assert all(client.ask(2)["data"]["data"] == 2 for client in clients)
    services.write("zato.security.basic-auth.edit", name="ws.crm", password="the-second-password")
    assert all(is_refusal(client.receive()) for client in clients)
    assert {client.closed() for client in clients} == {1008}
    connect(address, "ws.crm", "the-second-password")


def test_a_token_opens_a_session_until_it_is_logged_out(services: ClusterUnderTest, connect: Connect) -> None:
    services.write("zato.security.jwt.create", name="ws.jwt", username="ws.jwt", password="the-password")
    address = create(services, "with-tokens", security="ws.jwt")
    given = {"username": "ws.jwt", "password": "the-password"}
    server = services.servers[0]
    token = server.post("/zato/jwt/log-in", json=given).json()["token"]
    with ChannelClient(address) as stranger:
        assert is_refusal(stranger.log_in("ws.jwt", "the-password"))
    clients = [connect(address, "", token) for _ in range(4)]
    assert clients[0].ask(1)["data"]["caller"] == "ws.jwt"
    assert server.post("/zato/jwt/log-out", json={"token": token}).ok
    assert all(is_refusal(client.receive()) for client in clients)


def test_an_address_that_is_taken_is_shown_in_the_clusters_status(services: ClusterUnderTest) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen(1)
        taken = f"ws://{LOOPBACK}:{other.getsockname()[1]}/taken"
        create(services, "taken", address=taken)

        def problems() -> list[str]:
            return [worker["problems"].get("channel_websocket/taken", "") for worker in services.workers()]

        wait_until(lambda: all("another program" in problem for problem in problems()), 10)
        assert taken in problems()[0]
    services.write(f"{CHANNEL}.delete", name="taken")
    wait_until(lambda: not any(problems()), 10)


def test_hooks_and_the_access_log_tell_of_clients(services: ClusterUnderTest, connect: Connect) -> None:
    create(services, "hooked", address="/hooked", hook_service="ws.hook")
    server = services.servers[0]
    client = connect(f"ws://{LOOPBACK}:{server.port}/hooked", client_id="the-hooked-one")
    client.ask(1)
    client.end()
    server.logged(message="Came: the-hooked-one")
    server.logged(message="Went: the-hooked-one")
    (line,) = server.logged("access", client_id="the-hooked-one")
    assert (line["channel"], line["method"], line["received"], line["sent"]) == ("hooked", "WEBSOCKET", 2, 2)
    wait_until(lambda: server.metric("junctor_websocket_messages_total", channel="hooked") == 4, 5)
    wait_until(lambda: server.metric("junctor_websocket_connections", channel="hooked") == 0, 5)


def test_a_gateway_is_mounted_like_any_service(services: ClusterUnderTest, connect: Connect) -> None:
    create(
        services,
        "gateway",
        address="/gateway",
        service="helpers.web-sockets-gateway",
        gateway_services="zato.ping\nws.*",
    )
    server = services.servers[0]
    client = connect(f"ws://{LOOPBACK}:{server.port}/gateway")
    assert client.ask({"service": "zato.ping"})["data"]["zato_ping_response"] == {"pong": "zato"}
    assert client.ask({"service": "ws.echo", "request": 5})["data"]["data"] == 5
    assert client.ask({"service": "zato.service.get-list"})["meta"]["status"] == 403
    server.logged(level="WARNING", logger="junctor.server.service.websocket_gateway.WebSocketsGateway")


class TestWorkersThatGo:
    @pytest.fixture
    def server(self, services: ClusterUnderTest) -> Iterator[ServerUnderTest]:
        """A server of the shared cluster, which is whole again afterwards."""
        server = services.servers[1]
        yield server
        server.disconnect()
        wait_until(lambda: len(server.workers()) == server.worker_count and server.is_ready(), 30)

    def test_clients_can_connect_at_any_time_while_a_server_reloads(
        self, services: ClusterUnderTest, server: ServerUnderTest, connect: Connect
    ) -> None:
        own, shared = (
            create(services, "reloaded"),
            create(services, "reloaded-http", address="/reloaded-http"),
        )
        on_http = f"ws://{LOOPBACK}:{server.port}{shared}"
        clients = [connect(address) for address in (own, on_http) for _ in range(4)]
        before = workers(server)
        server.signal(signal.SIGHUP)
        refused: list[str] = []

        def has_reloaded() -> bool:
            for address in (own, on_http):
                try:
                    connect(address).end()
                except (ConnectionFailed, AssertionError) as error:
                    refused.append(str(error))
            return not before & workers(server) and len(workers(server)) == server.worker_count

        wait_until(has_reloaded, 30)
        # Whoever is accepted by a worker that stops is told so, and comes back.
        assert all("503" in reason or "1012" in reason for reason in refused), refused
        left = [client for client in clients if client.ask_or_none() is None]
        assert len(left) >= 4
        assert {client.connection.close_code for client in left} == {1012}

    def test_a_request_that_runs_is_answered_before_its_worker_stops(
        self, services: ClusterUnderTest, server: ServerUnderTest, connect: Connect
    ) -> None:
        create(services, "slow", address="/slow", service="ws.slow")
        client = connect(f"ws://{LOOPBACK}:{server.port}/slow")
        client.message("invoke-service", 1.5)
        wait_until(
            lambda: server.metric("junctor_websocket_messages_total", channel="slow", direction="in") == 2
        )
        server.signal(signal.SIGHUP)
        assert client.receive()["data"] == "done"
        assert client.closed() == 1012

    def test_when_a_worker_dies_the_others_serve_on(
        self, services: ClusterUnderTest, server: ServerUnderTest, connect: Connect
    ) -> None:
        address = create(services, "killed")
        clients = [connect(address) for _ in range(20)]
        victim = server.workers()[0]
        lost = [client for client in clients if client.ask(1)["data"]["pid"] == victim.pid]
        victim.kill()
        assert all(client.closed() == 1006 for client in lost)
        assert all(client.ask(1)["data"]["data"] == 1 for client in clients if client not in lost)
        # What is still in the queue of the dying worker is reset, as on any port that processes share.
        wait_until(
            lambda: succeeds(lambda: connect(address).ask(1), ConnectionFailed, AssertionError),
            20,
            "nobody serves on",
        )
