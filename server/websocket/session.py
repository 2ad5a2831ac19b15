"""A client of a WebSocket channel, from its handshake to the end of its connection (facts sheet, sections 1.2 to 1.7)."""

from __future__ import annotations

import logging
import math
from hmac import compare_digest
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import gevent

from junctor.server import http_errors
from junctor.server.service.call import new_cid
from junctor.server.service.link import MAX_HOPS
from junctor.server.websocket import envelope
from junctor.server.websocket.client import Client
from junctor.server.websocket.envelope import ClientMessage, Credentials, Malformed
from junctor.server.websocket.hooks import CONNECTED, DISCONNECTED, PUBSUB_RESPONSE, Hook, run_hook
from junctor.server.websocket.stream import ABNORMAL, NORMAL, POLICY, RESTART
from junctor.server.websocket.work import Work
from junctor.sql.errors import SlowConsumer, Unauthorized, WebSocketClosed

if TYPE_CHECKING:
    from junctor.server.websocket.codec import Connection
    from junctor.server.websocket.peer import Peer
    from junctor.server.websocket.sessions import Sessions

MAX_MALFORMED: Final = 10  # malformed messages in a row, after which a client is disconnected
LEAST_WAITING: Final = (
    32  # requests that may wait for their turn before what else the client sends is left unread
)
MAX_WAITING: Final = 1000  # ... while a service waits for the client's own answer, which must be read
MAX_WAITING_SIZE: Final = 4 * 1024 * 1024  # bytes, of both
MAX_ERROR: Final = 2000  # characters
INTERNAL_ERROR, LOOP_DETECTED = 500, 508
log = logging.getLogger(__name__)


class Session(Client):
    """One client: ``run`` reads what it sends, in the greenlet of its connection; what it asks for is done in others.

    A session has no timers of its own: its channel's sweeper calls ``look`` about once a second.  ``ticket`` is what its
    credentials were good for, by which ``channel.still_admits`` tells whether they are still.
    """

    __slots__ = (
        "_awaits_pong",
        "_expires",
        "_gates",
        "_is_draining",
        "_is_paused",
        "_malformed",
        "_next_ping",
        "_token",
        "_work",
        "pings_missed",
        "service_environ",
        "ticket",
    )

    def __init__(self, channels: Sessions, connection: Connection, peer: Peer) -> None:
        super().__init__(channels, connection, peer)
        self.ticket: object = None
        self.pings_missed = 0
        self.service_environ: dict[str, Any] | None = None
        self._token = b""
        self._expires = self.started + channels.channel.new_token_wait_time
        self._next_ping = math.inf
        self._awaits_pong = self._is_draining = self._is_paused = False
        self._malformed = self._gates = 0
        self._work = Work(self, channels.busy)
        connection.on_pong = self._take_pong

    @property
    def is_logged_in(self) -> bool:
        """Whether it has a token."""
        return bool(self._token)

    @property
    def token(self) -> str:
        """The token that it must give with each message; '' until it has logged in."""
        return self._token.decode()

    @property
    def concurrency(self) -> int:
        """How many of its requests may run at a time; none while a hook learns of it."""
        return 1 if self._gates else self.channels.channel.max_concurrent

    def run(self) -> None:
        """Serves the client until either side has closed the connection."""
        receive, take = self.connection.receive, self._take
        try:
            while (message := receive()) is not None:
                take(message)
        except Exception:  # boundary: a connection's greenlet
            log.exception("The WebSocket of %s failed.", self.shown)
            self.connection.abort(ABNORMAL, "The server failed.")
            while receive() is not None:
                continue  # what it had sent before is nobody's any more
        finally:
            self._finish()

    def look(self, now: float) -> None:
        """Ends the session if its time is over, and sees to it that its client is there.  Never blocks, never raises."""
        if self._has_left or self._is_paused:
            return  # of a client that is not read, there is nothing to know
        if now >= self._expires:
            self.refuse("expired" if self.is_logged_in else "deadline")
        elif now >= self._next_ping:
            self._ping(now)

    def refuse(self, reason: str) -> None:
        """Tells the client that it has no session, or none any more, and disconnects it.  ``reason`` is for the log and the metrics."""
        if self._has_left:
            return
        log.info("WebSocket channel %r refuses %s: %s.", self.channel_name, self.shown, reason)
        self.channels.refused(reason)
        self._reply(envelope.refusal())
        self.disconnect(POLICY, "Not authorized")

    def drain(self) -> None:
        """Disconnects the client as soon as none of its requests is under way; new ones are refused from now on."""
        self._is_draining = True
        self.rests()

    def disconnect(self, code: int = NORMAL, reason: str = "") -> None:
        """Closes the connection, and has done with the client; requests that run go on, for nobody.  Never raises."""
        self._leave()
        self.connection.close(code, reason)

    def perform(self, job: ClientMessage | Hook) -> None:
        """Serves a request, or runs a hook; ``Work`` calls this."""
        if isinstance(job, ClientMessage):
            if not self._has_left:
                self._serve(job)
            return
        try:
            run_hook(self, job)
        finally:
            if job.type != PUBSUB_RESPONSE:
                self._gates -= 1

    def rests(self) -> None:
        """Nothing is under way; ``Work`` calls this."""
        if self._is_draining and not self._work.running:
            self.disconnect(RESTART, "The server is stopping")

    def _take(self, message: str | bytes) -> None:
        if self._has_left:
            return
        self.received += 1
        self.channels.messages_in.inc()
        try:
            parsed = envelope.parse(message)
        except Malformed as malformed:
            self._answer_malformed(malformed)
            return
        self._malformed = 0
        self._is_there()
        if parsed.credentials is not None:
            self._log_in(parsed.id, parsed.credentials)
        elif not (self._token and compare_digest(parsed.token.encode(), self._token)):
            self.refuse("token")
        elif (now := monotonic()) >= self._expires:
            self.refuse("expired")
        else:
            self._expires = now + self.channels.channel.token_ttl
            if parsed.action == envelope.CLIENT_RESPONSE:
                self._take_answer(parsed)
            else:
                self._take_request(parsed)

    def _answer_malformed(self, malformed: Malformed) -> None:
        self._malformed += 1
        self.channels.refused("malformed")
        self._reply(envelope.error(malformed.message_id, envelope.BAD_REQUEST, str(malformed)[:MAX_ERROR]))
        if self._malformed >= MAX_MALFORMED:
            log.info("%s sends malformed messages: %s", self.shown, str(malformed)[:MAX_ERROR])
            self.disconnect(POLICY, "Malformed messages")

    def _log_in(self, message_id: str, credentials: Credentials) -> None:
        channel = self.channels.channel
        try:
            self.ticket = channel.admit(credentials)
        except Unauthorized:
            self.ext_client_id = self.ext_client_id or credentials.client_id
            self.refuse("credentials")
            return
        is_first = not self._token
        now = monotonic()
        self.connection.allow(channel.max_message_size)
        self._token = f"ws.token.{new_cid()}".encode()
        self._expires = now + channel.token_ttl
        self._introduce(credentials, is_first=is_first)
        self._reply(envelope.session_created(message_id, self.token))
        if is_first:
            self._next_ping = now + channel.ping_interval
            self._tell(CONNECTED)

    def _introduce(self, credentials: Credentials, *, is_first: bool) -> None:
        """Makes the client known to the rest of the server, under the names that it gives."""
        clients = self.channels.context.clients
        if not is_first:
            clients.remove(self)
        self.ext_client_id = credentials.client_id or self.pub_client_id
        self.ext_client_name, self.attributes = credentials.client_name, credentials.attributes
        self.service_environ = None
        self.channels.logged_in(self)
        clients.add(self)

    def _take_answer(self, message: ClientMessage) -> None:
        data = message.data
        answer = data["response"] if isinstance(data, dict) and "response" in data else data
        is_awaited = self._calls.answered(message.in_reply_to, answer)
        if message.in_reply_to.startswith(envelope.PUBSUB_ID_PREFIX):
            self.answers_deliveries = True  # if only after it was waited for
            if self.channels.channel.hook_service and self._make_room():
                self._work.add(Hook(PUBSUB_RESPONSE, message), message.size)
        elif not is_awaited:
            log.debug("Nobody waits any more for the answer of %s to %s.", self.shown, message.in_reply_to)

    def _take_request(self, message: ClientMessage) -> None:
        hops = message.ctx.get("hops")
        if isinstance(hops, int) and hops > MAX_HOPS:
            log.warning("%s calls over %d links between clusters: in a circle?", self.shown, hops)
            text = f"The call came over more than {MAX_HOPS} links between clusters."
            self._reply(envelope.error(message.id, LOOP_DETECTED, text))
        elif self._is_draining:
            self._reply(envelope.error(message.id, envelope.UNAVAILABLE, "The server is stopping."))
        elif self._make_room():
            self._work.add(message, message.size)
        else:
            text = "Too many requests of this connection wait already."
            self._reply(envelope.error(message.id, envelope.UNAVAILABLE, text))

    def _make_room(self) -> bool:
        """Whether one more request may wait for its turn.

        While there is no room, nothing more is read, and the client has to wait; unless a service waits for the client, whose
        answer could not be read then.
        """
        work = self._work
        while work.waiting >= max(LEAST_WAITING, self.concurrency) or work.size > MAX_WAITING_SIZE:
            if self._calls:
                return work.waiting < MAX_WAITING and work.size <= MAX_WAITING_SIZE
            if self._has_left:
                return False
            self._is_paused = True
            work.wait()
            self._is_paused = False
        return True

    def _serve(self, message: ClientMessage) -> None:
        channels = self.channels
        cid = new_cid()
        started = perf_counter()
        try:
            payload = channels.channel.invoke(self, message, cid)
            answer = envelope.response(message.id, payload, cid)
        except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - boundary: a request; everything becomes an answer
            answer = _failure(error, message.id, cid, self.channel_name)
        channels.seconds.observe(perf_counter() - started)
        self._reply(answer)

    def _reply(self, answer: bytes) -> None:
        """Sends an answer; one that nobody can take any more is dropped."""
        try:
            self.send(answer)
        except SlowConsumer:
            log.warning("%s does not take its messages and was disconnected.", self.shown)
            self.channels.refused("slow")
        except WebSocketClosed:
            log.debug("%s was gone before it had its answer.", self.shown)

    def _expect_answers(self) -> None:
        self._work.wake()

    def _tell(self, hook_type: str, *, is_urgent: bool = False) -> None:
        """Has the hook service told, before any request that comes later is served."""
        if self.channels.channel.hook_service:
            self._gates += 1
            self._work.add(Hook(hook_type), is_urgent=is_urgent)

    def _take_pong(self, _payload: bytes) -> None:
        self._is_there()
        if self._token:
            self._expires = monotonic() + self.channels.channel.token_ttl

    def _is_there(self) -> None:
        self._awaits_pong = False
        self.pings_missed = 0

    def _ping(self, now: float) -> None:
        channel = self.channels.channel
        if self._awaits_pong:
            self.pings_missed += 1
            if self.pings_missed >= channel.pings_missed_threshold:
                self.refuse("pings")
                return
        self._next_ping = now + channel.ping_interval
        self._awaits_pong = True
        try:
            self.connection.ping(envelope.ping())
        except WebSocketClosed as error:
            log.debug("%s cannot be pinged: %s", self.shown, error)

    def _leave(self) -> None:
        """The client is nobody's any more: nobody finds it, and nobody waits for it."""
        if self._has_left:
            return
        self._has_left = True
        self.channels.context.clients.remove(self)
        self._calls.fail()
        self._work.drop(ClientMessage)
        self._work.wake()
        farewells, self._farewells = self._farewells, []
        for farewell in farewells:
            farewell(self)

    def _finish(self) -> None:
        """The connection is over."""
        self._leave()
        if self._token:
            self._tell(DISCONNECTED, is_urgent=not self._gates)
        self.channels.ended(self)


def _failure(error: BaseException, message_id: str, cid: str, channel: str) -> bytes:
    """The answer to a request that failed; faults of this side are logged."""
    answer = http_errors.answer(error)
    if http_errors.is_fault(error):
        log.error("A request of WebSocket channel %r failed.", channel, exc_info=error, extra={"cid": cid})
    text = answer.details if answer.error or answer.status != INTERNAL_ERROR else "Internal server error"
    return envelope.error(message_id, answer.status, text, cid)
