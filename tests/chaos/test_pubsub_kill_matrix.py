"""Each place at which publish/subscribe can be killed, one by one: what was acknowledged arrives, and what comes again says so."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg2
import pytest
import requests

from junctor.cli.chaos.callbacks import Callbacks
from junctor.cli.chaos.plan import NOTIFY, WEB_SOCKET, Plan, Subscriber
from junctor.cli.chaos.scenery import Scenery, SceneryBuilder
from junctor.cli.chaos.subscribers import ANSWER, DAWDLE
from junctor.server.client import AdminClient
from tests.helpers.ports import LOOPBACK
from tests.helpers.quickstart import ADMIN
from tests.helpers.waiting import succeeds, wait_until
from tests.helpers.websocket_client import ChannelClient

pytestmark = pytest.mark.chaos

PUBLISHES, DELIVERS = "server1", "server2"
NOTIFIED = Subscriber("notified", NOTIFY, "notified", is_strict=True, batch=10)
CONNECTED = Subscriber("connected", WEB_SOCKET, "connected", is_strict=True, batch=10)
PLAN = Plan(0, 0, (NOTIFIED.topic, CONNECTED.topic), (), (NOTIFIED, CONNECTED), ())
PATIENCE = 40.0  # seconds; a server that was killed as a whole is taken over from after 15
CALL_TIMEOUT = 30.0
COMMITS = 4711  # the advisory lock that commits wait for
HOLD_UP = f"""
CREATE FUNCTION chaos_hold_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock({COMMITS}); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER chaos_hold_up AFTER INSERT ON pubsub_dedupe DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION chaos_hold_up()
"""
LET_GO = "DROP TRIGGER chaos_hold_up ON pubsub_dedupe; DROP FUNCTION chaos_hold_up"


class Gate:
    """A subscriber that notes what it gets, and answers at once, or not before it is told to."""

    subscriber = NOTIFIED

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.deliveries = []

    def choose(self):
        return ANSWER if self.open.is_set() else DAWDLE

    def note(self, messages, text=""):
        self.deliveries += [(message["msg_id"], message["delivery_count"]) for message in messages]

    def dawdle(self):
        self.open.wait(CALL_TIMEOUT)

    def counts(self, msg_id):
        """The delivery counts with which a message has come."""
        return [count for delivered, count in list(self.deliveries) if delivered == msg_id]

    def wait_for(self, msg_id, times=1):
        """The delivery counts of a message that has come so often."""
        wait_until(
            lambda: len(self.counts(msg_id)) >= times, PATIENCE, f"{msg_id} has not come: {self.deliveries}"
        )
        return self.counts(msg_id)


class Scene:
    """A topic whose only subscription the second server delivers, one with a WebSocket client, and who has to do with them."""

    def __init__(self, environment):
        self.environment = environment
        self.gate = Gate()
        self.scenery = Scenery.new()
        self.callbacks = Callbacks(LOOPBACK)
        self.admin = AdminClient(self.url(PUBLISHES), environment.admin[1], username=ADMIN)
        self.builder = SceneryBuilder(self.admin, self.scenery, self.callbacks.url)
        self.executor = ThreadPoolExecutor()

    def build(self):
        self.builder.build(PLAN)
        pinned = {"name": f"{self.scenery.run}.{NOTIFIED.name}", "server": DELIVERS}
        self.admin.invoke("zato.pubsub.subscription.edit", pinned)
        self.callbacks.start([self.gate], self.scenery.sub_keys)

    def remove(self):
        self.gate.open.set()
        self.callbacks.close()
        self.executor.shutdown()
        left = self.builder.remove()
        self.admin.close()
        assert left == []

    def url(self, server):
        number = (PUBLISHES, DELIVERS).index(server)
        return f"http://{LOOPBACK}:{self.environment.port_base + number}"

    def publish(self, msg_id, *, topic=NOTIFIED.topic, server=PUBLISHES):
        """The answer to a publish at a server itself."""
        url = f"{self.url(server)}/zato/pubsub/topic/{self.scenery.topic(topic)}"
        user = self.scenery.users["publisher"].pair
        with requests.Session() as session:
            session.trust_env = False
            body = {"data": msg_id, "msg_id": msg_id}
            return session.post(url, json=body, auth=user, timeout=CALL_TIMEOUT)

    def published(self, msg_id, **more):
        """Publishes, which must be acknowledged, at the first attempt that is not asked to be repeated."""
        answers = []

        def is_answered():
            answers.append(self.publish(msg_id, **more))
            return answers[-1].status_code != 503

        wait_until(
            lambda: succeeds(is_answered, requests.ConnectionError) and answers[-1].status_code != 503,
            PATIENCE,
        )
        assert answers[-1].ok, answers[-1].text

    def begins_to_publish(self, msg_id):
        """The answer, or error, to come of a publish that somebody holds up."""
        return self.executor.submit(self.publish, msg_id)

    def resumed(self, server):
        """A WebSocket client at a server, which has resumed its subscription."""
        user = self.scenery.users["websocket"]
        client = ChannelClient(f"{self.url(server).replace('http', 'ws')}{self.scenery.channel_path}")
        client.log_in(user.name, user.password, CONNECTED.name)
        request = {"sub_key": self.scenery.sub_keys[CONNECTED.name]}
        client.message(
            "invoke-service", {"service": "zato.pubsub.resume-wsx-subscription", "request": request}
        )
        return client

    @contextmanager
    def database(self):
        """A connection to the object database."""
        url = self.environment.json("info")["object_database"].replace("+psycopg2", "")
        connection = psycopg2.connect(url, password=self.environment.secret("odb-password"))
        try:
            yield connection
        finally:
            connection.close()

    def stored(self, msg_id):
        with self.database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pubsub_message WHERE msg_id = %s", (msg_id,))
            return cursor.fetchone()[0]

    @contextmanager
    def commits_held_up(self):
        """No publish that gives ids of its own is committed; yields what ``held_up`` does."""
        with self.database() as connection, connection.cursor() as cursor:
            cursor.execute(HOLD_UP)
            connection.commit()
            try:
                with self.held_up("SELECT pg_advisory_lock(%s)", COMMITS) as someone:
                    yield someone
            finally:
                cursor.execute(LET_GO)
                connection.commit()

    @contextmanager
    def held_up(self, statement, *values):
        """Something is locked; yields what waits until somebody is held up by that, and returns whom."""
        with self.database() as locker, self.database() as watcher:
            watcher.autocommit = True
            with locker.cursor() as cursor:
                cursor.execute(statement, values)
            yield lambda: wait_until(lambda: _blocked(watcher, locker), PATIENCE, "Nobody is held up.")


def _blocked(watcher, locker):
    with watcher.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))",
            (locker.info.backend_pid,),
        )
        return [row[0] for row in cursor.fetchall()]


def end_sessions(scene, pids):
    """What the database still does for somebody who is dead ends, too."""
    with scene.database() as connection, connection.cursor() as cursor:
        for pid in pids:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


@pytest.fixture(scope="module")
def shared_scene(environment):
    environment.start()
    environment.wait_until_healthy()
    scene = Scene(environment)
    try:
        scene.build()
        yield scene
    finally:
        environment.start()
        environment.wait_until_healthy()
        scene.remove()


@pytest.fixture
def scene(cluster, shared_scene):
    """The scene, in which everything that was published before has been received."""
    shared_scene.gate.open.set()
    return shared_scene


def test_a_publisher_killed_before_the_commit_has_stored_nothing_and_the_same_id_is_good_for_another_attempt(
    scene, workers
):
    with scene.commits_held_up() as someone:
        publish = scene.begins_to_publish("before-commit")
        sessions = someone()
        workers[PUBLISHES].kill()
        end_sessions(scene, sessions)

    assert publish.exception(CALL_TIMEOUT) is not None
    assert scene.stored("before-commit") == 0
    scene.published("before-commit", server=DELIVERS)
    assert scene.gate.wait_for("before-commit") == [0]


def test_a_publisher_killed_after_the_commit_and_before_it_told_anybody_loses_nothing(scene, workers):
    with scene.commits_held_up() as someone:
        publish = scene.begins_to_publish("before-hint")
        someone()
        workers[PUBLISHES].send_signal(signal.SIGSTOP)
    wait_until(lambda: scene.stored("before-hint"), message="It is not committed.")

    workers[PUBLISHES].kill()

    assert publish.exception(CALL_TIMEOUT) is not None
    assert scene.gate.wait_for("before-hint") == [0]
    again = scene.publish("before-hint", server=DELIVERS)
    assert (again.status_code, "Duplicate msg_id" in again.text) == (400, True)


def test_an_owner_killed_before_the_answer_delivers_again_and_says_so(scene, workers):
    scene.gate.open.clear()
    scene.published("before-answer")
    scene.gate.wait_for("before-answer")

    workers[DELIVERS].kill()
    scene.gate.open.set()

    assert scene.gate.wait_for("before-answer", 2)[:2] == [0, 1]


def test_an_owner_killed_after_the_answer_and_before_it_has_noted_it_delivers_again_and_says_so(
    scene, workers
):
    scene.gate.open.clear()
    scene.published("before-delete")
    scene.gate.wait_for("before-delete")

    with scene.held_up("SELECT FROM pubsub_queue FOR UPDATE") as someone:
        scene.gate.open.set()
        sessions = someone()
        workers[DELIVERS].kill()
        end_sessions(scene, sessions)

    assert scene.gate.wait_for("before-delete", 2)[:2] == [0, 1]


def test_when_a_whole_server_is_killed_the_other_takes_over_what_it_delivered(scene):
    scene.gate.open.clear()
    scene.published("whole-server-1")
    scene.gate.wait_for("whole-server-1")
    client = scene.resumed(DELIVERS)
    scene.published("socket-1", topic=CONNECTED.topic)
    assert pushed(client)["msg_id"] == "socket-1"

    scene.environment.kill(DELIVERS)
    scene.gate.open.set()
    scene.published("whole-server-2")
    scene.published("socket-2", topic=CONNECTED.topic)
    client.end()

    with scene.resumed(PUBLISHES) as elsewhere:
        got = [acknowledged(elsewhere) for _ in range(2)]
    assert [(item["msg_id"], item["delivery_count"]) for item in got] == [("socket-1", 1), ("socket-2", 0)]
    assert scene.gate.wait_for("whole-server-1", 2)[:2] == [0, 1]
    assert scene.gate.wait_for("whole-server-2") == [0]


def test_a_connection_that_is_silent_gives_way_to_a_new_one_which_gets_what_was_not_answered(scene):
    silent = scene.resumed(DELIVERS)
    scene.published("half-open", topic=CONNECTED.topic)
    assert pushed(silent)["delivery_count"] == 0

    with scene.resumed(PUBLISHES) as fresh:
        again = acknowledged(fresh)

    assert (again["msg_id"], again["delivery_count"]) == ("half-open", 1)
    silent.end()


def test_without_redis_messages_are_delivered_all_the_same(scene):
    scene.environment.kill("redis")

    scene.published("no-redis")

    assert scene.gate.wait_for("no-redis") == [0]


def test_without_the_database_publishers_are_asked_to_try_again_and_deliveries_go_on_when_it_is_back(scene):
    scene.gate.open.clear()
    scene.published("before-database")
    scene.gate.wait_for("before-database")
    scene.environment.kill("postgres")
    refused = scene.publish("no-database")
    scene.gate.open.set()

    scene.environment.start()

    assert refused.status_code == 503
    scene.published("no-database")
    assert scene.gate.wait_for("no-database") == [0]
    assert scene.gate.counts("before-database") in ([0], [0, 1])


def pushed(client):
    """The message of the next push, which is not answered; what is not a push is passed over."""
    while True:
        received = client.receive(PATIENCE)
        if received["meta"]["msg_type"] == "zwsx.psrq":
            client.last = received
            [message] = received["data"] if isinstance(received["data"], list) else [received["data"]]
            return message


def acknowledged(client):
    """The message of the next push, which is answered."""
    message = pushed(client)
    client.respond(client.last, {})
    return message
