"""A session that is made again whenever it is lost, and the threads that see to it."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from junctor_client.errors import ClientError, ConnectionFailed, Timeout
from junctor_client.websocket_messages import Message
from junctor_client.websocket_session import Session, Settings
from junctor_client.websocket_subscriptions import Subscriptions

MAX_WAITING = 1000  # messages that wait for ``on_message``: then no more are read, and the server has to wait
FIRST_WAIT, LAST_WAIT = 0.25, 30.0  # seconds between attempts to connect
STEADY = 5.0  # seconds after which a session that is lost was a good one

log = logging.getLogger("junctor_client.websocket")


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is called for what happens, in a thread of its own, one after another."""

    on_connect: Callable[[], object] | None
    on_message: Callable[[Message], Any] | None
    on_close: Callable[[int, str], object] | None


class Link:
    """Keeps a session for as long as it is not closed: with ``reconnect``, for ever, without it, the first one alone.

    ``subscriptions`` are restored over each session.
    """

    def __init__(self, settings: Settings, callbacks: Callbacks, *, reconnect: bool) -> None:
        self.subscriptions = Subscriptions(settings.timeout)
        self._settings, self._callbacks, self._reconnect = settings, callbacks, reconnect
        self._changed = threading.Condition()
        self._session: Session | None = None
        self._error: ClientError | None = None
        self._was_connected = self._is_over = False
        self._stopping = threading.Event()
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(MAX_WAITING)
        self._keeper = threading.Thread(target=self._keep, name="junctor-websocket", daemon=True)
        self._worker = threading.Thread(target=self._work, name="junctor-websocket-callbacks", daemon=True)
        self._worker.start()
        self._keeper.start()

    @property
    def is_connected(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    @property
    def is_over(self) -> bool:
        """Whether there never will be one any more."""
        return self._is_over

    def session(self, timeout: float) -> Session:
        """The session, which is waited for if it was lost and is made again.

        Before there ever was one, this is what came of the last attempt: it raises what ``Session.open`` does.  Later on it raises
        ``Timeout`` if the session is not back in time, or ``ConnectionFailed`` if it never will be.
        """
        with self._changed:
            self._changed.wait_for(self._is_decided, timeout)
            if self._session is not None:
                return self._session
            address, error = self._settings.address, self._error
            if error is not None and not self._was_connected:
                raise _copy(error)
        why = f": {error.details or error}" if error is not None else ""
        if self._is_over:
            raise ConnectionFailed(address, details=f"the connection is closed{why}")
        raise Timeout(address, details=f"not connected within {timeout:g} s{why}")

    def join(self) -> None:
        """Waits until the link is over."""
        self._keeper.join()

    def close(self) -> None:
        """Closes the session, and makes no other.  What is under way in a callback goes on."""
        self._stopping.set()
        self.subscriptions.stop()
        session = self._session
        if session is not None:
            session.close()
        for thread in (self._keeper, self._worker):
            if thread is not threading.current_thread():
                thread.join(self._settings.timeout)

    def _is_decided(self) -> bool:
        has_failed = self._error is not None and not self._was_connected
        return self._session is not None or self._is_over or has_failed

    def _keep(self) -> None:
        try:
            self._connect_again_and_again()
        except Exception:  # boundary: a thread; the next call starts another
            log.exception("The connection to %s failed", self._settings.address)
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
            self._put(None, is_last=True)

    def _connect_again_and_again(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            session = self._open()
            if session is not None:
                self._serve(session)
                if time.monotonic() - began > STEADY:
                    attempt = 0
            if not self._reconnect:
                return
            self._stopping.wait(wait_before(attempt))
            attempt += 1

    def _open(self) -> Session | None:
        try:
            return Session.open(self._settings)
        except ClientError as error:
            is_news = str(self._error) != str(error)
            log.log(logging.WARNING if is_news else logging.DEBUG, "There is no connection to %s", error)
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return None

    def _serve(self, session: Session) -> None:
        """Receives what comes in a session, until it is over."""
        with self._changed:
            self._session, self._error, self._was_connected = session, None, True
            self._changed.notify_all()
        if self._stopping.is_set():
            session.close()  # by somebody who could not know of it yet
        log.info("Connected to %s", self._settings.address)
        self.subscriptions.restore(session)
        if self._callbacks.on_connect is not None:
            self._put(self._callbacks.on_connect)
        try:
            for message in session.messages():
                self._put(partial(self._answer, session, message))
        except ClientError as error:
            session.close_reason = str(error)
        code, reason = session.close_code, session.close_reason
        said = f" ({reason})" if reason else ""
        log.log(
            logging.INFO if self._stopping.is_set() else logging.WARNING,
            "The connection to %s is over: %d%s",
            self._settings.address,
            code,
            said,
        )
        with self._changed:
            self._session = None
            self._error = ConnectionFailed(self._settings.address, details=reason or f"closed with {code}")
        on_close = self._callbacks.on_close
        if on_close is not None:
            self._put(lambda: on_close(code, reason))

    def _answer(self, session: Session, message: Message) -> None:
        """Sends what the callback makes of a message.  If that fails, a request has no answer, and a delivery is rejected."""
        on_message = self.subscriptions.callback(message) or self._callbacks.on_message
        if on_message is None:
            log.warning("Message %s was not answered: there is no on_message.", message.id)
            return
        if message.is_delivery and session.is_over:
            return  # it comes again over the next session: nobody would hear of it now
        try:
            result = on_message(message)
        except Exception:
            self._reject(session, message)
            raise
        try:
            session.respond(message, result)
        except ConnectionFailed as error:
            log.warning("Message %s could not be answered: %s", message.id, error)

    def _reject(self, session: Session, message: Message) -> None:
        """Has a delivery come again, as soon as the server thinks fit; a request that fails has no answer."""
        if message.is_delivery:
            try:
                session.respond(message, {"nack": True})
            except ConnectionFailed:
                log.debug("Message %s was not rejected: the connection is over.", message.id)

    def _put(self, job: Callable[[], object] | None, *, is_last: bool = False) -> None:
        """Has something done by the thread of callbacks, waiting for room, unless the link is being closed."""
        while is_last or not self._stopping.is_set():
            try:
                self._jobs.put(job, timeout=1)
            except queue.Full:
                continue
            return

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # boundary: the code of the application; the next message is another matter
                log.exception("A callback of %s failed", self._settings.address)


def wait_before(attempt: int) -> float:
    """The seconds to wait before connecting again: more each time, and not the same for all clients of a server."""
    longest = min(LAST_WAIT, FIRST_WAIT * 2 ** min(attempt, 10))
    return float(longest * random.uniform(0.5, 1))  # noqa: S311 - no secret


def _copy(error: ClientError) -> ClientError:
    """The same error for another thread: with one object, each would have the traces of all."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    return made
