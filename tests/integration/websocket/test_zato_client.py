"""The PyPI package zato-websocket-client, unmodified, as the client of a channel of a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import wait_until

SERVICES = '''
from gevent.event import AsyncResult
from zato.server.service import Service


def session_of(service):
    return service.wsgi_environ["zato.request_ctx.async_msg"]["environ"]["web_socket"]


class Echo(Service):
    name = "stock.echo"

    def handle(self):
        channel = self.wsgi_environ["zato.orig_channel"]
        self.response.payload = {"got": self.request.payload, "channel": channel.type}


class CallBack(Service):
    """Calls the client that calls it."""

    name = "stock.call-back"

    def handle(self):
        self.response.payload = session_of(self).invoke_client(self.cid, {"question": 1}, timeout=10)


class Ping(Service):
    """Waits for the pong of the client that calls it."""

    name = "stock.ping"

    def handle(self):
        connection, seen = session_of(self).connection, AsyncResult()
        connection.on_pong = seen.set
        connection.ping(b'{"meta": "ping"}')
        self.response.payload = {"pong": seen.get(timeout=10).decode()}


class CallByName(Service):
    """Calls a client that is connected anywhere in the cluster."""

    name = "stock.call-by-name"

    def handle(self):
        self.response.payload = {"answer": self.wsx.invoke_by_client_id("stock.1", {"question": 2}, timeout=10)}
'''
# As an application would write it, from the package's documentation.
PROGRAM = """
import json
import sys
from gevent.fileobject import FileObject
from zato.websocket.client import Client, Config

asked = []

def on_request_received(request):
    asked.append(request.data)
    if isinstance(request.data, list):  # published to a topic
        return "thank you"
    return {"answer": request.data["question"] * 10}

config = Config()
config.client_name = "Stock client"
config.client_id = "stock.1"
config.address = sys.argv[1]
config.username = "stock"
config.secret = sys.argv[2]
config.on_request_callback = on_request_received
config.wait_time = 10

client = Client(config)
client.run(int(sys.argv[3]))
if not client.is_authenticated:
    print(json.dumps({"is_authenticated": False}))
    sys.exit()

def invoke(service, request):
    response = client.invoke({"service": service, "request": request})
    return {"is_ok": response.is_ok, "status": response.status, "data": response.data}

done = {
    "is_authenticated": True,
    "echo": invoke("stock.echo", {"a": [1, "\\u017c"]}),
    "call-back": invoke("stock.call-back", {}),
    "ping": invoke("stock.ping", {}),
    "zato.ping": invoke("zato.ping", {}),
    "forbidden": invoke("zato.service.get-list", {}),
    "subscribed": invoke("zato.pubsub.pubapi.subscribe-wsx", {"topic_name": "/stock/changed"}),
    "published": invoke(
        "zato.pubsub.pubapi.publish-message", {"topic_name": "/stock/changed", "data": {"product": "tea"}}
    ),
}
print(json.dumps(done), flush=True)
FileObject(sys.stdin).readline()  # others go on meanwhile
print(json.dumps(asked), flush=True)
client.stop()
"""
TIMEOUT = 60.0  # seconds


@pytest.fixture(scope="module", autouse=True)
def package() -> None:
    """Skips the tests where the package is not installed; in CI, it must be."""
    try:
        assert version("zato-websocket-client") == "1.6.1"
    except PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs: pip install --no-deps -r tests/requirements-zato-client.txt")


@pytest.fixture(scope="module")
def address(cluster: ClusterUnderTest) -> str:
    """The address of a channel with a gateway, for the user ``stock``."""
    cluster.deploy(tests_of_stock_client=SERVICES)
    password = "the-stock-password"
    cluster.write("zato.security.basic-auth.create", name="stock", username="stock", password=password)
    made = f"ws://{LOOPBACK}:{free_port()}/stock"
    cluster.write(
        "zato.channel.web-socket.create",
        name="stock",
        address=made,
        service="helpers.web-sockets-gateway",
        security="stock",
        gateway_services=[
            "stock.*",
            "zato.ping",
            "zato.pubsub.pubapi.subscribe-wsx",
            "zato.pubsub.pubapi.publish-message",
        ],
    )
    cluster.write("zato.pubsub.topic.create", name="/stock/changed")
    cluster.write(
        "zato.pubsub.endpoint.create",
        name="stock",
        endpoint_type="wsx",
        ws_channel="stock",
        topic_patterns=["pub=/stock/*", "sub=/stock/*"],
    )
    cluster.channel("stock-call-by-name", "stock.call-by-name", data_format="json")
    return made


@pytest.fixture
def program() -> Iterator[list[str]]:
    """The command of the program; it runs in a process of its own, since its ``zato`` is not that of services."""
    return [sys.executable, "-W", "ignore", "-c", PROGRAM]


def test_it_logs_in_calls_services_is_called_by_them_and_acknowledges_what_is_published(
    cluster: ClusterUnderTest, address: str, program: list[str]
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*program, address, "the-stock-password", "20"], text=True, **pipes) as client:
        assert client.stdout is not None
        line = client.stdout.readline()
        if not line:
            pytest.fail(client.communicate(timeout=TIMEOUT)[1])
        done = json.loads(line)
        called = wait_until(
            lambda: [
                answer.json()["answer"]
                for server in cluster.servers
                if (answer := server.post("/stock-call-by-name", json={})).ok
            ],
            10,
            "The client is not found",
        )
        # What it answers by itself acknowledges what was published.
        depth = {"sub_key": done["subscribed"]["data"]["sub_key"]}
        wait_until(
            lambda: not cluster.invoke("zato.pubsub.queue.get-queue-depth-by-sub-key", depth)["queue_depth"],
            20,
            "The message was not acknowledged",
        )
        asked = client.communicate("end\n", timeout=TIMEOUT)[0]
    assert done["is_authenticated"]
    echoed = {"got": {"a": [1, "ż"]}, "channel": "web-socket"}
    assert done["echo"] == {"is_ok": True, "status": 200, "data": echoed}
    assert done["call-back"] == {"is_ok": True, "status": 200, "data": {"answer": 10}}
    assert done["ping"]["data"] == {"pong": '{"meta": "ping"}'}
    assert done["zato.ping"]["is_ok"]
    assert (done["forbidden"]["is_ok"], done["forbidden"]["status"]) == (False, 403)
    assert called == [{"answer": 20}] * len(called)
    requests = [data for data in json.loads(asked) if isinstance(data, dict)]
    assert requests == [{"question": 1}, *[{"question": 2}] * len(called)]
    [[published]] = [data for data in json.loads(asked) if isinstance(data, list)]
    assert published["data"] == {"product": "tea"}
    assert published["msg_id"] == done["published"]["data"]["msg_id"]
    assert published["delivery_count"] == 0


def test_it_is_not_authenticated_with_a_wrong_password(address: str, program: list[str]) -> None:
    done = subprocess.run(
        [*program, address, "wrong", "1"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert json.loads(done.stdout) == {"is_authenticated": False}, done.stderr
