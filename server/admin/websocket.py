"""The clients of WebSocket channels: who is connected, and what can be done with them, wherever in the cluster they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from junctor.server.admin.objects import DEFAULT_PAGE
from junctor.server.admin.service import AdminService
from junctor.server.service.wsx import DEFAULT_TIMEOUT
from junctor.server.websocket.directory import FoundClient
from junctor.server.websocket.operation import CLIENT, MAX_TIMEOUT
from junctor.sql.errors import ConnectionFailed, InvalidInput, NotFound, ServiceUnavailable
from junctor.sql.store import MAX_PAGE

KIND = "channel_websocket"
MAX_REASON = 123  # bytes that a close frame may have for it (RFC 6455, section 5.5)


class ClientService(AdminService):
    """A service about clients of one channel, or of all."""

    zato_dont_import = True

    def channel_name(self, fields: dict[str, Any]) -> str | None:
        """The name of the channel that ``id`` or ``name`` says; None if neither is given.  Raises ``NotFound``."""
        object_id = fields.get("id")
        if object_id is None:
            name = self.text(fields, "name", "")
            return self.context.store.get(KIND, name).name if name else None
        if isinstance(object_id, bool) or not isinstance(object_id, int):
            raise InvalidInput.one("id", "must be a whole number.")
        return self.context.store.get_by_id(KIND, object_id).name

    def client_id(self, fields: dict[str, Any]) -> str:
        """The ``pub_client_id``; raises ``NotFound`` if no such client is connected, or not to the channel that is given."""
        key = self.text(fields, "pub_client_id")
        found = self.context.wsx.find(key)
        if self.channel_name(fields) not in (None, found.channel):
            raise NotFound(CLIENT, key)
        return key

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Tells the administrator why a client, or its server, could not be reached, which is no fault of this server."""
        try:
            yield
        except ConnectionFailed as error:
            raise ServiceUnavailable(self.cid, error.message) from error


class GetConnectionList(ClientService):
    """The clients that are connected, those first that connected last.

    A client appears, and disappears, about a tenth of a second after it does.
    """

    name = "zato.channel.web-socket.get-connection-list"

    def handle(self) -> None:
        """``id`` or ``name`` of a channel, all by default; ``query``, a part of a client's id or name; ``offset`` and ``limit``."""
        fields = self.fields
        clients, total = self.context.wsx.page(
            self.channel_name(fields),
            query=self.text(fields, "query", ""),
            offset=int(self.number(fields, "offset", 0, high=2**31)),
            limit=int(self.number(fields, "limit", DEFAULT_PAGE, high=MAX_PAGE)),
        )
        self.response.payload = {"items": [shown(client) for client in clients], "total": total}


class DisconnectConnection(ClientService):
    """Closes the connection of a client, who may connect again."""

    name = "zato.channel.web-socket.disconnect-connection"

    def handle(self) -> None:
        """``pub_client_id``; ``id`` or ``name`` of its channel, if that is to be checked; ``reason``, which the client is told."""
        fields = self.fields
        reason = self.text(fields, "reason", "")
        if len(reason.encode("utf-8", "surrogatepass")) > MAX_REASON:
            raise InvalidInput.one("reason", f"must not have more than {MAX_REASON} bytes.")
        key = self.client_id(fields)
        with self.reached():
            self.context.wsx.disconnect(key, reason=reason)
        self.logger.info("Client %s was disconnected by %s.", key, self.who)
        self.response.payload = {"pub_client_id": key}


class InvokeWSX(ClientService):
    """Invokes a client and answers with its response."""

    name = "zato.channel.web-socket.invoke-wsx"

    def handle(self) -> None:
        """``pub_client_id``; ``request_data``; ``timeout`` in seconds; ``id`` or ``name`` of its channel, if that is to be checked."""
        fields = self.fields
        timeout = self.number(fields, "timeout", DEFAULT_TIMEOUT, high=MAX_TIMEOUT)
        with self.reached():
            answer = self.context.wsx.invoke(self.client_id(fields), fields.get("request_data", ""), timeout)
        self.response.payload = {"response_data": answer}


class Broadcast(ClientService):
    """Sends a message to all clients of a channel; answers with how many clients it was sent to."""

    name = "zato.channel.web-socket.broadcast"

    def handle(self) -> None:
        """``id`` or ``name`` of the channel; ``request_data``."""
        fields = self.fields
        channel = self.channel_name(fields)
        if channel is None:
            raise InvalidInput.one("name", "is required.")
        self.response.payload = {"count": self.context.wsx.broadcast(channel, fields.get("request_data", ""))}


SERVICES = (GetConnectionList, DisconnectConnection, InvokeWSX, Broadcast)


def shown(client: FoundClient) -> dict[str, Any]:
    """A client as callers see it.  Host names are not looked up: that could take as long as a name server likes."""
    return {
        "pub_client_id": client.pub_client_id,
        "ext_client_id": client.ext_client_id,
        "ext_client_name": client.ext_client_name,
        "attributes": dict(client.attributes),
        "channel": client.channel,
        "local_address": client.local_address,
        "peer_address": client.peer_address,
        "peer_fqdn": _host(client.peer_address),
        "peer_forwarded_for": client.forwarded_for,
        "peer_forwarded_for_fqdn": client.forwarded_for,
        "connection_time": client.connected.isoformat(),
        "server_name": client.server,
        "server_proc_pid": client.pid,
        "sub_count": 0,
    }


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]") or address
