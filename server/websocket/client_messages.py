"""The messages of a WebSocket channel from the client's side: what it sends, and what it makes of the server's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from junctor.server.websocket import envelope
from junctor.sql.errors import InvalidInput, InvalidOutput, Problem

AUTH_PREFIX, INVOCATION_PREFIX, RESPONSE_PREFIX = (
    "zato.ws.client.auth.",
    "zato.ws.client.invs.",
    "zato.ws.client.resp.",
)


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """What a server sent; ``in_reply_to`` is '' for requests and deliveries, and ``status`` 0 for all but responses."""

    id: str
    timestamp: str
    msg_type: str
    status: int
    in_reply_to: str
    error_message: str
    ctx: dict[str, Any]
    data: Any

    @property
    def is_ok(self) -> bool:
        """Whether it is the answer to a request that succeeded."""
        return self.status == envelope.OK


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends: what is the same in all messages of a client."""

    client_id: str
    client_name: str = ""


def parse(message: str | bytes) -> ServerMessage:
    """What a server sent.  Raises ``InvalidInput`` when it is not of the agreed form."""
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.one("", f"The message is not valid JSON: {error}.") from None
    meta = document.get("meta") if isinstance(document, dict) else None
    if not isinstance(meta, dict):
        raise InvalidInput.one("meta", "A message is a JSON object with the object 'meta' in it.")
    texts = {
        name: meta.get(name) or "" for name in ("id", "timestamp", "msg_type", "in_reply_to", "error_message")
    }
    status, ctx = meta.get("status") or 0, meta.get("ctx") or {}
    problems = [
        Problem(f"meta.{name}", "must be text.")
        for name, value in texts.items()
        if not isinstance(value, str)
    ]
    if isinstance(status, bool) or not isinstance(status, int):
        problems.append(Problem("meta.status", "must be a whole number."))
    if not isinstance(ctx, dict):
        problems.append(Problem("meta.ctx", "must be an object."))
    if problems:
        raise InvalidInput(problems)
    return ServerMessage(status=status, ctx=ctx, data=document.get("data", ""), **texts)


def create_session(client: Client, username: str, secret: str, token: str = "") -> tuple[str, bytes]:
    """The id and the message that opens a session, or opens it anew."""
    return _message(
        AUTH_PREFIX,
        client,
        {},
        action=envelope.CREATE_SESSION,
        username=username,
        secret=secret,
        token=token or None,
    )


def invoke(client: Client, token: str, data: Any, ctx: dict[str, Any] | None = None) -> tuple[str, bytes]:
    """The id and the message that invokes the channel's service.  Raises ``InvalidOutput`` when ``data`` is no JSON."""
    extra = {"ctx": ctx} if ctx else {}
    return _message(INVOCATION_PREFIX, client, data, action=envelope.INVOKE_SERVICE, token=token, **extra)


def respond(client: Client, token: str, in_reply_to: str, data: Any) -> bytes:
    """The answer to a request of the server.  Raises ``InvalidOutput`` when ``data`` is no JSON."""
    answer = {"response": data}
    meta = {"action": envelope.CLIENT_RESPONSE, "token": token, "in_reply_to": in_reply_to}
    return _message(RESPONSE_PREFIX, client, answer, **meta)[1]


def _message(prefix: str, client: Client, data: Any, **meta: Any) -> tuple[str, bytes]:
    message_id = f"{prefix}{uuid4().hex}"
    names = {"client_id": client.client_id, "client_name": client.client_name}
    document = {"meta": {"id": message_id, "timestamp": envelope.now(), **names, **meta}, "data": data}
    try:
        return message_id, orjson.dumps(document, default=envelope.plain, option=envelope.OPTIONS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidOutput("message", [Problem("data", f"is no JSON: {error}.")]) from error
