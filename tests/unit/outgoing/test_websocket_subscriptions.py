"""Which subscriptions a link makes and ends, with a stand-in for the remote gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest

from junctor.server.outgoing import reconnect, websocket_subscriptions
from junctor.server.outgoing.websocket_subscriptions import LIST, SERVICE, Known, Subscriptions, end_all
from junctor.sql.errors import ConnectionFailed, JunctorError, RemoteCallFailed
from tests.helpers.waiting import eventually

Make = Callable[..., Subscriptions]


def refused(status: int) -> RemoteCallFailed:
    return RemoteCallFailed("refused", status=status, reason="refused", remote_cid="")


@dataclass
class Gateway:
    """The subscriptions that a remote end has, by topic; ``errors`` are raised first, by service."""

    keys: dict[str, str] = field(default_factory=dict)
    errors: dict[str, list[JunctorError]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def __call__(self, message: dict[str, Any]) -> Any:
        service, request = message["service"], message["request"]
        topic = request.get("topic_name", "")
        self.calls.append(f"{service.rpartition('.')[2]} {topic}".strip())
        if errors := self.errors.get(service):
            raise errors.pop(0)
        if service == LIST:
            return self.listed()
        if service == SERVICE:
            return {"sub_key": self.keys.setdefault(topic, f"zpsk.{topic}"), "queue_depth": 0}
        assert self.keys.pop(topic) == request["sub_key"]
        return {}

    def listed(self) -> Any:
        return [{"topic_name": name, "sub_key": key} for name, key in self.keys.items()]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def make(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(reconnect, "FIRST_PAUSE", 0.01)
    made: list[Subscriptions] = []

    def started(topics: tuple[str, ...], known: Known | None = None) -> Subscriptions:
        made.append(Subscriptions("link", topics, gateway, known or Known()))
        made[-1].start()
        return made[-1]

    with gevent.Timeout(30):
        yield started
    for subscriptions in made:
        subscriptions.stop()


def test_subscriptions_that_are_left_from_another_worker_end(make: Make, gateway: Gateway) -> None:
    gateway.keys = {"/a": "key of /a", "/old": "key of /old"}
    known = Known()
    make(("/a", "/b"), known)
    eventually(lambda: set(gateway.keys) == {"/a", "/b"})
    eventually(lambda: known.keys == {"/a": "key of /a", "/b": "zpsk./b"})
    assert gateway.calls == ["subscribe-wsx /a", "subscribe-wsx /b", "get-list", "unsubscribe /old"]
    assert "key of" not in repr(known)


def test_a_subscription_that_somebody_has_deleted_is_made_again(
    make: Make, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_subscriptions, "CHECK_INTERVAL", 0.01)
    made = make(("/a",))
    eventually(lambda: gateway.keys)
    gateway.keys.clear()
    eventually(lambda: gateway.keys)
    eventually(lambda: made.results == {"/a": "ok"})
    assert caplog.text.count("deleted at the remote end") == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_remote_end_that_tells_nothing_is_not_asked_again(
    make: Make, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(websocket_subscriptions, "CHECK_INTERVAL", 0.01)
    gateway.errors[LIST] = [refused(status)]
    known = Known(keys={"/old": "key of /old"})
    gateway.keys = dict(known.keys)
    made = make(("/a",), known)
    eventually(lambda: gateway.keys == {"/a": "zpsk./a"})
    made.change(("/a", "/b"))
    eventually(lambda: made.results == {"/a": "ok", "/b": "ok"})
    assert gateway.calls.count("get-list") == 1


def test_what_cannot_be_ended_now_is_tried_again_and_what_may_not_be_is_left(
    make: Make, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    unsubscribe = websocket_subscriptions.UNSUBSCRIBE
    gateway.errors[unsubscribe] = [ConnectionFailed("lost"), refused(503), refused(403)]
    gateway.errors[LIST] = [refused(404)]
    known = Known(keys={"/old": "key of /old"})
    make((), known)
    eventually(lambda: not known.keys)
    assert gateway.calls == ["unsubscribe /old"] * 3
    assert caplog.text.count("leaves a subscription to '/old' at the remote end: 403 refused") == 1


def test_a_remote_end_whose_list_is_none_is_not_asked_again(
    make: Make, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "listed", lambda: {"response": []})
    known = Known()
    made = make(("/a",), known)
    eventually(lambda: "get-list" in gateway.calls)
    made.change(("/a", "/b"))
    eventually(lambda: made.results == {"/a": "ok", "/b": "ok"})
    assert gateway.calls.count("get-list") == 1
    assert set(known.keys) == {"/a", "/b"}


def test_subscriptions_of_a_connection_that_is_deleted_end_or_are_left_after_a_while(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_subscriptions, "END_INTERVAL", 0.01)
    gateway.keys = {"/a": "key of /a"}
    known = Known(keys=dict(gateway.keys))
    gateway.errors[websocket_subscriptions.UNSUBSCRIBE] = [refused(503)]
    end_all("link", gateway, known, timeout=5)
    assert gateway.keys == known.keys == {}
    known.keys["/b"] = "key of /b"
    gateway.errors[websocket_subscriptions.UNSUBSCRIBE] = [refused(503)] * 1000
    end_all("link", gateway, known, timeout=0.02)
    assert caplog.text.count("leaves subscriptions at the remote end to '/b'") == 1
