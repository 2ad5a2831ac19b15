"""A TCP proxy in front of the cluster whose connections can be cut."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

RECEIVE_SIZE = 65_536
CONNECT_TIMEOUT = 5.0  # seconds
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: drop what has not been sent, and tell the peer with RST


class Proxy:
    """Listens on a loopback port and passes everything on to ``target``, both ways."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._refuses = False
        self._is_closed = False
        threading.Thread(target=self._accept, name="chaos-proxy", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        number: int = self._listener.getsockname()[1]
        return number

    @property
    def connections(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._open) // 2

    def cut(self) -> int:
        """How many connections there were; all of them are reset in both directions."""
        with self._lock:
            cut = list(self._open)
        for connection in cut:
            _reset(connection)
        return len(cut) // 2

    def refuse(self, refuses: bool) -> None:
        """Whether connections are reset as soon as they are made."""
        self._refuses = refuses

    def close(self) -> None:
        """Nothing is open any more."""
        self._is_closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # it is closed
            if self._refuses:
                _reset(client)
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), name="chaos-link", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=CONNECT_TIMEOUT)
        except OSError:
            _reset(client)
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.update(pair)
        back = threading.Thread(target=_pump, args=(server, client), name="chaos-link", daemon=True)
        back.start()
        _pump(client, server)
        back.join()
        with self._lock:
            self._open.difference_update(pair)
        for end in pair:
            end.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Passes on what ``source`` sends until either end is gone."""
    with suppress(OSError):
        while data := source.recv(RECEIVE_SIZE):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    with suppress(OSError):
        source.shutdown(socket.SHUT_RD)


def _reset(connection: socket.socket) -> None:
    """Ends a connection at once, without a word; whoever waits on it wakes up, and closes it if it is a pump's."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
