"""From worker to worker: operations on clients that are connected to another worker, of this server or of another one.

    caller -> Relay.ask -> Unix socket of a worker of this server ----------------------> Relay.answer -> operation.perform
                        -> HTTP to another server, any worker of it -> Relay.pass_on -> its Unix socket, likewise

Each worker listens on ``run/worker-PID.sock``, which only the account of the servers may open.  What goes over either way is sealed for the
worker that it is for, see ``relay_seal.py``; who gets a message for another worker of its server passes it on as it is.
"""

from __future__ import annotations

import logging
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gevent
import psutil
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer
from requests.structures import CaseInsensitiveDict

from junctor.server.log import current_cid
from junctor.server.outgoing.http_pool import HttpPool, HttpRequest
from junctor.server.websocket.directory import WorkerAddress
from junctor.server.websocket.operation import (
    MAX_BODY,
    Operation,
    Outcome,
    decode_operation,
    decode_outcome,
    perform,
)
from junctor.server.websocket.relay_seal import HEAD_SIZE, OVERHEAD, NotGenuine, Replays, Seals
from junctor.sql.errors import (
    AddressUnavailable,
    ConnectionFailed,
    ConnectionTimeout,
    InvalidInput,
    JunctorError,
    RequestRefused,
    ResourceNotFound,
)

if TYPE_CHECKING:
    from junctor.server.context import Context

PREFIX: Final = "/zato/internal/relay/"
PATH: Final = re.compile(rf"{PREFIX}(\d{{1,10}})/(\d{{1,19}})")  # a pid, and the id of the worker's row
HEADER: Final = "X-Junctor-Relay"
SOCKET_NAME: Final = "worker-{}.sock"
MAX_MESSAGE: Final = MAX_BODY + OVERHEAD
MARGIN: Final = 3.0  # seconds that a message may take there and back, beside what it asks for
TRANSFER_TIMEOUT: Final = 10.0  # seconds in which a message must have come over a Unix socket
MAX_CONCURRENT: Final = 1000  # operations for other workers that are under way in this one
MAX_CONNECTIONS: Final = 256  # to other servers, each
BACKLOG: Final = 256
COMPLAINT_INTERVAL: Final = 10.0  # seconds between two lines about messages that are not genuine
OK, NOT_FOUND, GONE = 200, 404, 410
NOTHING_HERE: Final = "Not Found: no channel has this path."
_LENGTH: Final = 4  # bytes that say how long a message is on a Unix socket
log = logging.getLogger(__name__)


class Relay:
    """Asks other workers, and answers those that ask this one.

    The life cycle: ``start`` before the worker has its row; it raises ``AddressUnavailable``.  ``stop`` lets nobody ask any more, and does
    not wait.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seals = Seals(context.store.keyring)
        self._replays = Replays()
        self._pools: dict[str, HttpPool] = {}
        self._server: StreamServer | None = None
        self._complained = -COMPLAINT_INTERVAL
        self._refused = 0

    def start(self) -> None:
        """Begins to listen; sockets of dead workers are removed."""
        directory = self._context.settings.run_directory
        try:
            _clean(directory)
            listener = _listener(directory / SOCKET_NAME.format(os.getpid()))
        except OSError as error:
            raise AddressUnavailable(
                f"Other workers cannot reach the WebSocket clients of this one, as it cannot listen in {directory}: {error}."
            ) from error
        self._server = StreamServer(listener, self._serve, spawn=Pool(MAX_CONCURRENT))
        self._server.start()

    def stop(self) -> None:
        """Stops listening; what is under way is ended by the end of the process at the latest."""
        if self._server is not None:
            (self._context.settings.run_directory / SOCKET_NAME.format(os.getpid())).unlink(missing_ok=True)
            self._server.close()
            self._server = None
        for pool in self._pools.values():
            pool.close()

    def ask(self, worker: WorkerAddress, operation: Operation, body: bytes) -> Outcome:
        """What became of an operation in another worker; ``body`` is the operation, encoded.

        If the worker is gone by now, so are its clients.  Raises ``ConnectionFailed`` or ``ConnectionTimeout`` if it cannot be reached.
        """
        sealed = self._seals.seal(self._target(worker.server, worker.id), body)
        seconds = operation.timeout + MARGIN
        is_near = worker.server == self._context.settings.server_name
        try:
            message = sealed.message
            answer = (
                self._forward(worker.pid, message, seconds)
                if is_near
                else self._post(worker, message, seconds)
            )
            outcome = Outcome.gone(operation.clients)
            if answer is not None:
                outcome = decode_outcome(sealed.open_answer(answer))
        except (ConnectionFailed, NotGenuine, InvalidInput) as error:
            self._count(operation, type(error).__name__)
            cls = ConnectionTimeout if isinstance(error, ConnectionTimeout) else ConnectionFailed
            raise cls(
                f"Worker {worker.pid} of server {worker.server} cannot be asked: {error.message.rstrip('.')}."
            ) from error
        self._count(operation, "")
        return outcome

    def receive(self, path: str, head: str, read: Callable[[int], bytes]) -> bytes | None:
        """The answer to a message that came over HTTP for a worker of this server; None if that worker is gone.

        ``head`` is that of the message, in base64; ``read`` reads the rest, up to so many bytes, once the head has been found genuine.
        Raises ``ResourceNotFound`` if the message is not genuine, and does not say why: only the log does.
        """
        try:
            return self._receive(path, head, read)
        except NotGenuine as error:
            self._complain(error)
        except RequestRefused:  # the connection failed while the message was read
            raise
        except JunctorError as error:
            log.warning(
                "A message of another server could not be handed to the worker that it is for: %s", error
            )
        raise ResourceNotFound(msg=NOTHING_HERE)

    def _receive(self, path: str, head: str, read: Callable[[int], bytes]) -> bytes | None:
        found = PATH.fullmatch(path)
        if found is None or not head.isascii():
            raise NotGenuine("It has another address than messages between workers have.")
        try:
            start = b64decode(head, validate=True)
        except ValueError:
            raise NotGenuine("It has no head.") from None
        pid, worker_id = int(found[1]), int(found[2])
        target = self._target(self._context.settings.server_name, worker_id)
        length = self._seals.length(target, start)
        if length > MAX_MESSAGE:
            raise NotGenuine(f"It has {length} bytes, which is too large.")
        message = start + read(length - len(start))
        if pid == os.getpid():
            return self._answered(message)
        seconds = decode_operation(self._seals.open(target, message).body).timeout + MARGIN
        return self._forward(pid, message, seconds)

    def _target(self, server: str, worker_id: int | None) -> str:
        return f"{self._context.settings.cluster}/{server}/{worker_id or 0}"

    def _forward(self, pid: int, message: bytes, seconds: float) -> bytes | None:
        """The answer of a worker of this server; None if it is gone.  Raises ``ConnectionFailed`` or ``NotGenuine``."""
        path = self._context.settings.run_directory / SOCKET_NAME.format(pid)
        try:
            with _time_limit(seconds), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                try:
                    connection.connect(os.fspath(path))
                except (FileNotFoundError, ConnectionRefusedError):
                    return None
                _send(connection, message)
                answer = _receive(connection)
        except OSError as error:
            raise ConnectionFailed(f"{error.strerror or error}") from error
        if not answer:
            raise NotGenuine("it refused the message; its log says why")
        return answer

    def _post(self, worker: WorkerAddress, message: bytes, seconds: float) -> bytes | None:
        """Like ``_forward``, for a worker of another server."""
        if not worker.host:
            raise ConnectionFailed(
                "the cluster does not know the server's address; it is told when the server starts"
            )
        host = f"[{worker.host}]" if ":" in worker.host else worker.host
        origin = f"http://{host}:{worker.port}"
        headers = CaseInsensitiveDict(
            {"Content-Type": "application/octet-stream", HEADER: b64encode(message[:HEAD_SIZE]).decode()}
        )
        url = f"{origin}{PREFIX}{worker.pid}/{worker.id}"
        request = HttpRequest("POST", url, headers, message[HEAD_SIZE:], timeout=seconds)
        pool = self._pool(origin)
        try:
            response = pool.send(request)
        except ConnectionTimeout:
            raise
        except (
            ConnectionFailed
        ):  # a kept connection may have been closed at this moment; no message is heeded twice
            response = pool.send(request)
        if response.status_code == GONE:
            return None
        if response.status_code == NOT_FOUND:
            raise NotGenuine(
                "it refused the message; the servers' clocks and secret keys must agree, and its log has more"
            )
        if response.status_code != OK:
            raise ConnectionFailed(f"it answered with status {response.status_code}")
        return response.content

    def _pool(self, origin: str) -> HttpPool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = HttpPool(MAX_CONNECTIONS, max_response_size=MAX_MESSAGE, use_proxies=False)
            self._pools[origin] = pool
        return pool

    def _serve(self, connection: socket.socket, _address: object) -> None:
        """Answers a worker of this server; an empty answer is a refusal."""
        try:
            with connection:
                with _time_limit(TRANSFER_TIMEOUT):
                    message = _receive(connection)
                try:
                    answer = self._answered(message)
                except JunctorError as error:
                    self._complain(error)
                    answer = b""
                with _time_limit(TRANSFER_TIMEOUT):
                    _send(connection, answer)
        except (OSError, ConnectionTimeout) as error:
            log.debug("A worker of this server has hung up: %s", error)
        except Exception:  # boundary: the end of the greenlet
            log.exception("Another worker could not be answered.")

    def _answered(self, message: bytes) -> bytes:
        """The sealed outcome of a message for this worker.  Raises ``NotGenuine`` or ``InvalidInput``."""
        context = self._context
        opened = self._seals.open(
            self._target(context.settings.server_name, context.status.worker_id), message
        )
        if not self._replays.is_new(opened.sender, opened.number):
            raise NotGenuine("It has been sent before.")
        operation = decode_operation(opened.body)
        token = current_cid.set(operation.cid)
        try:
            return opened.seal_answer(perform(context.clients, operation).encode())
        finally:
            current_cid.reset(token)

    def _complain(self, error: JunctorError) -> None:
        """Logs that a message was refused, now and then: strangers may send as many as they like."""
        self._refused += 1
        if time.monotonic() - self._complained >= COMPLAINT_INTERVAL:
            log.warning(
                "A message between workers was refused (%d since the last of these lines): %s",
                self._refused,
                error,
            )
            self._complained, self._refused = time.monotonic(), 0

    def _count(self, operation: Operation, error: str) -> None:
        name = "junctor_websocket_relayed_total"
        self._context.metrics.counter(name, operation=operation.verb, error=error).inc()


def _clean(directory: Path) -> None:
    for path in directory.glob(SOCKET_NAME.format("*")):
        pid = path.stem.removeprefix("worker-")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        made.bind(os.fspath(path))
    except OSError:
        made.close()
        raise
    finally:
        os.umask(mask)
    made.listen(BACKLOG)
    return made


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(len(message).to_bytes(_LENGTH) + message)


def _receive(connection: socket.socket) -> bytes:
    """A whole message.  Raises ``OSError`` if it ends early or is too large."""
    length = int.from_bytes(_exactly(connection, _LENGTH))
    if length > MAX_MESSAGE:
        raise OSError(f"a message of {length} bytes is too large")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise OSError("the other worker hung up")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    limit = gevent.Timeout(seconds)
    try:
        with limit:
            yield
    except gevent.Timeout as expired:
        if expired is not limit:
            raise
        raise ConnectionTimeout(f"no answer within {seconds:g} s") from None
