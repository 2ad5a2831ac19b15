"""A client of WebSocket channels: calls services, and is called by them.  Needs ``junctor-client[websocket]``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from junctor_client.errors import BadRequest, ClientError, ConnectionFailed, Timeout
from junctor_client.pubsub import DUPLICATE, new_msg_id

try:
    from junctor_client.websocket_link import Callbacks, Link
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "websockets":
        raise
    raise ImportError("The WebSocket client needs: pip install 'junctor-client[websocket]'") from error
from junctor_client.websocket_messages import Message
from junctor_client.websocket_session import Settings
from junctor_client.websocket_subscriptions import PUBLISH, Wanted, answer_field

__all__ = ["Message", "WebSocketClient"]

MAX_MESSAGE_SIZE = 10 * 1024 * 1024

_PAUSE = 0.05  # seconds in which a session that was lost is known to be
_GRACE = 1.0  # seconds that an attempt which takes too long has to say so itself


class WebSocketClient:
    """A connection to a WebSocket channel, which is made again by itself whenever it is lost.

    One client is for a whole process: threads and greenlets may share it, and their calls run at the same time over one connection.
    It connects in ``connect``, ``start`` or ``run``, or with the first call; a process that forks may go on using it on
    both sides, each with a connection of its own.

    ``password`` may be a token, for channels secured by JWT.  ``client_id`` is how services find this client, also after it has
    connected again; without one it is random.  ``client_name`` and ``attributes`` describe it; attributes are texts, numbers and flags.

    ``on_message`` is called with each ``Message`` that the server sends of its own accord; what it returns is the answer.  If it
    raises, that is logged and the server gets no answer.  ``on_connect`` is called with the client after each log-in, before any messages;
    that is the place to subscribe again.  ``on_close`` is called with the code and the reason of each end.  All of them are called
    in a thread of their own, one after another, and may call the client.

    ``timeout`` is in seconds, for connecting, log-in included, and for each call.  Without ``reconnect``, a connection that is
    lost remains so.  ``verify`` is whether the server's certificate is checked, or the path of a file with the certificates of those
    to trust.  A message of the server that is larger than ``max_message_size`` bytes ends the connection.

    Raises ``ValueError`` if the address is not one, or has credentials in it.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own, and all but the first are named
        self,
        address: str,
        *,
        username: str = "",
        password: str = "",
        client_id: str = "",
        client_name: str = "",
        attributes: Mapping[str, Any] | None = None,
        on_message: Callable[[Message], Any] | None = None,
        on_connect: Callable[[WebSocketClient], object] | None = None,
        on_close: Callable[[int, str], object] | None = None,
        timeout: float = 10,
        reconnect: bool = True,
        verify: bool | str = True,
        max_message_size: int = MAX_MESSAGE_SIZE,
    ) -> None:
        _check_address(address)
        self.address, self.timeout = address, timeout
        self.client_id = client_id or uuid4().hex
        self._is_named = bool(client_id)
        self._settings = Settings(
            address,
            username,
            password,
            self.client_id,
            client_name,
            dict(attributes or {}),
            timeout,
            verify,
            max_message_size,
        )
        connected = None if on_connect is None else lambda: on_connect(self)
        self._callbacks = Callbacks(connected, on_message, on_close)
        self._reconnect = reconnect
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._process = 0

    def __repr__(self) -> str:
        user = f" as {self._settings.username}" if self._settings.username else ""
        return f"<WebSocketClient {self.address}{user}>"

    def __enter__(self) -> WebSocketClient:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a session now."""
        link = self._link
        return link is not None and self._process == os.getpid() and link.is_connected

    def connect(self) -> None:
        """Returns once the server has accepted the client; does nothing if it has already.

        Raises ``ConnectionFailed`` or ``Timeout`` if there is no connection, and an ``HTTPError`` if the server refuses it, e.g.
        ``Forbidden`` for wrong credentials; nothing is tried again then.
        """
        link = self._own_link()
        try:
            link.session(self.timeout + _GRACE)
        except ClientError:
            self.close()
            raise

    def start(self) -> None:
        """Connects in the background, trying for ever, and returns at once."""
        self._own_link()

    def run(self) -> None:
        """Connects, trying for ever, and returns when another thread closes the client: for processes that only receive."""
        self._own_link().join()

    def invoke(self, data: Any = None, *, timeout: float | None = None) -> Any:
        """What the channel's service returns for this input; None if that is empty.

        While the connection is being made again, the call waits for it.  ``timeout`` replaces the client's.

        Raises ``ConnectionFailed`` if there is no connection, or if it is lost before the answer; ``Timeout`` if either takes too
        long; an ``HTTPError`` for an answer with a status of 300 and above; and ``TypeError`` or ``ValueError`` for data that JSON
        cannot express.
        """
        limit = self.timeout if timeout is None else timeout
        began = time.monotonic()
        session = self._own_link(is_for_call=True).session(limit)
        return session.call({} if data is None else data, limit, waited=time.monotonic() - began)

    def invoke_service(self, name: str, request: Any = None, *, timeout: float | None = None) -> Any:
        """What a service returns that is called by its name, through a channel of ``helpers.web-sockets-gateway``.

        Arguments and errors are those of ``invoke``; ``Forbidden`` is for a service that the channel's gateway does not offer.
        """
        data = {"service": name, "request": {} if request is None else request}
        return self.invoke(data, timeout=timeout)

    def publish(
        self, topic: str, data: Any, *, msg_id: str = "", timeout: float | None = None, **options: Any
    ) -> str:
        """The id of a message, once it is stored for all subscribers to a topic.

        Arguments are those of ``PubSub.publish``, errors those of ``invoke``.  If the connection is lost before the answer, the message is
        sent again over the next one, with the same id, for as long as ``timeout`` allows: it is stored once.
        """
        request = {**options, "topic_name": topic, "data": data, "msg_id": msg_id or new_msg_id()}
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            session = self._own_link(is_for_call=True).session(max(0.0, end - time.monotonic()))
            try:
                answer = session.call(
                    {"service": PUBLISH, "request": request}, max(0.0, end - time.monotonic())
                )
                return str(answer_field(answer, "msg_id"))
            except BadRequest as error:
                if not str(error.details).startswith(DUPLICATE):
                    raise
                return str(request["msg_id"])
            except ConnectionFailed as error:
                if isinstance(error, Timeout) or not self._reconnect:
                    raise
            time.sleep(_PAUSE)

    def subscribe(
        self,
        topic: str,
        on_message: Callable[[Message], Any] | None = None,
        *,
        sub_key: str = "",
        batch_size: int | None = None,
        timeout: float | None = None,
    ) -> str:
        """The key of a subscription to a topic, through a channel of ``helpers.web-sockets-gateway``.

        ``on_message`` is called with each delivery, a ``Message`` whose ``data`` is a list of up to ``batch_size`` messages; without it,
        the client's own is.  When it returns, they are acknowledged; when it raises, they come again, with a higher ``delivery_count``.

        A client, by its ``client_id``, has one subscription to a topic, and takes it up again by itself over each new connection: what is
        published meanwhile waits for it.  Only one process at a time should use a ``client_id``; whoever has connected last gets the
        messages.  ``sub_key`` is for taking up a subscription that was made in another way.

        Errors are those of ``invoke``; ``ValueError`` is for a client without an id, or without an ``on_message``.
        """
        if not self._is_named and not sub_key:
            raise ValueError(
                "Who subscribes needs a client_id: without one, nobody would find its queue again."
            )
        if on_message is None and self._callbacks.on_message is None:
            raise ValueError("There is no on_message to be called with what is published.")
        options: dict[str, Any] = {"reuse": True, "unsub_on_wsx_close": False, "ack_mode": "explicit"}
        if batch_size is not None:
            options["delivery_batch_size"] = batch_size
        limit = self.timeout if timeout is None else timeout
        link = self._own_link(is_for_call=True)
        return link.subscriptions.subscribe(
            link.session(limit), Wanted(topic, on_message, options, sub_key), limit
        )

    def unsubscribe(self, topic: str, *, timeout: float | None = None) -> None:
        """Ends the subscription to a topic, with all that waits in its queue.

        Errors are those of ``invoke``; ``ValueError`` is for a topic that this client has not subscribed to.
        """
        limit = self.timeout if timeout is None else timeout
        link = self._own_link(is_for_call=True)
        link.subscriptions.unsubscribe(link.session(limit), topic, limit)

    def close(self) -> None:
        """Close the connection and make no other; a later call or ``connect`` makes a new one.

        The queues of its subscriptions stay, and fill; to receive again, subscribe again.
        """
        with self._lock:
            link, self._link = self._link, None
        if link is not None and self._process == os.getpid():
            link.close()

    def _own_link(self, *, is_for_call: bool = False) -> Link:
        """The link of this process: after a fork, parent and child must not share sockets, and threads are not there any more.

        One that is over is made again, except for a call, which is to fail when there is no ``reconnect``.
        """
        with self._lock:
            link = self._link
            if link is None or self._process != os.getpid() or (link.is_over and not is_for_call):
                link = Link(self._settings, self._callbacks, reconnect=self._reconnect)
                self._link, self._process = link, os.getpid()
            return link


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if "@" in parts.netloc:
        raise ValueError("Give credentials as username and password, not in the address.")
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.fragment:
        raise ValueError("The address is a URL such as wss://junctor.example.com/ws.")
