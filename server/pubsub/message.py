"""Messages: as publishers give them, as they are queued, and as subscribers get them (facts sheet, sections 4.4 and 4.7)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

import msgspec
import orjson

from junctor.server.service.bunch import Bunch
from junctor.server.service.call import new_cid
from junctor.sql.errors import InvalidInput, Problem

MSG_ID_PREFIX: Final = "zpsm"
SUB_KEY_PREFIX: Final = "zpsk"
GROUP_ID_PREFIX: Final = "zpsg"
TEXT, JSON = "text", "json"
SECONDS, MILLISECONDS = "s", "ms"
LEAST_PRIORITY, DEFAULT_PRIORITY, MOST_PRIORITY = 1, 5, 9
NEVER: Final = (2**31 - 1) * 1000  # milliseconds: what messages say that do not expire
MAX_EXPIRATION: Final = NEVER
MAX_DELAY: Final = 366 * 86_400_000  # milliseconds
MAX_SIZE: Final = 10 * 2**20  # bytes of the data of a message
MAX_ID: Final = 200  # characters
MAX_CLIENT_ID: Final = 500  # characters
MAX_KEYS: Final = 1000  # of subscriptions that a message names
MAX_POSITION: Final = 2**31 - 1
_UNITS: Final = {SECONDS: 1000, MILLISECONDS: 1}


class NewMessage(msgspec.Struct):
    """A message that somebody publishes.

    ``data`` is text, or JSON of anything else if ``data_type`` says so; ``size`` is its length in bytes.  ``expiration`` and
    ``delay`` are in milliseconds; an ``expiration`` of 0 is never.  ``has_gd`` is None if the topic decides.  If ``is_own_id``, the
    publisher gave ``msg_id``, and a message that was stored under it already is not stored again.  The last fields are the pipeline's.
    """

    topic: str
    data: str
    msg_id: str
    size: int
    data_type: str = TEXT
    is_own_id: bool = False
    mime_type: str = "text/plain"
    priority: int = DEFAULT_PRIORITY
    expiration: int = 0
    delay: int = 0
    has_gd: bool | None = None
    ext_pub_time: float | None = None
    correl_id: str = ""
    in_reply_to: str = ""
    ext_client_id: str = ""
    group_id: str = ""
    position_in_group: int = 0
    reply_to_sk: list[str] = []
    deliver_to_sk: list[str] = []

    topic_id: int = 0
    endpoint_id: int | None = None
    endpoint_name: str = ""
    pub_pattern: str = ""


class QueuedMessage(msgspec.Struct):
    """A message in the queue of a subscription.

    Times are seconds since the epoch, UTC; ``attempts`` is how often it was handed out before, or may have been.  ``serialized`` is what a
    hook wants to be delivered in place of everything else.
    """

    id: int
    sub_id: int
    priority: int
    attempts: int
    topic_id: int
    msg_id: str
    data: str
    data_type: str
    size: int
    mime_type: str
    pub_time: float
    ext_pub_time: float | None = None
    expiration: int = 0
    expires_at: float | None = None
    endpoint_id: int | None = None
    endpoint_name: str = ""
    pub_pattern: str = ""
    correl_id: str = ""
    in_reply_to: str = ""
    ext_client_id: str = ""
    group_id: str = ""
    position_in_group: int = 0
    reply_to_sk: list[str] | None = None
    deliver_to_sk: list[str] | None = None
    has_gd: bool = True
    serialized: Any = None

    def payload(self) -> Any:
        """What was published: text, or whatever the JSON stands for."""
        return orjson.loads(self.data) if self.data_type == JSON else self.data

    def external(self, topic_name: str, sub_key: str) -> Any:
        """The message as subscribers get it."""
        if self.serialized is not None:
            return self.serialized
        expires_at = self.pub_time + NEVER / 1000 if self.expires_at is None else self.expires_at
        shown: dict[str, Any] = {
            "msg_id": self.msg_id,
            "topic_name": topic_name,
            "sub_key": sub_key,
            "data": self.payload(),
            "size": self.size,
            "mime_type": self.mime_type,
            "priority": self.priority,
            "expiration": self.expiration or NEVER,
            "has_gd": self.has_gd,
            "delivery_count": self.attempts,
            "pub_time_iso": iso(self.pub_time),
            "expiration_time_iso": iso(expires_at),
        }
        for name in ("correl_id", "in_reply_to", "ext_client_id", "group_id", "position_in_group"):
            if value := getattr(self, name):
                shown[name] = value
        if self.ext_pub_time is not None:
            shown["ext_pub_time"] = self.ext_pub_time
            shown["ext_pub_time_iso"] = iso(self.ext_pub_time)
        if self.reply_to_sk:
            shown["ctx"] = {"reply_to_sk": self.reply_to_sk}
        return shown

    def hook_view(self, topic_name: str, sub_key: str) -> Bunch:
        """The message as hooks get it, and may change it: ``data``, ``serialized``, and what is known of the message."""
        view = Bunch({name: getattr(self, name) for name in self.__struct_fields__})
        view["data"], view["topic_name"], view["sub_key"] = self.payload(), topic_name, sub_key
        view["pub_msg_id"], view["pub_correl_id"], view["delivery_count"] = (
            self.msg_id,
            self.correl_id,
            self.attempts,
        )
        return view


def iso(seconds: float) -> str:
    """A time in ISO 8601, UTC, with microseconds and without a zone, as messages have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def new_msg_id() -> str:
    """An id for a message whose publisher gives none."""
    return f"{MSG_ID_PREFIX}{new_cid()}"


def encode_data(data: Any) -> tuple[str, str, int]:
    """Data as it is stored, its type, and its size in bytes.

    Text and bytes in UTF-8 are text; anything else is JSON.  Raises ``InvalidInput``.
    """
    kind = TEXT
    try:
        if isinstance(data, bytes | bytearray | memoryview):
            raw = bytes(data)
            text = raw.decode()
        elif isinstance(data, str):
            raw, text = data.encode(), data
        else:
            raw, kind = (
                orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z),
                JSON,
            )
            text = raw.decode()
    except (UnicodeError, TypeError, orjson.JSONEncodeError) as error:
        raise InvalidInput.one("data", f"can be neither text in UTF-8 nor JSON: {error}.") from None
    if len(raw) > MAX_SIZE:
        raise InvalidInput.one(
            "data", f"has {len(raw)} bytes, more than the {MAX_SIZE} that a message may have."
        )
    if "\0" in text:
        raise InvalidInput.one(
            "data", "has a NUL character, which cannot be stored; encode binary data in base64."
        )
    return text, kind, len(raw)


class _Reader:
    """Takes the fields of a message one by one and keeps what is wrong with them."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self.problems: list[Problem] = []

    def text(self, name: str, most: int, default: str = "") -> str:
        """A short text."""
        value = self._fields.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            self.problems.append(Problem(name, f"must be one line of text of up to {most} characters."))
            return default
        return value

    def number(self, name: str, low: int, high: int, default: int, factor: int = 1) -> int:
        """A whole number, also as text; times ``factor``."""
        value = self._fields.get(name)
        if value is None or value == "":
            return default
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            if isinstance(value, str) and len(value) > MAX_ID:
                raise ValueError
            number = float(value) * factor
            if not isfinite(number) or (factor == 1 and number != int(number)) or not low <= number <= high:
                raise ValueError
        except ValueError:
            self.problems.append(Problem(name, f"must be a number from {low // factor} to {high // factor}."))
            return default
        return round(number)

    def flag(self, name: str) -> bool | None:
        """A yes or no; None if nothing is said."""
        value = self._fields.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool):
            return value
        found = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
        if found is None:
            self.problems.append(Problem(name, "must be true or false."))
        return found

    def moment(self, name: str) -> float | None:
        """A time: seconds since the epoch, or ISO 8601, which is UTC without a zone."""
        value = self._fields.get(name)
        if value is None or value == "":
            return None
        try:
            if isinstance(value, datetime):
                found = value if value.tzinfo else value.replace(tzinfo=UTC)
            elif isinstance(value, str) and not value.replace(".", "", 1).isdigit():
                parsed = datetime.fromisoformat(value)
                found = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
            else:
                found = datetime.fromtimestamp(float(value), UTC)
            return found.timestamp()
        except (ValueError, TypeError, OverflowError, OSError):
            self.problems.append(Problem(name, "must be a time: seconds since the epoch, or ISO 8601."))
            return None

    def keys(self, name: str) -> list[str]:
        """Keys of subscriptions: a list, or text with commas."""
        value = self._fields.get(name)
        if value is None or value == "":
            return []
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        is_list = isinstance(items, list | tuple) and len(items) <= MAX_KEYS
        if not is_list or not all(isinstance(item, str) and 0 < len(item) <= MAX_ID for item in items):
            self.problems.append(Problem(name, f"must be a list of up to {MAX_KEYS} subscription keys."))
            return []
        return list(items)


def new_message(topic: str, fields: Mapping[str, Any], *, expiration_unit: str) -> NewMessage:
    """A message for a topic from the fields that its publisher gives.

    ``expiration_unit`` is ``SECONDS`` over REST and WebSockets, ``MILLISECONDS`` in Python; ``delay`` has the same.  Unknown fields are
    ignored.  Raises ``InvalidInput`` with every problem.
    """
    reader = _Reader(fields)
    factor = _UNITS[expiration_unit]
    data, data_type, size = "", TEXT, 0
    if fields.get("data") is None:
        reader.problems.append(Problem("data", "is required."))
    else:
        try:
            data, data_type, size = encode_data(fields["data"])
        except InvalidInput as error:
            reader.problems += error.problems
    msg_id = reader.text("msg_id", MAX_ID)
    message = NewMessage(
        topic=topic,
        data=data,
        msg_id=msg_id or new_msg_id(),
        size=size,
        data_type=data_type,
        is_own_id=bool(msg_id),
        mime_type=reader.text("mime_type", MAX_ID, "text/plain"),
        priority=reader.number("priority", LEAST_PRIORITY, MOST_PRIORITY, DEFAULT_PRIORITY),
        expiration=reader.number("expiration", 0, MAX_EXPIRATION, 0, factor),
        delay=reader.number("delay", 0, MAX_DELAY, 0, factor),
        has_gd=reader.flag("has_gd"),
        ext_pub_time=reader.moment("ext_pub_time"),
        correl_id=reader.text("correl_id", MAX_ID),
        in_reply_to=reader.text("in_reply_to", MAX_ID),
        ext_client_id=reader.text("ext_client_id", MAX_CLIENT_ID),
        group_id=reader.text("group_id", MAX_ID),
        position_in_group=reader.number("position_in_group", 0, MAX_POSITION, 0),
        reply_to_sk=reader.keys("reply_to_sk"),
        deliver_to_sk=reader.keys("deliver_to_sk"),
    )
    if reader.problems:
        raise InvalidInput(reader.problems)
    return message
