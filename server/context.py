"""What the parts of one worker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from junctor.server.channels.router import Router
from junctor.server.email.connections import Email
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.settings import Settings

if TYPE_CHECKING:
    from junctor.server.audit.trail import AuditTrail
    from junctor.server.bus.client import Publisher
    from junctor.server.bus.listener import Convergence, Listener
    from junctor.server.channels.rest import RestChannel
    from junctor.server.outgoing.facade import Outgoing
    from junctor.server.outgoing.websocket_live import Links
    from junctor.server.pubsub.broker import Broker
    from junctor.server.runtime.cluster import ClusterSettings
    from junctor.server.runtime.registry import Registry
    from junctor.server.runtime.status import WorkerStatus
    from junctor.server.security.tokens import Tokens
    from junctor.server.service.invoke import Invoker
    from junctor.server.service.store import ServiceStore
    from junctor.server.service.wsx import WSX
    from junctor.server.sso.linked_rows import Link
    from junctor.server.sso.single_sign_on import SingleSignOn
    from junctor.server.websocket.clients import ConnectedClients
    from junctor.server.websocket.endpoints import Endpoints
    from junctor.server.websocket.relay import Relay
    from junctor.sql.store import Store


@dataclass(slots=True)
class Context:
    """A worker's parts.

    The fields without a default are there from the start, in the master already.  The others are set by ``Worker`` while the worker boots,
    before ``is_loaded``; nothing that runs for a request sees them missing.  ``not_ready`` says why no requests should be sent
    here, '' when they should.  ``linked`` has the security definitions whose calls are a user's of Single Sign-On, by their ids.
    """

    settings: Settings
    logs: Logs
    metrics: Metrics
    router: Router[RestChannel] = field(default_factory=Router)
    email: Email = field(default_factory=Email)
    linked: dict[int, Link] = field(default_factory=dict)
    is_loaded: bool = False
    not_ready: str = "The server is starting."

    store: Store = field(init=False)
    services: ServiceStore = field(init=False)
    invoker: Invoker = field(init=False)
    registry: Registry = field(init=False)
    outgoing: Outgoing = field(init=False)
    links: Links = field(init=False)
    cluster: ClusterSettings = field(init=False)
    publisher: Publisher = field(init=False)
    listener: Listener = field(init=False)
    convergence: Convergence = field(init=False)
    status: WorkerStatus = field(init=False)
    clients: ConnectedClients = field(init=False)
    relay: Relay = field(init=False)
    tokens: Tokens = field(init=False)
    wsx: WSX = field(init=False)
    websockets: Endpoints = field(init=False)
    pubsub: Broker = field(init=False)
    audit: AuditTrail = field(init=False)
    sso: SingleSignOn = field(init=False)

    @property
    def out(self) -> Outgoing:
        """The outgoing connections, which services have as ``self.out``."""
        return self.outgoing
