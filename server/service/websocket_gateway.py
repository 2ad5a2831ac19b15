"""Gateways: services through which WebSocket clients invoke others, those of an allow-list (facts sheet, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from junctor.server.service.base import Service
from junctor.server.service.naming import OWN_PREFIXES
from junctor.server.websocket.allow_list import AllowList
from junctor.server.websocket.caller import client_of
from junctor.sql.errors import Forbidden, InvalidInput

if TYPE_CHECKING:
    from junctor.server.websocket.session import Session

BY_NAME_ONLY: Final = (*OWN_PREFIXES, "helpers.web-sockets-")
NOT_ALLOWED: Final = "You are not allowed to access this resource"
MAX_SHOWN: Final = 200  # characters of a name that a client made up
PUBLISH_SUBSCRIBE: Final = (
    "zato.pubsub.pubapi.publish-message",
    "zato.pubsub.pubapi.subscribe-wsx",
    "zato.pubsub.pubapi.unsubscribe",
    "zato.pubsub.resume-wsx-subscription",
    "zato.pubsub.subscription.create-wsx-subscription",
    "pubsub.subscription.get-list",
)
DEFAULT: Final = frozenset(("zato.ping", *PUBLISH_SUBSCRIBE))
PUBLISH_SUBSCRIBE_ONLY: Final = (
    "zato.pubsub.subscription.create-wsx-subscription",
    "pubsub.subscription.get-list",
    "pubsub.subscription.unsubscribe",
)


class WebSocketsGateway(Service):
    """Invokes the service that the client names.

    A client may name those of its channel's gateway services, or by default ``zato.ping`` and publish/subscribe; and those that
    a subclass adds in ``services_allowed``.  Services that administer the cluster must be listed by name: no wildcard stands for them.
    """

    name = "helpers.web-sockets-gateway"
    zato_dont_import = True
    services_allowed: ClassVar[Iterable[str]] = ()

    def handle(self) -> None:
        """``service``, and optionally ``request``, any JSON; the answer is that service's.  Raises ``Forbidden``, or what it raises."""
        fields = self.request.payload
        name = fields.get("service") if isinstance(fields, dict) else None
        if not isinstance(name, str) or not name:
            raise InvalidInput.one("service", "is required: the name of the service to invoke.")
        client = client_of(self.environ)
        if not self._is_allowed(name, client):
            self._log_refusal(name, client)
            raise Forbidden(self.cid, NOT_ALLOWED)
        self.wsgi_environ["zato.orig_channel"] = self.channel
        request = fields.get("request")
        self.response.payload = self.invoke(name, "" if request is None else request)

    def listed(self, client: Session | None) -> AllowList:
        """What the client may name, beside ``services_allowed``."""
        of_channel = client.channels.channel.gateway if client is not None else None
        return of_channel or AllowList(DEFAULT)

    def _is_allowed(self, name: str, client: Session | None) -> bool:
        lists = (self.listed(client), AllowList(self.services_allowed))
        if name.startswith(BY_NAME_ONLY) and name not in DEFAULT:
            return any(item.has(name) for item in lists)
        return any(item.matches(name) for item in lists)

    def _log_refusal(self, name: str, client: Session | None) -> None:
        self.logger.warning(
            "%s may not invoke service %r through %s of WebSocket channel %r.",
            client.shown if client is not None else "A caller that is no WebSocket client",
            name[:MAX_SHOWN],
            self.name,
            self.channel.name,
        )


class WebSocketsPubSubGateway(WebSocketsGateway):
    """The same for publish/subscribe alone, whatever the channel's gateway services are."""

    name = "helpers.web-sockets-pub-sub-gateway"
    zato_dont_import = True

    def listed(self, client: Session | None) -> AllowList:
        """The services that manage subscriptions."""
        del client
        return AllowList(PUBLISH_SUBSCRIBE_ONLY)
