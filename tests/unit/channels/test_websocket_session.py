"""What a client of a WebSocket channel may send, and what it gets back (facts sheet, sections 1.2 to 1.7)."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, cast

import gevent
import orjson
import pytest
from gevent.event import Event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from junctor.server.service.base import Service
from junctor.server.websocket import client_calls, session, sessions
from junctor.server.websocket.session import MAX_MALFORMED, Session
from junctor.sql.errors import CallFailed, Forbidden, InvalidOutput, WebSocketClosed
from tests.helpers.one_worker import OneWorker
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.waiting import eventually
from tests.helpers.websocket_client import ChannelClient, is_refusal

CHANNEL = "channel_websocket"
DEEP = "[" * 1000 + "]" * 1000
Connect = Callable[..., ChannelClient]
Channel = Callable[..., str]


@pytest.fixture
def channel(worker: OneWorker, address: str) -> Channel:
    """Makes the channel ``ws`` and returns its address."""

    def made(service: type[Service] | str = "t.echo", **fields: Any) -> str:
        if not isinstance(service, str):
            worker.deploy(service)
            service = service.name
        worker.create(CHANNEL, "ws", address=address, service=service, **fields)
        return address

    return made


def only(worker: OneWorker) -> Session:
    """The only client that has logged in."""
    (known,) = worker.context.clients.sessions()
    return cast(Session, known)


@pytest.fixture
def anybody(channel: Channel, connect: Connect) -> ChannelClient:
    """Somebody who has logged in to a channel that echoes, and that is open to all."""
    client = connect(channel())
    client.log_in()
    return client


class TestLoggingIn:
    @pytest.mark.parametrize(
        ("kind", "fields", "credentials"),
        [
            ("security_basic_auth", {"username": "crm", "password": "right"}, ("crm", "right")),
            ("security_api_key", {"key": "right"}, ("", "right")),
            ("security_api_key", {"key": "right"}, ("whoever", "right")),
        ],
    )
    def test_a_client_with_the_credentials_gets_a_token(
        self, worker: OneWorker, channel: Channel, connect: Connect, kind: str, fields: Any, credentials: Any
    ) -> None:
        worker.create(kind, "sec", **fields)
        client = connect(channel("t.seen", security="sec"))
        answer = client.log_in(*credentials)
        assert answer["meta"]["status"] == 200
        assert client.token is not None
        assert client.token.startswith("ws.token.")
        assert client.ask()["data"]["security"] == "sec"

    @pytest.mark.parametrize(
        "credentials", [("crm", "wrong"), ("", ""), ("crm", "x" * 8000), ("a:b", "right")]
    )
    def test_a_client_without_them_is_refused_and_disconnected(
        self, worker: OneWorker, channel: Channel, connect: Connect, credentials: tuple[str, str]
    ) -> None:
        worker.create("security_basic_auth", "sec", username="crm", password="right")
        client = connect(channel(security="sec"))
        answer = client.log_in(*credentials)
        assert is_refusal(answer)
        assert answer["data"] == "You are not authorized to access this resource"
        assert client.closed() == 1008
        assert worker.metric("junctor_websocket_refused_total", channel="ws", reason="credentials") == 1
        assert not worker.context.clients.sessions()

    def test_a_client_of_an_open_channel_must_log_in_all_the_same(
        self, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel())
        assert is_refusal(client.ask({"a": 1}))
        assert client.closed() == 1008

    def test_a_client_that_does_not_log_in_in_time_is_disconnected(
        self, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(new_token_wait_time=1))
        assert is_refusal(client.receive())
        assert client.closed() == 1008

    def test_another_log_in_on_the_same_connection_replaces_the_token(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel())
        client.log_in(client_id="first")
        first = client.token
        client.log_in(client_id="second", attrs={"region": "north"})
        assert client.token != first
        known = only(worker)
        assert (known.ext_client_id, known.attributes) == ("second", {"region": "north"})
        assert client.ask(1)["data"] == 1
        assert is_refusal(client.ask(1, token=first))

    def test_a_client_is_known_by_the_names_that_it_gives(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(), headers={"X-Forwarded-For": "10.1.2.3"})
        client.log_in(client_id="crm.1", client_name={"b": 2, "a": "x"})
        known = only(worker)
        assert (known.ext_client_id, known.ext_client_name) == ("crm.1", "a: x; b: 2")
        assert known.pub_client_id.startswith("ws.")
        assert known.channel_name == "ws"
        assert known.channel_id == worker.live(CHANNEL, "ws").config.id
        assert known.forwarded_for == "10.1.2.3"
        assert known.peer_address.startswith(f"{LOOPBACK}:")
        assert known.connected.tzinfo is not None
        client.end()
        eventually(lambda: not worker.context.clients.sessions())

    def test_a_client_without_an_id_is_known_by_that_of_its_connection(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        connect(channel()).log_in(client_id="")
        known = only(worker)
        assert known.ext_client_id == known.pub_client_id


class TestTokens:
    @pytest.mark.parametrize("token", ["ws.token.0", None, "", "ws.token.\u00e9"])
    def test_a_message_without_the_token_ends_the_session(
        self, anybody: ChannelClient, token: str | None
    ) -> None:
        assert is_refusal(anybody.ask({}, token=token))
        assert anybody.closed() == 1008

    def test_so_does_an_answer_without_it(self, anybody: ChannelClient) -> None:
        anybody.message("client-response", {}, in_reply_to="x", token="ws.token.0")
        assert is_refusal(anybody.receive())

    def test_the_token_of_another_connection_is_worth_nothing(
        self, anybody: ChannelClient, connect: Connect, address: str
    ) -> None:
        other = connect(address)
        other.log_in()
        assert is_refusal(anybody.ask({}, token=other.token))

    def test_a_token_that_is_not_used_expires(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(token_ttl=0))
        client.log_in()
        assert is_refusal(client.receive())
        assert client.closed() == 1008
        assert worker.metric("junctor_websocket_refused_total", channel="ws", reason="expired") == 1

    def test_messages_and_pongs_extend_a_token(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(token_ttl=50, ping_interval=3600))
        client.log_in()
        known = only(worker)
        for use in (lambda: client.ask(1), lambda: known._take_pong(b"")):
            known._expires = soon = monotonic() + 1
            use()
            assert known._expires > soon + 40


class TestRequests:
    def test_an_answer_has_the_id_of_its_request(self, anybody: ChannelClient) -> None:
        anybody.message("invoke-service", {"a": [1, "ż"]}, id="b1")
        answer = anybody.receive()
        assert answer["meta"]["in_reply_to"] == "b1"
        assert (answer["meta"]["msg_type"], answer["meta"]["status"]) == ("zwsx.rspok", 200)
        assert answer["data"] == {"a": [1, "ż"]}

    def test_an_unknown_action_invokes_the_service(self, anybody: ChannelClient) -> None:
        anybody.message("whatever", 5)
        assert anybody.receive()["data"] == 5

    def test_a_binary_message_is_as_good_as_text(self, anybody: ChannelClient) -> None:
        meta = {"action": "invoke-service", "id": "1", "token": anybody.token}
        anybody.send(orjson.dumps({"meta": meta, "data": 7}))
        assert anybody.receive()["data"] == 7

    def test_a_service_sees_who_calls(self, channel: Channel, connect: Connect) -> None:
        client = connect(channel("t.seen"), headers={"User-Agent": "test/1"})
        client.log_in(client_id="crm.1")
        seen = client.ask({"x": 1}, ctx={"reply_to_sk": ["zpsk.1"], "origin": "a", "hops": 2})["data"]
        assert (seen["type"], seen["channel"], seen["config"]) == ("web-socket", "ws", "ws")
        assert (seen["ext_client_id"], seen["token"]) == ("crm.1", client.token)
        assert seen["is_same"]
        assert (seen["peer"], seen["agent"]) == (LOOPBACK, "test/1")
        assert seen["link"] == {"origin": "a", "hops": 2}
        assert seen["reply_to_sk"] == ["zpsk.1"]
        assert seen["raw"] == '{"x":1}'
        assert {
            "web_socket",
            "sql_ws_client_id",
            "ext_token",
            "peer_conn_info_pretty",
            "connection_time",
        } < set(seen["names"])

    def test_a_call_that_goes_round_in_circles_is_refused(self, anybody: ChannelClient) -> None:
        assert anybody.ask({}, ctx={"origin": "a", "hops": 8})["meta"]["status"] == 200
        answer = anybody.ask({}, ctx={"origin": "a", "hops": 9})
        assert answer["meta"]["status"] == 508
        assert "more than 8 links" in answer["meta"]["error_message"]

    @pytest.mark.parametrize(
        ("error", "status", "message"),
        [
            (Forbidden("", "Not you"), 403, "Not you"),
            (KeyError("secret"), 500, "Internal server error"),
            (InvalidOutput("s", []), 500, "Internal server error"),
            (gevent.Timeout(1), 500, "Internal server error"),
        ],
    )
    def test_an_error_of_a_service_is_an_answer(
        self, channel: Channel, connect: Connect, error: BaseException, status: int, message: str
    ) -> None:
        class Failing(Service):
            name = "t.failing"

            def handle(self) -> None:
                raise error

        client = connect(channel(Failing))
        client.log_in()
        answer = client.ask({}, id="b1")
        assert answer["meta"]["msg_type"] == "zwsx.rsperr"
        assert (answer["meta"]["status"], answer["meta"]["error_message"]) == (status, message)
        assert answer["meta"]["in_reply_to"] == "b1"
        assert answer["data"] == {"cid": answer["meta"]["id"]}

    def test_a_response_that_is_no_json_is_an_error(self, channel: Channel, connect: Connect) -> None:
        class Circular(Service):
            name = "t.circular"

            def handle(self) -> None:
                made: list[Any] = []
                made.append(made)
                self.response.payload = made

        client = connect(channel(Circular))
        client.log_in()
        assert client.ask()["meta"]["status"] == 500


class TestConcurrency:
    def test_requests_run_side_by_side(self, channel: Channel, connect: Connect) -> None:
        running, go_on = [], Event()

        class Waits(Service):
            name = "t.waits"

            def handle(self) -> None:
                running.append(self.request.payload)
                go_on.wait()

        client = connect(channel(Waits, max_concurrent=3))
        client.log_in()
        for number in range(5):
            client.message("invoke-service", number)
        eventually(lambda: len(running) == 3)
        go_on.set()
        for _ in range(5):
            client.receive()
        assert sorted(running) == [0, 1, 2, 3, 4]

    def test_with_one_at_a_time_they_run_in_order(self, channel: Channel, connect: Connect) -> None:
        done: list[int] = []

        class Turns(Service):
            name = "t.turns"

            def handle(self) -> None:
                gevent.sleep(0.001 if self.request.payload % 2 else 0)
                done.append(self.request.payload)
                self.response.payload = self.request.payload

        client = connect(channel(Turns, max_concurrent=1))
        client.log_in()
        numbers = list(range(1, 201))
        for number in numbers:
            client.message("invoke-service", number)
        assert [client.receive()["data"] for _ in numbers] == numbers
        assert done == numbers

    def test_what_there_is_no_room_for_is_left_unread_until_there_is(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        go_on = Event()

        class Waits(Service):
            name = "t.waits"

            def handle(self) -> None:
                go_on.wait()

        client = connect(channel(Waits, max_concurrent=2))
        client.log_in()
        for _ in range(100):
            client.message("invoke-service", 0)
        known = only(worker)
        eventually(lambda: known._is_paused)
        assert known.received == 1 + 2 + session.LEAST_WAITING + 1
        known.look(1e12)  # a client that is not read is not missed
        go_on.set()
        assert {client.receive()["meta"]["status"] for _ in range(100)} == {200}

    def test_a_closing_connection_does_not_wait_for_room(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        go_on = Event()

        class Waits(Service):
            name = "t.waits"

            def handle(self) -> None:
                go_on.wait()

        client = connect(channel(Waits, max_concurrent=1))
        client.log_in()
        for _ in range(100):
            client.message("invoke-service", 0)
        known = only(worker)
        eventually(lambda: known._is_paused)
        (group,) = worker.context.websockets.groups
        worker.edit(CHANNEL, "ws", is_active=False)
        assert client.closed() == 1001
        eventually(lambda: not len(group))
        go_on.set()
        eventually(lambda: not group.busy.count)


class TestCallingTheClient:
    def test_a_service_may_call_its_own_caller(self, channel: Channel, connect: Connect) -> None:
        client = connect(channel("t.call-back", max_concurrent=1))
        client.log_in()
        client.message("invoke-service", {"ask": {"who": "you"}}, id="b1")
        request = client.receive()
        assert request["meta"]["msg_type"] == "zwsx.rqc"
        assert request["data"] == {"who": "you"}
        client.respond(request, {"name": "me"})
        answer = client.receive()
        assert (answer["meta"]["in_reply_to"], answer["data"]) == ("b1", {"name": "me"})

    def test_it_may_even_when_no_more_requests_are_read(self, channel: Channel, connect: Connect) -> None:
        client = connect(channel("t.call-back", max_concurrent=1))
        client.log_in()
        sent = [client.message("invoke-service", {"ask": 1}) for _ in range(60)]
        statuses = []
        while len(statuses) < len(sent):
            message = client.receive()
            if message["meta"]["msg_type"] == "zwsx.rqc":
                client.respond(message, 2)
            else:
                statuses.append(message["meta"]["status"])
        assert set(statuses) == {200}

    def test_requests_beyond_all_bounds_are_refused_meanwhile(
        self, channel: Channel, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "MAX_WAITING", 40)
        client = connect(channel("t.call-back", max_concurrent=1))
        client.log_in()
        client.message("invoke-service", {"ask": 1})
        asked = client.receive()
        for _ in range(50):
            client.message("invoke-service", {"ask": 1})
        assert client.receive()["meta"]["status"] == 503
        client.respond(asked, 2)

    def test_an_answer_that_does_not_come_is_a_time_out(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel("t.call-back"))
        client.log_in()
        client.message("invoke-service", {"ask": 1, "timeout": 0.01})
        asked = client.receive()
        assert client.receive()["meta"]["status"] == 504
        client.respond(asked, "late")  # nobody waits for it any more
        client.message("client-response", {}, in_reply_to="unheard-of")
        known = only(worker)
        assert not len(known._calls)

    def test_the_caller_of_a_client_that_goes_is_told(
        self, worker: OneWorker, anybody: ChannelClient
    ) -> None:
        known = only(worker)
        calling = gevent.spawn(known.invoke, {"a": 1}, timeout=30)
        anybody.receive()
        anybody.end()
        with pytest.raises(WebSocketClosed):
            calling.get()
        with pytest.raises(WebSocketClosed):
            known.invoke(1, timeout=1)
        with pytest.raises(WebSocketClosed):
            known.notify(1)

    def test_there_is_a_bound_on_what_waits_for_one_client(
        self, worker: OneWorker, anybody: ChannelClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_calls, "MAX_CALLS", 1)
        known = only(worker)
        waiting = gevent.spawn(known.invoke, 1, timeout=30)
        asked = anybody.receive()
        with pytest.raises(CallFailed, match="1 requests wait"):
            known.invoke(1, timeout=30)
        anybody.respond(asked, "fine")
        assert waiting.get() == "fine"

    def test_a_client_may_be_told_without_an_answer(self, worker: OneWorker, anybody: ChannelClient) -> None:
        known = only(worker)
        message_id = known.notify({"a": 1})
        told = anybody.receive()
        assert (told["meta"]["id"], told["data"]) == (message_id, {"a": 1})
        anybody.respond(told, None)
        assert anybody.ask(1)["data"] == 1
        with pytest.raises(InvalidOutput):
            known.notify({1: object, (1, 2): 3})
        known.disconnect(1001, "enough")
        assert anybody.closed() == 1001


class TestMalformedMessages:
    @pytest.mark.parametrize(
        ("message", "says"),
        [
            ("", "not valid JSON"),
            (b"\xff\xfe", "not valid JSON"),
            ("[1]", "JSON object with the object 'meta'"),
            ('{"meta": 5}', "JSON object with the object 'meta'"),
            ('{"meta": {"action": "invoke-service"}}', "meta.id: is required"),
            ('{"meta": {"action": 1, "id": "a"}}', "meta.action: must be text"),
            ("[" * 5000, "not valid JSON"),
            (f'{{"meta": {{"id": "a", "client_id": {DEEP}}}}}', "meta.in_reply_to: is required"),
            (
                f'{{"meta": {{"id": "a", "action": "create-session", "client_name": {{"a": {DEEP}}}}}}}',
                "nested",
            ),
            (f'{{"meta": {{"id": "a", "action": "create-session", "attrs": {{"a": {DEEP}}}}}}}', "nested"),
        ],
    )
    def test_it_is_answered_and_the_session_goes_on(
        self, anybody: ChannelClient, message: str | bytes, says: str
    ) -> None:
        anybody.send(message)
        answer = anybody.receive()
        assert answer["meta"]["status"] == 400
        assert says in answer["meta"]["error_message"]
        assert anybody.ask(1)["data"] == 1

    def test_data_that_is_nested_too_deeply_is_refused(self, anybody: ChannelClient) -> None:
        anybody.send(
            f'{{"meta": {{"action": "invoke-service", "id": "1", "token": "{anybody.token}"}}, "data": {DEEP}}}'
        )
        answer = anybody.receive()
        assert (answer["meta"]["status"], answer["meta"]["in_reply_to"]) == (400, "1")

    def test_the_answer_names_every_problem_and_the_message(self, anybody: ChannelClient) -> None:
        anybody.message("create-session", id="x1", client_id=5, username=[])
        meta = anybody.receive()["meta"]
        assert meta["in_reply_to"] == "x1"
        assert meta["error_message"] == "meta.client_id: must be text.; meta.username: must be text."

    def test_too_many_in_a_row_end_the_connection(self, channel: Channel, connect: Connect) -> None:
        client = connect(channel())
        for _ in range(MAX_MALFORMED + 5):
            client.send("{")
        assert [client.receive()["meta"]["status"] for _ in range(MAX_MALFORMED)] == [400] * MAX_MALFORMED
        assert client.closed() == 1008

    def test_a_large_message_of_somebody_who_has_not_logged_in_ends_the_connection(
        self, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel())
        client.send("x" * 70_000)
        assert client.closed() == 1009

    def test_a_message_that_is_too_large_ends_the_connection(
        self, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(max_message_size=2048))
        client.log_in()
        client.ask("x" * 1000)
        client.send("x" * 3000)
        assert client.closed() == 1009


class TestPresence:
    def test_a_client_that_answers_pings_stays(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(ping_interval=60, pings_missed_threshold=1))
        client.log_in()
        known = only(worker)
        for when in (1e9, 2e9, 3e9):
            known._expires = 1e12
            known.look(when)
            client.ask(1)  # its pong comes before its answer
            assert known.pings_missed == 0

    def test_a_client_that_misses_pings_in_a_row_is_disconnected(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(ping_interval=60, pings_missed_threshold=2))
        client.log_in()
        known = only(worker)
        known._expires = 1e12
        for when in (1e9, 2e9, 3e9):
            assert worker.context.clients.sessions()
            known.look(when)
        assert not worker.context.clients.sessions()
        assert is_refusal(client.receive())
        assert client.closed() == 1008
        assert worker.metric("junctor_websocket_refused_total", channel="ws", reason="pings") == 1

    def test_the_sweeper_pings(
        self, worker: OneWorker, channel: Channel, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "SWEEP_INTERVAL", 0.01)
        monkeypatch.setattr(sessions, "LOOK_INTERVAL", 0.01)
        client = connect(channel(ping_interval=0, pings_missed_threshold=1000))
        client.log_in()
        known = only(worker)
        eventually(lambda: known.pings_missed, timeout=5)

    def test_a_client_that_takes_nothing_is_disconnected(
        self, worker: OneWorker, channel: Channel, connect: Connect, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = connect(channel(max_pending=10, max_message_size=104_857_600))
        client.log_in()
        for _ in range(40):
            client.message("invoke-service", "x" * 900_000)
        eventually(lambda: not worker.context.clients.sessions())
        assert worker.metric("junctor_websocket_refused_total", channel="ws", reason="slow") >= 1
        assert "does not take its messages" in caplog.text


class TestTheEnd:
    def test_a_session_has_one_line_in_the_access_log(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        client = connect(channel(), headers={"User-Agent": "test/1"})
        client.log_in()
        client.ask(1)
        client.connection.close(1001, "bye")
        assert client.closed() == 1001
        (line,) = map(orjson.loads, eventually(worker.access_log).splitlines())
        assert line["ms"] >= 0
        assert (line["channel"], line["client_id"], line["client"]) == ("ws", "crm.1", LOOPBACK)
        assert line["caller"] is None
        assert (line["method"], line["path"], line["status"]) == ("WEBSOCKET", "/ws", 1001)
        assert (line["received"], line["sent"], line["reason"]) == (2, 2, "bye")
        assert line["agent"] == "test/1"

    def test_the_line_names_the_security_definition(
        self, worker: OneWorker, channel: Channel, connect: Connect
    ) -> None:
        worker.create("security_basic_auth", "sec", username="crm", password="right")
        address = channel(security="sec")
        for password in ("right", "wrong"):
            client = connect(address)
            client.log_in("crm", password)
            client.end()
        lines = eventually(lambda: (found := worker.access_log().splitlines()) and len(found) == 2 and found)
        assert {(line["caller"], line["client_id"]) for line in map(orjson.loads, lines)} == {
            ("sec", "crm.1"),
            (None, ""),
        }

    def test_messages_are_counted(self, worker: OneWorker, anybody: ChannelClient) -> None:
        anybody.ask(1)
        for direction in ("in", "out"):
            assert worker.metric("junctor_websocket_messages_total", channel="ws", direction=direction) == 2
        assert worker.metric("junctor_websocket_connections", channel="ws") == 1

    def test_an_error_in_the_reading_greenlet_ends_the_connection_and_is_logged(
        self,
        worker: OneWorker,
        anybody: ChannelClient,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(session.envelope, "parse", fail)
        anybody.send("{}")
        assert anybody.closed() == 1006
        assert "The WebSocket of crm.1" in caplog.text
        eventually(lambda: not worker.context.clients.sessions())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = (
    "action",
    "id",
    "token",
    "in_reply_to",
    "ctx",
    "username",
    "secret",
    "client_id",
    "client_name",
    "attrs",
)
actions = st.sampled_from(["create-session", "invoke-service", "client-response", "", "x"])
metas = st.fixed_dictionaries(
    {},
    optional={
        **{name: json_values | st.text(max_size=5) for name in names},
        "action": actions | json_values,
        "id": st.just("i") | json_values,
        "token": st.just("TOKEN") | json_values,
    },
)
documents = (
    st.fixed_dictionaries({}, optional={"meta": metas | json_values, "data": json_values}) | json_values
)


def dumped(document: Any, token: str | None) -> bytes:
    """A document as bytes, with the token in place of TOKEN."""
    if isinstance(document, bytes):
        return document
    try:
        return orjson.dumps(document).replace(b'"TOKEN"', orjson.dumps(token))
    except orjson.JSONEncodeError:  # numbers that JSON has no room for
        return repr(document).encode("utf-8", "replace")


def how_it_goes_on(client: ChannelClient) -> int:
    """The status of the answer to one more log-in; or the code with which the server closed."""
    with gevent.Timeout(10):
        while (message := client.connection.receive()) is not None:
            meta = orjson.loads(message)["meta"]
            if meta.get("in_reply_to") == "last":
                return int(meta["status"])
    return client.connection.close_code


def test_whatever_is_sent_is_answered_or_ends_the_connection_and_nothing_is_left_of_it(
    worker: OneWorker, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"ws://{LOOPBACK}:{free_port()}/ws"
    worker.create(CHANNEL, "ws", address=address, service="t.echo")
    caplog.set_level(logging.ERROR)

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(sent=st.lists(documents | st.binary(max_size=30), max_size=15), logs_in=st.booleans())
    def check(sent: list[Any], logs_in: bool) -> None:
        with ChannelClient(address) as client:
            if logs_in:
                client.log_in()
            with suppress(WebSocketClosed):
                for document in sent:
                    client.send(dumped(document, client.token))
                client.message("create-session", id="last")
            assert how_it_goes_on(client) in (200, 1008)

    check()
    (group,) = worker.context.websockets.groups
    eventually(lambda: not len(group) and not group.busy.count)
    assert not group._newcomers
    assert not worker.context.clients.sessions()
    assert not caplog.records

    def left() -> int:
        gc.collect()
        return sum(type(made) is Session and made.channels is group for made in gc.get_objects())

    eventually(lambda: left() == 0)
    worker.delete(CHANNEL, "ws")
