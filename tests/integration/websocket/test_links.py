"""Links between clusters: two whole clusters, one of which calls the services of the other through an outgoing WebSocket connection."""

from __future__ import annotations

import ast
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
from junctor.sql.objects.pubsub import PubSubSubscription as Subscription
from junctor.sql.objects.pubsub import PubSubTopic as Topic
from junctor.sql.tables.process import Worker
from junctor.sql.tables.pubsub import PubSubDeadLetter as DeadLetter
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


class Take(Service):
    '''A hook that fails with what is to fail, the first time.'''

    name = 'near.take'

    class SimpleIO:
        input_optional = (Opaque('ctx'),)

    def handle(self):
        for message in self.request.input.ctx.data.data:
            self.logger.info('Took %s %s', message['data'], message['delivery_count'])
            if message['data'] == 'fails once' and not message['delivery_count']:
                raise ValueError('not now')


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


class Publish(Service):
    name = 'far.publish'

    def handle(self):
        given = self.request.payload
        items = [{'data': item} for item in given['data']]
        self.response.payload = {'ids': self.pubsub.publish(given['topic'], data_list=items)}


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

    def publish(self, topic: str, *data: Any) -> None:
        """Publishes in the far cluster."""
        answer = self.far.servers[0].post("/far-publish", json={"topic": topic, "data": data})
        assert answer.ok, answer.text

    def subscriptions(self) -> dict[str, tuple[str, str]]:
        """The subscriptions that clients of the link have in the far cluster, by topic: the client, and the key."""
        engine = self.far.store().engine
        with engine.connect() as connection:
            rows = connection.execute(
                select(Topic.name, Subscription.ext_client_id, Subscription.sub_key)
                .join(Topic, Topic.id == Subscription.topic)
                .where(Subscription.ext_client_id != "")
            ).all()
        engine.dispose()
        assert len({row.name for row in rows}) == len(rows)
        return {row.name: (row.ext_client_id, row.sub_key) for row in rows}

    def taken(self) -> list[str]:
        """What the hook that takes messages has taken, with the number of earlier deliveries."""
        lines = [line["message"] for line in self.near.servers[0].log()]
        return [line.removeprefix("Took ") for line in lines if line.startswith("Took ")]


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
    two.far.channel("far-publish", "far.publish", data_format="json")
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
            "zato.pubsub.pubapi.unsubscribe",
            "far.*",
            "shared.around",
        ],
    )
    for topic in ("/customer/new", "/customer/old"):
        two.far.write("zato.pubsub.topic.create", name=topic)
    two.far.write(
        "zato.pubsub.endpoint.create",
        name="link",
        endpoint_type="wsx",
        ws_channel="link",
        role="sub-only",
        topic_patterns=["sub=/customer/*"],
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


def owners(two: Two, name: str = NAME) -> list[dict[str, Any]]:
    """The states of the near workers that own the subscriptions of a connection."""
    return [state for state in two.states(name) if state["owner"]]


def is_subscribed(two: Two, *topics: str, name: str = NAME) -> bool:
    """Whether a near worker owns the subscriptions to these topics, and has them."""
    return any(state["subscriptions"] == dict.fromkeys(topics, "ok") for state in owners(two, name))


def names(taken: list[str]) -> list[str]:
    """What was taken, without the numbers of earlier deliveries."""
    return [item.rpartition(" ")[0] for item in taken]


def refused_with(two: Two, name: str, topic: str) -> str:
    """Why the owner of a connection is not subscribed to a topic; '' if nobody has tried."""
    return "".join(state["subscriptions"].get(topic, "") for state in owners(two, name))


def test_what_the_far_cluster_publishes_reaches_the_hook_once_whatever_the_number_of_workers(
    two: Two,
) -> None:
    wait_until(lambda: is_subscribed(two, "/customer/new"), TAKE_OVER, "nobody has subscribed")
    two.publish("/customer/new", {"name": "Ada"}, "text")
    [server] = two.near.servers

    def received() -> list[dict[str, Any]]:
        prefix = "Data received: `["
        lines = [line["message"] for line in server.log() if line["message"].startswith(prefix)]
        return [message for line in lines for message in ast.literal_eval(line[len(prefix) - 1 : -1])]

    wait_until(lambda: len(received()) >= 2, TAKE_OVER, "the hook was not called")
    first, second = received()
    assert (first["data"], second["data"]) == ({"name": "Ada"}, "text")
    assert first.keys() == {
        *("msg_id", "topic_name", "pub_time_iso", "expiration_time_iso", "priority", "expiration", "has_gd"),
        *("data", "sub_key", "mime_type", "size", "delivery_count"),
    }
    assert (first["topic_name"], first["delivery_count"]) == ("/customer/new", 0)
    [(client_id, sub_key)] = two.subscriptions().values()
    connection_id = two.near.invoke("zato.outgoing-websocket.get", {"name": NAME})["id"]
    assert client_id == f"outconn.tests.{connection_id}"
    assert first["sub_key"] == sub_key


def test_another_worker_takes_over_the_same_queue_when_the_owner_is_killed(two: Two) -> None:
    two.near.write("zato.outgoing-websocket.edit", name=NAME, on_message_service="near.take")
    before = two.subscriptions()
    [owner] = owners(two)
    psutil.Process(owner["pid"]).send_signal(signal.SIGKILL)
    two.near.disconnect()  # the kept connections may have been the dead worker's
    numbers = [f"number {n}" for n in range(20)]
    for number in numbers:
        two.publish("/customer/new", number)
    wait_until(
        lambda: is_subscribed(two, "/customer/new") and owner["pid"] not in [o["pid"] for o in owners(two)],
        TAKE_OVER,
        "nobody took over",
    )
    wait_until(lambda: set(names(two.taken())) == set(numbers), TAKE_OVER, "not all came")
    taken = two.taken()
    assert list(dict.fromkeys(names(taken))) == numbers
    assert len(taken) == len(set(taken)), "a message came twice without saying so"
    assert two.subscriptions() == before
    wait_until(two.is_connected, START_TIMEOUT)


def test_what_the_hook_fails_with_comes_again_and_says_so(two: Two) -> None:
    [(_, sub_key)] = two.subscriptions().values()
    engine = two.far.store().engine
    with engine.connect() as connection:
        subscription_id = connection.scalar(select(Subscription.id).where(Subscription.sub_key == sub_key))
    engine.dispose()
    two.far.write("zato.pubsub.subscription.edit", id=subscription_id, wait_non_sock_err=1)
    two.publish("/customer/new", "fails once", "and then")
    wait_until(lambda: "and then 0" in two.taken() or "and then 1" in two.taken(), TAKE_OVER)
    assert two.taken()[-3:] in (
        ["fails once 0", "fails once 1", "and then 1"],  # if they came together
        ["fails once 0", "fails once 1", "and then 0"],
    )


def test_what_is_published_while_the_link_is_down_comes_once_it_is_up(two: Two) -> None:
    before = two.subscriptions()
    two.near.write("zato.outgoing-websocket.edit", name=NAME, is_active=False)
    wait_until(lambda: all(state["state"] == "inactive" for state in two.states()))
    two.publish("/customer/new", "while it was down")
    two.near.write("zato.outgoing-websocket.edit", name=NAME, is_active=True)
    wait_until(lambda: "while it was down 0" in two.taken(), TAKE_OVER, "it did not come")
    assert two.taken().count("while it was down 0") == 1
    assert two.subscriptions() == before


def test_a_message_that_is_too_large_for_the_link_does_not_keep_others_from_it(two: Two) -> None:
    name = "Narrow"
    two.near.write(
        "zato.outgoing-websocket.create",
        name=name,
        address=two.address,
        is_zato=True,
        security="link",
        subscription_list=["/customer/old"],
        on_message_service="near.take",
        max_message_size=4096,
    )
    wait_until(lambda: is_subscribed(two, "/customer/old", name=name), TAKE_OVER, "nobody has subscribed")
    two.publish("/customer/old", "x" * 5000, "a small one")
    wait_until(
        lambda: any(item.startswith("a small one") for item in two.taken()), TAKE_OVER, "it did not come"
    )
    engine = two.far.store().engine
    with engine.connect() as connection:
        [reason] = connection.scalars(select(DeadLetter.reason)).all()
    engine.dispose()
    assert reason == "The client takes no message of this size."
    two.near.write("zato.outgoing-websocket.delete", name=name)
    wait_until(lambda: set(two.subscriptions()) == {"/customer/new"}, TAKE_OVER, "it has left a queue")


def test_topics_are_subscribed_to_and_left_when_the_list_changes_and_when_the_connection_is_deleted(
    two: Two,
) -> None:
    name = "Second"
    two.near.write(
        "zato.outgoing-websocket.create",
        name=name,
        address=two.address,
        is_zato=True,
        security="link",
        subscription_list=["/customer/old", "/nothing/here"],
        on_message_service="near.take",
    )
    wait_until(lambda: refused_with(two, name, "/nothing/here"), TAKE_OVER, "nobody has tried to subscribe")
    assert refused_with(two, name, "/nothing/here").startswith("403")
    wait_until(lambda: set(two.subscriptions()) == {"/customer/new", "/customer/old"}, TAKE_OVER)
    two.publish("/customer/old", "of the second")
    wait_until(lambda: "of the second 0" in two.taken(), TAKE_OVER, "the hook was not called")
    two.near.write("zato.outgoing-websocket.edit", name=name, subscription_list=[])
    wait_until(lambda: set(two.subscriptions()) == {"/customer/new"}, TAKE_OVER, "it is subscribed still")
    two.near.write("zato.outgoing-websocket.edit", name=name, subscription_list=["/customer/old"])
    wait_until(
        lambda: is_subscribed(two, "/customer/old", name=name), TAKE_OVER, "nobody has subscribed again"
    )
    two.near.write("zato.outgoing-websocket.delete", name=name)
    wait_until(lambda: set(two.subscriptions()) == {"/customer/new"}, TAKE_OVER, "it has left a queue")


def test_an_owner_that_hangs_loses_its_lease_and_notices_when_it_goes_on(two: Two) -> None:
    wait_until(lambda: len(owners(two)) == 1, TAKE_OVER)
    [hanging] = [owner["pid"] for owner in owners(two)]
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
    wait_until(lambda: [owner["pid"] for owner in owners(two)] == [successor], TAKE_OVER)
    wait_until(two.is_connected, START_TIMEOUT)


def _owner(connection: Connection) -> int:
    """The process that has the lease, by the database; 0 when its row is gone."""
    found = connection.scalar(
        select(Worker.pid)
        .join(Lease, Lease.worker_id == Worker.id)
        .where(Lease.name.startswith("outconn."), Lease.expires > func.clock_timestamp())
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
