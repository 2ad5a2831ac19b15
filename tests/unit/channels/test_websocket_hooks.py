"""Hook services of WebSocket channels: what they are told, in which order, and that they harm nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import gevent
import pytest
from gevent.event import Event

from junctor.server import compat
from junctor.server.service.base import Service
from junctor.server.service.hook_services import WSXHook
from tests.helpers.one_worker import OneWorker
from tests.helpers.waiting import eventually
from tests.helpers.websocket_client import ChannelClient

Connect = Callable[..., ChannelClient]


def create(worker: OneWorker, address: str, hook: type[Service], **fields: Any) -> None:
    worker.deploy(hook)
    given = {"address": address, "service": "t.echo", "hook_service": hook.name} | fields
    worker.create("channel_websocket", "ws", **given)


def recorder(told: list[Any]) -> type[WSXHook]:
    """A hook service that writes down what it is told."""

    class Recorder(WSXHook):
        name = "t.recorder"

        def on_connected(self) -> None:
            ctx = self.request.input.ctx
            ctx.user_data.number = len(told)
            told.append(ctx)

        def on_disconnected(self) -> None:
            told.append(self.request.input.ctx)

        def on_pubsub_response(self) -> None:
            told.append(self.request.input.ctx)

    return Recorder


def test_a_hook_is_told_who_comes_and_goes(worker: OneWorker, connect: Connect, address: str) -> None:
    told: list[Any] = []
    create(worker, address, recorder(told))
    client = connect(address, headers={"X-Forwarded-For": "10.1.2.3"})
    client.log_in(client_id="crm.1", client_name="CRM")
    client.log_in(client_id="crm.1", client_name="CRM")
    client.ask(1)
    client.end()
    eventually(lambda: len(told) == 2)
    came, went = told
    assert (came.hook_type, went.hook_type) == ("wsx_on_connected", "wsx_on_disconnected")
    assert came.pub_client_id == went.pub_client_id
    assert (came.ext_client_id, came.ext_client_name) == ("crm.1", "CRM")
    assert (came.forwarded_for, came.forwarded_for_fqdn) == ("10.1.2.3", "10.1.2.3")
    assert (came.peer_host, came.peer_fqdn) == ("127.0.0.1", "127.0.0.1")
    assert came.peer_address.startswith("127.0.0.1:")
    assert "crm.1 (CRM)" in came.peer_conn_info_pretty
    assert isinstance(came.connection_time, datetime)
    assert came.config.name == "ws"
    assert "tls_key" not in came.config
    assert went.user_data.number == 0
    assert came.msg is None


def test_who_never_logged_in_is_nobody_to_tell_of(worker: OneWorker, connect: Connect, address: str) -> None:
    told: list[Any] = []
    create(worker, address, recorder(told))
    connect(address).end()
    eventually(lambda: not worker.context.websockets.groups)
    assert not told


def test_requests_wait_for_the_hook_and_it_may_ask_the_client(
    worker: OneWorker, connect: Connect, address: str
) -> None:
    order: list[str] = []

    class Asks(WSXHook):
        name = "t.asks"

        def on_connected(self) -> None:
            client = self.environ["zato.request_ctx.async_msg"]["environ"]["web_socket"]
            order.append(client.invoke("which version?"))

    class Serves(Service):
        name = "t.serves"

        def handle(self) -> None:
            order.append(self.request.payload)

    worker.deploy(Serves)
    create(worker, address, Asks, service="t.serves")
    client = connect(address)
    client.log_in()
    for number in ("first", "second"):
        client.message("invoke-service", number)
    client.respond(client.receive(), "2.0")
    client.receive(), client.receive()
    assert order[0] == "2.0"
    assert sorted(order[1:]) == ["first", "second"]


def test_a_client_that_goes_at_once_is_said_to_come_before_it_is_said_to_go(
    worker: OneWorker, connect: Connect, address: str
) -> None:
    told: list[str] = []
    go_on = Event()

    class Slow(WSXHook):
        name = "t.slow"

        def on_connected(self) -> None:
            go_on.wait()
            told.append("came")

        def on_disconnected(self) -> None:
            told.append("went")

    create(worker, address, Slow)
    client = connect(address)
    client.log_in()
    client.end()
    (group,) = worker.context.websockets.groups
    eventually(lambda: not len(group))
    go_on.set()
    eventually(lambda: told == ["came", "went"])


def test_a_hook_that_fails_is_logged_and_nothing_else(
    worker: OneWorker, connect: Connect, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Service):
        name = "t.fails"

        def handle(self) -> None:
            raise gevent.Timeout(1) if "dis" in self.request.input.ctx.hook_type else KeyError("no")

    create(worker, address, Fails)
    client = connect(address)
    client.log_in()
    assert client.ask(1)["data"] == 1
    client.end()
    eventually(
        lambda: caplog.text.count("Hook service t.fails of WebSocket channel 'ws' failed for crm.1") == 2
    )


def test_answers_to_deliveries_reach_the_hook(worker: OneWorker, connect: Connect, address: str) -> None:
    told: list[Any] = []
    create(worker, address, recorder(told))
    client = connect(address)
    client.log_in()
    client.message("client-response", {"response": "ok"}, in_reply_to="zpsm123")
    client.message("client-response", {"response": "ok"}, in_reply_to="other")
    client.ask(1)
    eventually(lambda: len(told) == 2)
    assert told[1].hook_type == "wsx_on_pubsub_response"
    assert (told[1].msg.in_reply_to, told[1].msg.data) == ("zpsm123", {"response": "ok"})


def test_hooks_run_when_a_worker_stops(worker: OneWorker, connect: Connect, address: str) -> None:
    told: list[Any] = []
    create(worker, address, recorder(told))
    client = connect(address)
    client.log_in()
    stopping = gevent.spawn(worker.stop)
    assert client.closed() == 1012
    stopping.join()
    assert [ctx.hook_type for ctx in told] == ["wsx_on_connected", "wsx_on_disconnected"]


def test_a_hook_is_imported_as_in_zato() -> None:
    assert compat.MODULES["zato.server.service"]["WSXHook"] is WSXHook


def test_a_hook_ignores_what_it_does_not_know(worker: OneWorker) -> None:
    class Bare(WSXHook):
        name = "t.bare"

    worker.deploy(Bare)
    from junctor.server.service.call import Call

    for hook_type in ("wsx_on_connected", "on_disconnected", "handle", "wsx_unheard_of"):
        assert worker.context.invoker.invoke(Call("t.bare", {"ctx": {"hook_type": hook_type}})).payload == ""
