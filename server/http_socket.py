"""The socket of one client, on which nothing takes longer than it may.

A gevent time-out per wait would cost more than the wait is worth.  So the greenlet that serves the client notes until
when it is ready to wait, and the server's watch, which looks at all of them every now and then, shuts the socket of
one that waits for too long: whatever it waits for, it then returns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from time import monotonic
from typing import Final

import gevent
from gevent import socket

from junctor.server.http_settings import NEVER, HTTPLimits
from junctor.sql.errors import ClientGone

RECEIVE_SIZE: Final = 65_536

# How much longer a client is listened to, in seconds and bytes, after an answer it may not have expected yet: closing
# at once would reset the connection and could take the answer with it (RFC 9112 section 9.6).
_LINGER: Final = 2.0
_MAX_LINGER: Final = 16 * 1024 * 1024

_RESET: Final = struct.pack("ii", 1, 0)


class TimedSocket:
    """A client's socket.

    ``deadline`` is until when (of ``time.monotonic``) the present wait may last, ``idle_since`` when the client was
    last heard of if it owes nothing, 0.0 if it does; ``expired`` says that the watch has ended a wait, after which
    nothing can be received.  ``loop_now`` is the clock of the event loop, which stands still while a greenlet runs.
    """

    __slots__ = (
        "_iteration",
        "_limits",
        "_loop_now",
        "_readable",
        "_sending",
        "_socket",
        "_turn",
        "_wait",
        "deadline",
        "expired",
        "idle_since",
    )

    def __init__(self, connection: socket.socket, limits: HTTPLimits, loop_now: Callable[[], float]) -> None:
        self._socket = connection
        self._limits = limits
        self._loop_now = loop_now
        self._iteration = self._turn = 0.0
        self._sending = self.expired = False
        hub = gevent.get_hub()
        self._wait = hub.wait
        self._readable = hub.loop.io(connection.fileno(), 1)
        self.deadline = NEVER
        self.idle_since = 0.0

    def receive(self, size: int = RECEIVE_SIZE) -> bytes:
        """What has arrived, waiting for it until ``deadline``; ``b""`` at the end.  Raises OSError if it breaks."""
        try:
            data: bytes = self._socket.recv(size)
        except OSError:
            if not self.expired:
                raise
            # gevent interrupts the wait; what has arrived until now is still there to be read.
            data = self._socket.recv(size)
        return data

    def receive_idle(self, timeout: float) -> bytes:
        """What arrives within ``timeout`` seconds from a client that owes nothing, ``b""`` if nothing does."""
        self.idle_since = now = monotonic()
        self.deadline = now + timeout
        # A first try would nearly always find nothing, and where it does not, the others wait for their turn.
        self._wait(self._readable)
        data = self.receive()
        self.deadline = NEVER
        self.idle_since = 0.0
        return data

    def transmit(self, data: bytes) -> None:
        """Sends all of ``data``, waiting for the client to take it.  Raises ClientGone if it does not."""
        self.deadline = monotonic() + self._limits.write_timeout
        self._sending = True
        try:
            sent = self._socket.send(data)
            if sent < len(data):
                self._transmit_rest(memoryview(data)[sent:])
        except OSError as error:
            raise ClientGone from error
        self._sending = False
        self.deadline = NEVER

    def _transmit_rest(self, data: memoryview) -> None:
        while data:
            self.deadline = monotonic() + self._limits.write_timeout
            data = data[self._socket.send(data) :]
            self.take_turns()

    def take_turns(self) -> None:
        """Lets the other greenlets run if this one has kept them waiting for longer than it may."""
        iteration, now = self._loop_now(), monotonic()
        if iteration != self._iteration:
            self._iteration, self._turn = iteration, now
        elif now - self._turn > self._limits.turn:
            gevent.sleep(0)

    def pending(self) -> bool:
        """Whether the client has sent something that was not read yet."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            return False
        (size,) = struct.unpack("i", ioctl(descriptor, FIONREAD, b"\0\0\0\0"))
        return bool(size)

    def expire(self) -> bool:
        """Whether the present wait was ended; that of an idle client with a request on its way is not.

        Called by the watch, from another greenlet.  Raises OSError if there is no connection any more.
        """
        if self.idle_since and self.pending():
            return False
        self.expired = True
        self.deadline = NEVER
        self._socket.shutdown(socket.SHUT_RDWR if self._sending else socket.SHUT_RD)
        return True

    def reset(self) -> None:
        """Makes closing abort the connection, so that the client knows that what it has is not the whole."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def linger(self) -> None:
        """Says that nothing more will come, and drops what the client still sends, within bounds."""
        self._socket.shutdown(socket.SHUT_WR)
        end = self.deadline = monotonic() + _LINGER
        dropped = 0
        while dropped < _MAX_LINGER and monotonic() < end:
            data = self.receive()
            if not data:
                return
            dropped += len(data)
            self.take_turns()

    def close(self) -> None:
        """Closes the socket.  Never raises, never waits."""
        self._readable.close()
        self._socket.close()
