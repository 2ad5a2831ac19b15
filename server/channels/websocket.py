"""WebSocket channels: their addresses, whom they let in, and the service that messages go to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.runtime.live import Live
from junctor.server.security.definitions import Definition
from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, NO_SECURITY, ChannelInfo, ChannelSecurityInfo
from junctor.server.service.link import LINK
from junctor.server.service.request import HTTPRequest
from junctor.server.websocket import tls
from junctor.server.websocket.address import Address
from junctor.server.websocket.allow_list import AllowList
from junctor.server.websocket.caller import ASYNC_MESSAGE
from junctor.server.websocket.envelope import ClientMessage, Credentials
from junctor.server.websocket.hooks import identity
from junctor.server.websocket.sessions import Sessions
from junctor.server.websocket.stream import GOING_AWAY, RESTART
from junctor.sql import base
from junctor.sql.config import Config
from junctor.sql.errors import InvalidInput, Unauthorized

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.websocket.session import Session

ANYBODY: Final = "anybody"  # the ticket of who was let in without credentials


class WebSocketChannel(Live):
    """A WebSocket endpoint as it is configured; whoever is connected stays when it is replaced by another configuration.

    What a change means for them: ``Sessions`` asks ``still_admits`` again, ``take_over`` disconnects those whose channel is
    not where it was, and everything else holds from the next message on.  Sizes are those of new connections.
    """

    kind = "channel_websocket"
    sessions: Sessions

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.name = config.name
        self.is_active: bool = config["is_active"]
        self.address = Address.parse(config["address"])
        self.hook_service: str = config["hook_service"] or ""
        self.new_token_wait_time: int = config["new_token_wait_time"]
        self.token_ttl: int = config["token_ttl"]
        self.ping_interval: int = config["ping_interval"]
        self.pings_missed_threshold: int = config["pings_missed_threshold"]
        self.max_message_size: int = config["max_message_size"]
        self.max_connections: int = config["max_connections"]
        self.max_concurrent: int = config["max_concurrent"]
        self.max_pending: int = config["max_pending"]
        self.compression: bool = config["compression"]
        self.gateway = AllowList(config["gateway_services"])
        self._service: str = config["service"]
        self._security_id: int | None = config["security_id"]
        self._origins = frozenset(_origin(origin) for origin in config["allowed_origins"])
        self._info = ChannelInfo(CHANNEL.WEB_SOCKET, config.id, self.name, "json", impl=self)
        self._tls: Any = None
        self._shown_config: Bunch | None = None

    @property
    def definition(self) -> Live | None:
        """The live security definition; None when there is none, or when it does not work."""
        return (
            None if self._security_id is None else self.context.registry.live("security", self._security_id)
        )

    @property
    def shown_config(self) -> Bunch:
        """The channel's fields, as services may see them: without secrets."""
        if self._shown_config is None:
            declared = base.declared(base.kind_class(self.kind))
            names = ("id", *(name for name, field in declared.items() if not field.is_secret))
            self._shown_config = Bunch((name, self.config[name]) for name in names)
        return self._shown_config

    def start(self) -> None:
        """Reserves its address, which the predecessor may be using.  Raises ``AddressUnavailable``, ``InvalidInput``."""
        if self.is_active and self.address.is_own:
            if self.address.is_secure:
                self._tls = tls.server_context(
                    self.config["tls_certificate"], self.config["tls_key"].reveal()
                )
            self.context.websockets.bind(self.address, self.config.id)

    def take_over(self, previous: Live | None) -> None:
        """Is reached at its address, and has the predecessor's sessions, of which it disconnects those that have no place any more."""
        before = previous if isinstance(previous, WebSocketChannel) else None
        self.sessions = before.sessions if before is not None else Sessions(self.context)
        self.sessions.serve_with(self)
        endpoints = self.context.websockets
        if self.is_active:
            endpoints.attach(self.address, self.sessions, self._tls)
        if (
            before is not None
            and before.is_active
            and not (self.is_active and before.address == self.address)
        ):
            endpoints.detach(before.address, self.sessions)
            if self.is_active:
                self.sessions.close(RESTART, "The channel has another address")
            else:
                self.sessions.close(GOING_AWAY, "The channel was switched off")

    def leave(self) -> None:
        """Is not reached any more, and disconnects everybody."""
        if self.is_active:
            self.context.websockets.detach(self.address, self.sessions)
        self.sessions.close(GOING_AWAY, "The channel was deleted")

    def admits_origin(self, origin: str | None) -> bool:
        """Whether scripts of this origin may connect; None is a client that is no web page."""
        return not self._origins or origin is None or _origin(origin) in self._origins

    def admit(self, credentials: Credentials) -> object:
        """The ticket of somebody with these credentials, by which ``still_admits`` tells later on.  Raises ``Unauthorized``."""
        if self._security_id is None:
            return ANYBODY
        definition = self.definition
        username, secret = credentials.username, credentials.secret
        if not isinstance(definition, Definition) or not definition.admits_session(username, secret):
            raise Unauthorized
        ticket = definition.session_ticket(username, secret)
        if ticket is None:  # a token has expired just now
            raise Unauthorized
        return ticket

    def still_admits(self, ticket: object) -> bool:
        """Whether whoever got a ticket would be let in now."""
        if self._security_id is None:
            return True
        definition = self.definition
        return isinstance(definition, Definition) and definition.still_admits(ticket)

    def invoke(self, session: Session, message: ClientMessage, cid: str) -> Any:
        """The response of the channel's service.  Raises what that raises."""
        data = message.data
        environ = self._environ(session, message)
        call = Call(
            service=self._service,
            payload=data,
            raw_request=data if isinstance(data, str) else _raw(data),
            cid=cid,
            channel=self._channel_info(),
            data_format="json",
            http=HTTPRequest(environ),
            environ=environ,
        )
        return self.context.invoker.invoke(call).payload

    def environ_of(self, session: Session) -> dict[str, Any]:
        """What services find out about the client from their ``environ`` (facts sheet, section 2)."""
        seen = session.service_environ
        if seen is None:
            seen = session.service_environ = {
                "web_socket": session,
                "sql_ws_client_id": None,
                "ext_token": None,
                "initial_http_wsgi_environ": session.peer.environ,
                **identity(session),
            }
        seen["ws_channel_config"] = self.shown_config
        seen["ws_token"] = session.token
        seen["pings_missed"] = session.pings_missed
        seen["pings_missed_threshold"] = self.pings_missed_threshold
        return {ASYNC_MESSAGE: {"environ": seen}}

    def _environ(self, session: Session, message: ClientMessage) -> dict[str, Any]:
        environ = self.environ_of(session)
        if ctx := message.ctx:
            for name in ("reply_to_sk", "deliver_to_sk"):
                if name in ctx:
                    environ[ASYNC_MESSAGE][name] = ctx[name]
            if isinstance(ctx.get("hops"), int):
                environ[LINK] = {"origin": ctx.get("origin"), "hops": ctx["hops"]}
        return environ

    def _channel_info(self) -> ChannelInfo:
        """What services see of the channel; made anew only when the security definition is another one."""
        definition = self.definition
        seen: ChannelSecurityInfo = definition.info if isinstance(definition, Definition) else NO_SECURITY
        if self._info.security is not seen:
            self._info = replace(self._info, security=seen)
        return self._info


def _raw(data: Any) -> bytes:
    """What a client sent, as JSON again.  Raises ``InvalidInput``."""
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError as error:  # much less may be nested in what is written than in what is read
        raise InvalidInput.one("data", f"cannot be taken: {error}.") from None


def _origin(text: str) -> str:
    """An origin in one spelling."""
    return text.strip().rstrip("/").lower()
