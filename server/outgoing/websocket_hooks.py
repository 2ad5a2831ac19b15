"""The hook services of an outgoing WebSocket connection: told of each connection that is made, each message, each end."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gevent
from gevent.event import Event

from junctor.server.outgoing.websocket_session import Incoming, Session
from junctor.server.service.channel import WEB_SOCKET
from junctor.server.websocket.client_messages import ServerMessage

MAX_WAITING: Final = 1_000  # messages of a connection that wait for its hook
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
NO_HOOK_DELAY, FULL_DELAY = (
    30.0,
    5.0,
)  # seconds after which a delivery may come again that could not be handled
CONNECT, MESSAGE, CLOSE = (
    WEB_SOCKET.OUT_MSG_TYPE.CONNECT,
    WEB_SOCKET.OUT_MSG_TYPE.MESSAGE,
    WEB_SOCKET.OUT_MSG_TYPE.CLOSE,
)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class IncomingMessage:
    """``ctx.data`` of a message from Zato: ``data`` is what was sent; ``msg_impl`` is the whole message, its meta data included."""

    id: str
    timestamp: str
    data: Any
    msg_impl: ServerMessage


@dataclass(slots=True)
class HookContext:
    """``ctx``: what a hook service is given.

    ``type`` is 'connect', 'message' or 'close'; ``config`` the connection's configuration; ``conn`` the connection, to be called
    with ``invoke`` and ``send``.  ``data`` is an ``IncomingMessage``, or the payload of the frame if the remote end is no Zato; ``code``
    and ``reason`` say how a connection was closed.
    """

    type: str
    config: Any = None
    conn: Any = None
    data: Any = None
    code: int | None = None
    reason: str | None = None


@dataclass(slots=True)
class _Waiting:
    """Something that a hook is to be told of; ``session`` is where the answer goes."""

    ctx: HookContext
    size: int = 0
    session: Session | None = None
    incoming: Incoming | None = None


RunsHook = Callable[[HookContext, Incoming | None], Any]


class Hooks:
    """What waits for the hooks of one connection: told of one thing after another, in the order in which they happened.

    See ``runs`` for the arguments.
    """

    def __init__(self, invoke: RunsHook, has_hook: Callable[[str], bool]) -> None:
        self.name = ""
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._has_room = Event()
        self._has_room.set()
        self._greenlet: gevent.Greenlet | None = None
        self._is_stopped = self._is_warned = False
        self.runs(invoke, has_hook)

    def runs(self, invoke: RunsHook, has_hook: Callable[[str], bool]) -> None:
        """From now on, ``invoke`` runs the hook of ``ctx.type`` and returns its response; ``has_hook`` says of a type whether there is one.

        ``invoke`` may block, and raise.
        """
        self._invoke, self._has_hook = invoke, has_hook

    @property
    def waiting(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def connected(self) -> None:
        """Tells of a connection that was made."""
        self._tell(_Waiting(HookContext(CONNECT)))

    def closed(self, code: int, reason: str) -> None:
        """Tells of a connection that is over."""
        self._tell(_Waiting(HookContext(CLOSE, code=code, reason=reason)))

    def message(self, session: Session, incoming: Incoming) -> None:
        """Tells of a message.

        What the hook answers is sent to the remote end, which acknowledges a delivery of publish/subscribe.  When the hook fails, a
        delivery is rejected, to come again, and nothing else is answered.  When too much waits, messages of Zato are dropped in the
        same way, since responses to calls are read by who calls this, and those of others wait for room.
        """
        message = incoming.message
        if not self._has_hook(MESSAGE):
            self._answer_unread(session, incoming)
            return
        data: Any = message
        if isinstance(message, ServerMessage):
            data = IncomingMessage(message.id, message.timestamp, message.data, message)
            if not self._has_room.is_set():
                self._drop(session, incoming, message)
                return
        self._has_room.wait()
        self._tell(_Waiting(HookContext(MESSAGE, data=data), incoming.size, session, incoming))

    def stop(self, timeout: float) -> None:
        """Lets what waits be told for up to ``timeout`` seconds; what is left after that is dropped."""
        greenlet = self._greenlet
        if greenlet is not None:
            greenlet.join(timeout)
        self._is_stopped = True
        self._waiting.clear()
        self._has_room.set()
        if greenlet is not None:
            greenlet.kill(block=False)

    def _answer_unread(self, session: Session, incoming: Incoming) -> None:
        """A caller gets the answer that Zato gives without a hook; a delivery is rejected, for nobody has it."""
        message = incoming.message
        if not isinstance(message, ServerMessage):
            return
        if incoming.is_delivery:
            self._warn(message, "there is no hook on_message, and it is not acknowledged")
            self._reject(session, incoming, NO_HOOK_DELAY)
        else:
            session.respond(message.id, None)

    def _drop(self, session: Session, incoming: Incoming, message: ServerMessage) -> None:
        waiting = len(self._waiting)
        self._warn(message, f"{waiting} messages wait for the hook, and it and what follows is not handled")
        self._reject(session, incoming, FULL_DELAY)

    def _warn(self, message: ServerMessage, what: str) -> None:
        """Once, until the hook has told of all that waits."""
        if not self._is_warned:
            self._is_warned = True
            log.warning("Outgoing WebSocket connection %r: message %r: %s.", self.name, message.id, what)

    def _reject(self, session: Session, incoming: Incoming, delay: float | None = None) -> None:
        """A delivery that nobody has handled comes again, after ``delay`` seconds or as the remote end thinks fit."""
        if incoming.is_delivery and isinstance(incoming.message, ServerMessage):
            answer = {"nack": True} if delay is None else {"nack": True, "delay": delay}
            session.respond(incoming.message.id, answer)

    def _tell(self, item: _Waiting) -> None:
        if self._is_stopped or not self._has_hook(item.ctx.type):
            return
        self._waiting.append(item)
        self._bytes += item.size
        self._look_for_room()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def _look_for_room(self) -> None:
        if len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES:
            self._has_room.clear()
        else:
            self._has_room.set()

    def _run(self) -> None:
        """Tells of all that waits; the greenlet ends with the last of it."""
        try:
            while self._waiting:
                item = self._waiting.popleft()
                self._bytes -= item.size
                self._look_for_room()
                self._handle(item)
                if not self._waiting:
                    self._is_warned = False
        finally:
            self._greenlet = None

    def _handle(self, item: _Waiting) -> None:
        session, incoming = item.session, item.incoming
        if session is None or incoming is None:
            self._run_hook(item)
            return
        if incoming.is_delivery and (session.is_over or not session.takes_messages):
            return  # it comes again, over the next connection: its acknowledgement would reach nobody
        if not self._run_hook(item):
            self._reject(session, incoming)

    def _run_hook(self, item: _Waiting) -> bool:
        """Whether the hook did not fail; then what it returned has been sent as the answer, if there is to be one."""
        session, incoming = item.session, item.incoming
        try:
            answer = self._invoke(item.ctx, incoming)
            if session is not None and incoming is not None and isinstance(incoming.message, ServerMessage):
                session.respond(incoming.message.id, answer)
        except (
            Exception,
            gevent.Timeout,
        ):  # boundary: a hook that fails must not keep the next message from its hook
            log.exception(
                "The hook on_%s of outgoing WebSocket connection %r failed.", item.ctx.type, self.name
            )
            return False
        return True
