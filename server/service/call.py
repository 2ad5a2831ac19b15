"""A call: one invocation of a service, from whatever channel, and its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from junctor.server.service.channel import PARAMS_PRIORITY, ChannelInfo
from junctor.server.service.request import HTTPRequest
from junctor.server.service.response import Response

INVOKE: Final = ChannelInfo()


_CIDS = 256  # made at a time: asking the system for random bits costs as much as all else that a call needs
_cids: list[str] = []
os.register_at_fork(after_in_child=_cids.clear)


def new_cid() -> str:
    """A new correlation id: 96 random bits as 24 hexadecimal digits (facts sheet, section 3.8)."""
    if not _cids:
        digits = os.urandom(12 * _CIDS).hex()
        _cids.extend(digits[start : start + 24] for start in range(0, len(digits), 24))
    return _cids.pop()


class Call(msgspec.Struct, eq=False):
    """What a channel asks for: the service, the message and where it came from.

    ``payload`` is the parsed message and ``raw_request`` the message as it came; ``cid`` is made when it is ''.
    ``timeout`` is in seconds, None for no limit.  ``environ`` is the dictionary that a service passes on to those it
    invokes.  ``depth`` is 0 for a call from a channel, and one more in each service that is invoked by another;
    ``deadline``, on the clock of ``time.monotonic``, and ``greenlet``, in which it is enforced, are set by the invoker, and so
    is ``timed_out``.
    """

    service: str
    payload: Any = ""
    raw_request: bytes | str = b""
    cid: str = ""
    channel: ChannelInfo = INVOKE
    data_format: str | None = None
    transport: str | None = None
    channel_params: Mapping[str, Any] | None = None
    merge_channel_params: bool = True
    params_priority: str = PARAMS_PRIORITY.DEFAULT
    http: HTTPRequest | None = None
    environ: dict[str, Any] = msgspec.field(default_factory=dict)
    in_reply_to: str = ""
    timeout: float | None = None
    depth: int = 0
    deadline: float | None = None
    greenlet: object = None
    timed_out: bool = False


class Result(msgspec.Struct, eq=False):
    """What became of a call that succeeded: ``payload`` is the response as JSON types if the service declares its output.

    Otherwise it is what the service assigned.  ``response`` has the status, headers and content type.
    """

    cid: str
    payload: Any
    response: Response
