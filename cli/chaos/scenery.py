"""What a run needs in the cluster: its own users, topics, endpoints, subscriptions, services and WebSocket channel.

Everything has the id of the run in its name, and is removed in the end, whatever happened.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from junctor.cli.chaos.plan import (
    HAND_OVER,
    NOTIFY,
    PULL,
    SERVICE,
    WEB_SOCKET,
    Plan,
    Subscriber,
)
from junctor.server.client import AdminClient, ClusterUnreachable, RemoteError
from junctor.sql.errors import JunctorError

CONVERGENCE = 30.0  # seconds in which all workers must know everything
REMOVAL = 60.0  # seconds in which removing must succeed, be the cluster as ill as it may
PAUSE = 0.5  # seconds between two attempts to remove something
DEPTH = 1_000_000  # messages; nobody shall be refused because of a long queue
ACK_WAIT = 6  # seconds: what a subscriber is given to acknowledge
CALL_TIMEOUT = 5  # seconds: of calls to this process
SERVICE_WAIT = 30.0  # seconds that loading the services may take
UNDEPLOY, DEPLOY, WAIT = "zato.service-source.delete", "junctor.service.deploy", "junctor.cluster.wait"
SERVICES: Final = {
    "security_basic_auth": "zato.security.basic-auth",
    "pubsub_topic": "zato.pubsub.topic",
    "pubsub_endpoint": "zato.pubsub.endpoint",
    "pubsub_subscription": "zato.pubsub.subscription",
    "outgoing_rest": "zato.outgoing-rest",
    "channel_rest": "zato.channel-rest",
    "channel_websocket": "zato.channel.web-socket",
}
GONE: Final = frozenset({404})  # an object that is not there need not be removed

# The two services of a run: one publishes lists, the other hands what it receives to this process before it says that it has it.
SOURCE = '''\
"""Made by 'junctor chaos verify', run {run}; to be deleted if that run is over."""

from zato.server.service import Service


class Publish(Service):
    """Publishes a list of messages."""

    name = "{run}.publish"

    def handle(self):
        given = self.request.payload
        self.pubsub.publish(given["topic"], data_list=given["messages"])


class Record(Service):
    """Receives messages, and has received them once the run has written them down."""

    name = "{run}.record"

    def handle(self):
        response = self.out.rest["{run}.record"].conn.post(self.cid, self.request.payload)
        if response.status_code != 200:
            raise Exception("The run does not take the messages now.")
'''


@dataclass(frozen=True, slots=True)
class User:
    """Somebody's credentials."""

    name: str
    password: str = field(repr=False)

    @property
    def pair(self) -> tuple[str, str]:
        """User name and password, as HTTP clients want them."""
        return self.name, self.password


@dataclass(slots=True)
class Scenery:
    """The objects of a run, by name, and what is known of them.

    ``sub_keys`` are those of the subscriptions, by the name of the subscriber.
    """

    run: str
    users: dict[str, User] = field(default_factory=dict)
    sub_keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Scenery:
        """Names for a new run; nothing is made yet."""
        return cls(f"chaos{secrets.token_hex(4)}")

    def topic(self, topic: str) -> str:
        """The name of a topic of the plan in the cluster."""
        return f"/{self.run}/{topic}"

    @property
    def channel_path(self) -> str:
        """The path of the WebSocket channel."""
        return f"/{self.run}/ws"

    @property
    def publish_path(self) -> str:
        """The path of the REST channel which publishes lists."""
        return f"/{self.run}/publish"


class SceneryBuilder:
    """Makes and removes the objects of a run by way of the cluster's administrative services.

    ``callback`` is the URL at which the cluster reaches this process, '' = it cannot.
    """

    def __init__(self, admin: AdminClient, scenery: Scenery, callback: str) -> None:
        self._admin = admin
        self._callback = callback
        self._made: list[tuple[str, dict[str, Any]]] = []
        self._version = 0
        self.scenery = scenery

    def build(self, plan: Plan) -> None:
        """All of it is there, and every worker knows it.  Raises what ``AdminClient.invoke`` does, or ``NotConverged``."""
        run = self.scenery.run
        for topic in plan.topics:
            fields = {"name": self.scenery.topic(topic), "max_depth_gd": DEPTH, "has_gd": True}
            self._create("pubsub_topic", fields)
        self._create_user("publisher")
        self._create_endpoint("publisher", "pub-only", f"pub=/{run}/*")
        self._deploy()
        channel = {
            "name": f"{run}.publish",
            "service": f"{run}.publish",
            "url_path": self.scenery.publish_path,
        }
        self._create("channel_rest", channel | {"security": f"{run}.publisher"})
        if any(subscriber.kind == SERVICE for subscriber in plan.subscribers):
            self._create_connection("record", "/record")
        if any(subscriber.kind == WEB_SOCKET for subscriber in plan.subscribers):
            self._create_channel()
        for subscriber in plan.subscribers:
            self._create_subscription(subscriber)
        self._converge()

    def remove(self) -> list[str]:
        """What could not be removed, in words; each is tried for up to a minute, for the cluster may not be well."""
        deadline = time.monotonic() + REMOVAL
        left = []
        while self._made:
            service, request = self._made.pop()
            if problem := self._removed(service, request, deadline):
                left.append(problem)
        return left

    def _removed(self, service: str, request: dict[str, Any], deadline: float) -> str:
        while True:
            try:
                self._admin.invoke(service, request | {"wait": 0})
                return ""
            except (ClusterUnreachable, RemoteError, JunctorError) as error:
                if getattr(error, "status", 0) in GONE:
                    return ""
                if time.monotonic() > deadline:
                    name = request.get("name") or request.get("id")
                    return f"{service.rpartition('.')[0]} {name}: {error}"
            time.sleep(PAUSE)

    def _create(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        prefix = SERVICES[kind]
        # Noted first: an answer that is lost does not mean that there is nothing to remove.
        self._made.append((f"{prefix}.delete", {"name": fields["name"]}))
        answer = self._invoke(f"{prefix}.create", fields | {"wait": 0})
        self._version = max(self._version, answer["config_version"])
        return answer

    def _invoke(self, service: str, request: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._admin.invoke(service, request, timeout=timeout)
        return answer

    def _create_user(self, name: str) -> None:
        user = User(f"{self.scenery.run}.{name}", secrets.token_urlsafe(24))
        self.scenery.users[name] = user
        fields = {"name": user.name, "username": user.name, "password": user.password}
        self._create("security_basic_auth", fields)

    def _create_endpoint(self, name: str, role: str, pattern: str) -> None:
        full = f"{self.scenery.run}.{name}"
        fields = {"name": full, "endpoint_type": "rest", "security": full, "role": role}
        self._create("pubsub_endpoint", fields | {"topic_patterns": [pattern]})

    def _create_connection(self, name: str, path: str) -> None:
        fields = {"name": f"{self.scenery.run}.{name}", "host": self._host, "timeout": CALL_TIMEOUT}
        self._create("outgoing_rest", fields | {"url_path": f"{self._base}{path}"})

    def _create_channel(self) -> None:
        run = self.scenery.run
        self._create_user("websocket")
        name = f"{run}.websocket"
        fields = {"name": name, "address": self.scenery.channel_path, "security": name}
        self._create("channel_websocket", fields | {"service": "helpers.web-sockets-gateway"})
        endpoint = {"name": name, "endpoint_type": "wsx", "ws_channel": name, "role": "sub-only"}
        self._create("pubsub_endpoint", endpoint | {"topic_patterns": [f"sub=/{run}/*"]})

    def _create_subscription(self, subscriber: Subscriber) -> None:
        run, name = self.scenery.run, subscriber.name
        fields = {"name": f"{run}.{name}", "topic": self.scenery.topic(subscriber.topic)}
        if subscriber.kind == WEB_SOCKET:
            fields |= {"endpoint": f"{run}.websocket", "delivery_method": "web-socket"}
        else:
            self._create_user(name)
            self._create_endpoint(name, "sub-only", f"sub=/{run}/*")
            fields |= {"endpoint": f"{run}.{name}"} | self._receiver(subscriber)
        made = self._create("pubsub_subscription", fields | self._options(subscriber))
        self.scenery.sub_keys[name] = made["sub_key"]

    def _receiver(self, subscriber: Subscriber) -> dict[str, Any]:
        """How the messages of a subscription that is no WebSocket's get to this process."""
        run, name = self.scenery.run, subscriber.name
        if subscriber.kind == NOTIFY:
            self._create_connection(name, f"/notify/{name}")
            return {"delivery_method": "notify", "out_rest": f"{run}.{name}"}
        if subscriber.kind == SERVICE:
            return {"delivery_method": "notify", "service": f"{run}.record"}
        return {"delivery_method": "pull"}

    def _options(self, subscriber: Subscriber) -> dict[str, Any]:
        options: dict[str, Any] = {
            "delivery_batch_size": subscriber.batch,
            "delivery_err_should_block": subscriber.is_strict,
            "wait_sock_err": 1,
            "wait_non_sock_err": 1,
            "ack_wait": ACK_WAIT,
        }
        if subscriber.kind in (PULL, HAND_OVER):
            options["pull_order"] = "oldest" if subscriber.kind == PULL else "newest"
        if subscriber.kind in (PULL, WEB_SOCKET):
            options["ack_mode"] = "explicit"
        return options

    def _deploy(self) -> None:
        run = self.scenery.run
        self._made.append((UNDEPLOY, {"name": f"{run}.py"}))
        files = [{"name": f"{run}.py", "content": SOURCE.format(run=run)}]
        answer = self._invoke(DEPLOY, {"files": files, "wait": 0}, timeout=SERVICE_WAIT)
        self._version = max(self._version, answer["config_version"])

    def _converge(self) -> None:
        request = {"version": self._version, "timeout": CONVERGENCE}
        answer = self._invoke(WAIT, request, timeout=CONVERGENCE + SERVICE_WAIT)
        if not answer["converged"]:
            raise NotConverged(f"Not every worker knows the objects of the run after {CONVERGENCE:g} s.")

    @property
    def _host(self) -> str:
        scheme, _, rest = self._callback.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"

    @property
    def _base(self) -> str:
        return "/" + self._callback.partition("://")[2].partition("/")[2]


class NotConverged(JunctorError):
    """The workers of the cluster do not all know what was just configured."""
