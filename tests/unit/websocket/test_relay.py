"""From worker to worker, over the Unix sockets of a server, and what is refused at its HTTP port."""

from __future__ import annotations

import logging
import os
import stat
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from junctor.server.context import Context
from junctor.server.metrics import Metrics
from junctor.server.settings import Settings
from junctor.server.websocket import relay as module
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.directory import WorkerAddress
from junctor.server.websocket.operation import INVOKE, NOTIFY, Operation
from junctor.server.websocket.relay import PREFIX, SOCKET_NAME, Relay
from junctor.server.websocket.relay_seal import HEAD_SIZE, Seals
from junctor.sql.errors import (
    AddressUnavailable,
    CallTimeout,
    ConnectionFailed,
    ConnectionTimeout,
    NotFound,
    ResourceNotFound,
)
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from tests.helpers.client_session import LocalClient

SERVER, CLUSTER = "server1", "tests"
LISTENING, ASKING = 7, 8  # the ids of two workers


class Worker:
    """The parts of a worker that its relay needs."""

    def __init__(self, directory: Path, keyring: Keyring, worker_id: int) -> None:
        self.clients = ConnectedClients()
        self.metrics = Metrics()
        self.settings = Settings(directory=directory, odb_url="", cluster=CLUSTER, server_name=SERVER)
        self.store = SimpleNamespace(keyring=keyring)
        self.status = SimpleNamespace(worker_id=worker_id)
        self.relay = Relay(cast(Context, self))

    def relayed(self, error: str = "") -> float:
        return self.metrics.counter("junctor_websocket_relayed_total", operation=INVOKE, error=error).value


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(parse_keys(new_key_line()))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def worker(directory: Path, keyring: Keyring) -> Iterator[Worker]:
    """A worker that listens."""
    made = Worker(directory, keyring, LISTENING)
    made.relay.start()
    with gevent.Timeout(30):
        yield made
    made.relay.stop()


@pytest.fixture
def asking(directory: Path, keyring: Keyring) -> Worker:
    """Another one of the same server."""
    return Worker(directory, keyring, ASKING)


def address(*, worker_id: int = LISTENING, pid: int | None = None, server: str = SERVER) -> WorkerAddress:
    return WorkerAddress(worker_id, pid or os.getpid(), server, "127.0.0.1", 1)


def ask(asking: Worker, operation: Operation, where: WorkerAddress | None = None) -> Any:
    return asking.relay.ask(where or address(), operation, operation.encode())


def invoke(*keys: str, data: Any = "hello", timeout: float = 5.0) -> Operation:
    return Operation(INVOKE, keys, data=data, timeout=timeout)


def test_a_client_of_another_worker_answers(worker: Worker, asking: Worker) -> None:
    worker.clients.add(LocalClient("ws.1"))
    outcome = ask(asking, invoke("ws.1", data={"n": 1}))
    assert outcome.answers == {"ws.1": {"echo": {"n": 1}}}
    assert asking.relayed() == 1


def test_large_messages_arrive_whole(worker: Worker, asking: Worker) -> None:
    worker.clients.add(LocalClient("ws.1"))
    data = "x" * 3_000_000
    assert ask(asking, invoke("ws.1", data=data)).answers == {"ws.1": {"echo": data}}


def test_an_error_of_the_client_is_the_callers(worker: Worker, asking: Worker) -> None:
    def late(_data: Any) -> Any:
        raise CallTimeout("The client did not answer.")

    worker.clients.add(LocalClient("ws.1", answer=late))
    errors = ask(asking, invoke("ws.1", "ws.2")).errors
    assert isinstance(errors["ws.1"], CallTimeout)
    assert errors["ws.1"].message == "The client did not answer."
    assert isinstance(errors["ws.2"], NotFound)


def test_many_ask_at_the_same_time(worker: Worker, asking: Worker) -> None:
    everybody = Event()
    waiting: list[int] = []

    def answer(data: int) -> int:
        waiting.append(data)
        if len(waiting) == 50:
            everybody.set()
        assert everybody.wait(10)
        return data

    worker.clients.add(LocalClient("ws.1", answer=answer))
    greenlets = [gevent.spawn(ask, asking, invoke("ws.1", data=number)) for number in range(50)]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value.answers["ws.1"] for greenlet in greenlets] == list(range(50))


def test_clients_of_a_worker_that_has_gone_are_gone(worker: Worker, asking: Worker) -> None:
    for where in (address(pid=2**22), address()):
        outcome = ask(asking, invoke("ws.1"), where)
        assert isinstance(outcome.errors["ws.1"], NotFound)
        worker.relay.stop()


def test_a_server_that_cannot_be_reached_is_named(asking: Worker) -> None:
    with pytest.raises(ConnectionFailed, match="of server server9 cannot be asked: connection refused"):
        ask(asking, invoke("ws.1"), address(server="server9"))
    assert asking.relayed("ConnectionFailed") == 1


def test_a_worker_that_does_not_answer_in_time_is_named(
    worker: Worker, asking: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN", 0.05)
    forever = Event()
    worker.clients.add(LocalClient("ws.1", answer=lambda _data: forever.wait(20)))
    with pytest.raises(ConnectionTimeout, match="no answer within"):
        ask(asking, invoke("ws.1", timeout=0.05))
    forever.set()


def test_a_worker_with_other_keys_is_refused(
    worker: Worker, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Worker(directory, Keyring(parse_keys(new_key_line())), ASKING)
    worker.clients.add(client := LocalClient("ws.1"))
    with caplog.at_level(logging.WARNING), pytest.raises(ConnectionFailed, match="refused the message"):
        ask(stranger, invoke("ws.1"))
    assert not client.received
    assert "does not fit the secret keys" in caplog.text


def test_a_message_for_the_worker_that_was_there_before_is_refused(worker: Worker, asking: Worker) -> None:
    with pytest.raises(ConnectionFailed, match="refused the message"):
        ask(asking, invoke("ws.1"), address(worker_id=LISTENING - 1))


def over_http(seals: Seals, operation: Operation, worker_id: int = LISTENING) -> tuple[str, str, bytes]:
    """The path, the head and the body of a request with a message from another server."""
    message = seals.seal(f"{CLUSTER}/{SERVER}/{worker_id}", operation.encode()).message
    path = f"{PREFIX}{os.getpid()}/{worker_id}"
    return path, b64encode(message[:HEAD_SIZE]).decode(), message[HEAD_SIZE:]


def reading(body: bytes) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        assert len(body) <= limit
        return body

    return read


def test_a_message_that_comes_over_http_is_heeded_once(worker: Worker, keyring: Keyring) -> None:
    worker.clients.add(client := LocalClient("ws.1"))
    path, head, body = over_http(Seals(keyring), Operation(NOTIFY, ["ws.1"], data="hello"))
    assert worker.relay.receive(path, head, reading(body))
    with pytest.raises(ResourceNotFound):
        worker.relay.receive(path, head, reading(body))
    assert client.received == ["hello"]


def test_a_message_for_another_worker_is_passed_on(
    worker: Worker, asking: Worker, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.clients.add(client := LocalClient("ws.1"))
    path, head, body = over_http(Seals(keyring), Operation(NOTIFY, ["ws.1"], data="hello"))
    own = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "getpid", lambda: own + 1)  # as the other worker, which got the request
        answer = asking.relay.receive(path, head, reading(body))
        with pytest.raises(ResourceNotFound):
            asking.relay.receive(path, head, reading(body))
    assert answer
    assert client.received == ["hello"]
    gone = path.replace(str(own), str(own + 2))
    assert asking.relay.receive(gone, *_again(keyring)) is None


def _again(keyring: Keyring) -> tuple[str, Callable[[int], bytes]]:
    _, head, body = over_http(Seals(keyring), Operation(NOTIFY, ["ws.1"], data="hello"))
    return head, reading(body)


def test_strangers_are_not_told_why_and_nothing_of_theirs_is_read(
    worker: Worker, keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_limit: int) -> bytes:
        raise AssertionError("the body was read")

    path, head, _ = over_http(Seals(keyring), invoke("ws.1"))
    other_path, _, _ = over_http(Seals(keyring), invoke("ws.1"), worker_id=9)
    _, foreign, _ = over_http(Seals(Keyring(parse_keys(new_key_line()))), invoke("ws.1"))
    answers = set()
    for given_path, given_head in (
        (path, foreign),
        (path, head[:-4]),
        (path, ""),
        (path, "ä"),
        (path, "%%%"),
        (other_path, head),
        (f"{PREFIX}x", head),
        (f"{PREFIX}{'9' * 500}/1", head),
    ):
        with pytest.raises(ResourceNotFound) as refused:
            worker.relay.receive(given_path, given_head, refuse)
        answers.add(refused.value.message)
    assert answers == {"Not Found: no channel has this path."}
    assert caplog.text.count("was refused") == 1  # in ten seconds


def test_only_the_account_of_the_servers_may_connect(worker: Worker, directory: Path) -> None:
    path = directory / "run" / SOCKET_NAME.format(os.getpid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    worker.relay.stop()
    assert not path.exists()


def test_sockets_of_dead_workers_are_removed(directory: Path, worker: Worker, asking: Worker) -> None:
    dead = directory / "run" / SOCKET_NAME.format(2**22 + 1)
    other = directory / "run" / "worker-x.sock"
    for path in (dead, other):
        path.touch()
    asking.relay.start()
    asking.relay.stop()
    assert not dead.exists()
    assert other.exists()


def test_a_directory_in_which_nothing_can_listen_is_a_clear_error(tmp_path: Path, keyring: Keyring) -> None:
    with pytest.raises(AddressUnavailable, match="cannot listen in"):
        Worker(tmp_path / "none", keyring, 1).relay.start()


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\5abc"])
def test_whoever_sends_nonsense_over_a_socket_is_hung_up_on(
    worker: Worker, directory: Path, data: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(directory / "run" / SOCKET_NAME.format(os.getpid())))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
