"""Outgoing WebSocket connections as objects: found under their names, edited while they work, their hooks services like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gevent
import pytest

from junctor.server.context import Context
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.outgoing.facade import Outgoing
from junctor.server.outgoing.websocket import WebSocketConnection
from junctor.server.outgoing.websocket_live import Links
from junctor.server.runtime.lease import Leases
from junctor.server.runtime.registry import Registry
from junctor.server.service.base import Service
from junctor.server.service.bunch import Bunch
from junctor.server.service.channel import WEB_SOCKET
from junctor.server.service.hook_services import WSXAdapter
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker
from junctor.server.service.store import ServiceStore
from junctor.server.service.types import Opaque
from junctor.server.settings import Settings
from junctor.sql.errors import ConnectionInactive, ConnectionNotFound
from junctor.sql.store import Store
from tests.helpers.objects import add, edit, remove
from tests.helpers.remote_end import RemoteEnd
from tests.helpers.waiting import eventually

KIND, NAME = "outgoing_websocket", "My WSX Outconn"


class Hook(Service):
    """Notes what it is told, and passes calls on over the link."""

    name = "the.hook"
    told: list[Any]

    class SimpleIO:
        input_optional = (Opaque("ctx"),)

    def handle(self) -> None:
        ctx = self.request.input.ctx
        self.told.append(ctx)
        if ctx.type == WEB_SOCKET.OUT_MSG_TYPE.MESSAGE:
            self.response.payload = {"passed on": ctx.conn.invoke(ctx.data.data)}


class Adapter(WSXAdapter):
    """The same with a method for each thing that can happen."""

    name = "the.adapter"
    told: list[Any]

    def on_connected(self, ctx: Any) -> None:
        self.told.append(("connected", ctx.type))

    def on_message_received(self, ctx: Any) -> Any:
        self.told.append(("message", ctx.data.data))
        return "heard"

    def on_closed(self, ctx: Any) -> None:
        self.told.append(("closed", ctx.code))


class Bench:
    """A worker's parts, as far as links need them."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        settings = Settings(directory=directory, odb_url="not used", cluster="ours")
        self.context = context = Context(settings, cast(Logs, None), Metrics())
        context.store = store
        context.services = ServiceStore()
        context.outgoing = Outgoing()
        context.links = Links(Leases(store, lambda: 1))
        context.invoker = Invoker(context.services, context)
        context.registry = Registry(context)
        context.services.replace("hooks", [describe(Hook), describe(Adapter)])
        for service in (Hook, Adapter):
            add(store, "service", service.name)
        context.registry.load(store.snapshot())
        context.links.start()

    @property
    def wsx(self) -> Any:
        return self.context.out.wsx

    def follow(self) -> None:
        self.context.registry.apply(self.store.news(self.context.registry.version))

    def add(self, name: str, /, **fields: Any) -> None:
        add(self.store, KIND, name, **fields)
        self.follow()

    def edit(self, name: str, /, **fields: Any) -> None:
        edit(self.store, KIND, name, **fields)
        self.follow()

    def state(self, name: str) -> dict[str, Any]:
        return self.context.registry.shown_states()[f"{KIND}/{name}"]


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Iterator[Bench]:
    Hook.told, Adapter.told = [], []
    made = Bench(store, tmp_path)
    with gevent.Timeout(60):
        yield made
        made.context.links.stop()


@pytest.fixture
def remote() -> Iterator[RemoteEnd]:
    made = RemoteEnd()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def link(bench: Bench, remote: RemoteEnd) -> Bench:
    """A worker with a link to the remote end."""
    add(bench.store, "security_basic_auth", "link", username="link", password="right")
    bench.add(NAME, address=remote.address, is_zato=True, security="link")
    eventually(lambda: bench.state(NAME)["state"] == "connected")
    return bench


def test_a_service_finds_it_under_its_name_in_every_way_there_is(link: Bench) -> None:
    with link.wsx.get(NAME).conn.client() as client:
        assert client.invoke({"a": 1}) == {"a": 1}
    assert link.wsx[NAME] is link.context.out.websocket[NAME] is link.wsx.get(NAME)
    assert isinstance(link.wsx[NAME], WebSocketConnection)
    assert list(link.wsx) == [NAME]
    assert link.wsx.get("none") is None
    with pytest.raises(
        ConnectionNotFound, match=r"no outgoing WebSocket connection 'My Outconn'\. Did you mean"
    ):
        link.wsx["My Outconn"]
    assert (link.wsx[NAME].name, link.wsx[NAME].is_active) == (NAME, True)
    assert link.wsx[NAME].is_connected


def test_a_remote_end_that_is_away_is_a_state_and_no_problem(bench: Bench) -> None:
    bench.add("away", address="ws://127.0.0.1:1/")
    eventually(lambda: bench.state("away")["state"] == "down")
    assert bench.context.registry.problems == {}
    state = bench.state("away")
    assert "refused" in state["error"]
    assert (state["address"], state["calls"], state["lag_ms"]) == ("ws://127.0.0.1:1/", 0, None)
    assert not bench.wsx["away"].is_connected


def test_an_edited_connection_is_the_same_one(link: Bench, remote: RemoteEnd) -> None:
    peer, connection = remote.peer(), link.wsx[NAME]
    link.edit(NAME, timeout=60, ping_interval=60, on_message_service=Hook.name)
    link.edit(NAME, name="renamed")
    assert remote.open == [peer]
    assert link.wsx["renamed"] is connection
    assert list(link.wsx) == ["renamed"]
    peer.request({"a": 1})
    eventually(lambda: peer.responses)
    assert peer.responses[0].data == {"response": {"passed on": {"a": 1}}}
    link.edit("renamed", is_active=False)
    with pytest.raises(ConnectionInactive):
        connection.invoke({})


def test_a_deleted_connection_is_closed(link: Bench, remote: RemoteEnd) -> None:
    peer = remote.peer()
    remove(link.store, KIND, NAME)
    link.follow()
    eventually(lambda: peer.is_over)
    assert list(link.wsx) == []
    assert link.context.registry.shown_states() == {}


def test_credentials_are_those_of_the_moment_of_the_log_in(link: Bench, remote: RemoteEnd) -> None:
    peer = remote.peer()
    remote.secret = "changed"
    edit(link.store, "security_basic_auth", "link", password="changed")
    link.follow()
    peer.connection.close()
    eventually(lambda: len(remote.peers) == 2 and remote.open)
    assert remote.refused == 0
    edit(link.store, "security_basic_auth", "link", is_active=False)
    link.follow()
    remote.peer().connection.close()
    eventually(lambda: link.state(NAME)["error"] == "Its security definition is not active.")


def test_hooks_are_services_that_get_ctx(link: Bench, remote: RemoteEnd) -> None:
    link.edit(
        NAME,
        on_connect_service=Hook.name,
        on_message_service=Hook.name,
        on_close_service=Hook.name,
    )
    first = remote.peer()
    first.connection.close(1001, "bye")
    eventually(lambda: len(Hook.told) == 2)
    closed, connected = Hook.told
    assert (closed.type, closed.code, closed.reason) == ("close", 1001, "bye")
    assert (connected.type, connected.data, connected.conn) == ("connect", None, link.wsx[NAME])
    assert isinstance(connected.config, Bunch)
    assert connected.config.name == NAME
    assert connected.config.address == remote.address
    peer = eventually(lambda: [peer for peer in remote.open if peer is not first])[0]
    asked = peer.request({"x": 1})
    eventually(lambda: peer.responses)
    assert [(item.in_reply_to, item.data) for item in peer.responses] == [
        (asked, {"response": {"passed on": {"x": 1}}})
    ]


def test_a_hook_that_calls_back_over_a_link_is_one_link_further(link: Bench, remote: RemoteEnd) -> None:
    link.edit(NAME, on_message_service=Hook.name)
    peer = remote.peer()
    peer.request({}, origin="theirs", hops=3)
    peer.request({})
    eventually(lambda: len(remote.invocations) == 2)
    assert [call.ctx for call in remote.invocations] == [
        {"origin": "theirs", "hops": 4},
        {"origin": "ours", "hops": 1},
    ]


def test_a_hook_that_is_an_adapter_has_a_method_for_each(link: Bench, remote: RemoteEnd) -> None:
    fields = {f"on_{kind}_service": Adapter.name for kind in ("connect", "message", "close")}
    link.edit(NAME, **fields)
    first = remote.peer()
    first.connection.close(1001)
    peer = eventually(lambda: [peer for peer in remote.open if peer is not first])[0]
    peer.request({"x": 1})
    eventually(lambda: peer.responses)
    assert peer.responses[0].data == {"response": "heard"}
    assert Adapter.told == [("closed", 1001), ("connected", "connect"), ("message", {"x": 1})]


def test_a_worker_that_stops_closes_all_its_links(link: Bench, remote: RemoteEnd) -> None:
    peer = remote.peer()
    link.context.links.stop()
    eventually(lambda: peer.is_over)
    assert peer.connection.close_code == 1000


def test_links_that_were_made_while_the_worker_could_not_boot_connect_to_nothing(
    store: Store, tmp_path: Path, remote: RemoteEnd
) -> None:
    add(store, KIND, NAME, address=remote.address)
    settings = Settings(directory=tmp_path, odb_url="not used")
    context = Context(settings, cast(Logs, None), Metrics())
    context.outgoing, context.links = Outgoing(), Links(Leases(store, lambda: None))
    context.registry = Registry(context)
    context.registry.load(store.snapshot())
    gevent.sleep(0.05)
    assert not remote.peers
    assert context.registry.shown_states()[f"{KIND}/{NAME}"]["state"] == "connecting"
