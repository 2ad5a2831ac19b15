"""The messages of WebSocket channels: JSON objects with ``meta`` and ``data``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from junctor_client.errors import HTTPError, InvalidResponse, for_status
from junctor_client.payload import encode

_REFUSED, _DELIVERY = "zwsx.merr", "zwsx.psrq"
_FORBIDDEN = 403
_FIRST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Message:
    """What the server sends of its own accord: a request of a service, or what was published to a topic.

    ``ctx`` is what it says beside the data; ``timestamp`` is in ISO 8601, UTC.  If it is a delivery of publish/subscribe, ``data`` is a
    list of what was published, in its order: dictionaries with ``msg_id``, ``topic_name``, ``data``, ``delivery_count``, ``priority``,
    ``pub_time_iso`` and more.
    """

    id: str
    timestamp: str
    data: Any = field(repr=False)
    ctx: Mapping[str, Any] = field(repr=False)
    is_delivery: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers."""

    in_reply_to: str
    status: int
    error_message: str
    data: Any = field(repr=False)

    def result(self, what: str) -> Any:
        """The data.  Raises an ``HTTPError`` for a status of 300 and above; ``what`` was called."""
        if self.status < _FIRST_ERROR:
            return self.data
        cid = str(self.data.get("cid") or "") if isinstance(self.data, dict) else ""
        text = f"{self.status} from {what}"
        raise for_status(self.status)(text, status=self.status, cid=cid, details=self.error_message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server takes nothing from this client, or nothing any more."""

    status: int
    details: str

    def error(self, what: str) -> HTTPError:
        """The error to raise."""
        return for_status(self.status)(f"{self.status} from {what}", status=self.status, details=self.details)


def parse(text: str | bytes) -> Message | Reply | Refusal:
    """What the server sent.  Raises ``InvalidResponse`` when that is something else."""
    try:
        document = json.loads(text)
        meta = document["meta"]
        status = meta.get("status") or 0
        data, in_reply_to = document.get("data"), meta.get("in_reply_to")
        if meta.get("msg_type") == _REFUSED:
            return Refusal(status or _FORBIDDEN, data if isinstance(data, str) else "")
        if in_reply_to:
            return Reply(str(in_reply_to), int(status), str(meta.get("error_message") or ""), data)
        if status:
            # It could not be told what it answers, since what was sent had no id: nothing of ours.
            return Refusal(int(status), str(meta.get("error_message") or ""))
        ctx = meta.get("ctx") or {}
        is_delivery = meta.get("msg_type") == _DELIVERY
        return Message(str(meta["id"]), str(meta.get("timestamp") or ""), data, ctx, is_delivery)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidResponse("A message is not what WebSocket channels send", details=str(error)) from None


def build(action: str, data: Any, **meta: Any) -> tuple[str, str]:
    """The id of a new message, and the message.  Raises ``TypeError`` or ``ValueError`` for what JSON cannot express."""
    message_id = uuid4().hex
    head = {"action": action, "id": message_id, "timestamp": _now(), **meta}
    return message_id, encode({"meta": head, "data": data})


def _now() -> str:
    """The time in ISO 8601, UTC, without a zone."""
    now = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{seconds}.{now % 1_000_000_000 // 1000:06d}"
