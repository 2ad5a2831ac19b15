"""One WebSocket to a remote end, from the handshake to the close frame, with the calls that wait on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import gevent
import orjson
from gevent.event import AsyncResult, Event

from junctor.server.websocket import client_messages, envelope
from junctor.server.websocket.client_messages import Client, ServerMessage
from junctor.server.websocket.codec import Connection
from junctor.sql.config import Config
from junctor.sql.errors import (
    ConnectionFailed,
    ConnectionTimeout,
    InvalidInput,
    InvalidOutput,
    Problem,
    WebSocketClosed,
)

MAX_CALLS: Final = 10_000  # that may wait for their responses on one connection
PONG_TIMEOUT: Final = 10.0  # seconds
MAX_DRAIN: Final = 30.0  # seconds that the calls of a connection which is replaced may still take
MAX_SHOWN: Final = 300  # characters of what a remote end says of itself in logs and states
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """An outgoing WebSocket connection as it is configured; times are in seconds, sizes in bytes."""

    id: int
    name: str
    address: str
    is_active: bool = True
    is_zato: bool = False
    security_id: int | None = None
    has_auto_reconnect: bool = True
    subscription_list: tuple[str, ...] = ()
    timeout: float = 5
    ping_interval: float = 30
    max_message_size: int = 10_485_760
    tls_verify: bool = True

    @classmethod
    def of(cls, config: Config) -> LinkSettings:
        """The settings in an object's configuration."""
        fields = {name: config[name] for name in cls.__dataclass_fields__}
        return cls(**fields | {"subscription_list": tuple(fields["subscription_list"])})

    @property
    def shown_address(self) -> str:
        """The address without its query string, in which there may be a password."""
        parts = urlsplit(self.address)
        return parts._replace(query="", fragment="").geturl()

    @property
    def target(self) -> tuple[Any, ...]:
        """What a connection is to, and for: when this changes, another one is made."""
        return (self.address, self.is_zato, self.security_id, self.tls_verify)

    @property
    def remote(self) -> tuple[Any, ...]:
        """Who is at the remote end, and who this one is there."""
        return (self.address, self.security_id)

    def cleaned(self, text: str) -> str:
        """A message about the connection, of bounded length and without the query string of the address."""
        return text.replace(self.address, self.shown_address)[:MAX_SHOWN]


class Incoming(NamedTuple):
    """What the remote end sent of its own accord: a message of Zato, or the payload of a frame."""

    message: ServerMessage | str | bytes
    size: int

    @property
    def is_delivery(self) -> bool:
        """Whether it is one of publish/subscribe, which comes again when it is not answered."""
        message = self.message
        return isinstance(message, ServerMessage) and message.msg_type == envelope.PUBSUB_REQUEST


class Session:
    """A WebSocket that is open, and logged in over when the remote end is Zato.

    ``on_message`` is called in the reading greenlet, which it may block; ``on_end`` once, when the connection is over.
    ``target`` is what the connection is to, ``lag`` how many seconds the last ping took, None before the first.  While
    ``takes_messages`` is off, what the remote end sends of its own accord is dropped, unanswered.
    """

    def __init__(self, settings: LinkSettings, connection: Connection, client: Client, token: str) -> None:
        self.settings = settings
        self.target: tuple[Any, ...] = (settings.target, client.client_id)
        self.takes_messages = True
        self.lag: float | None = None
        self.refusal = ""
        self.started = monotonic()
        self.is_over = False
        self.on_message: Callable[[Session, Incoming], None]
        self.on_end: Callable[[Session], None]
        self.on_lag: Callable[[float], None]
        self._connection = connection
        self._client, self._token = client, token
        self._calls: dict[str, AsyncResult] = {}
        self._idle = Event()
        self._idle.set()
        self._pong = Event()
        self._pinged = 0.0
        self._is_delivering = False
        self._pinger_wakes = Event()
        self._greenlets: list[gevent.Greenlet] = []

    @property
    def client_id(self) -> str:
        """What this end is called at the remote one."""
        return self._client.client_id

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._connection.is_open

    @property
    def calls(self) -> int:
        """How many calls wait for their responses."""
        return len(self._calls)

    @property
    def ended_with(self) -> tuple[int, str]:
        """The close code and the reason."""
        return self._connection.close_code, self._connection.close_reason or self.refusal

    def start(self) -> None:
        """Begins to read and to ping."""
        self._connection.on_pong = self._take_pong
        self._greenlets = [gevent.spawn(self._read), gevent.spawn(self._ping)]

    def adopt(self, settings: LinkSettings) -> None:
        """Goes on with other settings for the same target; the largest message stays what it was."""
        self.settings = settings
        self._pinger_wakes.set()

    def call(self, data: Any, timeout: float, ctx: dict[str, Any]) -> ServerMessage:
        """What the remote service answered within ``timeout`` seconds, an error included.

        Raises ``ConnectionTimeout``, ``ConnectionFailed`` or ``InvalidOutput``, whose messages are the reasons alone.
        """
        message_id, message = client_messages.invoke(self._client, self._token, data, ctx)
        self._check_size(len(message))
        if len(self._calls) >= MAX_CALLS:
            raise ConnectionFailed(f"{MAX_CALLS} calls wait for their responses already")
        answer = AsyncResult()
        self._calls[message_id] = answer
        self._idle.clear()
        try:
            self._connection.send_text(message)
            answer.wait(timeout)
            if not answer.ready():
                raise ConnectionTimeout(f"no response within {round(timeout, 2):g} s")
            response: ServerMessage | None = answer.value
            if response is None:
                raise WebSocketClosed(
                    f"the connection was lost before the response came: {self.how_it_ended()}"
                )
            return response
        finally:
            self._calls.pop(message_id, None)
            if not self._calls:
                self._idle.set()

    def send(self, message: str | bytes) -> None:
        """Sends a message to a remote end that is no Zato.  Raises ``ConnectionFailed``."""
        self._check_size(len(message))
        self._connection.send(message)

    def respond(self, in_reply_to: str, data: Any) -> None:
        """Answers a message of the remote end; if the connection is over by now, nobody waits for it.  Raises ``InvalidOutput``."""
        message = client_messages.respond(self._client, self._token, in_reply_to, data)
        try:
            self._connection.send_text(message)
        except WebSocketClosed:
            log.debug("%r was not answered: the connection is over.", in_reply_to)

    def retire(self) -> gevent.Greenlet:
        """Takes no more messages, and closes once its calls are over; returns the greenlet that waits for them."""
        self.takes_messages = False
        return gevent.spawn(self._drain)

    def kill(self) -> None:
        """Closes at once, whatever waits for a response.  Does not wait; ``on_end`` is called."""
        self._connection.abort(reason="The connection was given up.")

    def join(self, timeout: float) -> None:
        """Waits until it is over, or for ``timeout`` seconds."""
        gevent.joinall(self._greenlets[:1], timeout=timeout)

    def how_it_ended(self) -> str:
        """Why the connection is over, in a few words."""
        code, reason = self.ended_with
        return self.settings.cleaned(f"{reason or 'closed'} (close code {code})")

    def _check_size(self, size: int) -> None:
        """A larger message could end the connection, with all calls that wait on it."""
        if size > self.settings.max_message_size:
            raise ConnectionFailed(
                f"the message has {size} bytes, and the maximum is {self.settings.max_message_size}"
            )

    def _drain(self) -> None:
        self._idle.wait(MAX_DRAIN)
        self._connection.close()

    def _read(self) -> None:
        connection = self._connection
        try:
            while (received := connection.receive()) is not None:
                self._take(received)
        except Exception:  # boundary: the end of the greenlet; the connection must not seem to live on
            log.exception("Outgoing WebSocket connection %r stops reading.", self.settings.name)
            discard(connection)
        finally:
            self.is_over = True
            for answer in list(self._calls.values()):
                answer.set(None)
            self._pinger_wakes.set()
            self._pong.set()
            self.on_end(self)

    def _take(self, received: str | bytes) -> None:
        if not self.settings.is_zato:
            self._deliver(Incoming(received, len(received)))
            return
        try:
            message = client_messages.parse(received)
        except InvalidInput as error:
            log.warning("Outgoing WebSocket connection %r got a wrong message: %s", self.settings.name, error)
            return
        if message.in_reply_to:
            answer = self._calls.pop(message.in_reply_to, None)
            if answer is not None:
                answer.set(message)
            else:
                log.debug("The response to %r came too late.", message.in_reply_to)
        elif message.msg_type in (envelope.MESSAGE_ERROR, envelope.RESPONSE_ERROR):
            self._take_refusal(message)
        else:
            self._deliver(Incoming(message, len(received)))

    def _take_refusal(self, message: ServerMessage) -> None:
        """An error that is no response: mostly the last message before the remote end closes, as when the session is over."""
        text = message.error_message or message.data
        self.refusal = self.settings.cleaned(f"the remote end said: {message.status} {text}")
        log.warning("Outgoing WebSocket connection %r: %s", self.settings.name, self.refusal)

    def _deliver(self, incoming: Incoming) -> None:
        if not self.takes_messages:
            return
        self._is_delivering = True
        try:
            self.on_message(self, incoming)
        finally:
            self._is_delivering = False

    def _ping(self) -> None:
        """Finds out whether the remote end is still there: TCP alone would not tell for hours."""
        while not self.is_over:
            self._pinger_wakes.clear()
            sent = self._pinged = monotonic()
            self._pong.clear()
            try:
                self._connection.ping(_payload(sent))
            except WebSocketClosed:
                return  # the reader finds out by itself
            while not self._pong.wait(PONG_TIMEOUT):
                if not self._is_delivering:  # the pong cannot be read while hooks have no room for a message
                    self._connection.abort(reason=f"No answer to a ping within {PONG_TIMEOUT:g} s.")
                    return
            while not self.is_over and (left := sent + self.settings.ping_interval - monotonic()) > 0:
                self._pinger_wakes.wait(left)
                self._pinger_wakes.clear()

    def _take_pong(self, payload: bytes) -> None:
        if payload != _payload(self._pinged):
            return  # a pong may come unasked for (RFC 6455, section 5.5.3)
        self.lag = monotonic() - self._pinged
        self.on_lag(self.lag)
        self._pong.set()


def open_session(settings: LinkSettings, client: Client, credentials: tuple[str, str]) -> Session:
    """A new connection, logged in over with a user name and a secret if the remote end is Zato.

    Connecting and logging in may each take ``settings.timeout`` seconds.  Raises ``ConnectionFailed`` or ``ConnectionTimeout``.
    """
    connection = Connection.connect(
        settings.address,
        timeout=settings.timeout,
        tls_verify=settings.tls_verify,
        max_message_size=settings.max_message_size,
    )
    if not settings.is_zato:
        return Session(settings, connection, client, "")
    limit = gevent.Timeout(settings.timeout)
    try:
        with limit:
            return Session(settings, connection, client, _log_in(connection, client, credentials))
    except BaseException as error:
        discard(connection)
        if error is limit:
            raise ConnectionTimeout(
                f"{settings.address} did not answer the log-in within {settings.timeout:g} s."
            ) from None
        raise


def _payload(sent: float) -> bytes:
    return repr(sent).encode()


def discard(connection: Connection) -> None:
    """Ends a connection that nobody reads from."""
    connection.abort()
    connection.receive()


def _log_in(connection: Connection, client: Client, credentials: tuple[str, str]) -> str:
    """The token that the remote end gives to the session."""
    message_id, message = client_messages.create_session(client, *credentials)
    connection.send_text(message)
    while (received := connection.receive()) is not None:
        try:
            answer = client_messages.parse(received)
        except InvalidInput as error:
            raise ConnectionFailed(f"The answer to the log-in is none of Zato: {error}") from None
        is_ours = answer.in_reply_to == message_id
        if is_ours and answer.is_ok:
            token = answer.data.get("token") if isinstance(answer.data, dict) else None
            if not isinstance(token, str) or not token:
                raise ConnectionFailed("The remote end accepted the log-in without giving a token.")
            return token
        if is_ours or answer.msg_type == envelope.MESSAGE_ERROR:
            text = answer.error_message or answer.data
            raise ConnectionFailed(f"The remote end refused the log-in: {answer.status} {text}"[:MAX_SHOWN])
    raise ConnectionFailed(
        f"The remote end closed the connection instead of answering the log-in (close code {connection.close_code})."
    )


def frame(message: Any) -> str | bytes:
    """A message for a remote end that is no Zato: text and bytes as they are, all else as JSON.  Raises ``InvalidOutput``."""
    if isinstance(message, str | bytes):
        return message
    if isinstance(message, bytearray | memoryview):
        return bytes(message)
    try:
        return orjson.dumps(message, default=envelope.plain, option=envelope.OPTIONS).decode()
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidOutput("message", [Problem("data", f"is no JSON: {error}.")]) from error
