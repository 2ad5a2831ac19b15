"""Hooks of WebSocket channels: services that are told of clients that come, go, and answer (facts sheet, section 2)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import gevent

from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, ChannelInfo

if TYPE_CHECKING:
    from junctor.server.websocket.envelope import ClientMessage
    from junctor.server.websocket.session import Session

CONNECTED, DISCONNECTED, PUBSUB_RESPONSE = "wsx_on_connected", "wsx_on_disconnected", "wsx_on_pubsub_response"
TIMEOUT: Final = 30.0  # seconds
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hook:
    """Something to tell the hook service; ``message`` is the client's answer to a delivery, None otherwise."""

    type: str
    message: ClientMessage | None = None


def run_hook(client: Session, hook: Hook) -> None:
    """Tells the channel's hook service, if it has one.  What that raises is logged: a hook never ends a connection."""
    channel = client.channels.channel
    service = channel.hook_service
    if not service:
        return
    call = Call(
        service,
        {"ctx": hook_context(client, hook)},
        channel=ChannelInfo(CHANNEL.WEB_SOCKET, channel.config.id, channel.name, impl=channel),
        data_format="dict",
        environ=channel.environ_of(client),
        timeout=TIMEOUT,
    )
    try:
        client.channels.context.invoker.invoke(call)
    except (Exception, gevent.Timeout):  # boundary: the service of somebody else
        log.exception(
            "Hook service %s of WebSocket channel %r failed for %s.",
            service,
            channel.name,
            client.shown,
            extra={"cid": call.cid},
        )


def hook_context(client: Session, hook: Hook) -> Bunch:
    """``ctx``: what a hook service is told."""
    peer = client.peer
    return Bunch(
        hook_type=hook.type,
        config=client.channels.channel.shown_config,
        user_data=client.user_data,
        msg=hook.message,
        peer_address=peer.address,
        **identity(client),
    )


def identity(client: Session) -> dict[str, Any]:
    """Who a client is and where, as hooks and services see it; names are not looked up, addresses stand for them."""
    peer = client.peer
    return {
        "pub_client_id": client.pub_client_id,
        "ext_client_id": client.ext_client_id,
        "ext_client_name": client.ext_client_name,
        "connection_time": naive(client.connected),
        "forwarded_for": peer.forwarded_for,
        "forwarded_for_fqdn": peer.forwarded_for,
        "peer_host": peer.host,
        "peer_fqdn": peer.host,
        "peer_conn_info_pretty": client.shown,
    }


def naive(moment: datetime) -> datetime:
    """A moment in UTC and without a time zone, as services have them."""
    return moment.astimezone(UTC).replace(tzinfo=None)
