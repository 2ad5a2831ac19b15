"""``self.wsx`` of services: the WebSocket clients of the cluster, whichever server they are connected to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gevent.pool import Pool

from junctor.server.log import current_cid
from junctor.server.websocket.directory import (
    Directory,
    FoundClient,
    Wanted,
    WorkerAddress,
    wanted_attributes,
)
from junctor.server.websocket.operation import (
    BROADCAST,
    CLIENT,
    DISCONNECT,
    INVOKE,
    MAX_TIMEOUT,
    NOTIFY,
    Operation,
    Outcome,
    perform,
)
from junctor.server.websocket.stream import NORMAL
from junctor.sql.errors import CallFailed, ConnectionFailed, InvalidInput, JunctorError, NotFound

if TYPE_CHECKING:
    from junctor.server.context import Context

DEFAULT_TIMEOUT: Final = 5.0  # seconds
MAX_INVOKED: Final = 1000  # clients that one call may invoke
PARALLEL: Final = 128  # workers that are asked at a time
KIND: Final = "channel_websocket"
log = logging.getLogger(__name__)


class Answers(dict[str, Any]):
    """What clients answered, by their pub_client_ids; ``errors`` has what went wrong with those that did not."""

    def __init__(self, answers: Mapping[str, Any], errors: Mapping[str, JunctorError]) -> None:
        super().__init__(answers)
        self.errors = dict(errors)


class WSX:
    """The connected WebSocket clients.

    A client has a ``pub_client_id``, which is the connection's own, and an ``ext_client_id``, which it chose itself and may share with
    others.  What is sent may be anything that can be written as JSON, up to 16 MiB.  A client that connects is found by other workers
    about a tenth of a second later.

    Methods raise ``NotFound`` if no such client is connected, ``WebSocketClosed`` if it went away meanwhile, ``SlowConsumer`` if it
    does not take what it is sent, ``ConnectionFailed`` if its server cannot be reached, or ``StoreUnavailable`` if nobody can tell
    where it is.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = Directory(context)

    def invoke(self, pub_client_id: str, data: Any, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """What a client answers to ``data``.

        Raises ``CallTimeout`` after ``timeout`` seconds, at most 3600.
        """
        seconds = _seconds(timeout)
        session = self._context.clients.get(pub_client_id)
        if session is not None:
            return session.invoke(data, timeout=seconds)
        return self._ask_one(self.find(pub_client_id), INVOKE, data=data, timeout=seconds)

    def invoke_by_client_id(
        self, ext_client_id: str, data: Any, timeout: float = DEFAULT_TIMEOUT, channel: str | None = None
    ) -> Any:
        """What the client answers that calls itself ``ext_client_id``, of any channel or of the one of this name.

        If several do, it is the one that connected last: as a rule the others are its own former connections.
        """
        seconds = _seconds(timeout)
        wanted = Wanted(ext_client_id=ext_client_id, channel_id=self._channel_id(channel))
        for client in self._directory.find(wanted):
            try:
                return self._ask_one(client, INVOKE, data=data, timeout=seconds)
            except NotFound:
                log.debug("Client %s has left; the one before it is asked.", client.pub_client_id)
        raise NotFound(CLIENT, ext_client_id)

    def invoke_by_attrs(
        self, attrs: dict[str, Any], data: Any, timeout: float = DEFAULT_TIMEOUT, channel: str | None = None
    ) -> Answers:
        """What all clients answer that have these attributes, among others; they are asked at the same time.

        The answers are by ``pub_client_id``; clients that did not answer are in ``errors`` instead.  If none did, the error of one is
        raised.
        Raises ``InvalidInput`` for more than 1000 clients.
        """
        seconds = _seconds(timeout)
        wanted = Wanted(attributes=wanted_attributes(attrs), channel_id=self._channel_id(channel))
        found = self._directory.find(wanted)
        if not found:
            raise NotFound(CLIENT, attrs)
        if len(found) > MAX_INVOKED:
            raise InvalidInput.one(
                "attrs", f"At most {MAX_INVOKED} clients can be invoked at a time; more have these."
            )
        outcome = self._ask(found, INVOKE, data=data, timeout=seconds)
        if not outcome.answers:
            raise next(iter(outcome.errors.values()))
        return Answers(outcome.answers, outcome.errors)

    def notify(self, pub_client_id: str, data: Any) -> str:
        """Sends ``data`` to a client and does not wait for an answer; the id of the message."""
        session = self._context.clients.get(pub_client_id)
        if session is not None:
            return session.notify(data)
        sent: str = self._ask_one(self.find(pub_client_id), NOTIFY, data=data)
        return sent

    def broadcast(self, channel: str, data: Any) -> int:
        """Sends ``data`` to all clients of a channel and does not wait for answers; how many clients it was sent to.

        Raises ``NotFound`` if there is no such channel.  Servers that cannot be reached are left out; the log names them.
        """
        channel_id = self._channel_id(channel)
        assert channel_id is not None
        operation = Operation(BROADCAST, channel_id=channel_id, data=data, cid=current_cid.get())
        body = operation.encode()
        tasks = [_task(self._broadcast_to, worker, operation, body) for worker in self._directory.workers()]
        tasks.append(lambda: perform(self._context.clients, operation))
        return sum(outcome.count for outcome in _together(tasks))

    def clients(self, channel: str | None = None) -> list[FoundClient]:
        """The connected clients, of all channels or of one, those first that connected last; up to 10,000."""
        return self._directory.find(Wanted(channel_id=self._channel_id(channel)))

    def page(
        self, channel: str | None, *, query: str = "", offset: int, limit: int
    ) -> tuple[Sequence[FoundClient], int]:
        """A part of the clients whose ids or names have ``query`` in them, those first that connected last, and how many there are."""
        return self._directory.page(self._channel_id(channel), query=query, offset=offset, limit=limit)

    def find(self, pub_client_id: str) -> FoundClient:
        """Who a client is, and where."""
        found = self._directory.find(Wanted(pub_client_id=pub_client_id))
        if not found:
            raise NotFound(CLIENT, pub_client_id)
        return found[0]

    def disconnect(self, pub_client_id: str, code: int = NORMAL, reason: str = "") -> None:
        """Closes a client's connection, for a reason of up to 123 bytes that the client is told."""
        session = self._context.clients.get(pub_client_id)
        if session is not None:
            session.disconnect(code, reason)
        else:
            self._ask_one(self.find(pub_client_id), DISCONNECT, code=code, reason=reason)

    def _channel_id(self, name: str | None) -> int | None:
        if name is None:
            return None
        entry = self._context.registry.find(KIND, name)
        if entry is None:
            raise NotFound("WebSocket channel", name)
        return entry.config.id

    def _ask_one(self, client: FoundClient, verb: str, **options: Any) -> Any:
        outcome = self._ask([client], verb, **options)
        if error := outcome.errors.get(client.pub_client_id):
            raise error
        return outcome.answers.get(client.pub_client_id)

    def _ask(self, clients: Iterable[FoundClient], verb: str, **options: Any) -> Outcome:
        """What became of an operation on clients, wherever they are: a message for each worker."""
        by_worker: dict[WorkerAddress | None, list[str]] = {}
        for client in clients:
            by_worker.setdefault(client.worker, []).append(client.pub_client_id)
        tasks = []
        for worker, keys in by_worker.items():
            operation = Operation(verb, keys, cid=current_cid.get(), **options)
            tasks.append(_task(self._ask_worker, worker, operation))
        whole = Outcome()
        for outcome in _together(tasks):
            whole.answers |= outcome.answers
            whole.errors |= outcome.errors
        return whole

    def _ask_worker(self, worker: WorkerAddress | None, operation: Operation) -> Outcome:
        if worker is None:
            return perform(self._context.clients, operation)
        try:
            return self._context.relay.ask(worker, operation, operation.encode())
        except JunctorError as error:
            return Outcome(errors=dict.fromkeys(operation.clients, error))

    def _broadcast_to(self, worker: WorkerAddress, operation: Operation, body: bytes) -> Outcome:
        try:
            return self._context.relay.ask(worker, operation, body)
        except ConnectionFailed as error:
            log.warning("Clients of a broadcast are left out: %s", error)
            return Outcome()


def _seconds(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= MAX_TIMEOUT:
        raise InvalidInput.one("timeout", f"must be a number of seconds, up to {MAX_TIMEOUT:g}.")
    return float(timeout)


def _task(function: Callable[..., Outcome], *arguments: Any) -> Callable[[], Outcome]:
    return lambda: function(*arguments)


def _together(tasks: list[Callable[[], Outcome]]) -> list[Outcome]:
    """The outcomes of all tasks, which run at the same time; a single one runs here."""
    if len(tasks) == 1:
        return [tasks[0]()]
    pool = Pool(PARALLEL)
    greenlets = [pool.spawn(task) for task in tasks]
    try:
        pool.join(raise_error=False)
    finally:
        pool.kill(block=False)
    outcomes = [greenlet.value for greenlet in greenlets]
    if any(outcome is None for outcome in outcomes):
        raise CallFailed("Not all of the cluster's workers could be asked; the log says why.")
    return outcomes
