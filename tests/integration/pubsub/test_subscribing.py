"""Subscribing and unsubscribing, on a real object database, in one or two workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from junctor.server.bus.listener import Listener
from junctor.server.context import Context
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.live import Endpoint, Subscription
from junctor.server.pubsub.publishing import Publishing
from junctor.server.pubsub.pull import Fetch, Pull
from junctor.server.pubsub.service_topics import ServiceTopics
from junctor.server.pubsub.subscribing import Subscribing, Wish
from junctor.server.runtime.registry import Registry
from junctor.server.service.base import Service
from junctor.server.service.info import describe
from junctor.server.service.store import ServiceStore
from junctor.server.settings import Settings
from junctor.server.websocket.endpoints import Endpoints
from junctor.sql.errors import BadRequest, Forbidden, InvalidInput, NotFound, ServiceUnavailable
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.objects import add, edit, remove

TRUSTED, AGAIN = Wish(is_trusted=True), Wish(may_exist=True)


@pytest.fixture(scope="module")
def engine(module_engine: Engine) -> Engine:
    """One database for all tests here, each of which has a cluster of its own."""
    return module_engine


@pytest.fixture
def store(engine: Engine, request: pytest.FixtureRequest) -> Store:
    """The cluster of one test, with a topic and somebody who may subscribe to it, and a WebSocket channel."""
    store = Store.create(engine, request.node.name, Keyring(parse_keys(new_key_line())))
    for name in ("/customer/new", "/customer/gone", "/secret"):
        add(store, "pubsub_topic", name)
    add(store, "service", "far.service")
    add(store, "channel_websocket", "clients", address="/ws", service="far.service")
    patterns = ["sub=/customer/*", "sub=/unknown"]
    add(store, "security_basic_auth", "crm", username="crm", password="secret")
    add(store, "pubsub_endpoint", "crm", endpoint_type="rest", security="crm", topic_patterns=patterns)
    add(store, "pubsub_endpoint", "wsx", endpoint_type="wsx", ws_channel="clients", topic_patterns=patterns)
    add(store, "pubsub_endpoint", "internal", endpoint_type="internal", topic_patterns=["sub=/**"])
    return store


class FarService(Service):
    """A service that somebody may publish to."""

    name = "far.service"

    def handle(self) -> None:
        """Does nothing."""


class Told:
    """Stands for the hooks and the deliveries of a worker: remembers what they were told."""

    def __init__(self) -> None:
        self.hooks: list[tuple[str, str]] = []
        self.attached: list[tuple[str, Any]] = []

    def on_subscribed(self, topic: Any, subscription: Subscription) -> None:
        """Somebody has subscribed."""
        self.hooks.append(("subscribed", f"{topic.name} {subscription.sub_key}"))

    def on_unsubscribed(self, topic: Any, subscription: Subscription) -> None:
        """Somebody has unsubscribed."""
        self.hooks.append(("unsubscribed", f"{topic.name} {subscription.sub_key}"))

    def attach(self, subscription: Subscription, session: Any) -> None:
        """A WebSocket gets the messages."""
        self.attached.append((subscription.sub_key, session))

    def changed(self, _sub_id: int) -> None:
        """A subscription has changed."""


class Worker:
    """One worker, as far as subscribing goes."""

    def __init__(self, store: Store, directory: Path) -> None:
        logs = Logs(directory, size=1_000_000, count=1)
        self.context: Any = Context(Settings(directory=directory, odb_url=""), logs, Metrics())
        self.told = Told()
        context = self.context
        context.store, context.registry = store, Registry(context)
        context.websockets, context.services = Endpoints(context), ServiceStore()
        context.services.replace("far.py", [describe(FarService)])
        context.publisher = SimpleNamespace(publish=lambda _version: None)
        context.listener = Listener(
            store, context.registry, redis_url="", poll_interval=60, applied=lambda _version: None
        )
        context.pubsub = SimpleNamespace(
            engine=store.engine,
            directory=Directory(context),
            pull=Pull(context),
            publishing=Publishing(context),
            hooks=self.told,
            deliveries=self.told,
        )
        context.registry.load(store.snapshot())
        self.subscribing = Subscribing(context)

    def endpoint(self, name: str = "crm") -> Endpoint:
        """The endpoint of this name."""
        found: Endpoint | None = self.context.pubsub.directory.endpoint_of(name=name)
        assert found is not None
        return found

    def subscribe(self, *topics: str, endpoint: str = "crm", wish: Wish | None = None) -> list[Subscription]:
        """The subscriptions of an endpoint to topics, by default to ``/customer/new``."""
        names = topics or ("/customer/new",)
        made = self.subscribing.subscribe(self.endpoint(endpoint), names, wish or Wish())
        return [one.subscription for one in made]


Start = Callable[[], Worker]


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Start:
    """Starts a worker of the cluster."""
    return lambda: Worker(store, tmp_path)


@pytest.fixture
def worker(start: Start) -> Worker:
    """A worker of the cluster."""
    return start()


def session(client_id: str = "crm.1") -> Any:
    """A WebSocket client that calls itself so."""
    return SimpleNamespace(ext_client_id=client_id)


def park(store: Store, topic: str, count: int) -> None:
    """Messages that were published while nobody had subscribed; one more has expired."""
    statement = """
        WITH given AS (SELECT n, nextval('pubsub_message_id_seq') AS id FROM generate_series(1, :count) n), stored AS (
            INSERT INTO pubsub_message (id, cluster_id, topic_id, msg_id, data, size, priority)
            SELECT id, :cluster, :topic, 'zpsm' || id, n, 1, 5 FROM given
        )
        INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id) SELECT -:topic, 5, id, :topic FROM given
    """
    topic_id = store.id_of("pubsub_topic", topic)
    with store.engine.begin() as connection:
        values = {"count": count, "cluster": store.cluster_id, "topic": topic_id}
        connection.execute(text(statement), values)


class TestSubscribing:
    def test_a_subscription_is_an_object_that_lists_leave_out_and_is_pulled_from(
        self, worker: Worker, store: Store
    ) -> None:
        (made,) = worker.subscribe(wish=Wish({"delivery_batch_size": "7", "ack_mode": "explicit"}))
        assert made.sub_key.startswith("zpsk.rest.")
        assert (made.delivery_method, made.batch_size, made.ack_mode) == ("pull", 7, "explicit")
        assert made.sub_pattern == "sub=/customer/*"
        assert store.find("pubsub_subscription").objects == []
        assert store.find("pubsub_subscription", internal=True).total == 1
        assert worker.told.hooks == [("subscribed", f"/customer/new {made.sub_key}")]

    def test_the_first_subscription_gets_what_was_published_before_it(
        self, worker: Worker, store: Store
    ) -> None:
        park(store, "/customer/new", 3)
        (one,) = worker.subscribing.subscribe(worker.endpoint(), ["/customer/new"], Wish())
        (two,) = worker.subscribing.subscribe(worker.endpoint("internal"), ["/customer/new"], TRUSTED)
        assert (one.depth, two.depth) == (3, 0)
        messages = worker.context.pubsub.pull.fetch(one.subscription, Fetch(10))
        assert [message.data for message in messages] == ["1", "2", "3"]

    def test_to_subscribe_again_is_an_error_unless_it_may_be_the_same_subscription(
        self, worker: Worker
    ) -> None:
        (made,) = worker.subscribe()
        with pytest.raises(BadRequest, match="Subscription to topic `/customer/new` already exists"):
            worker.subscribe()
        assert worker.subscribe(wish=AGAIN) == [made]
        assert len(worker.told.hooks) == 1

    def test_it_is_the_same_if_another_worker_made_it_a_moment_ago(self, start: Start) -> None:
        one, two = start(), start()
        (made,) = one.subscribe()
        with pytest.raises(BadRequest, match="already exists"):
            two.subscribe()
        (same,) = two.subscribe(wish=AGAIN)
        assert same.sub_key == made.sub_key

    def test_several_topics_are_subscribed_to_or_none(self, worker: Worker, store: Store) -> None:
        with pytest.raises(Forbidden):
            worker.subscribe("/customer/new", "/secret")
        assert store.find("pubsub_subscription", internal=True).total == 0
        before = store.version()
        made = worker.subscribe("/customer/new", "/customer/gone")
        assert [one.topic.name for one in made if one.topic] == ["/customer/new", "/customer/gone"]
        assert store.version() == before + 1

    @pytest.mark.parametrize("topic", ["/secret", "/unknown", "/customer/unknown", "nonsense\0"])
    def test_what_may_not_be_subscribed_to_and_what_does_not_exist_look_the_same(
        self, worker: Worker, topic: str
    ) -> None:
        with pytest.raises(Forbidden, match=r"^You are not authorized to access this resource\.$"):
            worker.subscribe(topic)

    @pytest.mark.parametrize(
        ("kind", "name", "fields"),
        [
            ("pubsub_endpoint", "crm", {"is_active": False}),
            ("pubsub_endpoint", "crm", {"role": "pub-only"}),
            ("pubsub_topic", "/customer/new", {"is_api_sub_allowed": False}),
        ],
    )
    def test_who_is_switched_off_may_not(
        self, worker: Worker, store: Store, kind: str, name: str, fields: dict[str, Any]
    ) -> None:
        edit(store, kind, name, **fields)
        worker.context.listener.catch_up()
        with pytest.raises(Forbidden):
            worker.subscribe()

    def test_who_is_trusted_is_told_that_there_is_no_such_topic_and_needs_no_pattern(
        self, worker: Worker
    ) -> None:
        with pytest.raises(NotFound, match="/unknown"):
            worker.subscribe("/unknown", wish=TRUSTED)
        (made,) = worker.subscribe("/secret", wish=TRUSTED)
        assert made.sub_pattern == ""

    def test_wrong_options_are_told_apart(self, worker: Worker) -> None:
        with pytest.raises(InvalidInput, match="delivery_batch_size"):
            worker.subscribe(wish=Wish({"delivery_batch_size": 0}))

    @pytest.mark.parametrize("count", [0, 101])
    def test_so_many_topics_cannot_be_subscribed_to(self, worker: Worker, count: int) -> None:
        with pytest.raises(BadRequest, match="1 to 100"):
            worker.subscribing.subscribe(worker.endpoint(), ["/customer/new"] * count, Wish())

    def test_a_topic_has_only_so_many_subscriptions(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("junctor.server.pubsub.subscribing.MAX_SUBSCRIPTIONS", 1)
        worker.subscribe()
        with pytest.raises(ServiceUnavailable, match="as many as it may have"):
            worker.subscribe(endpoint="wsx", wish=Wish(session=session()))


class TestWebSockets:
    def test_a_client_gets_a_new_subscription_each_time_and_its_messages(self, worker: Worker) -> None:
        client = session()
        wish = Wish({"unsub_on_wsx_close": True}, session=client)
        (one,) = worker.subscribe(endpoint="wsx", wish=wish)
        (two,) = worker.subscribe(endpoint="wsx", wish=wish)
        assert one.sub_key != two.sub_key
        assert (one.delivery_method, one.ext_client_id, one.unsub_on_wsx_close) == (
            "web-socket",
            "crm.1",
            True,
        )
        assert worker.told.attached == [(one.sub_key, client), (two.sub_key, client)]

    def test_a_link_finds_its_subscription_again_in_whatever_worker(self, start: Start) -> None:
        one, two = start(), start()
        (made,) = one.subscribe(endpoint="wsx", wish=Wish(session=session("outconn.far.7")))
        (other,) = two.subscribe(endpoint="wsx", wish=Wish(session=session("outconn.far.8")))
        client = session("outconn.far.7")
        for worker in (one, two):
            (same,) = worker.subscribe(endpoint="wsx", wish=Wish(session=client))
            assert same.sub_key == made.sub_key != other.sub_key
            assert worker.told.attached[-1] == (made.sub_key, client)

    def test_a_link_that_subscribes_to_more_topics_keeps_what_it_has(self, worker: Worker) -> None:
        wish = Wish(session=session("outconn.far.7"))
        (made,) = worker.subscribe(endpoint="wsx", wish=wish)
        old, new = worker.subscribe("/customer/new", "/customer/gone", endpoint="wsx", wish=wish)
        assert old.sub_key == made.sub_key != new.sub_key

    def test_a_subscription_is_resumed_by_its_key_by_a_client_of_the_same_channel(self, start: Start) -> None:
        one, two = start(), start()
        (made,) = one.subscribe(endpoint="wsx", wish=Wish(session=session()))
        back = session("another")
        two.subscribing.resume(two.endpoint("wsx"), made.sub_key, back)
        assert two.told.attached == [(made.sub_key, back)]

    def test_nobody_else_resumes_it_and_pulled_ones_are_not_resumed(self, worker: Worker) -> None:
        (made,) = worker.subscribe(endpoint="wsx", wish=Wish(session=session()))
        (pulled,) = worker.subscribe()
        for endpoint, key in (("crm", made.sub_key), ("crm", pulled.sub_key), ("wsx", "zpsk.unknown")):
            with pytest.raises(Forbidden):
                worker.subscribing.resume(worker.endpoint(endpoint), key, session())

    def test_the_subscriptions_of_a_client_are_listed(self, worker: Worker) -> None:
        wish = Wish(session=session())
        worker.subscribe("/customer/new", "/customer/gone", endpoint="wsx", wish=wish)
        worker.subscribe(endpoint="wsx", wish=Wish(session=session("another")))
        mine = worker.subscribing.of_client(worker.endpoint("wsx"), "crm.1")
        assert [topic.name for topic, _ in mine] == ["/customer/gone", "/customer/new"]

    @pytest.mark.parametrize("is_over", [True, False])
    def test_a_subscription_ends_with_its_socket_if_it_was_made_so(
        self, worker: Worker, store: Store, is_over: bool
    ) -> None:
        wish = Wish({"unsub_on_wsx_close": is_over}, session=session())
        (made,) = worker.subscribe(endpoint="wsx", wish=wish)
        worker.subscribing.closed(made)
        assert (store.find("pubsub_subscription", internal=True).total == 0) is is_over


class TestFinding:
    def test_a_key_that_another_worker_made_a_moment_ago_is_known(self, start: Start) -> None:
        one, two = start(), start()
        (made,) = one.subscribe()
        found = two.subscribing.of(two.endpoint(), made.sub_key, "/customer/new")
        assert found.sub_key == made.sub_key

    def test_who_pulls_from_a_topic_needs_no_key(self, start: Start) -> None:
        one, two = start(), start()
        (made,) = one.subscribe()
        assert two.subscribing.pulled_by(two.endpoint(), "/customer/new").sub_key == made.sub_key

    def test_a_key_of_somebody_else_or_for_another_topic_is_refused(self, worker: Worker) -> None:
        (made,) = worker.subscribe()
        for endpoint, topic in (("internal", "/customer/new"), ("crm", "/customer/gone")):
            with pytest.raises(Forbidden):
                worker.subscribing.of(worker.endpoint(endpoint), made.sub_key, topic)
        with pytest.raises(Forbidden):
            worker.subscribing.pulled_by(worker.endpoint(), "/customer/gone")


class TestUnsubscribing:
    def test_the_object_is_gone_and_the_hook_is_told(self, worker: Worker, store: Store) -> None:
        (made,) = worker.subscribe()
        worker.subscribing.unsubscribe(made)
        assert store.find("pubsub_subscription", internal=True).total == 0
        assert worker.context.pubsub.directory.subscription(made.sub_key) is None
        assert worker.told.hooks[-1] == ("unsubscribed", f"/customer/new {made.sub_key}")
        worker.subscribe()

    def test_what_is_gone_already_is_no_error_and_no_hook_is_told_twice(
        self, worker: Worker, store: Store
    ) -> None:
        (made,) = worker.subscribe()
        remove(store, "pubsub_subscription", made.id)
        worker.subscribing.unsubscribe(made)
        assert [what for what, _ in worker.told.hooks] == ["subscribed"]


class TestTopicsOfServices:
    def test_publishing_to_a_service_makes_it_a_topic_and_a_subscriber_once(
        self, start: Start, store: Store
    ) -> None:
        add(store, "pubsub_endpoint", "zato.pubsub.default.internal.endpoint", endpoint_type="internal")
        one, two = start(), start()
        for worker in (one, two, one):
            topics = ServiceTopics(worker.context)
            assert topics.topic_of("far.service") == "/zato/s/to/far.service"
        (made,) = store.find("pubsub_subscription", internal=True).objects
        assert (made["service"], made["topic"]) == ("far.service", "/zato/s/to/far.service")
        assert (made["delivery_method"], made["delivery_batch_size"]) == ("notify", 1)

    def test_topics_and_what_is_nothing_are_themselves(self, worker: Worker) -> None:
        topics = ServiceTopics(worker.context)
        assert topics.topic_of("/customer/new") == "/customer/new"
        assert topics.topic_of("nothing") == "nothing"
