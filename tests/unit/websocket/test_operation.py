"""What workers ask each other to do with clients, and what becomes of it."""

from __future__ import annotations

from typing import Any

import gevent
import orjson
import pytest
from gevent.event import Event

from junctor.server.websocket import operation as module
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.operation import (
    BROADCAST,
    DISCONNECT,
    INVOKE,
    NOTIFY,
    Operation,
    Outcome,
    decode_operation,
    decode_outcome,
    perform,
)
from junctor.sql.errors import (
    CallFailed,
    CallTimeout,
    InvalidInput,
    InvalidOutput,
    JunctorError,
    NotFound,
    SlowConsumer,
    WebSocketClosed,
)
from tests.helpers.client_session import LocalClient


def connected(*sessions: LocalClient) -> ConnectedClients:
    clients = ConnectedClients()
    for session in sessions:
        clients.add(session)
    return clients


def raising(error: Exception) -> Any:
    def answer(_data: Any) -> Any:
        raise error

    return answer


def test_an_operation_is_the_same_once_it_has_arrived() -> None:
    sent = Operation(INVOKE, ["ws.1"], 7, {"a": [1, None]}, 2.5, 1001, "why", "cid1")
    assert decode_operation(sent.encode()) == sent


def test_data_that_is_no_json_or_too_large_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recursive: list[Any] = []
    recursive.append(recursive)
    with pytest.raises(InvalidOutput, match="is no JSON"):
        Operation(NOTIFY, ["ws.1"], data=recursive).encode()
    monkeypatch.setattr(module, "MAX_BODY", 1000)
    with pytest.raises(InvalidInput, match="at most 1000 may be sent"):
        Operation(NOTIFY, ["ws.1"], data="x" * 1000).encode()


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{}", b'{"verb":"invoke","unknown":1}', b"\xff"])
def test_what_is_no_operation_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="not understood"):
        decode_operation(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"answers":{},"errors":{"a":1},"count":0}'])
def test_what_is_no_outcome_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="not understood"):
        decode_outcome(body)


def test_errors_have_their_types_and_messages_once_they_have_arrived() -> None:
    errors: dict[str, JunctorError] = {
        "a": CallTimeout("too late"),
        "b": WebSocketClosed("gone"),
        "c": SlowConsumer("slow"),
        "d": NotFound("connected WebSocket client", "d"),
        "e": CallFailed("failed"),
        "f": InvalidOutput("x", []),
    }
    found = decode_outcome(Outcome({"g": {"ok": 1}}, errors, 3).encode())
    assert found.answers == {"g": {"ok": 1}}
    assert found.count == 3
    for key in "abcde":
        assert type(found.errors[key]) is type(errors[key])
        assert found.errors[key].message == errors[key].message
    assert type(found.errors["f"]) is CallFailed


def test_answers_that_are_too_large_become_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY", 1000)
    found = decode_outcome(Outcome({"a": "x" * 1000}).encode())
    assert not found.answers
    assert "at most 1000" in found.errors["a"].message


def test_a_client_is_invoked_and_its_answer_is_what_comes_back() -> None:
    client = LocalClient("ws.1")
    outcome = perform(connected(client), Operation(INVOKE, ["ws.1"], data={"n": 1}, timeout=5))
    assert outcome.answers == {"ws.1": {"echo": {"n": 1}}}
    assert not outcome.errors
    assert client.received == [{"n": 1}]


def test_many_clients_are_invoked_at_the_same_time_and_each_has_its_own_outcome() -> None:
    others = Event()

    def wait(_data: Any) -> str:
        assert others.wait(5)
        return "waited"

    def release(_data: Any) -> str:
        others.set()
        return "released"

    clients = [
        LocalClient("ws.1", answer=wait),
        LocalClient("ws.2", answer=raising(CallTimeout("too late"))),
        LocalClient("ws.3", answer=raising(KeyError("canary"))),
        LocalClient("ws.4", answer=release),
    ]
    keys = [*(client.pub_client_id for client in clients), "ws.5"]
    outcome = perform(connected(*clients), Operation(INVOKE, keys, data=1, timeout=5))
    assert outcome.answers == {"ws.1": "waited", "ws.4": "released"}
    assert isinstance(outcome.errors["ws.2"], CallTimeout)
    assert isinstance(outcome.errors["ws.3"], CallFailed)
    assert "canary" not in outcome.errors["ws.3"].message
    assert isinstance(outcome.errors["ws.5"], NotFound)


def test_who_asks_and_does_not_wait_any_longer_leaves_nothing_behind() -> None:
    waiting = Event()
    ended: list[str] = []

    def wait(_data: Any) -> None:
        waiting.set()
        try:
            gevent.sleep(60)
        finally:
            ended.append("ended")

    clients = connected(LocalClient("ws.1", answer=wait), LocalClient("ws.2", answer=wait))
    asking = gevent.spawn(perform, clients, Operation(INVOKE, ["ws.1", "ws.2"], data=1, timeout=60))
    assert waiting.wait(5)
    gevent.sleep(0)
    asking.kill()
    gevent.sleep(0)
    assert ended == ["ended", "ended"]


def test_a_client_is_notified_or_disconnected() -> None:
    client = LocalClient("ws.1")
    clients = connected(client)
    assert perform(clients, Operation(NOTIFY, ["ws.1"], data="x")).answers == {"ws.1": "message-to-ws.1"}
    assert perform(clients, Operation(DISCONNECT, ["ws.1"], code=1001, reason="bye")).answers == {
        "ws.1": None
    }
    assert client.closed == (1001, "bye")
    assert isinstance(perform(clients, Operation(NOTIFY, ["ws.1"], data="x")).errors["ws.1"], WebSocketClosed)


def test_what_a_newer_server_asks_for_is_an_error_and_not_a_surprise() -> None:
    outcome = perform(connected(LocalClient("ws.1")), Operation("dance", ["ws.1"]))
    assert "does not know how to dance" in outcome.errors["ws.1"].message


@pytest.mark.parametrize("data", [{"n": [1, "ä"]}, "text", 0, ""])
def test_a_broadcast_goes_to_the_clients_of_its_channel_that_can_take_it(data: Any) -> None:
    clients = [LocalClient() for _ in range(3)]
    gone, elsewhere = LocalClient(), LocalClient(channel_id=2)
    gone.disconnect()
    outcome = perform(connected(*clients, gone, elsewhere), Operation(BROADCAST, channel_id=1, data=data))
    assert outcome.count == 3
    assert [client.received for client in clients] == [[data]] * 3
    assert elsewhere.received == []


def test_others_have_their_turn_during_a_long_broadcast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 0.0)
    order: list[str] = []
    clients = [LocalClient() for _ in range(2)]
    for client in clients:
        object.__setattr__(client, "notify", lambda data: order.append("sent"))
    gevent.spawn(order.append, "other")
    assert perform(connected(*clients), Operation(BROADCAST, channel_id=1, data="x")).count == 2
    assert order == ["sent", "other", "sent"]


def test_what_is_broadcast_is_valid_in_the_message_that_a_client_gets() -> None:
    from junctor.server.websocket import envelope

    sent: list[bytes] = []
    client = LocalClient()
    object.__setattr__(client, "notify", lambda data: sent.append(envelope.request("id", data)))
    perform(connected(client), Operation(BROADCAST, channel_id=1, data={1: b"bytes"}))
    assert orjson.loads(sent[0])["data"] == {"1": "bytes"}
