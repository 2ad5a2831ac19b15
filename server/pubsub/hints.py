"""Hints between workers: which queues have something new, and messages without guaranteed delivery.

A hint may get lost; then its subscription waits for the sweep, a second at the most.  Workers of one server send each other datagrams
(``run/hints-PID.sock``, which only the account of the servers may open), those of others publish on Redis: a channel for each worker, and
one for all.  Whatever comes makes a worker look, and nothing else, but for messages, which are sealed for the worker that they are for.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket as system_socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent
import msgspec
import orjson
import psutil
import redis
from gevent import socket
from gevent.event import Event

from junctor.server.bus.client import connect
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.websocket.relay_seal import NotGenuine, Replays, Seals
from junctor.sql.errors import AddressUnavailable

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.ownership import WorkerPlace

SOCKET_NAME: Final = "hints-{}.sock"
MAX_IDS: Final = 2000  # of subscriptions in one datagram
MAX_DATAGRAM: Final = 96 * 1024  # bytes; larger ones go by way of Redis
MAX_RECEIVED: Final = 256 * 1024
MAX_PENDING: Final = 100_000  # subscriptions whose hints wait to be sent
BROADCAST_INTERVAL: Final = 0.01  # seconds between two hints for everybody, about queues that have no owner
RETRY_PAUSE: Final = 1.0  # seconds
LISTEN_TIMEOUT: Final = 5.0  # seconds after which it is seen whether the worker has another id
DUE, LOST, LEAVING, VOLATILE = "due", "lost", "leaving", b"v"
log = logging.getLogger(__name__)


def channel(cluster_id: int, worker_id: int | None = None) -> str:
    """The Redis channel of a worker's hints, or of those that are for everybody."""
    return f"junctor:{cluster_id}:pubsub" if worker_id is None else f"junctor:{cluster_id}:pubsub:{worker_id}"


class Hints:
    """Sends hints to other workers, and heeds theirs.

    ``places`` is where the others run, which the sweep knows.  ``start`` raises ``AddressUnavailable``; nothing else raises, and only
    ``volatile`` may block.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.places: Mapping[int, WorkerPlace] = {}
        self._pending: dict[int | None, set[int]] = {}
        self._wake = Event()
        self._socket: socket.socket | None = None
        self._redis: redis.Redis | None = None
        self._redis_down_until = 0.0
        self._seals = Seals(context.store.keyring)
        self._replays = Replays()
        self._greenlets: list[gevent.Greenlet] = []
        self._sent = context.metrics.counter("junctor_pubsub_hints_sent_total")

    def start(self) -> None:
        """Begins to listen, and to send."""
        directory = self._context.settings.run_directory
        path = directory / SOCKET_NAME.format(os.getpid())
        try:
            _clean(directory)
            path.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(os.fspath(path))
            path.chmod(0o600)
        except OSError as error:
            raise AddressUnavailable(
                f"Workers cannot tell this one of new messages, as it cannot listen in {directory}: {error}."
            ) from error
        self._greenlets = [gevent.spawn(self._receive, self._socket), gevent.spawn(self._flush_always)]
        if self._context.settings.redis_url:
            self._redis = connect(self._context.settings.redis_url)
            self._greenlets.append(gevent.spawn(self._listen))

    def stop(self) -> None:
        """Sends what waits, and ends."""
        self._flush()
        gevent.killall(self._greenlets, block=False)
        if self._socket is not None:
            (self._context.settings.run_directory / SOCKET_NAME.format(os.getpid())).unlink(missing_ok=True)
            self._socket.close()
            self._socket = None
        if self._redis is not None:
            self._redis.close()

    def due(self, owners: Mapping[int, int | None]) -> None:
        """Tells the owners of subscriptions that there is something in their queues; whoever pulls from those without an owner, too."""
        own_id = self._context.status.worker_id
        mine: list[int] = []
        for sub_id, owner in owners.items():
            if owner == own_id and owner is not None:
                mine.append(sub_id)
            else:
                self._add(owner, sub_id)
        unowned = [sub_id for sub_id, owner in owners.items() if owner is None]
        if unowned:
            self._context.pubsub.pull.due(unowned)
        if mine:
            self._context.pubsub.deliveries.due(mine)

    def lost(self, sub_id: int, worker_id: int) -> None:
        """Tells a worker that a subscription is another one's now."""
        if worker_id != self._context.status.worker_id:
            self._send(worker_id, orjson.dumps({LOST: [sub_id]}))

    def leaving(self) -> None:
        """Tells all others that this worker stops, and has given back what it owned."""
        body = orjson.dumps({LEAVING: self._context.status.worker_id})
        for worker_id in list(self.places):
            if worker_id != self._context.status.worker_id:
                self._send(worker_id, body)

    def volatile(self, worker_id: int, sub_ids: Sequence[int], body: bytes) -> bool:
        """Whether a message without guaranteed delivery reached the worker that owns these subscriptions; ``body`` is an encoded one.

        It may still be lost there.
        """
        if worker_id == self._context.status.worker_id:
            return self._take_volatile(sub_ids, body)
        text = msgspec.msgpack.encode([list(sub_ids), body])
        sealed = VOLATILE + self._seals.seal(self._target(worker_id), text).message
        return self._send(worker_id, sealed)

    def _target(self, worker_id: int | None) -> str:
        return f"\0pubsub/{self._context.store.cluster_id}/{worker_id}"

    def _add(self, owner: int | None, sub_id: int) -> None:
        waiting = self._pending.setdefault(owner, set())
        if len(waiting) < MAX_PENDING:
            waiting.add(sub_id)
        self._wake.set()

    def _flush_always(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            try:
                self._flush()
            except Exception:  # boundary: without this greenlet, other workers would hear of nothing
                log.exception("Hints could not be sent.")
            gevent.sleep(BROADCAST_INTERVAL if None in self._pending else 0)

    def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for owner, sub_ids in pending.items():
            ordered = sorted(sub_ids)
            for start in range(0, len(ordered), MAX_IDS):
                self._send(owner, orjson.dumps({DUE: ordered[start : start + MAX_IDS]}))

    def _send(self, worker_id: int | None, body: bytes) -> bool:
        """Whether it is on its way to a worker, or to all of them, that listen."""
        self._sent.inc()
        place = self.places.get(worker_id) if worker_id is not None else None
        is_near = (
            place is not None
            and place.server == self._context.settings.server_name
            and place.host == system_socket.gethostname()
        )
        if is_near and place is not None and len(body) <= MAX_DATAGRAM:
            return self._send_near(place.pid, body)
        return self._publish(worker_id, body)

    def _send_near(self, pid: int, body: bytes) -> bool:
        path = self._context.settings.run_directory / SOCKET_NAME.format(pid)
        try:
            with system_socket.socket(system_socket.AF_UNIX, system_socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(body, os.fspath(path))
        except OSError as error:
            known = error.errno in (errno.EAGAIN, errno.ENOENT, errno.ECONNREFUSED, errno.ENOBUFS)
            log.log(
                logging.DEBUG if known else logging.WARNING,
                "Worker %d cannot be told: %s",
                pid,
                error.strerror,
            )
            return False
        return True

    def _publish(self, worker_id: int | None, body: bytes) -> bool:
        if self._redis is None or monotonic() < self._redis_down_until:
            return False
        try:
            heard = self._redis.publish(channel(self._context.store.cluster_id, worker_id), body)
        except (redis.RedisError, OSError) as error:
            self._redis_down_until = monotonic() + RETRY_PAUSE
            log.debug("Redis takes no hints: %s", error)
            return False
        return bool(heard)

    def _receive(self, receiver: socket.socket) -> None:
        while True:
            try:
                body = receiver.recv(MAX_RECEIVED)
            except OSError as error:
                log.error("Hints of other workers are not heard any more: %s", error)
                return
            self._heed(body)

    def _listen(self) -> None:
        """Listens on Redis; whenever the connection is new, there may have been hints that it missed."""
        was_down = False
        while True:
            client = connect(self._context.settings.redis_url)
            try:
                with client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]  # redis has no type for it
                    self._follow(subscription)
            except (redis.RedisError, OSError, ValueError) as error:
                if not was_down:
                    log.info("Redis cannot be reached (%s): new messages are found by looking.", error)
                was_down = True
            finally:
                client.close()
            gevent.sleep(RETRY_PAUSE)

    def _follow(self, subscription: Any) -> None:
        """Heeds what comes, until the worker has another id."""
        cluster_id, worker_id = self._context.store.cluster_id, self._context.status.worker_id
        subscription.subscribe(channel(cluster_id), channel(cluster_id, worker_id))
        self._context.pubsub.deliveries.look_now()
        while self._context.status.worker_id == worker_id:
            message = subscription.get_message(timeout=LISTEN_TIMEOUT)
            if message is not None and isinstance(message["data"], bytes):
                self._heed(message["data"])

    def _heed(self, body: bytes) -> None:
        try:
            if body[:1] == VOLATILE:
                self._open_volatile(body[1:])
                return
            hint = orjson.loads(body)
            deliveries = self._context.pubsub.deliveries
            if due := _ids(hint.get(DUE)):
                self._context.pubsub.pull.due(due)
                deliveries.due(due)
            for sub_id in _ids(hint.get(LOST)):
                deliveries.doubted(sub_id)
            if isinstance(leaving := hint.get(LEAVING), int):
                deliveries.leaves(leaving)
        except (ValueError, AttributeError, NotGenuine, msgspec.MsgspecError) as error:
            log.debug("A hint was not understood: %s", error)
        except Exception:  # boundary: the greenlet that hears everything
            log.exception("A hint could not be heeded.")

    def _open_volatile(self, message: bytes) -> None:
        opened = self._seals.open(self._target(self._context.status.worker_id), message)
        if not self._replays.is_new(opened.sender, opened.number):
            raise NotGenuine("It has been sent before.")
        sub_ids, body = msgspec.msgpack.decode(opened.body, type=tuple[list[int], bytes])
        self._take_volatile(sub_ids, body)

    def _take_volatile(self, sub_ids: Iterable[int], body: bytes) -> bool:
        message = msgspec.msgpack.decode(body, type=QueuedMessage)
        return self._context.pubsub.deliveries.add_volatile(sub_ids, message)


def _ids(value: Any) -> list[int]:
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def _clean(directory: Path) -> None:
    """Removes the sockets of workers that are dead."""
    for path in directory.glob(SOCKET_NAME.format("*")):
        found = re.fullmatch(r"hints-(\d+)\.sock", path.name)
        if found and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)
