"""Links: calls over one socket, what happens when the remote end is not there, and what an edit does to a connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, cast

import gevent
import pytest

from junctor.server.metrics import Metrics
from junctor.server.outgoing import websocket_link, websocket_session
from junctor.server.outgoing.websocket import WebSocketConnection
from junctor.server.outgoing.websocket_hooks import HookContext, Hooks, IncomingMessage
from junctor.server.outgoing.websocket_link import Link, Surroundings
from junctor.server.outgoing.websocket_session import Incoming, LinkSettings
from junctor.server.outgoing.websocket_subscriptions import LIST, OPTIONS, SERVICE
from junctor.server.runtime.lease import Leases
from junctor.server.service.link import current_link
from junctor.server.websocket import envelope
from junctor.sql.errors import (
    CallFailed,
    ConnectionFailed,
    ConnectionInactive,
    ConnectionTimeout,
    InvalidOutput,
    RemoteCallFailed,
    WebSocketClosed,
)
from tests.helpers.ports import free_port
from tests.helpers.remote_end import Peer, RemoteEnd, keys_of_topics
from tests.helpers.waiting import eventually

NAME = "My WSX Outconn"
Make = Callable[..., "Made"]


def never(remote: RemoteEnd, peer: Peer, message: envelope.ClientMessage) -> None:
    """Does not answer."""


def last_first(remote: RemoteEnd, peer: Peer, message: envelope.ClientMessage) -> None:
    """Answers once there are three calls, the last one first."""
    if len(remote.invocations) == 3:
        for call in reversed(remote.invocations):
            peer.connection.send_text(envelope.response(call.id, call.data))


@dataclass
class Made:
    """A link with what its hooks were told; ``hook`` may do something then."""

    link: Link
    metrics: Metrics
    leases: Leases
    told: list[HookContext] = field(default_factory=list)
    hook: Callable[[HookContext], Any] = lambda ctx: None

    @property
    def connection(self) -> WebSocketConnection:
        return WebSocketConnection(self.link)

    def run(self, ctx: HookContext, incoming: Incoming | None) -> Any:
        self.told.append(ctx)
        return self.hook(ctx)

    def told_of(self, kind: str) -> list[HookContext]:
        return [ctx for ctx in self.told if ctx.type == kind]

    def state(self, name: str) -> dict[str, Any]:
        """The state, once it has this name."""
        eventually(lambda: self.link.shown()["state"] == name)
        return self.link.shown()

    def counted(self, outcome: str) -> float:
        return self.metrics.counter(
            "junctor_outgoing_websocket_calls_total", connection=self.link.settings.name, outcome=outcome
        ).value

    def gauge(self) -> float:
        return self.metrics.gauge(
            "junctor_outgoing_websocket_connected", connection=self.link.settings.name
        ).value

    def edit(self, **changes: Any) -> None:
        self.link.apply(replace(self.link.settings, **changes))


@pytest.fixture
def remote() -> Iterator[RemoteEnd]:
    """A remote end of Zato that is there."""
    made = RemoteEnd()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def plain() -> Iterator[RemoteEnd]:
    """A remote end that is no Zato."""
    made = RemoteEnd(is_zato=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes links to an address, and starts them."""
    links: list[Link] = []
    secret = {"value": "right"}

    def made(address: str, hooks: tuple[str, ...] = ("connect", "message", "close"), **settings: Any) -> Made:
        given = {"is_zato": True, "timeout": 5, **settings}
        metrics, leases = Metrics(), Leases(cast(Any, None), lambda: None)
        around = Surroundings("ours", "server1.9", metrics, leases, lambda _: ("link", secret["value"]))
        hooked = Hooks(lambda ctx, incoming: None, lambda kind: kind in hooks)
        one = Made(Link(LinkSettings(7, NAME, address, **given), around, hooked), metrics, leases)
        hooked.runs(one.run, lambda kind: kind in hooks)
        if settings.get("subscription_list"):
            lease = leases.want("outconn.7")
            lease.decided.set()
        links.append(one.link)
        one.link.start()
        return one

    made.secret = secret
    with gevent.Timeout(60):
        yield made
        gevent.joinall([gevent.spawn(link.stop) for link in links])


def test_a_call_returns_what_the_remote_service_answers(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    msg = {"service": "helpers.echo", "request": {"elem1": "value1", "elem2": "value2"}}
    with made.connection.conn.client() as client:
        response = client.invoke(msg)
        assert client.send(msg) == response
    assert response == msg
    assert isinstance(response, dict)
    assert str(response) == str(msg)
    assert (response.data, response.is_ok, response.status) == (msg, True, 200)
    peer = remote.peer()
    assert (peer.client_id, peer.client_name) == ("outconn.ours.7.server1.9", f"WSX outconn - {NAME}")
    assert made.counted("ok") == 2
    assert made.gauge() == 1


@pytest.mark.parametrize(
    ("answered", "returned"), [("", {}), ({}, {}), ([1], [1]), ("text", "text"), (0, 0), (False, False)]
)
def test_what_is_no_dictionary_is_returned_as_it_is(
    make: Make, remote: RemoteEnd, answered: Any, returned: Any
) -> None:
    remote.answer = lambda _, peer, call: peer.connection.send_text(envelope.response(call.id, answered))
    assert make(remote.address).connection.invoke({}) == returned


def test_calls_share_one_socket_and_each_gets_its_own_response(make: Make, remote: RemoteEnd) -> None:
    remote.answer = last_first
    made = make(remote.address)
    calls = [gevent.spawn(made.connection.invoke, {"number": number}) for number in range(3)]
    assert [call.get() for call in calls] == [{"number": number} for number in range(3)]
    assert len(remote.peers) == 1
    assert made.link.shown()["calls"] == 0


def test_a_call_without_a_response_raises_in_time_and_leaves_nothing_behind(
    make: Make, remote: RemoteEnd
) -> None:
    remote.answer = never
    made = make(remote.address)
    made.state("connected")
    with pytest.raises(ConnectionTimeout, match=r"'My WSX Outconn' to ws://.*: no response within 0.05 s\."):
        made.connection.invoke({}, timeout=0.05)
    assert made.link.shown()["calls"] == 0
    assert made.counted("timeout") == 1
    late = remote.invocations[0]
    remote.peer().connection.send_text(envelope.response(late.id, "too late"))
    remote.answer = RemoteEnd.answer
    assert made.connection.invoke({"a": 1}) == {"a": 1}


def test_an_error_of_the_remote_service_is_raised_with_its_status_message_and_cid(
    make: Make, remote: RemoteEnd
) -> None:
    def refuse(_: RemoteEnd, peer: Peer, call: envelope.ClientMessage) -> None:
        peer.connection.send_text(envelope.error(call.id, 403, "You are not allowed", "abc123"))

    remote.answer = refuse
    made = make(remote.address)
    with pytest.raises(
        RemoteCallFailed, match=r"'My WSX Outconn' answered 403 'You are not allowed' \(CID abc123 there\)"
    ) as raised:
        made.connection.invoke({})
    error = raised.value
    assert (error.status, error.reason, error.remote_cid) == (403, "You are not allowed", "abc123")
    assert made.counted("error") == 1


def test_a_call_while_the_remote_end_is_away_says_so_at_once(make: Make) -> None:
    port = free_port()
    made = make(f"ws://127.0.0.1:{port}/ws?token=secret")
    made.state("down")
    with pytest.raises(ConnectionFailed) as raised:
        made.connection.invoke({})
    message = str(raised.value)
    state = made.link.shown()
    assert (
        f"'My WSX Outconn' to ws://127.0.0.1:{port}/ws: it is not connected since {state['since']}" in message
    )
    assert "refused" in message
    assert "secret" not in message + str(state) + repr(made.connection)
    assert made.counted("failed") == 1
    assert made.gauge() == 0


def test_a_call_waits_for_the_first_attempt_to_connect(make: Make, remote: RemoteEnd) -> None:
    assert make(remote.address).connection.invoke({"a": 1}) == {"a": 1}


def test_a_call_waits_no_longer_than_its_time(make: Make, remote: RemoteEnd) -> None:
    remote.is_silent = True
    with pytest.raises(ConnectionTimeout, match=r"could not be connected within 0\.05 s"):
        make(remote.address).connection.invoke({}, timeout=0.05)


def test_a_remote_end_that_comes_late_or_comes_back_is_connected_to(make: Make) -> None:
    remote = RemoteEnd()
    made = make(remote.address)
    made.state("down")
    remote.start()
    made.state("connected")
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    remote.stop()
    assert "lost" in made.state("down")["error"] or "refused" in made.link.shown()["error"]
    with pytest.raises(ConnectionFailed, match="not connected since"):
        made.connection.invoke({})
    remote.start()
    made.state("connected")
    assert made.connection.invoke({"a": 2}) == {"a": 2}
    reconnects = made.metrics.counter("junctor_outgoing_websocket_reconnects_total", connection=NAME)
    assert reconnects.value == 1
    assert [ctx.type for ctx in made.told] == ["connect", "close", "connect"]
    remote.stop()


def test_without_reconnecting_one_attempt_is_all_until_it_is_edited(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address, has_auto_reconnect=False)
    made.state("connected")
    remote.peer().connection.close(1001)
    assert made.state("down")["error"] == "The connection was lost: closed (close code 1001)."
    eventually(lambda: made.link._pause.left == 0)
    gevent.sleep(0.05)
    assert made.link.shown()["state"] == "down"
    made.edit(has_auto_reconnect=True)
    made.state("connected")


def test_calls_under_way_fail_when_the_connection_is_lost(make: Make, remote: RemoteEnd) -> None:
    remote.answer = never
    made = make(remote.address)
    call = gevent.spawn(made.connection.invoke, {})
    eventually(lambda: remote.invocations)
    remote.peer().connection.close(1012, "restarting")
    with pytest.raises(WebSocketClosed, match=r"before the response came: restarting \(close code 1012\)"):
        call.get()


def test_wrong_credentials_are_the_state_and_right_ones_are_used_with_the_next_attempt(
    make: Make, remote: RemoteEnd, caplog: pytest.LogCaptureFixture
) -> None:
    make.secret["value"] = "wrong"
    made = make(remote.address)
    assert made.state("down")["error"] == (
        "The remote end refused the log-in: 403 You are not authorized to access this resource"
    )
    eventually(lambda: remote.refused > 1)
    down = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(down) == 1
    make.secret["value"] = "right"
    made.state("connected")
    assert "wrong" not in caplog.text


def test_a_session_that_the_remote_end_ends_is_opened_anew(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    first = remote.peer()
    first.connection.send_text(envelope.refusal())
    first.connection.close(1008)
    eventually(lambda: len(remote.open) == 1 and remote.open[0] is not first)
    made.state("connected")
    eventually(lambda: made.told_of("close"))
    [closed] = made.told_of("close")
    assert closed.code == 1008
    assert "You are not authorized" in str(closed.reason)


def test_an_inactive_connection_is_not_made_and_says_so(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address, is_active=False)
    made.state("inactive")
    with pytest.raises(ConnectionInactive, match="is not active"):
        made.connection.invoke({})
    assert not remote.peers
    made.edit(is_active=True)
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    made.edit(is_active=False)
    with pytest.raises(ConnectionInactive):
        made.connection.invoke({})
    eventually(lambda: not remote.open)
    made.state("inactive")


def test_an_unrelated_edit_keeps_the_connection(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address, ping_interval=3600)
    peer = remote.peer()
    made.state("connected")
    made.edit(timeout=9, ping_interval=0.01, max_message_size=2048, name="Renamed", has_auto_reconnect=False)
    pings = made.metrics.histogram("junctor_outgoing_websocket_ping_seconds", connection=NAME)
    eventually(lambda: sum(pings.counts) > 2)
    assert made.link.shown()["lag_ms"] >= 0
    assert remote.open == [peer]
    assert made.gauge() == 1
    assert made.metrics.gauge("junctor_outgoing_websocket_connected", connection=NAME).value == 0
    with pytest.raises(ConnectionFailed, match=r"'Renamed' .*the maximum is 2048"):
        made.connection.invoke("x" * 3000)


def test_another_address_is_connected_to_while_calls_on_the_old_one_finish(
    make: Make, remote: RemoteEnd
) -> None:
    other = RemoteEnd()
    other.start()
    remote.answer = never
    made = make(remote.address)
    under_way = gevent.spawn(made.connection.invoke, {"old": True})
    eventually(lambda: remote.invocations)
    made.edit(address=other.address)
    eventually(lambda: other.open)
    assert made.connection.invoke({"new": True}) == {"new": True}
    assert len(other.invocations) == 1
    remote.peer().connection.send_text(envelope.response(remote.invocations[0].id, "finished"))
    assert under_way.get() == "finished"
    eventually(lambda: not remote.open)
    assert [ctx.code for ctx in made.told_of("close")] == [1000]
    other.stop()


def test_an_edit_interrupts_an_attempt_that_takes_long(make: Make, remote: RemoteEnd) -> None:
    silent = RemoteEnd(is_silent=True)
    silent.start()
    made = make(silent.address, timeout=3600)
    eventually(lambda: silent.peers)
    made.edit(address=remote.address)
    assert made.connection.invoke({"a": 1}, timeout=10) == {"a": 1}
    silent.stop()


def test_too_many_calls_and_too_large_ones_are_refused(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_session, "MAX_CALLS", 1)
    remote.answer = never
    made = make(remote.address, max_message_size=2048)
    waiting = gevent.spawn(made.connection.invoke, {})
    eventually(lambda: made.link.shown()["calls"])
    with pytest.raises(ConnectionFailed, match="1 calls wait for their responses already"):
        made.connection.invoke({})
    with pytest.raises(ConnectionFailed, match="bytes, and the maximum is 2048"):
        made.connection.invoke("x" * 2048)
    waiting.kill()
    assert made.link.shown()["calls"] == 0


def test_what_is_no_json_is_refused(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidOutput):
        made.connection.invoke({"deep": deep})


def test_wrong_messages_of_the_remote_end_are_logged_and_harm_nothing(
    make: Make, remote: RemoteEnd, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(remote.address)
    for wrong in ("", "{", "[]", '{"meta":{"id":5}}', b"\xff"):
        remote.peer().connection.send(wrong)
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    assert caplog.text.count("got a wrong message") == 5


@pytest.mark.parametrize("answer", [b"[]", b'{"meta":{"status":200,"in_reply_to":"ID"},"data":{}}'])
def test_a_log_in_that_is_answered_wrongly_fails(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    def log_in(self: RemoteEnd, peer: Peer, message: envelope.ClientMessage) -> None:
        peer.connection.send_text(answer.replace(b"ID", message.id.encode()))

    monkeypatch.setattr(RemoteEnd, "_log_in", log_in)
    made = make(remote.address)
    error = made.state("down")["error"]
    assert "none of Zato" in error or "without giving a token" in error
    eventually(lambda: remote.peers[0].is_over)


def test_a_log_in_without_an_answer_ends_in_time(make: Make, remote: RemoteEnd) -> None:
    remote.is_silent = True
    made = make(remote.address, timeout=0.1)
    assert "did not answer the log-in within 0.1 s" in made.state("down")["error"]
    eventually(lambda: remote.peers[0].is_over)


def test_a_remote_end_that_does_not_answer_pings_is_given_up(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_session, "PONG_TIMEOUT", 0.1)
    monkeypatch.setattr("junctor.server.websocket.codec.Connection._answer_ping", lambda self, payload: None)
    made = make(remote.address)
    assert "No answer to a ping within 0.1 s" in made.state("down")["error"]


def test_hooks_are_told_of_the_connection_each_message_and_the_end(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    made.hook = lambda ctx: {"seen": ctx.data.data} if ctx.type == "message" else None
    peer = remote.peer()
    first, second = peer.request({"n": 1}), peer.request([2])
    eventually(lambda: len(peer.responses) == 2)
    peer.connection.close(1001, "going away")
    eventually(lambda: made.told_of("close"))
    assert [ctx.type for ctx in made.told][:4] == ["connect", "message", "message", "close"]
    message = made.told[1].data
    assert isinstance(message, IncomingMessage)
    assert (message.id, message.data) == (first, {"n": 1})
    assert message.timestamp == message.msg_impl.timestamp != ""
    assert [(item.in_reply_to, item.data) for item in peer.responses] == [
        (first, {"response": {"seen": {"n": 1}}}),
        (second, {"response": {"seen": [2]}}),
    ]
    assert (made.told[3].code, made.told[3].reason) == (1001, "going away")


def test_messages_are_handled_one_after_another_while_calls_go_on(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    release = gevent.event.Event()
    made.hook = lambda ctx: release.wait() if ctx.type == "message" else None
    peer = remote.peer()
    for number in range(3):
        peer.request({"n": number})
    eventually(lambda: made.link.shown()["waiting"] == 2)
    assert len(made.told_of("message")) == 1
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    release.set()
    eventually(lambda: len(peer.responses) == 3)
    assert [ctx.data.data["n"] for ctx in made.told_of("message")] == [0, 1, 2]


def test_a_hook_may_call_the_remote_end_itself(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    made.hook = lambda ctx: made.connection.invoke({"back": 1}) if ctx.type == "message" else None
    peer = remote.peer()
    peer.request({})
    eventually(lambda: peer.responses)
    assert peer.responses[0].data == {"response": {"back": 1}}


def test_a_message_whose_hook_fails_is_not_answered(
    make: Make, remote: RemoteEnd, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(remote.address)

    def hook(ctx: HookContext) -> Any:
        if ctx.type == "message" and ctx.data.data == "fail":
            raise KeyError("the hook's own")
        return object() if ctx.type == "message" and ctx.data.data == "no json" else 5

    made.hook = hook
    peer = remote.peer()
    peer.request("fail")
    right = peer.request("right")
    eventually(lambda: peer.responses)
    assert [item.in_reply_to for item in peer.responses] == [right]
    assert "The hook on_message of outgoing WebSocket connection 'My WSX Outconn' failed." in caplog.text


def test_of_a_connection_that_is_over_requests_are_handled_and_deliveries_come_again(
    make: Make, remote: RemoteEnd
) -> None:
    made = make(remote.address)
    release = gevent.event.Event()
    made.hook = lambda ctx: release.wait() if ctx.type == "message" else None
    peer = remote.peer()
    for message_id, kind in (
        ("1", envelope.REQUEST),
        ("2", envelope.REQUEST),
        ("3", envelope.PUBSUB_REQUEST),
    ):
        peer.request(message_id, message_id, kind)
    eventually(lambda: made.link.shown()["waiting"] == 2)
    peer.connection.close()
    eventually(lambda: peer.is_over and len(remote.open) == 1)
    release.set()
    eventually(lambda: len(made.told_of("connect")) == 2)
    assert [ctx.type for ctx in made.told] == ["connect", "message", "message", "close", "connect"]
    assert [ctx.data.id for ctx in made.told_of("message")] == ["1", "2"]
    assert not peer.responses


def test_a_link_that_stops_does_not_wait_for_hooks_that_hang(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_link, "STOP_TIMEOUT", 0.05)
    made = make(remote.address)
    made.hook = lambda ctx: gevent.sleep(600) if ctx.type == "message" else None
    remote.peer().request("hangs")
    remote.peer().request("waits")
    eventually(lambda: made.link.shown()["waiting"] == 1)
    made.link.stop()
    assert made.link.shown()["waiting"] == 0


def test_without_a_hook_requests_are_answered_with_nothing_and_deliveries_are_rejected(
    make: Make, remote: RemoteEnd, caplog: pytest.LogCaptureFixture
) -> None:
    make(remote.address, hooks=())
    peer = remote.peer()
    for message_id in ("zpsm1", "zpsm2"):
        peer.request([], message_id, envelope.PUBSUB_REQUEST)
    asked = peer.request({})
    eventually(lambda: len(peer.responses) == 3)
    rejected = {"response": {"nack": True, "delay": 30.0}}
    assert [(item.in_reply_to, item.data) for item in peer.responses] == [
        ("zpsm1", rejected),
        ("zpsm2", rejected),
        (asked, {"response": None}),
    ]
    assert caplog.text.count("there is no hook on_message") == 1


def test_a_delivery_is_acknowledged_once_its_hook_has_returned_and_rejected_when_it_fails(
    make: Make, remote: RemoteEnd
) -> None:
    made = make(remote.address)
    failures = [KeyError("the hook's own"), gevent.Timeout(0)]

    def hook(ctx: HookContext) -> Any:
        if ctx.type == "message" and failures:
            raise failures.pop(0)

    made.hook = hook
    peer = remote.peer()
    for message_id in ("zpsm1", "zpsm2", "zpsm3"):
        peer.request([{"data": 1}], message_id, envelope.PUBSUB_REQUEST)
    eventually(lambda: len(peer.responses) == 3)
    assert [(item.in_reply_to, item.data["response"]) for item in peer.responses] == [
        ("zpsm1", {"nack": True}),
        ("zpsm2", {"nack": True}),
        ("zpsm3", None),
    ]


def test_what_waits_for_hooks_is_bounded(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("junctor.server.outgoing.websocket_hooks.MAX_WAITING", 2)
    made = make(remote.address)
    release = gevent.event.Event()
    made.hook = lambda ctx: release.wait() if ctx.type == "message" else None
    peer = remote.peer()
    peer.request("first")
    eventually(lambda: made.told_of("message"))
    for number in range(5):
        peer.request(number)
    peer.request([], "zpsm1", envelope.PUBSUB_REQUEST)
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    eventually(lambda: peer.responses)
    assert (peer.responses[0].in_reply_to, peer.responses[0].data["response"]["nack"]) == ("zpsm1", True)
    release.set()
    eventually(lambda: len(peer.responses) == 4)
    assert caplog.text.count("2 messages wait for the hook") == 1
    after = peer.request("after")
    eventually(lambda: len(peer.responses) == 5)
    assert peer.responses[-1].in_reply_to == after


def test_a_remote_end_that_is_no_zato_gets_messages_as_they_are(make: Make, plain: RemoteEnd) -> None:
    made = make(plain.address, is_zato=False)
    with made.connection.client() as client:
        for message in ("text", b"\xff\x00", bytearray(b"\x01"), {"a": [1]}):
            assert client.send(message) is None
        with pytest.raises(CallFailed, match=r"no Zato, and gives no responses; use send\(\)"):
            client.invoke({"a": 1})
    peer = plain.peer()
    eventually(lambda: len(peer.raw) == 4)
    assert peer.raw == ["text", b"\xff\x00", b"\x01", '{"a":[1]}']
    assert made.counted("ok") == 4
    made.edit(is_active=False)
    with pytest.raises(ConnectionInactive):
        client.send("text")
    made.edit(is_active=True)
    with pytest.raises(InvalidOutput):
        client.send({"a": 2**70})


def test_the_frames_of_others_reach_the_hook_as_they_are_and_wait_for_it(
    make: Make, plain: RemoteEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("junctor.server.outgoing.websocket_hooks.MAX_WAITING", 2)
    monkeypatch.setattr(websocket_session, "PONG_TIMEOUT", 0.4)
    made = make(plain.address, is_zato=False, ping_interval=0.01)
    release = gevent.event.Event()
    made.hook = lambda ctx: release.wait() if ctx.type == "message" else None
    peer = plain.peer()
    sent: list[str | bytes] = ["text", b"\xff", *(str(number) for number in range(20))]
    for message in sent:
        peer.connection.send(message)
    eventually(lambda: made.link.shown()["waiting"] == 2)
    gevent.sleep(0.6)  # longer than a ping may take, whose pong cannot be read meanwhile
    assert made.link.shown()["waiting"] == 2
    release.set()
    eventually(lambda: len(made.told_of("message")) == len(sent))
    assert [ctx.data for ctx in made.told_of("message")] == sent
    assert made.link.shown()["state"] == "connected"


def test_a_call_says_how_far_it_has_come(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    made.connection.invoke({})
    for link in ({"origin": "first", "hops": 7}, {"hops": "many"}, {}):
        token = current_link.set(link)
        made.connection.invoke({})
        current_link.reset(token)
    assert [call.ctx for call in remote.invocations] == [
        {"origin": "ours", "hops": 1},
        {"origin": "first", "hops": 8},
        {"origin": "ours", "hops": 1},
        {"origin": "ours", "hops": 1},
    ]


def test_a_call_that_went_around_too_often_is_not_made(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address)
    token = current_link.set({"origin": "first", "hops": 8})
    with pytest.raises(CallFailed, match="over 8 links between clusters already, from cluster 'first'"):
        made.connection.invoke({})
    current_link.reset(token)
    assert not remote.invocations


def test_only_the_owner_subscribes_with_an_id_that_is_the_same_for_all_owners(
    make: Make, remote: RemoteEnd
) -> None:
    made = make(remote.address, subscription_list=("/a", "/b"))
    first = remote.peer()
    assert first.client_id == "outconn.ours.7.server1.9"
    assert made.state("connected")["owner"] is False
    lease = made.leases.want("outconn.7")
    lease.granted(1, monotonic() + 100)
    eventually(lambda: [peer.client_id for peer in remote.open] == ["outconn.ours.7"])
    eventually(lambda: made.link.shown()["subscriptions"] == {"/a": "ok", "/b": "ok"})
    eventually(lambda: len(remote.invocations) == 3)
    assert [call.data for call in remote.invocations] == [
        *({"service": SERVICE, "request": {"topic_name": topic, **OPTIONS}} for topic in ("/a", "/b")),
        {"service": LIST, "request": {}},
    ]
    owner = remote.peer()
    lease.refused()
    owner.request("for the next owner")
    eventually(lambda: [peer.client_id for peer in remote.open] == ["outconn.ours.7.server1.9"])
    assert not owner.responses
    assert made.told_of("message") == []
    assert len(remote.invocations) == 3
    assert made.link.shown()["subscriptions"] == {}


def test_what_comes_for_an_owner_whose_time_has_run_out_is_left_to_the_next_one(
    make: Make, remote: RemoteEnd
) -> None:
    made = make(remote.address, subscription_list=("/a",))
    made.leases.want("outconn.7").granted(1, monotonic() + 100)
    eventually(lambda: [peer.client_id for peer in remote.open] == ["outconn.ours.7"])
    eventually(lambda: made.link.shown()["subscriptions"] == {"/a": "ok"})
    made.leases.want("outconn.7").granted(1, monotonic())  # as after a long sleep, when nobody has looked yet
    peer = remote.peer()
    peer.request("for the next owner")
    assert made.connection.invoke({"a": 1}) == {"a": 1}
    assert made.told_of("message") == []
    assert not peer.responses


def test_an_error_that_nobody_has_foreseen_is_logged_and_another_attempt_made(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [KeyError("a bug")]
    right = websocket_link.open_session

    def fails(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return right(*arguments)

    monkeypatch.setattr(websocket_link, "open_session", fails)
    made = make(remote.address)
    assert "nobody has foreseen" in made.state("down")["error"]
    assert "a bug" in caplog.text
    made.state("connected")


def test_subscriptions_that_fail_are_shown_logged_once_and_tried_again(
    make: Make, remote: RemoteEnd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("junctor.server.outgoing.reconnect.FIRST_PAUSE", 0.01)

    def answer(_: RemoteEnd, peer: Peer, call: envelope.ClientMessage) -> None:
        is_bad = call.data["request"].get("topic_name") == "/bad" and len(remote.invocations) < 6
        if is_bad or call.data["service"] == LIST:
            peer.connection.send_text(envelope.error(call.id, 404, "No such service"))
        else:
            peer.connection.send_text(envelope.response(call.id, {"sub_key": "x"}))

    remote.answer = answer
    made = make(remote.address, subscription_list=("/good", "/bad"))
    made.leases.want("outconn.7").granted(1, monotonic() + 100)
    eventually(lambda: "404" in made.link.shown()["subscriptions"].get("/bad", ""))
    eventually(lambda: made.link.shown()["subscriptions"] == {"/good": "ok", "/bad": "ok"})
    topics = [call.data["request"].get("topic_name") for call in remote.invocations]
    assert topics == ["/good", "/bad", None, "/bad", "/bad", "/bad"]
    assert caplog.text.count("is not subscribed to '/bad'") == 1


def test_topics_that_are_taken_away_give_the_lease_back_and_are_unsubscribed(
    make: Make, remote: RemoteEnd
) -> None:
    remote.answer = keys_of_topics
    made = make(remote.address, subscription_list=("/a", "/b"))
    lease = made.leases.want("outconn.7")
    lease.granted(1, monotonic() + 100)
    eventually(lambda: made.link.shown().get("subscriptions") == {"/a": "ok", "/b": "ok"})
    owner = remote.peer()
    made.edit(subscription_list=("/b", "/c"))
    eventually(lambda: made.link.shown()["subscriptions"] == {"/b": "ok", "/c": "ok"})
    eventually(lambda: remote.ended == ["key of /a"])
    subscribed = [call.data for call in remote.invocations if call.data["service"] == SERVICE]
    assert [call["request"]["topic_name"] for call in subscribed] == ["/a", "/b", "/c"]
    assert remote.open == [owner]
    made.edit(subscription_list=())
    eventually(lambda: [peer.client_id for peer in remote.open] == ["outconn.ours.7.server1.9"])
    eventually(lambda: {*remote.ended} == {"key of /a", "key of /b", "key of /c"})
    assert "owner" not in made.link.shown()
    assert not lease.is_held
    calls = len(remote.invocations)
    made.edit(subscription_list=("/d",))  # another worker may be the owner this time
    assert made.connection.invoke({"service": "x", "request": {}})
    assert len(remote.invocations) == calls + 1


def test_a_connection_that_is_deleted_leaves_no_subscription_behind_and_a_worker_that_stops_does(
    make: Make, remote: RemoteEnd
) -> None:
    remote.answer = keys_of_topics
    for for_good in (False, True):
        made = make(remote.address, subscription_list=("/a",))
        made.leases.want("outconn.7").granted(1, monotonic() + 100)
        eventually(lambda made=made: made.link.shown().get("subscriptions") == {"/a": "ok"})
        made.link.stop(for_good=for_good)
        assert remote.ended == (["key of /a"] if for_good else [])


def test_another_remote_end_is_not_told_of_what_was_at_the_one_before(make: Make, remote: RemoteEnd) -> None:
    remote.answer = keys_of_topics
    made = make(remote.address, subscription_list=("/a",))
    made.leases.want("outconn.7").granted(1, monotonic() + 100)
    eventually(lambda: made.link.shown().get("subscriptions") == {"/a": "ok"})
    other = RemoteEnd(answer=keys_of_topics)
    other.start()
    made.edit(address=other.address, subscription_list=("/b",))
    eventually(lambda: other.open and made.link.shown().get("subscriptions") == {"/b": "ok"})
    assert remote.ended == other.ended == []
    other.stop()


def test_a_link_that_stops_tells_its_hook_and_closes(make: Make, remote: RemoteEnd) -> None:
    made = make(remote.address, subscription_list=("/a",))
    made.state("connected")
    peer = remote.peer()
    made.link.stop()
    eventually(lambda: peer.is_over)
    assert peer.connection.close_code == 1000
    assert [ctx.type for ctx in made.told] == ["connect", "close"]
    assert made.gauge() == 0
    with pytest.raises(ConnectionFailed, match="closed on this side"):
        made.connection.invoke({})
