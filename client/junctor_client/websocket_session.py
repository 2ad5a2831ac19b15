"""One connection to a WebSocket channel, from its handshake over log-in to its end."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.http11 import Response as HandshakeResponse
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from junctor_client.errors import ClientError, ConnectionFailed, HTTPError, Timeout, for_status
from junctor_client.response import CID_HEADER
from junctor_client.websocket_messages import Message, Refusal, Reply, build, parse

PING_INTERVAL, PING_TIMEOUT = 20, 20  # seconds: a server that is gone is noticed after both
CLOSE_TIMEOUT = 2  # seconds that the server may take to agree to a close
SEND_TIMEOUT = 40  # seconds in which the server must take some of what is sent
NO_CLOSE = 1006  # the code of a connection that was lost

_MAX_DETAILS = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to connect, and as whom; ``timeout`` is in seconds, ``max_size`` in bytes."""

    address: str
    username: str
    password: str = field(repr=False)
    client_id: str
    client_name: str
    attributes: Mapping[str, Any]
    timeout: float
    verify: bool | str
    max_size: int


class _Call:
    """A call that waits for its reply, or for the end of the connection."""

    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Reply | None = None


class Session:
    """A connection on which the server has accepted the client; any number of threads may call over it.

    One thread iterates over the messages that the server sends of its own accord; replies are received there too.
    """

    def __init__(self, settings: Settings, connection: ClientConnection, token: str) -> None:
        self._settings, self._connection, self._token = settings, connection, token
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}
        self._is_over = False
        self.close_code, self.close_reason = NO_CLOSE, ""

    @classmethod
    def open(cls, settings: Settings) -> Session:
        """A new session.

        Raises ``ConnectionFailed`` or ``Timeout`` if there is no connection, and an ``HTTPError`` if the server refuses it: ``Forbidden``
        for wrong credentials.
        """
        end = time.monotonic() + settings.timeout
        connection = _connect(settings)
        try:
            return cls(settings, connection, _log_in(settings, connection, end))
        except BaseException:
            connection.close()
            raise

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self._is_over

    def call(self, data: Any, timeout: float, *, waited: float = 0) -> Any:
        """What the channel's service returns, within ``timeout`` seconds, some of which were waited already.

        Raises ``ConnectionFailed``, ``Timeout`` or an ``HTTPError``.
        """
        names = {"client_id": self._settings.client_id, "client_name": self._settings.client_name}
        message_id, text = build("invoke-service", data, token=self._token, **names)
        call = _Call()
        with self._lock:
            if self._is_over:
                raise self._lost("the connection is closed")
            self._calls[message_id] = call
        try:
            self._send(text)
            if not call.done.wait(max(0.0, timeout - waited)):
                raise Timeout(self._settings.address, details=f"no answer within {timeout:g} s")
        finally:
            with self._lock:
                self._calls.pop(message_id, None)
        if call.reply is None:
            raise self._lost("the connection was lost before there was an answer")
        return call.reply.result(self._settings.address)

    def respond(self, message: Message, result: Any) -> None:
        """Sends the result of a message.  Raises ``ConnectionFailed``, and ``TypeError`` or ``ValueError`` for what is no JSON."""
        names = {"client_id": self._settings.client_id, "client_name": self._settings.client_name}
        meta = {"token": self._token, "in_reply_to": message.id, **names}
        self._send(build("client-response", {"response": result}, **meta)[1])

    def messages(self) -> Iterator[Message]:
        """What the server sends of its own accord, until the connection is over; ``close_code`` and ``close_reason`` then say how.

        Raises ``InvalidResponse`` for what no WebSocket channel sends.
        """
        try:
            for text in self._connection:
                received = parse(text)
                if isinstance(received, Message):
                    yield received
                elif isinstance(received, Reply):
                    self._take(received)
                else:
                    self.close_reason = received.details
        except ConnectionClosed:
            pass  # how it ended is told below, in the same way as for a normal end
        finally:
            self._end()

    def close(self) -> None:
        """Closes the connection, once what was sent before has been; takes up to two seconds."""
        self._connection.close()

    def _take(self, reply: Reply) -> None:
        with self._lock:
            call = self._calls.get(reply.in_reply_to)
        if call is not None:
            call.reply = reply
            call.done.set()

    def _end(self) -> None:
        """Nothing comes any more: whoever waits is told."""
        self._connection.close()
        if self._connection.close_code is not None:
            self.close_code = self._connection.close_code
            self.close_reason = self._connection.close_reason or self.close_reason
        with self._lock:
            self._is_over = True
            calls = list(self._calls.values())
        for call in calls:
            call.done.set()

    def _send(self, text: str) -> None:
        try:
            self._connection.send(text)
        except (ConnectionClosed, OSError):
            raise self._lost("the connection is closed") from None

    def _lost(self, how: str) -> ConnectionFailed:
        reason = f": {self.close_reason}" if self.close_reason else ""
        return ConnectionFailed(self._settings.address, details=f"{how}{reason}")


def _connect(settings: Settings) -> ClientConnection:
    """A connection after its handshake.  Raises what ``Session.open`` does."""
    try:
        opening = connect(
            settings.address,
            ssl=_tls(settings.verify) if settings.address.lower().startswith("wss:") else None,
            open_timeout=settings.timeout,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            max_size=settings.max_size,
        )
        # Entered in any case, since some versions connect only then; who closes it is ``Session``.
        connection = opening.__enter__()
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Without it, a call to a server that takes nothing any more would wait for ever.
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_TIMEOUT * 1000)
    except InvalidStatus as error:
        raise _refused(settings.address, error.response) from None
    except TimeoutError:
        raise Timeout(settings.address, details=f"no connection within {settings.timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        reason = f"the server's certificate is not valid: {error.verify_message}"
        raise ConnectionFailed(settings.address, details=reason) from None
    except OSError as error:
        raise ConnectionFailed(settings.address, details=_reason(error)) from None
    except (InvalidHandshake, WebSocketException, EOFError) as error:
        raise ConnectionFailed(settings.address, details=str(error) or type(error).__name__) from None
    if (found := connection.protocol.uri) != parse_uri(settings.address):
        connection.close()
        # Servers of ours send nobody elsewhere, and the credentials are for them alone.
        raise ConnectionFailed(settings.address, details=f"the server sends us to {found.host}:{found.port}")
    return connection


def _log_in(settings: Settings, connection: ClientConnection, end: float) -> str:
    """The token of a new session."""
    meta: dict[str, Any] = {
        "client_id": settings.client_id,
        "client_name": settings.client_name,
        "username": settings.username,
        "secret": settings.password,
        "token": None,
    }
    if settings.attributes:
        meta["attrs"] = dict(settings.attributes)
    message_id, text = build("create-session", {}, **meta)
    try:
        connection.send(text)
        while True:
            received = parse(connection.recv(max(0.0, end - time.monotonic())))
            if isinstance(received, Refusal):
                raise received.error(settings.address)
            if isinstance(received, Reply) and received.in_reply_to == message_id:
                return str(received.result(settings.address)["token"])
    except TimeoutError:
        raise Timeout(settings.address, details=f"no session within {settings.timeout:g} s") from None
    except ConnectionClosed as error:
        raise _closed(settings.address, error) from None
    except (TypeError, KeyError):
        raise ConnectionFailed(settings.address, details="the server gave no token") from None


def _closed(address: str, error: ConnectionClosed) -> ClientError:
    said = f": {error.rcvd.reason}" if error.rcvd and error.rcvd.reason else ""
    return ConnectionFailed(
        address, details=f"the server closed the connection before there was a session{said}"
    )


def _refused(address: str, response: HandshakeResponse) -> HTTPError:
    """The error for a server that answered the handshake with something else."""
    status, body = response.status_code, (response.body or b"").decode("utf-8", "replace")
    try:
        details = json.loads(body)["details"]
    except (ValueError, TypeError, KeyError):
        details = body[:_MAX_DETAILS]
    cid = str(response.headers.get(CID_HEADER) or "")
    return for_status(status)(f"{status} from {address}", status=status, cid=cid, details=details)


def _tls(verify: bool | str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    if type(error).__name__ == "gaierror":
        return "the host name cannot be resolved"
    return error.strerror.lower() if error.strerror else str(error) or type(error).__name__
