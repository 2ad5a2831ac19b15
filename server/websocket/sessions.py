"""The sessions of one WebSocket channel in this worker, whatever becomes of the channel's configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent

from junctor.server.metrics import Counter, Histogram
from junctor.server.security.definitions import Definition
from junctor.server.websocket.codec import Connection
from junctor.server.websocket.peer import Peer
from junctor.server.websocket.session import Session
from junctor.server.websocket.stream import ABNORMAL
from junctor.server.websocket.work import Busy

if TYPE_CHECKING:
    from junctor.server.channels.websocket import WebSocketChannel
    from junctor.server.context import Context

SWEEP_INTERVAL: Final = 0.25  # seconds; credentials that do not hold any more are noticed as quickly
LOOK_INTERVAL: Final = 1.0  # seconds between two looks at a session
TURN: Final = 50  # sessions that are looked at, or closed, before others have their turn
log = logging.getLogger(__name__)


class Sessions:
    """Everybody who is connected to a channel.  The channel as it is configured now is ``channel``; it changes, and nobody notices.

    One greenlet, the sweeper, sees to all of them, for as long as there are any.
    """

    channel: WebSocketChannel
    messages_in: Counter
    messages_out: Counter
    seconds: Histogram

    def __init__(self, context: Context) -> None:
        self.context = context
        self.busy = Busy(context.websockets.workers)
        self._sessions: dict[Session, None] = {}
        self._newcomers: dict[Session, None] = {}
        self._sweeper: gevent.Greenlet | None = None
        self._judged_by: tuple[object, object] = (None, None)
        self._name = ""

    def __len__(self) -> int:
        return len(self._sessions)

    def serve_with(self, channel: WebSocketChannel) -> None:
        """From now on, the channel is this one.  Neither blocks nor raises."""
        self.channel = channel
        if self._name != channel.name:
            self._count(0)
            self._name = channel.name
            metrics = self.context.metrics
            name = "junctor_websocket_messages_total"
            self.messages_in = metrics.counter(name, channel=channel.name, direction="in")
            self.messages_out = metrics.counter(name, channel=channel.name, direction="out")
            self.seconds = metrics.histogram("junctor_websocket_seconds", channel=channel.name)
        self._count(len(self._sessions))

    def serve(self, connection: Connection, environ: Mapping[str, Any]) -> None:
        """Serves a client until its connection is over, in this greenlet."""
        endpoints = self.context.websockets
        session = Session(self, connection, Peer(environ, endpoints.address_of(environ)))
        self._sessions[session] = self._newcomers[session] = None
        endpoints.groups.add(self)
        self._count(len(self._sessions))
        if self._sweeper is None:
            self._judged_by = self._judges()
            self._sweeper = gevent.spawn(self._sweep)
        session.run()

    def logged_in(self, session: Session) -> None:
        """A session need not be watched as closely any more."""
        self._newcomers.pop(session, None)

    def ended(self, session: Session) -> None:
        """A session is over.  Neither blocks nor raises."""
        self._newcomers.pop(session, None)
        self._sessions.pop(session, None)
        self._count(len(self._sessions))
        self.context.websockets.log_session(session)

    def refused(self, reason: str) -> None:
        """Counts something that a client was refused: a connection, a session, a message."""
        self.context.metrics.counter(
            "junctor_websocket_refused_total", channel=self.channel.name, reason=reason
        ).inc()

    def all(self) -> list[Session]:
        """The sessions, as they are now."""
        return list(self._sessions)

    def close(self, code: int, reason: str, sessions: Iterable[Session] | None = None) -> None:
        """Has everybody disconnected, or those who are given, one after the other.  Neither blocks nor raises."""
        chosen = self.all() if sessions is None else list(sessions)
        if chosen:
            gevent.spawn(_each, chosen, lambda session: session.disconnect(code, reason))

    def drain(self, seconds: float) -> None:
        """Disconnects everybody, who has a request under way afterwards, spread over some seconds so that not all come back at once."""
        sessions = self.all()
        turns = max(len(sessions) // TURN, 1)
        _each(sessions, lambda session: session.drain(), pause=seconds / turns)

    def abort(self) -> None:
        """Ends what has not ended by itself."""
        for session in self.all():
            session.connection.abort(ABNORMAL, "The server has stopped.")

    def _count(self, sessions: int) -> None:
        if self._name:
            self.context.metrics.gauge("junctor_websocket_connections", channel=self._name).set(sessions)

    def _sweep(self) -> None:
        """Looks at newcomers and at credentials often, and at every session now and then."""
        next_look = 0.0
        while self._sessions or self.busy.count:
            try:
                if self._judged_by != (judges := self._judges()):
                    self._judged_by = judges
                    self._judge()
                now = monotonic()
                for session in list(self._newcomers):
                    session.look(now)
                if now >= next_look:
                    next_look = now + LOOK_INTERVAL
                    _each(self.all(), lambda session: session.look(monotonic()))
            except Exception:  # boundary: the sweeper's greenlet, which all sessions depend on
                log.exception("The sweeper of WebSocket channel %r failed; it goes on.", self.channel.name)
            gevent.sleep(SWEEP_INTERVAL)
        self._sweeper = None
        self.context.websockets.groups.discard(self)

    def _judges(self) -> tuple[object, object]:
        """What decides whether credentials are good, as it is now: when it is another one, they are looked at again."""
        definition = self.channel.definition
        return self.channel, definition.verdict if isinstance(definition, Definition) else definition

    def _judge(self) -> None:
        """Disconnects those whose credentials are not good any more."""
        _each(self.all(), self._judge_one)

    def _judge_one(self, session: Session) -> None:
        if session.is_logged_in and not self.channel.still_admits(session.ticket):
            session.refuse("withdrawn")


def _each(sessions: list[Session], action: Callable[[Session], None], pause: float = 0.0) -> None:
    """Does something to each session; others have their turn in between, however many there are."""
    for number, session in enumerate(sessions, start=1):
        action(session)
        if number % TURN == 0:
            gevent.sleep(pause)
