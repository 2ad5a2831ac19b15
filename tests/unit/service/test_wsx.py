"""``self.wsx``: the clients of this worker and of another one of its server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from junctor.server.context import Context
from junctor.server.metrics import Metrics
from junctor.server.runtime.status import WorkerStatus
from junctor.server.service import wsx as module
from junctor.server.service.wsx import WSX
from junctor.server.settings import Settings
from junctor.server.websocket.client_rows import ClientRows
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.relay import Relay
from junctor.sql.errors import (
    CallTimeout,
    ConnectionFailed,
    InvalidInput,
    InvalidOutput,
    NotFound,
    WebSocketClosed,
)
from junctor.sql.store import Store
from tests.helpers.client_session import LocalClient
from tests.helpers.objects import add, remove
from tests.helpers.ports import LOOPBACK, free_port

START = datetime(2026, 11, 24, tzinfo=UTC)


class Worker:
    """The parts of a worker that its clients need; one in a process listens for the others."""

    def __init__(self, store: Store, directory: Path, server: str = "server1") -> None:
        self.store, self.metrics, self.clients = store, Metrics(), ConnectedClients()
        self.settings = Settings(directory=directory, odb_url="", server_name=server)
        self.channels = {
            item.name: SimpleNamespace(config=item) for item in store.find("channel_websocket").objects
        }
        self.registry = SimpleNamespace(find=lambda _kind, name: self.channels.get(name))
        self.status = WorkerStatus(store, server, dict)
        self.status.register(1)
        self.relay = Relay(cast(Context, self))
        self.wsx = WSX(cast(Context, self))
        self._rows = ClientRows(store, self.clients, lambda: self.status.worker_id)

    def client(self, name: str, *, channel: str = "orders", seconds: float = 0, **given: Any) -> LocalClient:
        """A client that calls itself ``name`` and has a row."""
        client = LocalClient(
            ext_client_id=name,
            channel_id=self.channels[channel].config.id,
            channel_name=channel,
            connected=START + timedelta(seconds=seconds),
            answer=lambda data: {"from": name, "data": data},
            **given,
        )
        self.clients.add(client)
        self._rows.write()
        return client


@pytest.fixture
def cluster(store: Store) -> Store:
    """A cluster with two channels, and a second server that does not run."""
    add(store, "server", "server1")
    add(store, "server", "server2", host=LOOPBACK, port=free_port())
    add(store, "service", "orders.get")
    for name in ("orders", "bills"):
        add(store, "channel_websocket", name, address=f"/{name}", service="orders.get")
    return store


@pytest.fixture
def here(cluster: Store, tmp_path: Path) -> Worker:
    """The worker whose services call clients."""
    (tmp_path / "run").mkdir()
    return Worker(cluster, tmp_path)


@pytest.fixture
def there(here: Worker, cluster: Store, tmp_path: Path) -> Iterator[Worker]:
    """Another worker of the same server."""
    worker = Worker(cluster, tmp_path)
    worker.relay.start()
    with gevent.Timeout(30):
        yield worker
    worker.relay.stop()


def leaves(worker: Worker, client: LocalClient) -> None:
    """It goes, and its row stays for a moment."""
    worker.clients.remove(client)


def test_a_client_answers_wherever_it_is(here: Worker, there: Worker) -> None:
    for worker in (here, there):
        client = worker.client("crm.1")
        assert here.wsx.invoke(client.pub_client_id, [1]) == {"from": "crm.1", "data": [1]}
        assert here.wsx.notify(client.pub_client_id, "x") == f"message-to-{client.pub_client_id}"
        assert client.received == [[1], "x"]
        here.wsx.disconnect(client.pub_client_id, 1001, "Maintenance")
        assert client.closed == (1001, "Maintenance")


def test_of_several_clients_of_one_name_the_last_one_that_is_still_there_answers(
    here: Worker, there: Worker
) -> None:
    first, second = here.client("crm.1", seconds=1), there.client("crm.1", seconds=2)
    third = there.client("crm.1", seconds=3)
    leaves(there, third)
    assert here.wsx.invoke_by_client_id("crm.1", "a")["data"] == "a"
    leaves(there, second)
    assert here.wsx.invoke_by_client_id("crm.1", "b")["data"] == "b"
    assert [client.received for client in (first, second, third)] == [["b"], ["a"], []]
    leaves(here, first)
    with pytest.raises(NotFound, match=r"no connected WebSocket client 'crm\.1'"):
        here.wsx.invoke_by_client_id("crm.1", "c")


def test_a_name_can_be_looked_for_in_one_channel(here: Worker, there: Worker) -> None:
    order = here.client("crm.1", seconds=1)
    bill = there.client("crm.1", channel="bills", seconds=2)
    here.wsx.invoke_by_client_id("crm.1", "x", channel="orders")
    here.wsx.invoke_by_client_id("crm.1", "y", channel="bills")
    assert (order.received, bill.received) == (["x"], ["y"])
    with pytest.raises(NotFound, match="no WebSocket channel 'none'"):
        here.wsx.invoke_by_client_id("crm.1", "x", channel="none")


def test_clients_with_certain_attributes_answer_and_those_that_do_not_are_named(
    here: Worker, there: Worker
) -> None:
    def late(_data: Any) -> Any:
        raise CallTimeout("The client did not answer.")

    here.client("a", attributes={"region": "eu"})
    there.client("b", attributes={"region": "eu"})
    there.client("c", attributes={"region": "us"})
    silent, gone = (there.client(name, attributes={"region": "eu"}) for name in "de")
    silent.answer = late
    leaves(there, gone)
    answers = here.wsx.invoke_by_attrs({"region": "eu"}, "x")
    assert sorted(answer["from"] for answer in answers.values()) == ["a", "b"]
    assert {key: type(error) for key, error in answers.errors.items()} == {
        silent.pub_client_id: CallTimeout,
        gone.pub_client_id: NotFound,
    }


def test_when_no_client_with_the_attributes_answers_that_is_an_error(here: Worker, there: Worker) -> None:
    client = there.client("a", attributes={"region": "eu"})
    client.disconnect()
    with pytest.raises(WebSocketClosed):
        here.wsx.invoke_by_attrs({"region": "eu"}, "x")
    with pytest.raises(NotFound):
        here.wsx.invoke_by_attrs({"region": "us"}, "x")


def test_more_clients_than_can_be_invoked_at_a_time_are_refused(
    here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_INVOKED", 1)
    made = [here.client("a", attributes={"region": "eu"}) for _ in range(2)]
    with pytest.raises(InvalidInput, match="At most 1 clients"):
        here.wsx.invoke_by_attrs({"region": "eu"}, "x")
    assert not any(client.received for client in made)


def test_a_broadcast_counts_who_it_was_sent_to(
    here: Worker, there: Worker, cluster: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [here.client("a"), there.client("b"), there.client("c")]
    bill, gone = there.client("d", channel="bills"), there.client("e")
    gone.disconnect()
    Worker(cluster, tmp_path, "server2").client("f")  # nobody listens there
    assert here.wsx.broadcast("orders", {"news": 1}) == 3
    assert [client.received for client in clients] == [[{"news": 1}]] * 3
    assert bill.received == []
    assert "of server server2 cannot be asked" in caplog.text


def test_a_server_that_does_not_answer_is_an_error_for_its_clients_alone(
    here: Worker, cluster: Store, tmp_path: Path
) -> None:
    near = here.client("a", attributes={"region": "eu"})
    far = Worker(cluster, tmp_path, "server2").client("b", attributes={"region": "eu"})
    with pytest.raises(ConnectionFailed, match="of server server2 cannot be asked: connection refused"):
        here.wsx.invoke(far.pub_client_id, "x")
    answers = here.wsx.invoke_by_attrs({"region": "eu"}, "x")
    assert list(answers) == [near.pub_client_id]
    assert list(answers.errors) == [far.pub_client_id]


def test_clients_of_a_server_whose_object_was_deleted_are_found_but_not_reached(
    here: Worker, cluster: Store, tmp_path: Path
) -> None:
    far = Worker(cluster, tmp_path, "server2").client("b")
    remove(cluster, "server", "server2")
    assert here.wsx.find(far.pub_client_id).server == "server2"
    with pytest.raises(ConnectionFailed, match="does not know the server's address"):
        here.wsx.invoke(far.pub_client_id, "x")


def test_all_clients_can_be_listed_with_where_they_are(here: Worker, there: Worker) -> None:
    first, last = here.client("a", seconds=1), there.client("b", channel="bills", seconds=2)
    listed = here.wsx.clients()
    assert [client.pub_client_id for client in listed] == [last.pub_client_id, first.pub_client_id]
    assert [client.channel for client in listed] == ["bills", "orders"]
    assert {client.server for client in listed} == {"server1"}
    assert [client.ext_client_id for client in here.wsx.clients("orders")] == ["a"]
    assert here.wsx.find(first.pub_client_id).ext_client_id == "a"
    found, total = there.wsx.page(None, offset=1, limit=5)
    assert ([client.pub_client_id for client in found], total) == ([first.pub_client_id], 2)


@pytest.mark.parametrize("timeout", [0, -1, 3601, float("nan"), "5", True, None])
def test_a_timeout_is_a_number_of_seconds_up_to_an_hour(here: Worker, timeout: Any) -> None:
    client = here.client("a")
    for call in (
        lambda: here.wsx.invoke(client.pub_client_id, "x", timeout),
        lambda: here.wsx.invoke_by_client_id("a", "x", timeout),
        lambda: here.wsx.invoke_by_attrs({"a": 1}, "x", timeout),
    ):
        with pytest.raises(InvalidInput, match="timeout"):
            call()
    assert not client.received


def test_what_is_no_json_is_refused_wherever_the_client_is(here: Worker, there: Worker) -> None:
    client = there.client("a")
    recursive: list[Any] = []
    recursive.append(recursive)
    with pytest.raises(InvalidOutput):
        here.wsx.invoke(client.pub_client_id, recursive)
    with pytest.raises(InvalidOutput):
        here.wsx.broadcast("orders", recursive)
    assert not client.received


def test_who_does_not_wait_any_longer_has_the_others_not_asked(here: Worker, there: Worker) -> None:
    def wait(_data: Any) -> None:
        gevent.sleep(60)

    for worker in (here, there):
        worker.client("a", attributes={"region": "eu"}).answer = wait
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        here.wsx.invoke_by_attrs({"region": "eu"}, "x", 60)
