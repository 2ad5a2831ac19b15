"""What a call came through: the names of channels and data formats, and what a service sees of its channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class CHANNEL:
    """The types of channels: the values of ``self.channel.type`` (facts sheet, section 3.3)."""

    AMQP = "amqp"
    DELIVERY = "delivery"
    FANOUT_CALL = "fanout-call"
    FANOUT_ON_FINAL = "fanout-on-final"
    FANOUT_ON_TARGET = "fanout-on-target"
    HTTP_SOAP = "http-soap"
    INTERNAL_CHECK = "internal-check"
    INVOKE = "invoke"
    INVOKE_ASYNC = "invoke-async"
    INVOKE_ASYNC_CALLBACK = "invoke-async-callback"
    IPC = "ipc"
    NOTIFIER_RUN = "notifier-run"
    NOTIFIER_TARGET = "notifier-target"
    PARALLEL_EXEC_CALL = "parallel-exec-call"
    PARALLEL_EXEC_ON_TARGET = "parallel-exec-on-target"
    PUBLISH = "publish"
    SCHEDULER = "scheduler"
    SCHEDULER_AFTER_ONE_TIME = "scheduler-after-one-time"
    STARTUP_SERVICE = "startup-service"
    STOMP = "stomp"
    URL_DATA = "url-data"
    WEB_SOCKET = "web-socket"
    WEBSPHERE_MQ = "websphere-mq"
    WORKER = "worker"
    ZMQ = "zmq"


class DATA_FORMAT:  # noqa: N801 - the contract's own spelling
    """The formats of payloads: the values of ``self.data_format`` (facts sheet, section 3.3)."""

    DICT = "dict"
    XML = "xml"
    JSON = "json"
    CSV = "csv"
    POST = "post"
    SOAP = "soap"
    FORM = "form"
    HL7 = "hl7"


class PARAMS_PRIORITY:  # noqa: N801 - spelt like the two above
    """Which value wins when a name is in the URL and in the body alike (facts sheet, section 4.1)."""

    CHANNEL_PARAMS_OVER_MSG = "channel-params-over-msg"
    MSG_OVER_CHANNEL_PARAMS = "msg-over-channel-params"
    DEFAULT = CHANNEL_PARAMS_OVER_MSG


class WEB_SOCKET:  # noqa: N801 - spelt like those above
    """What happens to outgoing WebSocket connections: the values of ``ctx.type`` in their hooks (WebSockets' facts sheet, 3.2)."""

    class OUT_MSG_TYPE:  # noqa: N801 - spelt like those above
        """A connection was made, a message came in, or the connection was closed."""

        CONNECT = "connect"
        MESSAGE = "message"
        CLOSE = "close"


@dataclass(frozen=True, slots=True)
class ChannelSecurityInfo:
    """Who the caller is: the security definition that let the request in; all fields are None when none did."""

    id: Any = None
    name: str | None = None
    type: str | None = None
    username: str | None = None
    impl: Any = field(default=None, repr=False, compare=False)


NO_SECURITY = ChannelSecurityInfo()


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """``self.channel``: the channel a call came through."""

    type: str = CHANNEL.INVOKE
    id: Any = None
    name: str = ""
    data_format: str | None = None
    is_internal: bool = False
    match_target: str = ""
    security: ChannelSecurityInfo = NO_SECURITY
    impl: Any = field(default=None, repr=False, compare=False)

    @property
    def sec(self) -> ChannelSecurityInfo:
        """The same as ``security``."""
        return self.security
