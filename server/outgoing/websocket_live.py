"""The live counterpart of an outgoing WebSocket connection, and all links of a worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gevent

from junctor.server.outgoing.facade import OutgoingLive
from junctor.server.outgoing.websocket import WebSocketConnection, WebSocketConnections
from junctor.server.outgoing.websocket_hooks import HookContext, Hooks
from junctor.server.outgoing.websocket_link import Link, Surroundings
from junctor.server.outgoing.websocket_session import MAX_DRAIN, Incoming, LinkSettings
from junctor.server.runtime.lease import Leases
from junctor.server.runtime.live import Live
from junctor.server.security.definitions import Definition
from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.service.link import LINK
from junctor.server.websocket.client_messages import ServerMessage
from junctor.sql.config import Config
from junctor.sql.errors import ConnectionFailed

if TYPE_CHECKING:
    from junctor.server.context import Context

HOOK_TIMEOUT = 300.0  # seconds; the next message waits for the hook of the one before it
STOP_TIMEOUT = 8.0  # seconds in which all links of a worker close


class Links:
    """Every link of a worker, and the leases that they want.

    Links begin to connect with ``start``: before that, the worker may still fail to boot, and begin anew.
    """

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self._links: set[Link] = set()
        self._is_started = False

    def add(self, link: Link) -> None:
        """Looks after a link."""
        self._links.add(link)
        if self._is_started:
            link.start()

    def remove(self, link: Link) -> None:
        """Ends the subscriptions of a link, lets its calls finish and closes it, all in a greenlet: nobody waits for that."""
        self._links.discard(link)
        gevent.spawn(link.stop, MAX_DRAIN, for_good=True)

    def start(self) -> None:
        """Begins to connect; to be called once the worker is known to the cluster, which owners of leases must be."""
        self._is_started = True
        self.leases.start()
        for link in self._links:
            link.start()

    def stop(self) -> None:
        """Closes all.  Blocks for a few seconds at the most."""
        gevent.joinall([gevent.spawn(link.stop) for link in self._links], timeout=STOP_TIMEOUT)
        self._links.clear()
        self.leases.stop()


class OutgoingWebSocketLive(OutgoingLive):
    """An outgoing WebSocket connection that works, or tries to: whether the remote end is there is its state, not a problem.

    Its link outlives it when the object is edited: ``take_over`` hands it on.
    """

    kind = "outgoing_websocket"
    names = ("wsx", "websocket")
    view = WebSocketConnections
    connection: WebSocketConnection

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.settings = LinkSettings.of(config)
        self.link: Link | None = None

    def take_over(self, previous: Live | None) -> None:
        """Goes on with the link of its predecessor, or makes the first one."""
        if isinstance(previous, OutgoingWebSocketLive) and previous.link is not None:
            self.link, self.connection = previous.link, previous.connection
            previous.link = None
            self.link.hooks.runs(self._run_hook, self._has_hook)
            self.link.apply(self.settings)
        else:
            self.link = Link(self.settings, self._surroundings(), Hooks(self._run_hook, self._has_hook))
            self.connection = WebSocketConnection(self.link)
            self.context.links.add(self.link)
        super().take_over(previous)

    def stop(self) -> None:
        """Closes the link, unless a successor has it."""
        if self.link is not None:
            self.context.links.remove(self.link)

    def runtime_state(self) -> dict[str, Any] | None:
        """What its link says of itself."""
        return self.link.shown() if self.link is not None else None

    def _surroundings(self) -> Surroundings:
        context = self.context
        return Surroundings(
            cluster=context.settings.cluster,
            place=f"{context.settings.server_name}.{os.getpid()}",
            metrics=context.metrics,
            leases=context.links.leases,
            credentials=self._credentials,
        )

    def _credentials(self, settings: LinkSettings) -> tuple[str, str]:
        """What the security definition gives now; raises ``ConnectionFailed`` when that does not work."""
        if settings.security_id is None:
            return "", ""
        definition = self.context.registry.live("security", settings.security_id)
        if not isinstance(definition, Definition) or not definition.config["is_active"]:
            raise ConnectionFailed("Its security definition is not active.")
        return definition.outgoing_session()

    def _has_hook(self, hook_type: str) -> bool:
        return bool(self.config[f"on_{hook_type}_service"])

    def _run_hook(self, ctx: HookContext, incoming: Incoming | None) -> Any:
        """The response of the hook service, which is invoked with ``ctx`` as its input."""
        config = self.config
        ctx.config, ctx.conn = Bunch(config), self.connection
        message = incoming.message if incoming is not None else None
        link = message.ctx if isinstance(message, ServerMessage) and "hops" in message.ctx else None
        call = Call(
            config[f"on_{ctx.type}_service"],
            {"ctx": ctx},
            channel=ChannelInfo(CHANNEL.INVOKE, config.id, config.name),
            data_format=DATA_FORMAT.DICT,
            environ={LINK: {"origin": link.get("origin"), "hops": link["hops"]}} if link else {},
            timeout=HOOK_TIMEOUT,
        )
        return self.context.invoker.invoke(call).payload
