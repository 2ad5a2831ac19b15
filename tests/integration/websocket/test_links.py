"""Links between clusters: two whole clusters, one of which calls the services of the other through an outgoing WebSocket connection."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Connection, func, make_url, select

from junctor.server.client import RemoteError
from junctor.sql.tables.process import Worker
from junctor.sql.tables.websocket import Lease
from tests.helpers.cluster import START_TIMEOUT, ClusterUnderTest, running
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.postgres import execute
from tests.helpers.story import HOOK, STORY
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

NAME = "My WSX Outconn"
TAKE_OVER = 20.0  # seconds

NEAR = """\
from zato.common.api import WEB_SOCKET
from zato.server.service import Opaque, Service


class Told(Service):
    '''A hook for the beginning and the end of a connection.'''

    name = 'near.told'

    class SimpleIO:
        input_optional = (Opaque('ctx'),)

    def handle(self):
        ctx = self.request.input.ctx
        assert ctx.type in (WEB_SOCKET.OUT_MSG_TYPE.CONNECT, WEB_SOCKET.OUT_MSG_TYPE.CLOSE)
        self.logger.info('Told of %s of %s: %s', ctx.type, ctx.config.name, ctx.code)


class Call(Service):
    '''Passes a request on over the link, and says how that went.'''

    name = 'near.call'

    def handle(self):
        with self.out.wsx['My WSX Outconn'].conn.client() as client:
            try:
                self.response.payload = {'response': client.invoke(self.request.payload)}
            except Exception as error:
                self.response.payload = {'error': type(error).__name__, 'message': str(error),
                    'status': getattr(error, 'status', None)}
"""
FAR = """\
from zato.server.service import Service

asked = []


class Echo(Service):
    name = 'far.echo'

    def handle(self):
        self.response.payload = self.request.payload


class Broken(Service):
    name = 'far.broken'

    def handle(self):
        raise KeyError('a canary')


class Back(Service):
    '''Calls the client that calls it.'''

    name = 'far.back'

    def handle(self):
        client = self.environ['zato.request_ctx.async_msg']['environ']['web_socket']
        answer = client.invoke_client(self.cid, self.request.payload)
        self.response.payload = {'answer': repr(answer)}


class Subscribe(Service):
    '''Stands in for the service of publish/subscribe.'''

    name = 'zato.pubsub.pubapi.subscribe-wsx'

    def handle(self):
        client = self.environ['zato.request_ctx.async_msg']['environ']
        asked.append([client['ext_client_id'], self.request.payload['topic_name']])


class Asked(Service):
    name = 'far.asked'

    def handle(self):
        self.response.payload = asked


class Around(Service):
    '''Calls the service of its own name in the other cluster, which does the same.'''

    name = 'shared.around'

    def handle(self):
        for name in ('My WSX Outconn', 'Back'):
            if name in self.out.wsx:
                self.logger.info('Going around over %s', name)
                self.response.payload = self.out.wsx[name].invoke({'service': 'shared.around'})
"""


@dataclass(frozen=True)
class Two:
    """Two clusters: ``near`` has the outgoing connection, ``far`` the channel."""

    near: ClusterUnderTest
    far: ClusterUnderTest
    port: int

    @property
    def address(self) -> str:
        return f"ws://{LOOPBACK}:{self.port}/link"

    def call(self, service: str, request: Any = None) -> dict[str, Any]:
        """How a call of a far service over the link went."""
        answer = self.near.servers[0].post("/near-call", json={"service": service, "request": request})
        found: dict[str, Any] = answer.json()
        return found

    def states(self, name: str = NAME) -> list[dict[str, Any]]:
        """The state of a connection in each near worker."""
        return list(self.near.invoke("zato.outgoing-websocket.get-state", {"name": name})["items"])

    def is_connected(self, name: str = NAME) -> bool:
        """Whether all near workers say that they are."""
        states = self.states(name)
        return len(states) == 2 and all(state["state"] == "connected" for state in states)

    def asked(self) -> list[list[str]]:
        """Who subscribed to what at the far end since it started."""
        found: list[list[str]] = self.far.servers[0].get("/far-asked").json()
        return found


@pytest.fixture(scope="module")
def two(public_directory: Path, postgres: str, template: str, valkey: ValkeyServer) -> Iterator[Two]:
    """Two clusters that are linked."""
    clusters: list[Iterator[ClusterUnderTest]] = []
    names = []
    for side, workers in (("near", 2), ("far", 1)):
        name = f"junctor_links_{side}_{os.getpid()}"
        names.append(name)
        execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
        directory = public_directory / f"links-{side}"
        directory.mkdir()
        url = make_url(postgres).set(database=name).render_as_string(hide_password=False)
        clusters.append(
            running(ClusterUnderTest(directory, odb_url=url, redis_url=valkey.url, workers=(workers,)))
        )
    near, far = (next(cluster) for cluster in clusters)
    try:
        made = Two(near, far, free_port())
        link(made)
        yield made
    finally:
        for cluster in reversed(clusters):
            for _ in cluster:  # to its end
                pass
        for name in names:
            execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def link(two: Two) -> None:
    two.near.deploy(story=STORY, hook=HOOK, near=NEAR, far=FAR)
    two.far.deploy(far=FAR)
    two.far.channel("far-asked", "far.asked")
    two.far.write("zato.security.basic-auth.create", name="link", username="link", password="secret")
    two.far.write(
        "zato.channel.web-socket.create",
        name="link",
        address=two.address,
        service="helpers.web-sockets-gateway",
        security="link",
        gateway_services=[
            "zato.ping",
            "zato.pubsub.pubapi.subscribe-wsx",
            "far.*",
            "shared.around",
        ],
    )
    two.near.channel("near-call", "near.call")
    two.near.channel("my-service", "story.my-service")
    two.near.write("zato.security.basic-auth.create", name="link", username="link", password="secret")
    two.near.write(
        "zato.outgoing-websocket.create",
        name=NAME,
        address=two.address,
        is_zato=True,
        security="link",
        subscription_list=["/customer/new"],
        on_connect_service="near.told",
        on_message_service="hook.on-message-hook",
        on_close_service="near.told",
    )
    wait_until(two.is_connected, START_TIMEOUT, f"the clusters are not linked: {two.states()}")


def test_the_story_runs_to_the_letter(two: Two) -> None:
    answer = two.near.servers[0].post("/my-service")
    assert answer.status_code == 200, two.near.servers[0].output()
    two.near.servers[0].logged(message="Response is `{'elem1': 'value1', 'elem2': 'value2'}`")


def test_errors_of_the_far_end_say_what_its_log_can_be_searched_for(two: Two) -> None:
    failed = two.call("far.broken")
    assert failed["error"] == "RemoteCallFailed"
    assert failed["status"] == 500
    assert "canary" not in failed["message"]
    assert NAME in failed["message"]
    [cid] = [word for word in failed["message"].replace("(CID ", "").split() if len(word) == 24]
    two.far.servers[0].logged(cid=cid, level="ERROR")
    refused = two.call("zato.service.invoke")
    assert refused["status"] == 403
    assert two.call("zato.ping")["response"]


def test_a_message_from_the_far_end_reaches_the_hook_and_its_answer_the_far_service(two: Two) -> None:
    answered = two.call("far.back", {"customer": "new"})
    assert "error" not in answered, answered
    server = two.near.servers[0]
    server.logged(message="Msg type: `message`")
    server.logged(message="Data received: `{'customer': 'new'}`")
    assert server.logged(message=f"Told of connect of {NAME}: None")


def test_one_worker_subscribes_for_the_cluster_and_another_one_when_it_is_killed(two: Two) -> None:
    def owners() -> list[dict[str, Any]]:
        return [state for state in two.states() if state["owner"]]

    def subscribed() -> bool:
        return any(state["subscriptions"] == {"/customer/new": "ok"} for state in owners())

    wait_until(subscribed, TAKE_OVER, f"nobody has subscribed: {two.states()}")
    [owner] = owners()
    connection_id = two.near.invoke("zato.outgoing-websocket.get", {"name": NAME})["id"]
    stable = f"outconn.tests.{connection_id}"
    before = len(two.asked())
    assert {tuple(item) for item in two.asked()} == {(stable, "/customer/new")}
    psutil.Process(owner["pid"]).send_signal(signal.SIGKILL)
    two.near.disconnect()  # the kept connections may have been the dead worker's
    wait_until(
        lambda: subscribed() and owner["pid"] not in [state["pid"] for state in owners()],
        TAKE_OVER,
        "nobody took over",
    )
    assert len(two.asked()) > before
    assert {item[0] for item in two.asked()} == {stable}
    wait_until(two.is_connected, START_TIMEOUT)


def test_an_owner_that_hangs_loses_its_lease_and_notices_when_it_goes_on(two: Two) -> None:
    def owners() -> list[int]:
        return [state["pid"] for state in two.states() if state["owner"]]

    wait_until(lambda: len(owners()) == 1, TAKE_OVER)
    [hanging] = owners()
    process = psutil.Process(hanging)
    two.near.disconnect()
    engine = two.near.store().engine
    process.suspend()
    try:
        with engine.connect() as connection:
            wait_until(lambda: _owner(connection) not in (0, hanging), TAKE_OVER, "nobody took over")
            successor = _owner(connection)
    finally:
        process.resume()
        engine.dispose()
    wait_until(lambda: owners() == [successor], TAKE_OVER)
    wait_until(two.is_connected, START_TIMEOUT)


def _owner(connection: Connection) -> int:
    """The process that has the lease, by the database; 0 when its row is gone."""
    found = connection.scalar(
        select(Worker.pid)
        .join(Lease, Lease.worker_id == Worker.id)
        .where(Lease.expires > func.clock_timestamp())
    )
    connection.rollback()
    return found or 0


def test_a_call_that_goes_around_in_a_circle_ends(two: Two) -> None:
    port = free_port()
    two.near.write(
        "zato.channel.web-socket.create",
        name="back",
        address=f"ws://{LOOPBACK}:{port}/back",
        service="helpers.web-sockets-gateway",
        gateway_services=["shared.around"],
    )
    two.near.channel("around", "shared.around")
    two.far.write(
        "zato.outgoing-websocket.create", name="Back", address=f"ws://{LOOPBACK}:{port}/back", is_zato=True
    )
    wait_until(
        lambda: two.far.invoke("zato.outgoing-websocket.get-state")["items"][0]["state"] == "connected"
    )
    answer = two.near.servers[0].post("/around")
    assert answer.status_code == 502
    lines = [*two.near.servers[0].log(), *two.far.servers[0].log()]
    rounds = [line for line in lines if line["message"].startswith("Going around over")]
    assert len(rounds) == 9
    assert any("came over 8 links between clusters already" in str(line) for line in lines)


def test_the_state_of_a_link_is_in_the_status_and_the_metrics(two: Two) -> None:
    [server] = two.near.invoke("junctor.cluster.status")["servers"]
    for worker in server["workers"]:
        state = worker["states"][f"outgoing_websocket/{NAME}"]
        assert (state["state"], state["address"], state["error"]) == ("connected", two.address, "")
        assert worker["problems"] == {}
    metric = two.near.servers[0].metric
    wait_until(lambda: metric("junctor_outgoing_websocket_connected", connection=NAME) == 2)
    assert metric("junctor_outgoing_websocket_calls_total", connection=NAME, outcome="ok") > 0
    assert metric("junctor_outgoing_websocket_seconds_count", connection=NAME) > 0
    assert metric("junctor_outgoing_websocket_ping_seconds_count", connection=NAME) > 0


def test_an_edit_that_has_nothing_to_do_with_it_keeps_the_connection(two: Two) -> None:
    since = [state["since"] for state in two.states()]
    two.near.write("zato.outgoing-websocket.edit", name=NAME, timeout=7)
    assert two.call("far.echo", [1])["response"] == [1]
    assert [state["since"] for state in two.states()] == since


def test_a_far_end_that_is_killed_is_reported_and_linked_again_when_it_is_back(two: Two) -> None:
    [server] = two.far.servers
    server.kill()
    wait_until(lambda: all(state["state"] == "down" for state in two.states()))
    failed = two.call("far.echo", [1])
    assert failed["error"] == "ConnectionFailed"
    assert f"{NAME!r} to {two.address}: it is not connected since 20" in failed["message"]
    assert two.near.workers()[0]["problems"] == {}
    server.start()
    server.wait_until_ready()
    wait_until(two.is_connected, START_TIMEOUT, "the link is not back")
    assert two.call("far.echo", [2])["response"] == [2]
    two.near.servers[0].logged(message=f"Told of close of {NAME}: 1006")


def test_an_unknown_connection_is_an_error_that_names_it(two: Two) -> None:
    with pytest.raises(RemoteError, match="'nothing'"):
        two.states("nothing")
