"""A subscriber over WebSockets: connects, resumes its subscription, acknowledges, and connects again whenever it has to."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

import gevent
import orjson

from junctor.cli.chaos.calls import PASSING
from junctor.cli.chaos.history import FAIL, INFO, LINK, OK, History
from junctor.cli.chaos.scenery import Scenery
from junctor.cli.chaos.subscribers import BREAK_OFF, DAWDLE, REFUSE, Behaviour
from junctor.server.service.call import new_cid
from junctor.server.websocket.codec import Connection
from junctor.sql.errors import JunctorError, WebSocketClosed

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 10.0  # seconds
LOOK = 0.2  # seconds between two looks at whether it is to stop
RECONNECT = 0.3  # seconds
SILENCE: Final = (
    60.0  # seconds without anything, pings of the cluster included, after which the connection is dead
)
MAX_MESSAGE = 64 * 1024 * 1024  # bytes
RESUME: Final = "zato.pubsub.resume-wsx-subscription"
ACCEPTED, SUCCESS, PUSH, REFUSAL = "zwsx.rspa", "zwsx.rspok", "zwsx.psrq", "zwsx.merr"


class Lost(JunctorError):
    """The connection is gone, or of no use."""


class Listening(threading.Thread):
    """The subscriber at work, until ``stopping`` is set.  It has an event loop of its own, in its thread."""

    def __init__(self, address: str, behaviour: Behaviour, scenery: Scenery, history: History) -> None:
        super().__init__(name=behaviour.subscriber.name, daemon=True)
        self.stopping = threading.Event()
        self._address = address
        self._behaviour, self._scenery, self._history = behaviour, scenery, history
        self._sub_key = scenery.sub_keys[behaviour.subscriber.name]

    def run(self) -> None:
        """Connects again and again."""
        name = self._behaviour.subscriber.name
        try:
            while not self.stopping.is_set():
                try:
                    self._connect_and_serve()
                except (JunctorError, OSError) as error:
                    self._history.add(INFO, LINK, name, text=f"{type(error).__name__}: {error}")
                self.stopping.wait(RECONNECT)
        finally:
            gevent.get_hub().destroy()

    def _connect_and_serve(self) -> None:
        connection = Connection.connect(self._address, timeout=CONNECT_TIMEOUT, max_message_size=MAX_MESSAGE)
        try:
            _Conversation(self, connection).hold()
        finally:
            connection.abort()


class _Conversation:
    """One connection, from logging in to its end."""

    def __init__(self, owner: Listening, connection: Connection) -> None:
        self._owner, self._connection = owner, connection
        self._name = owner._behaviour.subscriber.name
        self._token = ""

    def hold(self) -> None:
        """Receives messages until it is over."""
        user = self._owner._scenery.users["websocket"]
        credentials = {"username": user.name, "secret": user.password, "client_id": self._name}
        answer = self._ask("create-session", {}, **credentials)
        if answer["meta"]["msg_type"] != ACCEPTED:
            raise Lost("The session was refused.")
        self._token = answer["data"]["token"]
        request = {"service": RESUME, "request": {"sub_key": self._owner._sub_key}}
        answer = self._ask("invoke-service", request)
        if answer["meta"]["msg_type"] != SUCCESS:
            status, text = answer["meta"].get("status", 0), answer["meta"].get("error_message", "")
            kind = INFO if status in PASSING else FAIL
            self._owner._history.add(kind, LINK, self._name, text=f"{status} {text}")
            raise Lost("The subscription cannot be resumed.")
        self._owner._history.add(OK, LINK, self._name, text="resumed")
        while not self._owner.stopping.is_set():
            message = self._receive(SILENCE)
            if message is not None:
                self._take(message)

    def _ask(self, action: str, data: Any, **meta: Any) -> dict[str, Any]:
        """The answer to a request; what is pushed meanwhile is taken."""
        asked = self._send(action, data, **meta)
        while True:
            message = self._receive(ANSWER_TIMEOUT)
            if message is None:
                raise Lost("It is to stop.")
            if message["meta"].get("in_reply_to") == asked or message["meta"]["msg_type"] == REFUSAL:
                return message
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        """Does with a push what the subscriber's behaviour says."""
        if message["meta"]["msg_type"] != PUSH:
            return
        behaviour = self._owner._behaviour
        what = behaviour.choose()
        data = message["data"]
        behaviour.note(data if isinstance(data, list) else [data], text=what)
        if what == BREAK_OFF:
            raise Lost("It breaks off without an answer.")
        if what == DAWDLE:
            behaviour.dawdle()
        if what != REFUSE:  # refusing is saying nothing
            self._send("client-response", {"response": {}}, in_reply_to=message["meta"]["id"])

    def _send(self, action: str, data: Any, **meta: Any) -> str:
        fields: dict[str, Any] = {
            "action": action,
            "id": new_cid(),
            "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        }
        fields |= meta | ({"token": self._token} if self._token else {})
        try:
            self._connection.send(orjson.dumps({"meta": fields, "data": data}).decode())
        except WebSocketClosed as error:
            raise Lost(str(error)) from error
        return str(fields["id"])

    def _receive(self, patience: float) -> dict[str, Any] | None:
        """The next message; None if the subscriber is to stop.  Raises ``Lost`` if there is none in time, or will not be any."""
        deadline = time.monotonic() + patience
        while not self._owner.stopping.is_set():
            try:
                with gevent.Timeout(LOOK):
                    received = self._connection.receive()
            except gevent.Timeout:
                if time.monotonic() > deadline:
                    raise Lost(f"Nothing was received for {patience:g} s.") from None
                continue
            if received is None:
                raise Lost(f"Closed: {self._connection.close_code} {self._connection.close_reason}")
            message: dict[str, Any] = orjson.loads(received)
            return message
        return None
