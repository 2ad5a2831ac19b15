"""The messages of a WebSocket channel: JSON objects with ``meta`` and ``data`` (facts sheet, sections 1.2 to 1.5)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import orjson

from junctor.server.service.call import new_cid
from junctor.sql.errors import InvalidInput, InvalidOutput, Problem

CREATE_SESSION, INVOKE_SERVICE, CLIENT_RESPONSE = "create-session", "invoke-service", "client-response"

RESPONSE_AUTH, RESPONSE_OK, RESPONSE_ERROR = "zwsx.rspa", "zwsx.rspok", "zwsx.rsperr"
MESSAGE_ERROR, REQUEST, PUBSUB_REQUEST = "zwsx.merr", "zwsx.rqc", "zwsx.psrq"
PUBSUB_ID_PREFIX: Final = "zpsm"
OK, BAD_REQUEST, FORBIDDEN, UNAVAILABLE = 200, 400, 403, 503
NOT_AUTHORIZED: Final = "You are not authorized to access this resource"

MAX_ID, MAX_NAME, MAX_CREDENTIAL, MAX_ATTRIBUTES = 500, 2000, 8192, 100  # characters, and attributes
_second, _second_text = 0, ""  # of the last message: most messages are sent in the same one
OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


class Malformed(InvalidInput):
    """A message that is not of the agreed form; ``message_id`` is its id, '' when that cannot be told."""

    def __init__(self, problems: list[Problem], message_id: str = "") -> None:
        super().__init__(problems)
        self.message_id = message_id


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client says it is when it creates a session; ``name`` is flattened if it was an object."""

    client_id: str
    client_name: str
    username: str
    secret: str = field(repr=False)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)  # not frozen: it would take three times as long to make one
class ClientMessage:
    """What a client sent.  ``credentials`` are there when it is to create a session; ``size`` is in characters or bytes."""

    action: str
    id: str
    timestamp: str
    token: str = field(repr=False)
    in_reply_to: str
    ctx: dict[str, Any]
    data: Any
    credentials: Credentials | None
    size: int


def parse(message: str | bytes) -> ClientMessage:
    """What a client sent.  Raises ``Malformed`` with every problem of it.

    A message without an action is a response; one with an unknown action invokes the channel's service, as in Zato.
    """
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise Malformed([Problem("", f"The message is not valid JSON: {error}.")]) from None
    except RecursionError:
        raise Malformed([Problem("", "The message is nested too deeply.")]) from None
    if not isinstance(document, dict) or not isinstance(document.get("meta"), dict):
        raise Malformed([Problem("meta", "A message is a JSON object with the object 'meta' in it.")])
    try:
        return _Meta(document["meta"]).message(document.get("data", {}), len(message))
    except RecursionError:  # names and attributes become text
        raise Malformed([Problem("meta", "The message is nested too deeply.")]) from None


class _Meta:
    """Takes the fields of ``meta``, collecting what is wrong with them."""

    __slots__ = ("_meta", "_problems")

    def __init__(self, meta: dict[str, Any]) -> None:
        self._meta = meta
        self._problems: list[Problem] = []

    def message(self, data: Any, size: int) -> ClientMessage:
        action = self._text("action", MAX_ID) or CLIENT_RESPONSE
        message_id = self._text("id", MAX_ID)
        if not message_id:
            self._problem("id", "is required.")
        in_reply_to = self._text("in_reply_to", MAX_ID)
        if action == CLIENT_RESPONSE and not in_reply_to:
            self._problem("in_reply_to", "is required in a response.")
        made = ClientMessage(
            action=action,
            id=message_id,
            timestamp=self._text("timestamp", MAX_ID),
            token=self._text("token", MAX_CREDENTIAL),
            in_reply_to=in_reply_to,
            ctx=self._object("ctx"),
            data=data,
            credentials=self._credentials() if action == CREATE_SESSION else None,
            size=size,
        )
        if self._problems:
            self._refuse(message_id)
        return made

    def _refuse(self, message_id: str) -> NoReturn:
        raise Malformed(self._problems, message_id)

    def _problem(self, name: str, message: str) -> None:
        self._problems.append(Problem(f"meta.{name}", message))

    def _text(self, name: str, limit: int) -> str:
        value = self._meta.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self._problem(name, "must be text.")
        elif len(value) > limit:
            self._problem(name, f"must not be longer than {limit} characters.")
        elif "\0" in value:
            self._problem(name, "must not have a NUL.")
        else:
            return value
        return ""

    def _object(self, name: str) -> dict[str, Any]:
        value = self._meta.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._problem(name, "must be an object.")
            return {}
        return value

    def _credentials(self) -> Credentials:
        return Credentials(
            client_id=self._text("client_id", MAX_ID),
            client_name=self._name(),
            username=self._text("username", MAX_CREDENTIAL),
            secret=self._text("secret", MAX_CREDENTIAL),
            attributes=self._attributes(),
        )

    def _name(self) -> str:
        """Text, or an object as 'k1: v1; k2: v2', sorted by key."""
        name = self._meta.get("client_name")
        if not isinstance(name, dict):
            return self._text("client_name", MAX_NAME)
        flat = "; ".join(f"{key}: {value}" for key, value in sorted(name.items()))
        return flat[:MAX_NAME].replace("\0", "")

    def _attributes(self) -> dict[str, Any]:
        """An object of texts, numbers and flags; a text is the one attribute 'value'."""
        given = self._meta.get("attrs")
        if not given:
            return {}
        if isinstance(given, str):
            given = {"value": given}
        allowed = (str, int, float, bool)
        if not isinstance(given, dict) or len(given) > MAX_ATTRIBUTES:
            self._problem("attrs", f"must be an object of up to {MAX_ATTRIBUTES} attributes.")
            return {}
        for key, value in given.items():
            text = f"{key}{value}"
            if not (value is None or isinstance(value, allowed)) or len(text) > MAX_NAME or "\0" in text:
                self._problem("attrs", f"{key[:50]!r} must be a short text, a number or a flag.")
        return given


def now() -> str:
    """The time in ISO 8601, UTC, with microseconds and without a zone, as messages have it."""
    global _second, _second_text
    moment = time.time()
    second = int(moment)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{int((moment - second) * 1_000_000):06d}"


def _message(data: Any, **meta: Any) -> bytes:
    """A message of the server; its id is new when none is given.  Raises ``InvalidOutput`` when ``data`` is no JSON."""
    document: dict[str, Any] = {"meta": {"id": meta.pop("id", "") or new_cid(), "timestamp": now(), **meta}}
    if data or data in (0, False):
        document["data"] = data
    try:
        return orjson.dumps(document, default=plain, option=OPTIONS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidOutput("response", [Problem("data", f"is no JSON: {error}.")]) from error


def plain(value: Any) -> Any:
    """What JSON has no type for: bytes as text, anything else as Python shows it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def session_created(in_reply_to: str, token: str) -> bytes:
    """The answer to create-session."""
    return _message({"token": token}, msg_type=RESPONSE_AUTH, status=OK, in_reply_to=in_reply_to)


def response(in_reply_to: str, data: Any, cid: str = "") -> bytes:
    """The answer to a message that a service has handled.  Raises ``InvalidOutput`` when ``data`` is no JSON."""
    return _message(data, id=cid, msg_type=RESPONSE_OK, status=OK, in_reply_to=in_reply_to)


def error(in_reply_to: str, status: int, message: str, cid: str = "") -> bytes:
    """The answer to a message that failed; to one without an id, ``in_reply_to`` is ''."""
    cid = cid or new_cid()
    reply = {"in_reply_to": in_reply_to} if in_reply_to else {}
    return _message(
        {"cid": cid}, id=cid, msg_type=RESPONSE_ERROR, status=status, **reply, error_message=message
    )


def refusal() -> bytes:
    """What a client is told that has no session, or none any more, before it is disconnected."""
    return _message(NOT_AUTHORIZED, msg_type=MESSAGE_ERROR, status=FORBIDDEN)


def request(message_id: str, data: Any, msg_type: str = REQUEST, ctx: dict[str, Any] | None = None) -> bytes:
    """A request or a delivery to the client.  Raises ``InvalidOutput`` when ``data`` is no JSON."""
    extra = {"ctx": ctx} if ctx else {}
    return _message(data, id=message_id, msg_type=msg_type, **extra)


def ping() -> bytes:
    """The payload of a ping: short enough for a control frame."""
    return _message("", msg_type=REQUEST)
