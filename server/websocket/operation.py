"""What one worker can ask another to do with its WebSocket clients, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeVar

import gevent
import orjson
from gevent.pool import Group

from junctor.server.websocket import envelope
from junctor.server.websocket.clients import ClientSession, ConnectedClients
from junctor.server.websocket.stream import NORMAL
from junctor.sql.errors import (
    CallFailed,
    CallTimeout,
    InvalidInput,
    InvalidOutput,
    JunctorError,
    NotFound,
    Problem,
    SlowConsumer,
    WebSocketClosed,
)

INVOKE, NOTIFY, DISCONNECT, BROADCAST = "invoke", "notify", "disconnect", "broadcast"
MAX_BODY: Final = 16 * 1024 * 1024  # bytes of an operation, and of its outcome
MAX_TIMEOUT: Final = 3600.0  # seconds
TURN: Final = 0.005  # seconds that a broadcast may keep others waiting at a time
CLIENT: Final = "connected WebSocket client"
Decoded = TypeVar("Decoded")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is to be done: with ``clients``, by their pub_client_ids, or for BROADCAST with all of a channel.

    ``timeout`` is in seconds and for INVOKE alone, ``code`` and ``reason`` are for DISCONNECT; ``cid`` is that of the call which asks.
    """

    verb: str
    clients: Sequence[str] = ()
    channel_id: int = 0
    data: Any = None
    timeout: float = 0.0
    code: int = NORMAL
    reason: str = ""
    cid: str = ""

    def encode(self) -> bytes:
        """The operation as a message.  Raises ``InvalidOutput`` if ``data`` is no JSON, ``InvalidInput`` if it is too large."""
        body = encoded({name: getattr(self, name) for name in self.__slots__})
        if len(body) > MAX_BODY:
            raise InvalidInput.one(
                "data", f"has {len(body)} bytes as JSON; at most {MAX_BODY} may be sent to clients."
            )
        return body


@dataclass(slots=True)
class Outcome:
    """What became of an operation.

    ``answers`` and ``errors`` are by client, one of both for each; ``count`` is how many clients a broadcast was sent to.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, JunctorError] = field(default_factory=dict)
    count: int = 0

    def encode(self) -> bytes:
        """The outcome as a message; if it is too large, it says so in place of the answers."""
        errors = {key: [type(error).__name__, error.message] for key, error in self.errors.items()}
        body = encoded({"answers": self.answers, "errors": errors, "count": self.count})
        if len(body) <= MAX_BODY:
            return body
        message = (
            f"The answer has {len(body)} bytes as JSON; at most {MAX_BODY} are passed on between workers."
        )
        failed = Outcome(errors=dict.fromkeys([*self.answers, *self.errors], CallFailed(message)))
        return failed.encode()

    @classmethod
    def gone(cls, clients: Sequence[str]) -> Outcome:
        """The outcome for clients that are not connected any more."""
        return cls(errors={key: NotFound(CLIENT, key) for key in clients})


def encoded(data: Any) -> bytes:
    """JSON, as clients would get it.  Raises ``InvalidOutput``."""
    try:
        return orjson.dumps(data, default=envelope.plain, option=envelope.OPTIONS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidOutput("request", [Problem("data", f"is no JSON: {error}.")]) from error


def decode_operation(body: bytes) -> Operation:
    """The operation of a message.  Raises ``InvalidInput`` if it is none: then the sender is of another version."""
    return _decoded(body, lambda fields: Operation(**fields))


def decode_outcome(body: bytes) -> Outcome:
    """The outcome of a message.  Raises ``InvalidInput`` if it is none."""

    def outcome(fields: dict[str, Any]) -> Outcome:
        errors = {key: _error(key, *described) for key, described in fields["errors"].items()}
        return Outcome(fields["answers"], errors, fields["count"])

    return _decoded(body, outcome)


def _decoded(body: bytes, make: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    try:
        return make(orjson.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput.one("", f"The message of another worker is not understood: {error}.") from error


_ERRORS: Final[Mapping[str, type[JunctorError]]] = {
    cls.__name__: cls for cls in (CallTimeout, WebSocketClosed, SlowConsumer)
}


def _error(client: str, name: str, message: str) -> JunctorError:
    if name == NotFound.__name__:
        return NotFound(CLIENT, client)
    return _ERRORS.get(name, CallFailed)(message)


def perform(clients: ConnectedClients, operation: Operation) -> Outcome:
    """Does what is asked with the clients of this worker, at the same time.  Never raises, but for what ends the greenlet."""
    if operation.verb == BROADCAST:
        return Outcome(count=_broadcast(clients.sessions(operation.channel_id), operation.data))
    outcome = Outcome()
    if operation.verb == INVOKE and len(operation.clients) > 1:
        group = Group()
        try:
            for key in operation.clients:
                group.spawn(_do, clients, operation, key, outcome)
            group.join()
        finally:
            group.kill(block=False)
        return outcome
    for key in operation.clients:
        _do(clients, operation, key, outcome)
    return outcome


def _do(clients: ConnectedClients, operation: Operation, key: str, outcome: Outcome) -> None:
    session = clients.get(key)
    if session is None:
        outcome.errors[key] = NotFound(CLIENT, key)
        return
    action = _ACTIONS.get(operation.verb)
    try:
        if action is None:
            raise CallFailed(
                f"This server does not know how to {operation.verb} clients: it has another version."
            )
        outcome.answers[key] = action(session, operation)
    except JunctorError as error:
        outcome.errors[key] = error
    except Exception:  # boundary: one client must not keep the others from having their turn
        log.exception("Client %s could not be asked to %s.", key, operation.verb)
        outcome.errors[key] = CallFailed(
            f"Client {key} could not be reached; the log of its server says why."
        )


_ACTIONS: Final[Mapping[str, Callable[[ClientSession, Operation], Any]]] = {
    INVOKE: lambda session, operation: session.invoke(operation.data, timeout=operation.timeout),
    NOTIFY: lambda session, operation: session.notify(operation.data),
    DISCONNECT: lambda session, operation: session.disconnect(operation.code, operation.reason),
}


def _broadcast(sessions: Sequence[ClientSession], data: Any) -> int:
    """How many clients it was sent to; those that cannot take it are left out."""
    shared = orjson.Fragment(encoded(data)) if data else data  # written as JSON once, not for each client
    sent = 0
    turn = monotonic()
    for session in sessions:
        try:
            session.notify(shared)
            sent += 1
        except JunctorError as error:
            log.info("Client %s does not get a broadcast: %s", session.pub_client_id, error)
        except Exception:  # boundary: one client must not keep the others from getting it
            log.exception("Client %s could not be sent a broadcast.", session.pub_client_id)
        if monotonic() - turn > TURN:
            gevent.sleep(0)
            turn = monotonic()
    return sent
