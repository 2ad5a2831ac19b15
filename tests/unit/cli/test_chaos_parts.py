"""The parts of a run that touch the network, each against a peer on loopback."""

import socket
import threading
from dataclasses import replace

import orjson
import pytest
import requests

from junctor.cli.chaos.callbacks import Callbacks
from junctor.cli.chaos.calls import Caller, Outcome
from junctor.cli.chaos.history import ACKNOWLEDGE, FAIL, INFO, INVOKE, OK, PUBLISH, RECEIVE, History, read
from junctor.cli.chaos.messages import body_of, sent_of
from junctor.cli.chaos.nemeses import Nemesis, possible
from junctor.cli.chaos.plan import (
    BATCH,
    CUT_LINKS,
    HAND_OVER,
    LINK_FAULTS,
    NOTIFY,
    PULL,
    REFUSE_LINKS,
    SERVICE,
    Draft,
    Fault,
    Publisher,
    Subscriber,
    make_plan,
)
from junctor.cli.chaos.proxy import Proxy
from junctor.cli.chaos.publishers import Publishing
from junctor.cli.chaos.scenery import Scenery, SceneryBuilder, User
from junctor.cli.chaos.subscribers import Behaviour, Pulling
from junctor.server.client import RemoteError
from tests.helpers.waiting import succeeds, wait_until

PLAN = make_plan(1, 5)
DONE, LOST = Outcome(True), Outcome(False, text="ConnectionError")
DUPLICATE = Outcome(False, is_refused=True, text="400 Duplicate msg_id")


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path / "history.jsonl")
    yield made
    made.close()


@pytest.fixture
def scenery():
    made = Scenery.new()
    made.sub_keys = {"sub": "zpsk.1"}
    made.users = {"publisher": User("p", "x"), "sub": User("s", "x")}
    return made


def behaviour(history, kind=NOTIFY, **shares):
    subscriber = Subscriber("sub", kind, "t1", is_strict=True, batch=3, **shares)
    return Behaviour(PLAN, subscriber, history, threading.Event())


def written(history, f):
    return [event for event in read(history.path) if event.f == f]


def delivered(scenery, number=1):
    sent = sent_of(scenery.run, "publisher1", Draft(number, 10, 5, 0))
    return {"msg_id": sent.id, "data": body_of(sent, 10), "sub_key": "zpsk.1", "delivery_count": 0}


class ScriptedCaller:
    """Answers calls with what a test has prepared; the thread under test stops when there is nothing left."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = []
        self.thread = None

    def post(self, path, body, **_):
        self.calls.append((path, body))
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.thread.stopping.set()
        return outcome

    def close(self):
        """Nothing is open."""


def publish(history, scenery, *outcomes, kind="rest"):
    publisher = Publisher("publisher1", kind, "t1", 0.001, batch=3 if kind == BATCH else 1)
    caller = ScriptedCaller(*outcomes)
    thread = caller.thread = Publishing(PLAN, publisher, scenery, history, caller)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return thread, caller


def test_a_publish_is_repeated_with_the_same_id_until_its_outcome_is_known(history, scenery):
    thread, caller = publish(history, scenery, LOST, DUPLICATE)

    assert len({body["msg_id"] for _, body in caller.calls}) == 1
    assert [event.type for event in written(history, PUBLISH)] == [INVOKE, INFO, OK]
    assert thread.acknowledged == 1


def test_a_message_that_is_called_a_duplicate_at_once_is_a_refusal(history, scenery):
    publish(history, scenery, DUPLICATE, DONE)
    assert [event.type for event in written(history, PUBLISH)] == [INVOKE, FAIL, OK]


def test_a_list_is_published_by_the_service_and_acknowledged_as_a_whole(history, scenery):
    thread, caller = publish(history, scenery, DONE, kind=BATCH)
    [(path, body)] = caller.calls
    assert path == scenery.publish_path
    assert thread.acknowledged == len(body["messages"])


def pull(history, scenery, *outcomes, kind=PULL, **shares):
    caller = ScriptedCaller(*outcomes)
    thread = caller.thread = Pulling(behaviour(history, kind, **shares), scenery, history, caller)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return thread, caller


def test_what_is_fetched_is_acknowledged(history, scenery):
    message = delivered(scenery)
    _, caller = pull(history, scenery, Outcome(True, answer=[message]), DONE)

    assert caller.calls[1] == ("/zato/pubsub/ack", {"sub_key": "zpsk.1", "msg_id_list": [message["msg_id"]]})
    [event] = written(history, RECEIVE)
    assert event.received[0].is_intact
    assert [event.type for event in written(history, ACKNOWLEDGE)] == [OK]


def test_a_subscriber_that_refuses_hands_back(history, scenery):
    _, caller = pull(history, scenery, Outcome(True, answer=[delivered(scenery)]), DONE, refuses=1.0)
    assert caller.calls[1][0] == "/zato/pubsub/nack"
    assert written(history, ACKNOWLEDGE) == []


def test_a_pull_whose_answer_is_lost_makes_a_batch_uncertain(history, scenery):
    thread, _ = pull(history, scenery, LOST, kind=HAND_OVER)
    assert thread.uncertain == 3


@pytest.fixture
def callbacks():
    made = Callbacks("127.0.0.1")
    yield made
    made.close()


def test_a_notification_is_noted_and_answered(callbacks, history, scenery):
    callbacks.start([behaviour(history)], scenery.sub_keys)

    answer = requests.post(f"{callbacks.url}/notify/sub", json=[delivered(scenery)], timeout=5)

    assert answer.status_code == 200
    assert written(history, RECEIVE)[0].process == "sub"


def test_what_the_service_of_a_run_reports_belongs_to_the_subscription_of_its_key(
    callbacks, history, scenery
):
    callbacks.start([behaviour(history, SERVICE)], scenery.sub_keys)

    answer = requests.post(f"{callbacks.url}/record", json=delivered(scenery), timeout=5)

    assert answer.status_code == 200
    assert written(history, RECEIVE)[0].process == "sub"


@pytest.mark.parametrize("path", ["notify/other", "elsewhere", "record"])
def test_what_is_for_nobody_is_not_found(callbacks, history, scenery, path):
    callbacks.start([behaviour(history)], scenery.sub_keys)
    assert requests.post(f"{callbacks.url}/{path}", data=b"[]", timeout=5).status_code == 404
    assert requests.post(callbacks.url.rpartition("/")[0], data=b"[]", timeout=5).status_code == 404


def test_a_subscriber_may_refuse_or_break_off(callbacks, history, scenery):
    refusing = behaviour(history, refuses=1.0)
    breaking = behaviour(history, breaks_off=1.0)
    breaking.subscriber = replace(breaking.subscriber, name="other")
    callbacks.start([refusing, breaking], {"sub": "zpsk.1", "other": "zpsk.2"})

    assert requests.post(f"{callbacks.url}/notify/sub", json=[], timeout=5).status_code == 503
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{callbacks.url}/notify/other", json=[], timeout=5)
    refusing.calm.set()
    assert requests.post(f"{callbacks.url}/notify/sub", json=[], timeout=5).status_code == 200


@pytest.fixture
def echo():
    """A server that sends back what it gets; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(accepted,), daemon=True).start()

    def answer(accepted):
        with accepted:
            while data := received(accepted):
                accepted.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def received(connection):
    """What arrives, b'' at the end, however that comes."""
    try:
        return connection.recv(100)
    except OSError:
        return b""


@pytest.fixture
def proxy(echo):
    made = Proxy(echo)
    yield made
    made.close()


def connected(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    connection.sendall(b"x")
    return connection


def connected_and_answered(proxy):
    with connected(proxy) as connection:
        assert received(connection) == b"x"


def test_a_proxy_passes_on_both_ways_until_it_is_cut(proxy):
    with connected(proxy) as connection:
        assert received(connection) == b"x"
        assert proxy.cut() == 1
        assert received(connection) == b""
    wait_until(lambda: proxy.connections == 0)


def test_a_proxy_that_refuses_serves_again_afterwards(proxy):
    proxy.refuse(True)
    assert not succeeds(lambda: connected_and_answered(proxy), AssertionError, OSError)
    proxy.refuse(False)
    connected_and_answered(proxy)


def test_faults_come_and_go_and_are_in_the_history(proxy, history):
    faults = (Fault(0.0, CUT_LINKS, 0.0, 1), Fault(0.01, REFUSE_LINKS, 0.02, 1))
    nemesis = Nemesis(replace(PLAN, faults=faults), history, environment=None, proxy=proxy)

    nemesis.start()
    nemesis.join(10)
    nemesis.heal()

    found = [(event.type, event.process) for event in written(history, "fault")]
    assert found == [(INVOKE, CUT_LINKS), (OK, CUT_LINKS), (INVOKE, REFUSE_LINKS), (OK, REFUSE_LINKS)]
    assert (nemesis.done, nemesis.problems, nemesis.current) == (2, [], {})


def test_a_fault_that_a_run_ends_before_its_time_is_made_good(proxy, history):
    faults = (Fault(0.0, REFUSE_LINKS, 600.0, 1),)
    nemesis = Nemesis(replace(PLAN, faults=faults), history, environment=None, proxy=proxy)
    nemesis.start()
    wait_until(lambda: nemesis.current.get(0, "").startswith("refuse-links ("))

    nemesis.stopping.set()
    nemesis.join(10)
    nemesis.heal()

    connected_and_answered(proxy)


def test_a_fault_that_cannot_be_brought_about_is_told(history):
    faults = (Fault(0.0, CUT_LINKS, 0.0, 1), Fault(0.0, "kill-worker", 0.0, 1))
    nemesis = Nemesis(replace(PLAN, faults=faults), history, environment=None, proxy=None)
    nemesis.start()
    nemesis.join(10)
    assert [problem.partition(":")[0] for problem in nemesis.problems] == [CUT_LINKS, "kill-worker"]


def test_without_an_environment_only_links_can_fail():
    assert possible(None, has_proxy=True) == LINK_FAULTS
    assert possible(None, has_proxy=False) == ()


class RecordingAdmin:
    """Administrative services that remember what they were asked; ``ill`` raise errors."""

    def __init__(self):
        self.calls = []
        self.ill = {}

    def invoke(self, service, payload, **_):
        self.calls.append((service, payload))
        if error := self.ill.get(service):
            raise error
        return {"config_version": len(self.calls), "converged": True, "sub_key": f"zpsk.{len(self.calls)}"}


def test_everything_that_is_made_is_removed_in_the_opposite_order(scenery):
    admin = RecordingAdmin()
    builder = SceneryBuilder(admin, scenery, "http://127.0.0.1:1/secret")
    builder.build(PLAN)
    made = [(service, fields) for service, fields in admin.calls if not service.endswith("wait")]
    admin.calls.clear()

    assert builder.remove() == []

    names = [fields.get("name") or fields["files"][0]["name"] for _, fields in made]
    assert [fields["name"] for _, fields in admin.calls] == names[::-1]
    assert all(name.startswith((scenery.run, f"/{scenery.run}/")) for name in names)
    assert {subscriber.name for subscriber in PLAN.subscribers} <= set(scenery.sub_keys)


def test_what_was_not_made_after_all_need_not_be_removed(scenery):
    admin = RecordingAdmin()
    admin.ill["zato.pubsub.topic.create"] = RemoteError("no", status=503, cid="", error="")
    admin.ill["zato.pubsub.topic.delete"] = RemoteError("no", status=404, cid="", error="NotFound")
    builder = SceneryBuilder(admin, scenery, "http://127.0.0.1:1/secret")

    with pytest.raises(RemoteError):
        builder.build(PLAN)

    assert builder.remove() == []


def test_calls_say_whether_another_attempt_makes_sense(callbacks, history, scenery):
    callbacks.start([behaviour(history, refuses=1.0)], scenery.sub_keys)
    base, _, path = callbacks.url.rpartition("/")
    caller = Caller(base, ("u", "p"))
    refused = caller.post("/nowhere", {})
    passing = caller.post(f"/{path}/notify/sub", [])
    caller.close()
    gone = Caller("http://127.0.0.1:1", ("u", "p")).post("/", {})
    assert (refused.is_done, refused.is_refused) == (False, True)
    assert (passing.is_done, passing.is_refused) == (False, False)
    assert (gone.is_done, gone.is_refused, gone.text) == (False, False, "ConnectionError")
    assert orjson.dumps(refused.text)
