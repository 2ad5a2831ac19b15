"""HTTP and WebSockets on the one public port of a cluster, through changes of channels and reloads of everything."""

import threading
from dataclasses import dataclass, field

import pytest
from junctor_client import ClientError
from junctor_client.websocket import WebSocketClient

from tests.helpers.load import Request, load
from tests.helpers.ports import LOOPBACK, ports_in_a_row
from tests.helpers.waiting import succeeds, wait_until

BACK_AFTER = 5.0  # seconds in which clients must be back, as issue 3 has it
PASSWORD = "open sesame"
SERVICE = '''
import os

from zato.server.service import Service


class Echo(Service):
    """What it was sent, and which process has answered."""

    name = "one-port.echo"

    def handle(self):
        self.response.payload = {"echo": self.request.payload, "pid": os.getpid()}
'''


@dataclass
class Connected:
    """A client that stays connected, and how often its connection has ended."""

    client: WebSocketClient
    ends: list[int] = field(default_factory=list)

    def echo(self, text="hello"):
        """What the service answers on the connection that there is."""
        return self.client.invoke({"text": text}, timeout=10)

    def is_back(self):
        """Whether the connection has ended and there is another, over which calls work."""
        return bool(self.ends) and self.client.is_connected and succeeds(self.echo, ClientError)


@pytest.fixture(scope="module")
def cluster(quickstart):
    """The cluster with a service, a REST channel and somebody who may use them."""
    quickstart.junctor("deploy", quickstart.file("one_port.py", SERVICE))
    password = ("--password-file", quickstart.file("password.txt", PASSWORD))
    quickstart.junctor("create-security-basic-auth", "one-port", "--username", "one-port", *password)
    options = ("--service", "one-port.echo", "--security", "one-port")
    quickstart.junctor("create-channel-rest", "one-port", "--url-path", "/one-port/rest", *options)
    return quickstart


@pytest.fixture(
    scope="module", params=["ws://0.0.0.0:{port}/one-port", "/one-port/path"], ids=["port", "path"]
)
def path(request, cluster):
    """The path of a WebSocket channel: of one with a port of its own, and of one on the servers' HTTP ports."""
    address = request.param.format(port=ports_in_a_row(1))
    options = ("--service", "one-port.echo", "--security", "one-port")
    cluster.junctor("create-channel-websocket", "one-port", "--address", address, *options)
    yield request.param.removeprefix("ws://0.0.0.0:{port}")
    cluster.junctor("delete-channel-websocket", "one-port")


def made(cluster, path, **options):
    address = f"ws://{LOOPBACK}:{cluster.lb_port}{path}"
    return WebSocketClient(address, username="one-port", password=PASSWORD, timeout=5, **options)


@pytest.fixture
def connect(cluster, path):
    """Connects clients through the load balancer, which may have to learn of the channel first."""
    clients = []

    def connect():
        connected = Connected(made(cluster, path, on_close=lambda code, _: connected.ends.append(code)))
        clients.append(connected.client)
        wait_until(lambda: succeeds(connected.client.connect, ClientError), BACK_AFTER)
        connected.ends.clear()
        return connected

    yield connect
    for client in clients:
        client.close()


def test_a_new_channel_is_on_the_public_port_within_seconds_beside_http(cluster, connect):
    connected = connect()

    assert connected.echo()["echo"] == {"text": "hello"}
    assert cluster.call("GET", "/zato/ping").json()["zato_ping_response"] == {"pong": "zato"}
    response = cluster.call("POST", "/one-port/rest", json={"a": 1}, auth=("one-port", PASSWORD))
    assert response.json()["echo"] == {"a": 1}


def test_clients_reach_every_server(cluster, connect):
    pids = {connect().echo()["pid"] for _ in range(12)}

    assert pids == cluster.workers().keys()


def test_a_reload_of_the_load_balancer_is_noticed_by_nobody(cluster, connect):
    connected = connect()
    pid = connected.echo()["pid"]

    with load(cluster.address, [Request("/zato/ping")] * 3) as calls:
        cluster.junctor("reload", cluster.path / "load-balancer")
        calls.wait_for_more()

    assert calls.failures == []
    assert connected.echo()["pid"] == pid
    assert connected.ends == []


def test_a_change_of_channels_is_noticed_by_nobody_who_is_connected(cluster, connect):
    connected = connect()
    port = ports_in_a_row(1)
    options = ("--service", "one-port.echo", "--security", "one-port")

    with load(cluster.address, [Request("/zato/ping")] * 3) as calls:
        address = f"ws://0.0.0.0:{port}/one-port-other"
        cluster.junctor("create-channel-websocket", "one-port-other", "--address", address, *options)
        other = made(cluster, "/one-port-other")
        try:
            wait_until(lambda: succeeds(other.connect, ClientError))
        finally:
            other.close()
            cluster.junctor("delete-channel-websocket", "one-port-other")
        wait_until(lambda: not succeeds(made(cluster, "/one-port-other").connect, ClientError))

    assert calls.failures == []
    assert connected.ends == []
    assert connected.echo()["echo"] == {"text": "hello"}


def test_a_reload_of_all_servers_fails_no_request_and_clients_are_back(cluster, connect):
    everybody = [connect() for _ in range(4)]
    requests = [Request("/zato/ping"), Request("/one-port/rest", "POST", b"{}", ("one-port", PASSWORD))] * 2
    reload_ = threading.Thread(target=cluster.junctor, args=("reload",))

    with load(cluster.address, requests) as calls:
        reload_.start()
        for connected in everybody:
            wait_until(lambda: connected.ends, 60, "The client was never disconnected.")  # noqa: B023 - called at once
            wait_until(connected.is_back, BACK_AFTER, "The client is not back in time.")
        reload_.join()
        for connected in everybody:
            wait_until(connected.is_back, BACK_AFTER, "The client is not back in time.")
        calls.wait_for_more()

    assert calls.failures == []
    cluster.wait_until_healthy()
