"""WebSocket channels and outgoing WebSocket connections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped

from junctor.sql.base import Object, Reader
from junctor.sql.errors import Problem
from junctor.sql.fields import boolean, choice, integer, ref, secret, text, text_list
from junctor.sql.objects.rest import no_security

CHANNEL_ADDRESS = re.compile(r"(?:wss?://(?:\[[0-9a-fA-F:.]+\]|[^/:?#@\s\[\]]+):(\d{1,5}))?(/[^?#\s]*)")
REMOTE_ADDRESS = re.compile(
    r"wss?://(?:\[[0-9a-fA-F:.]+\]|[^/:?#@\s\[\]]+)(?::\d{1,5})?(/[^#\s]*)?", re.IGNORECASE
)


class ChannelWebSocket(Object):
    """A WebSocket endpoint whose clients invoke a service, and can be invoked."""

    __tablename__ = "channel_websocket"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "channel_websocket", "WebSocket channel"
    service_prefix = "zato.channel.web-socket"
    enmasse_aliases = ("web_socket", "channel_wsx")
    command_aliases = ("wsx-channel",)

    is_active: Mapped[bool] = boolean(
        "Active", "While it is off, nobody can connect and nobody stays connected.", default=True
    )
    address: Mapped[str] = text(
        "Address",
        "Where to listen, in every worker: ws://HOST:PORT/PATH, or a path alone, which is served on the port of HTTP.",
        max=300,
    )
    service: Mapped[int] = ref(
        "service",
        "Service",
        "The service that messages invoke.",
        column="service_id",
        aliases=("service_name",),
    )
    security: Mapped[int | None] = ref(
        "security",
        "Security",
        "The definition that clients must satisfy when they create a session; empty = anybody may.",
        column="security_id",
        default="",
        aliases=("security_name", "sec_def"),
        normalise=no_security,
    )
    data_format: Mapped[str] = choice("Data format", "How messages are written.", ("json",), default="json")
    new_token_wait_time: Mapped[int] = integer(
        "Session deadline",
        "How long a client may take to create a session.",
        default=5,
        unit="s",
        min=1,
        max=300,
    )
    token_ttl: Mapped[int] = integer(
        "Token lifetime",
        "After which an unused session ends; each message and each pong extends it.",
        default=3600,
        unit="s",
        min=5,
        max=31_536_000,
    )
    ping_interval: Mapped[int] = integer(
        "Ping interval", "Between two pings of a client.", default=30, unit="s", min=1, max=3600
    )
    pings_missed_threshold: Mapped[int] = integer(
        "Missed pings",
        "Unanswered pings in a row after which a client is disconnected.",
        default=2,
        unit="pings",
        min=1,
        max=100,
    )
    hook_service: Mapped[int | None] = ref(
        "service",
        "Hook service",
        "Told of clients that connect and disconnect; empty = none.",
        column="hook_service_id",
        default="",
    )
    gateway_services: Mapped[list[str]] = text_list(
        "Gateway services",
        "Services that clients may invoke through a gateway, one in each line, * as a wildcard; empty = zato.ping and publish/subscribe.",
    )
    allowed_origins: Mapped[list[str]] = text_list(
        "Allowed origins",
        "Web pages whose scripts may connect, such as https://shop.example.com; empty = any, and clients that are no pages.",
    )
    max_message_size: Mapped[int] = integer(
        "Maximum message size",
        "A client that sends a larger one is disconnected.",
        default=1_048_576,
        unit="B",
        min=1024,
        max=104_857_600,
    )
    max_connections: Mapped[int] = integer(
        "Maximum connections",
        "Of the channel in each worker; further clients are refused.",
        default=10_000,
        unit="connections",
        min=1,
        max=1_000_000,
    )
    max_concurrent: Mapped[int] = integer(
        "Concurrent requests",
        "Of one client at a time; 1 = one after the other, in order.",
        default=32,
        unit="requests",
        min=1,
        max=1000,
    )
    max_pending: Mapped[int] = integer(
        "Pending messages",
        "Messages that may wait for a slow client before it is disconnected.",
        default=1000,
        unit="messages",
        min=1,
        max=100_000,
    )
    compression: Mapped[bool] = boolean(
        "Compression",
        "Whether clients may compress messages (permessage-deflate): fewer bytes, more work and memory.",
        default=False,
    )
    tls_certificate: Mapped[str] = text(
        "TLS certificate",
        "For a wss:// address: the certificate and its chain in PEM.",
        default="",
        max=100_000,
        multiline=True,
    )
    tls_key: Mapped[str] = secret(
        "TLS key", "For a wss:// address: the certificate's private key in PEM.", max=20_000, multiline=True
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """An address that can be listened on and that no other channel has."""
        found = CHANNEL_ADDRESS.fullmatch(values["address"])
        if found is None:
            yield Problem("address", "must be of the form ws://HOST:PORT/PATH, or a path alone, such as /ws.")
        elif found[1] and not 0 < int(found[1]) <= 65535:
            yield Problem("address", "must have a port from 1 to 65535.")
        if values["address"].startswith("wss:"):
            for field in ("tls_certificate", "tls_key"):
                if not values[field]:
                    yield Problem(
                        field,
                        "is required for a wss:// address; where a load balancer ends TLS, it is ws://.",
                    )
        for other in reader.others(cls.kind, object_id, address=values["address"]):
            yield Problem("address", f"is taken by WebSocket channel {other['name']!r}.")


class OutgoingWebSocket(Object):
    """A connection to a WebSocket server: another cluster, or any other."""

    __tablename__ = "outgoing_websocket"
    __table_args__ = (UniqueConstraint("cluster_id", "name"),)
    kind, label = "outgoing_websocket", "Outgoing WebSocket connection"
    enmasse_aliases = ("outgoing_wsx", "outconn_wsx")
    command_aliases = ("wsx-outconn",)

    is_active: Mapped[bool] = boolean(
        "Active", "While it is off, it is not connected and calls fail at once.", default=True
    )
    address: Mapped[str] = text(
        "Address", "Where the remote end listens, e.g. ws://remote.example.com:48902/ws.", max=500
    )
    is_zato: Mapped[bool] = boolean(
        "Is remote end Zato",
        "Whether the remote end is a WebSocket channel of Junctor or Zato; else messages go as they are.",
        default=False,
    )
    security: Mapped[int | None] = ref(
        "security",
        "Security",
        "The credentials to create a session with; empty = none.",
        column="security_id",
        default="",
        aliases=("security_name", "security_def", "sec_def"),
        normalise=no_security,
    )
    has_auto_reconnect: Mapped[bool] = boolean(
        "Reconnect", "Whether a lost connection is made again, for ever.", default=True
    )
    subscription_list: Mapped[list[str]] = text_list(
        "Subscriptions", "Topics of the remote cluster to subscribe to, one in each line."
    )
    on_connect_service: Mapped[int | None] = ref(
        "service",
        "On connect",
        "Invoked when it is connected; empty = none.",
        column="on_connect_service_id",
        default="",
        aliases=("on_connect_service_name",),
    )
    on_message_service: Mapped[int | None] = ref(
        "service",
        "On message",
        "Invoked for each message from the remote end; empty = none.",
        column="on_message_service_id",
        default="",
        aliases=("on_message_service_name",),
    )
    on_close_service: Mapped[int | None] = ref(
        "service",
        "On close",
        "Invoked when the connection has closed; empty = none.",
        column="on_close_service_id",
        default="",
        aliases=("on_close_service_name",),
    )
    timeout: Mapped[int] = integer(
        "Timeout", "For connecting, and for the response to each call.", default=5, unit="s", min=1, max=3600
    )
    ping_interval: Mapped[int] = integer(
        "Ping interval", "Between two pings of the remote end.", default=30, unit="s", min=1, max=3600
    )
    max_message_size: Mapped[int] = integer(
        "Maximum message size",
        "The connection is closed when a larger one comes.",
        default=10_485_760,
        unit="B",
        min=1024,
        max=104_857_600,
    )
    tls_verify: Mapped[bool] = boolean(
        "Verify TLS", "Whether the remote end's certificate must be valid.", default=True
    )

    @classmethod
    def check(cls, values: Mapping[str, Any], reader: Reader, object_id: int | None) -> Iterable[Problem]:
        """An address without credentials; subscriptions only where there is somebody to subscribe at."""
        del reader, object_id
        if not REMOTE_ADDRESS.fullmatch(values["address"]):
            yield Problem("address", "must be of the form ws://HOST:PORT/PATH or wss://HOST/PATH.")
        if values["subscription_list"] and not values["is_zato"]:
            yield Problem("subscription_list", "needs a remote end that is Zato.")
