"""Clients of WebSocket channels, called, listed and disconnected from any worker of any server of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import orjson
import pytest

from junctor.server.client import RemoteError
from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest, running
from tests.helpers.postgres import fresh_database
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import eventually
from tests.helpers.websocket_client import ChannelClient

CHANNEL, PATH = "clients.orders", "/clients-ws"
LIST = "zato.channel.web-socket.get-connection-list"
SERVICES = '''
import os

from zato.server.service import Service


class CallClients(Service):
    """Calls a method of self.wsx."""

    name = "clients.call"

    def handle(self):
        given = self.request.payload
        answer = {"pid": os.getpid()}
        try:
            result = getattr(self.wsx, given["method"])(*given.get("args", []), **given.get("options", {}))
            answer["errors"] = {key: type(error).__name__ for key, error in getattr(result, "errors", {}).items()}
            answer["result"] = [item.pub_client_id for item in result] if given["method"] == "clients" else result
        except Exception as error:
            answer["error"], answer["message"] = type(error).__name__, str(error)
        self.response.payload = answer


class Mounted(Service):
    """Has the client that calls it answer a question of its own."""

    name = "clients.mounted"

    def handle(self):
        environ = self.wsgi_environ["zato.request_ctx.async_msg"]["environ"]
        answer = self.wsx.invoke(environ["pub_client_id"], {"question": self.request.payload})
        self.response.payload = {"answer": answer, "client": environ["ext_client_id"]}
'''
CALL = "clients-call"
WORKERS = 4
MAX_TRIES = 100  # the kernel chooses the worker that gets a connection


class Client:
    """A real client, which answers each request with its name and the data, or leaves it without an answer."""

    def __init__(self, server: ServerUnderTest, name: str, **attributes: Any) -> None:
        self.name = name
        self.received: list[Any] = []
        self._connection = ChannelClient(f"ws://127.0.0.1:{server.port}{PATH}")
        self._connection.log_in(client_id=name, client_name=name.upper(), attrs=attributes or None)
        self._greenlet = gevent.spawn(self._answer)

    def _answer(self) -> None:
        while (message := self._connection.connection.receive()) is not None:
            request = orjson.loads(message)
            self.received.append(request.get("data"))
            if request["meta"]["msg_type"] == "zwsx.rqc" and request.get("data") != "silence":
                self._connection.respond(request, {"from": self.name, "data": request.get("data")})

    def ask(self, data: Any) -> None:
        """Invokes the channel's service; the answer is in ``received`` later."""
        self._connection.message("invoke-service", data)

    @property
    def is_connected(self) -> bool:
        return not self._greenlet.ready()

    @property
    def close_code(self) -> int:
        return self._connection.connection.close_code

    def end(self) -> None:
        self._connection.connection.abort()
        self._greenlet.join(10)


def elsewhere(action: Callable[[], Any]) -> Any:
    """The result of something that blocks, while clients go on in this thread."""
    return gevent.get_hub().threadpool.spawn(action).get()


class Members:
    """The cluster, with a channel, and clients that are connected to it."""

    def __init__(self, cluster: ClusterUnderTest) -> None:
        self.cluster = cluster
        self.clients: list[Client] = []

    def connect(self, server: int, name: str, **attributes: Any) -> Client:
        """A client of one of the servers, once it is listed."""
        client = Client(self.cluster.servers[server], name, **attributes)
        self.clients.append(client)
        eventually(
            lambda: name in {item["ext_client_id"] for item in self.listed()}, 20, f"{name} is not listed"
        )
        return client

    def listed(self, **fields: Any) -> list[dict[str, Any]]:
        answer = elsewhere(lambda: self.cluster.invoke(LIST, {"name": CHANNEL, **fields}))
        items: list[dict[str, Any]] = answer["items"]
        return items

    def id_of(self, client: Client) -> str:
        found = [item for item in self.listed() if item["ext_client_id"] == client.name]
        return str(found[0]["pub_client_id"])

    def call(self, method: str, *args: Any, server: int = 0, **options: Any) -> dict[str, Any]:
        """What a service gets from ``self.wsx``."""
        request = {"method": method, "args": args, "options": options}
        asked = self.cluster.servers[server]
        answer: dict[str, Any] = elsewhere(lambda: asked.post(f"/{CALL}", json=request).json())
        return answer

    def close(self) -> None:
        for client in self.clients:
            client.end()


@pytest.fixture(scope="module")
def channel(
    public_directory: Path, postgres: str, template: str, valkey: ValkeyServer
) -> Iterator[ClusterUnderTest]:
    """Two servers of two workers each, with a channel whose clients are called."""
    directory = public_directory / "clients"
    directory.mkdir()
    with fresh_database(postgres, template) as url:
        made = ClusterUnderTest(directory, odb_url=url, redis_url=valkey.url, workers=(2, 2))
        for cluster in running(made):
            cluster.deploy(tests_of_clients=SERVICES)
            cluster.channel(CALL, "clients.call", data_format="json")
            cluster.write(
                "zato.channel.web-socket.create", name=CHANNEL, address=PATH, service="clients.mounted"
            )
            yield cluster


@pytest.fixture
def members(channel: ClusterUnderTest) -> Iterator[Members]:
    made = Members(channel)
    yield made
    made.close()
    eventually(lambda: not made.listed(), 20, "clients that have left are listed")


def test_a_client_is_called_from_every_worker_of_every_server(members: Members) -> None:
    while len({item["server_proc_pid"] for item in members.listed()}) < WORKERS:
        members.connect(len(members.clients) % 2, f"client-{len(members.clients)}")
        assert len(members.clients) < MAX_TRIES
    ids = {client.name: members.id_of(client) for client in members.clients}
    callers: dict[int, int] = {}
    while len(callers) < WORKERS:
        for server in (0, 1):
            for client in members.clients:
                answer = members.call("invoke", ids[client.name], {"n": 1}, server=server)
                assert answer["result"] == {"from": client.name, "data": {"n": 1}}
                callers[answer["pid"]] = callers.get(answer["pid"], 0) + 1
        members.cluster.disconnect()  # so that the next requests are perhaps another worker's
        assert sum(callers.values()) < MAX_TRIES * len(members.clients)


def test_a_service_that_a_client_calls_can_call_that_client(members: Members) -> None:
    client = members.connect(1, "asks")
    client.ask("who are you?")
    eventually(lambda: len(client.received) == 2, 20, "no answer")
    assert client.received[0] == {"question": "who are you?"}
    answered = {"from": "asks", "data": {"question": "who are you?"}}
    assert client.received[1] == {"answer": answered, "client": "asks"}


def test_a_client_is_called_by_the_id_that_it_gives_itself_and_the_last_one_answers(members: Members) -> None:
    members.connect(0, "crm.1")
    first = members.clients[0]
    second = Client(members.cluster.servers[1], "crm.1")
    members.clients.append(second)
    eventually(lambda: len(members.listed()) == 2, 20, "not both are listed")
    for server in (0, 1):
        answer = members.call("invoke_by_client_id", "crm.1", "x", server=server, channel=CHANNEL)
        assert answer["result"] == {"from": "crm.1", "data": "x"}
    assert (first.received, second.received) == ([], ["x", "x"])
    second.end()
    eventually(lambda: len(members.listed()) == 1, 20, "the second is still listed")
    assert members.call("invoke_by_client_id", "crm.1", "y", server=1)["result"]["data"] == "y"
    assert first.received == ["y"]


def test_all_clients_with_certain_attributes_are_called(members: Members) -> None:
    for server, name, region in ((0, "a", "eu"), (1, "b", "eu"), (1, "c", "eu"), (0, "d", "us")):
        members.connect(server, name, region=region, vip=name != "c")
    for server in (0, 1):
        answer = members.call("invoke_by_attrs", {"region": "eu"}, "x", server=server)
        assert sorted(item["from"] for item in answer["result"].values()) == ["a", "b", "c"]
        assert answer["errors"] == {}
        answer = members.call("invoke_by_attrs", {"region": "eu", "vip": True}, "x", server=server)
        assert sorted(item["from"] for item in answer["result"].values()) == ["a", "b"]
    assert members.call("invoke_by_attrs", {"region": "asia"}, "x")["error"] == "NotFound"
    assert members.call("invoke_by_attrs", {}, "x")["error"] == "InvalidInput"
    assert members.clients[3].received == []


def test_a_broadcast_reaches_every_client_of_the_channel(members: Members) -> None:
    clients = [
        members.connect(server, f"listener-{server}-{number}") for server in (0, 1) for number in range(3)
    ]
    for server in (0, 1):
        assert members.call("broadcast", CHANNEL, {"news": server}, server=server)["result"] == 6
    for client in clients:
        eventually(lambda client=client: len(client.received) == 2, 20, "not everybody got it")
        assert sorted(item["news"] for item in client.received) == [0, 1]
    assert elsewhere(
        lambda: members.cluster.invoke(
            "zato.channel.web-socket.broadcast", {"name": CHANNEL, "request_data": "x"}
        )
    ) == {"count": 6}
    assert members.call("broadcast", "no.such.channel", "x")["error"] == "NotFound"


def test_a_client_is_sent_a_message_whose_answer_nobody_waits_for(members: Members) -> None:
    client = members.connect(1, "notified")
    assert members.call("notify", members.id_of(client), "silence", server=0)["result"]
    eventually(lambda: client.received == ["silence"], 20, "it did not come")


def test_what_cannot_be_done_is_a_clear_error_on_every_server(members: Members) -> None:
    client = members.connect(1, "silent")
    key = members.id_of(client)
    for server in (0, 1):
        late = members.call("invoke", key, "silence", server=server, timeout=0.2)
        assert late["error"] == "CallTimeout"
        assert "did not answer within 0.2 s" in late["message"]
        unknown = members.call("invoke", "ws.unknown", "x", server=server)
        assert (unknown["error"], unknown["message"]) == (
            "NotFound",
            "There is no connected WebSocket client 'ws.unknown'.",
        )
        assert members.call("invoke", key, "x", server=server, timeout=0)["error"] == "InvalidInput"
        assert members.call("invoke_by_client_id", "nobody", "x", server=server)["error"] == "NotFound"


def test_clients_are_listed_with_everything_that_is_known_of_them(members: Members) -> None:
    client = members.connect(1, "shown", region="eu")
    (item,) = members.listed()
    workers = {worker.pid for worker in members.cluster.servers[1].workers()}
    assert item["server_name"] == "server2"
    assert item["server_proc_pid"] in workers
    assert item["pub_client_id"].startswith("ws.")
    assert (item["ext_client_id"], item["ext_client_name"]) == ("shown", "SHOWN")
    assert item["attributes"] == {"region": "eu"}
    assert item["channel"] == CHANNEL
    assert item["local_address"].endswith(f":{members.cluster.servers[1].port}")
    assert item["peer_address"].startswith("127.0.0.1:")
    assert item["peer_fqdn"] == "127.0.0.1"
    assert item["sub_count"] == 0
    assert members.listed(query="shown") == members.listed(query="SHO") == [item]
    assert members.listed(query="other") == members.listed(offset=1) == []
    assert members.call("clients", CHANNEL)["result"] == [item["pub_client_id"]]
    with pytest.raises(RemoteError, match="no WebSocket channel 'other'"):
        members.listed(name="other")
    client.end()


def test_a_client_is_disconnected_from_afar_and_told_why(members: Members) -> None:
    client, other = members.connect(1, "leaves"), members.connect(1, "stays")
    key = members.id_of(client)
    service = "zato.channel.web-socket.disconnect-connection"

    def disconnect(**fields: Any) -> Any:
        return elsewhere(lambda: members.cluster.invoke(service, {"pub_client_id": key, **fields}))

    assert disconnect(name=CHANNEL, reason="Maintenance") == {"pub_client_id": key}
    eventually(lambda: not client.is_connected, 20, "it is still connected")
    assert client.close_code == 1000
    eventually(lambda: len(members.listed()) == 1, 20, "it is still listed")
    assert other.is_connected
    with pytest.raises(RemoteError, match="no connected WebSocket client"):
        disconnect()


def test_administrators_invoke_a_client(members: Members) -> None:
    client = members.connect(1, "invoked")
    key = members.id_of(client)
    service = "zato.channel.web-socket.invoke-wsx"

    def invoke(**fields: Any) -> Any:
        request = {"pub_client_id": key, "name": CHANNEL, **fields}
        return elsewhere(lambda: members.cluster.invoke(service, request))

    assert invoke(request_data={"n": 1}) == {"response_data": {"from": "invoked", "data": {"n": 1}}}
    with pytest.raises(RemoteError) as late:
        invoke(request_data="silence", timeout=0.2)
    assert (late.value.status, late.value.error) == (504, "CallTimeout")
    with pytest.raises(RemoteError) as unknown:
        invoke(pub_client_id="ws.unknown")
    assert (unknown.value.status, unknown.value.error) == (404, "NotFound")


def test_strangers_find_nothing_at_the_address_of_messages_between_workers(members: Members) -> None:
    server = members.cluster.servers[0]
    pid = server.workers()[0].pid
    nothing = server.get("/no/such/path").json()
    for method in ("GET", "POST", "PUT"):
        answer = server.request(method, f"/zato/internal/relay/{pid}/1", data=b"x" * 1000)
        assert answer.status_code == 404
        assert answer.json()["details"] == nothing["details"]


def test_the_clients_of_a_worker_that_dies_are_gone_and_new_ones_are_found(members: Members) -> None:
    client = members.connect(1, "before")
    worker = next(
        worker
        for worker in members.cluster.servers[1].workers()
        if worker.pid == members.listed()[0]["server_proc_pid"]
    )
    worker.kill()
    eventually(lambda: not client.is_connected, 20, "the worker is still there")
    eventually(lambda: not members.listed(), 20, "clients of a dead worker are listed")
    elsewhere(members.cluster.servers[1].wait_until_ready)
    after = members.connect(1, "after")
    assert members.call("invoke", members.id_of(after), "x", server=0)["result"] == {
        "from": "after",
        "data": "x",
    }
