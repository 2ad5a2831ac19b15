"""``Link``: the connection of this worker to one remote end, which it makes, keeps, and makes again for as long as it is wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from junctor.server.log import current_cid
from junctor.server.metrics import Metrics
from junctor.server.outgoing.reconnect import Pause
from junctor.server.outgoing.websocket_hooks import Hooks
from junctor.server.outgoing.websocket_metrics import ERROR, FAILED, OK, TIMEOUT, LinkMetrics
from junctor.server.outgoing.websocket_session import Incoming, LinkSettings, Session, frame, open_session
from junctor.server.outgoing.websocket_subscriptions import Known, Subscriptions, end_all
from junctor.server.runtime.lease import Lease, Leases
from junctor.server.service.link import onward
from junctor.server.websocket.client_messages import Client, ServerMessage
from junctor.sql.errors import (
    ConnectionFailed,
    ConnectionInactive,
    ConnectionTimeout,
    JunctorError,
    RemoteCallFailed,
)

CONNECTED, CONNECTING, DOWN, INACTIVE = "connected", "connecting", "down", "inactive"
STABLE_AFTER: Final = (
    5.0  # seconds after which a connection counts as one that works, and pauses begin at the first again
)
LEASE_WAIT: Final = 2.0  # seconds that connecting waits to hear who owns the subscriptions
STOP_TIMEOUT: Final = 2.0  # seconds, each for the close handshake and for the hooks
log = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a link needs of its worker.

    ``credentials`` gives the user name and the secret to log in with now, or raises ``ConnectionFailed``; ``place`` names
    the worker in the cluster.
    """

    cluster: str
    place: str
    metrics: Metrics
    leases: Leases
    credentials: Callable[[LinkSettings], tuple[str, str]]


@dataclass(slots=True)
class State:
    """Whether the remote end can be reached; ``error`` says why not, ``since`` is in ISO 8601, UTC.

    ``settled`` is set while that is known, and not while the first attempt is under way.
    """

    name: str = CONNECTING
    error: str = ""
    since: str = field(default_factory=_now)
    settled: Event = field(default_factory=Event)

    def change(self, name: str, error: str = "") -> None:
        """It is another one now, or the same with another error."""
        if name != self.name:
            self.name, self.since = name, _now()
        self.error = error
        if name == CONNECTING:
            self.settled.clear()
        else:
            self.settled.set()


class Link:
    """One connection of this worker, for as long as its object exists, whatever is changed of it.

    A link to Zato whose settings have subscriptions wants a lease: the worker that holds it subscribes, under a client id that is the same
    whoever holds it.  All methods but ``stop``, ``call`` and ``send`` return at once.
    """

    def __init__(self, settings: LinkSettings, surroundings: Surroundings, hooks: Hooks) -> None:
        self.settings = settings
        self.hooks = hooks
        self.hooks.name = settings.name
        self.state = State()
        self._around = surroundings
        self._metrics = LinkMetrics(surroundings.metrics, settings.name)
        self._session: Session | None = None
        self._lease: Lease | None = None
        self._subscriptions: Subscriptions | None = None
        self._known = Known()
        self._pause = Pause()
        self._is_given_up = self._is_stopped = self._was_connected = False
        self._wake = Event()
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins to connect; whether the remote end is there is found out in a greenlet."""
        self._claim()
        self._greenlet = gevent.spawn(self._run)

    def apply(self, settings: LinkSettings) -> None:
        """Goes on with changed settings: on the same connection if that is still what they ask for."""
        previous, self.settings = self.settings, settings
        self.hooks.name = settings.name
        if settings.name != previous.name:
            self._metrics.connected.set(0)
            self._metrics = LinkMetrics(self._around.metrics, settings.name)
            self._metrics.connected.set(self._session is not None)
        if settings.remote != previous.remote:
            self._known = Known()  # the subscriptions there are another cluster's business
        self._claim()
        self._is_given_up = False
        if settings.target != previous.target or settings.is_active != previous.is_active:
            self._pause.reset()
            self.state.change(CONNECTING)
            if self._greenlet is not None:  # it may be connecting to what is not wanted any more
                self._greenlet.kill(block=False)
                self._greenlet = gevent.spawn(self._run)
        elif self._session is not None:
            self._session.adopt(settings)
            if self._subscriptions is not None and self._session.client_id == self._owner_id:
                self._subscriptions.change(settings.subscription_list)
            elif settings.subscription_list:
                self._end_subscriptions()  # the owner has other ones now
        self._wake.set()

    def stop(self, timeout: float = STOP_TIMEOUT, *, for_good: bool = False) -> None:
        """Closes the connection and tells the hook so; calls may take ``timeout`` seconds more.  Blocks a few seconds longer, at most.

        ``for_good``: the connection is deleted, and its subscriptions end with it, if that can be said to the remote end now.
        """
        self._is_stopped = True
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        lease, self._lease = self._lease, None
        session = self._session
        if session is not None:
            self._end_subscriptions()
            if for_good:
                call = self._gateway(session, self.settings.timeout)
                end_all(self.settings.name, call, self._known, timeout)
            self._let_go(session)
            session.join(timeout)
            session.kill()
            session.join(STOP_TIMEOUT)
        if lease is not None:  # by now, nobody can take this worker for the owner
            self._around.leases.give_up(lease.name)
        self.state.change(INACTIVE, "The connection was closed on this side.")
        self.hooks.stop(STOP_TIMEOUT)

    def call(self, data: Any, timeout: float | None = None) -> ServerMessage:
        """The answer of the remote service; ``timeout`` is in seconds, the connection's own by default.

        Raises ``ConnectionInactive``, ``ConnectionFailed``, ``ConnectionTimeout``, ``RemoteCallFailed``, which name the connection;
        ``InvalidOutput`` if ``data`` is no JSON; ``CallFailed`` for a call that went around too many clusters.
        """
        ctx = onward(self._around.cluster)
        seconds = self.settings.timeout if timeout is None else timeout
        started = monotonic()
        outcome = FAILED
        try:
            session = self._ready_session(seconds)
            answer = session.call(data, max(0.0, seconds - (monotonic() - started)), ctx)
            outcome = OK if answer.is_ok else ERROR
        except ConnectionFailed as error:
            outcome = TIMEOUT if isinstance(error, ConnectionTimeout) else FAILED
            raise self._named(error) from None
        finally:
            self._metrics.called(outcome, monotonic() - started)
        if not answer.is_ok:
            raise remote_error(self.settings, answer)
        return answer

    def send(self, message: Any) -> None:
        """Sends a message to a remote end that is no Zato.  Raises what ``call`` does, but for ``RemoteCallFailed``."""
        outcome, started = FAILED, monotonic()
        try:
            self._ready_session(self.settings.timeout).send(frame(message))
            outcome = OK
        except ConnectionFailed as error:
            raise self._named(error) from None
        finally:
            self._metrics.called(outcome, monotonic() - started)

    def shown(self) -> dict[str, Any]:
        """What an administrator sees: the state and since when, the address, the last error, calls that wait, the last ping in ms."""
        settings, session = self.settings, self._session
        lag = session.lag if session is not None else None
        shown: dict[str, Any] = {
            "state": self.state.name,
            "since": self.state.since,
            "address": settings.shown_address,
            "error": self.state.error,
            "calls": session.calls if session is not None else 0,
            "lag_ms": None if lag is None else round(lag * 1000, 1),
            "waiting": self.hooks.waiting,
        }
        if settings.subscription_list:
            results = self._subscriptions.results if self._subscriptions is not None else {}
            shown |= {"owner": self._is_owner, "subscriptions": dict(results)}
        return shown

    @property
    def _is_owner(self) -> bool:
        return self._lease is not None and self._lease.is_held

    @property
    def _owner_id(self) -> str:
        return f"outconn.{self._around.cluster}.{self.settings.id}"

    @property
    def _client(self) -> Client:
        """Who this worker is at the remote end: the same for every owner of the subscriptions, another for each other worker."""
        client_id = self._owner_id if self._is_owner else f"{self._owner_id}.{self._around.place}"
        return Client(client_id, f"WSX outconn - {self.settings.name}")

    def _claim(self) -> None:
        """Asks for the lease if there is something to own, and gives it up when there is not any more."""
        wants = bool(self.settings.subscription_list) and self.settings.is_active
        if wants and self._lease is None:
            self._lease = self._around.leases.want(f"outconn.{self.settings.id}")
            self._lease.on_change = self._lease_changed
        elif not wants and self._lease is not None:
            lease, self._lease = self._lease, None
            gevent.spawn(self._around.leases.give_up, lease.name)

    def _lease_changed(self, is_held: bool) -> None:
        if not is_held and self._session is not None:
            self._session.takes_messages = False  # they are the next owner's
            self._end_subscriptions()
        self._wake.set()

    def _run(self) -> None:
        if self._lease is not None:
            self._lease.decided.wait(LEASE_WAIT)
        while True:
            self._wake.clear()
            try:
                pause = self._step()
            except Exception:  # boundary: a link that is not looked after would be down for ever
                log.exception("Outgoing WebSocket connection %r failed; it goes on.", self.settings.name)
                self._failed("It failed in a way that nobody has foreseen; see the server's log.")
                pause = self._pause.left
            self._wake.wait(pause)

    def _step(self) -> float | None:
        """Does what is to be done; returns after how many seconds to look again, None for not before something happens."""
        session = self._session
        if session is not None and session.is_over:
            self._let_go(session)
            self._failed(
                f"The connection was lost: {session.how_it_ended()}.",
                after_success=monotonic() - session.started > STABLE_AFTER,
            )
        elif session is not None and (
            session.target[0] != self.settings.target or not self.settings.is_active
        ):
            self._let_go(
                session
            )  # one that has only another owner by now goes on until its successor is there
        if not self.settings.is_active:
            self.state.change(INACTIVE)
            return None
        wanted = (self.settings.target, self._client.client_id)
        if self._is_given_up or (self._session is not None and self._session.target == wanted):
            return None
        if self._pause.left:
            return self._pause.left
        self._open(self.settings, self._client)
        return 0.0

    def _let_go(self, session: Session) -> None:
        self._session = None
        self._metrics.connected.set(0)
        self._end_subscriptions()
        if not session.is_over:
            session.retire()

    def _open(self, settings: LinkSettings, client: Client) -> None:
        try:
            session = open_session(settings, client, self._around.credentials(settings))
        except JunctorError as error:
            self._failed(settings.cleaned(str(error)))
            return
        previous = self._session
        if previous is not None:
            self._let_go(previous)
        session.on_message, session.on_end = self._take_message, self._ended
        session.on_lag = self._metrics.pings.observe
        self._session = session
        self._metrics.connected.set(1)
        if self._was_connected:
            self._metrics.reconnects.inc()
        self._was_connected = True
        self.state.change(CONNECTED)
        log.info(
            "Outgoing WebSocket connection %r is connected to %s.", settings.name, settings.shown_address
        )
        self.hooks.connected()
        session.start()
        if self._is_owner and client == self._client:
            self._subscribe(session, settings.subscription_list)
        elif self._known.keys and not settings.subscription_list:
            self._subscribe(session, ())  # this worker was the owner, and ends what there was

    def _subscribe(self, session: Session, topics: Sequence[str]) -> None:
        """Sees to it that exactly these topics are subscribed to."""
        call = self._gateway(session, self.settings.timeout)
        self._subscriptions = Subscriptions(self.settings.name, topics, call, self._known)
        self._subscriptions.start()

    def _gateway(self, session: Session, timeout: float) -> Callable[[dict[str, Any]], Any]:
        """Calls a service at the remote end, and returns its answer."""
        settings = self.settings

        def call(data: dict[str, Any]) -> Any:
            answer = session.call(data, timeout, onward(self._around.cluster))
            if not answer.is_ok:
                raise remote_error(settings, answer)
            return answer.data

        return call

    def _end_subscriptions(self) -> None:
        if self._subscriptions is not None:
            self._subscriptions.stop()
        self._subscriptions = None

    def _failed(self, error: str, *, after_success: bool = False) -> None:
        """An attempt has failed, or the connection was lost; whether there is another attempt is up to the settings."""
        self._pause.failed(after_success=after_success)
        if self._session is not None:
            return  # it could not be replaced, and goes on
        if (self.state.name, self.state.error) != (DOWN, error):
            log.warning("Outgoing WebSocket connection %r is down: %s", self.settings.name, error)
        self.state.change(DOWN, error)
        self._is_given_up = not self.settings.has_auto_reconnect

    def _take_message(self, session: Session, incoming: Incoming) -> None:
        if session.client_id == self._owner_id and not self._is_owner:
            return  # its lease has run out: the next owner gets what is not answered here
        self._metrics.messages.inc()
        self.hooks.message(session, incoming)

    def _ended(self, session: Session) -> None:
        self.hooks.closed(*session.ended_with)
        self._wake.set()

    def _ready_session(self, timeout: float) -> Session:
        """The connection that calls go over, waiting for it only while the first attempt to make it is under way."""
        if self._session is None and not self.state.settled.is_set() and not self.state.settled.wait(timeout):
            raise ConnectionTimeout(f"it could not be connected within {timeout:g} s")
        if not self.settings.is_active:
            raise ConnectionInactive("it is not active")
        if (session := self._session) is None or not session.is_open:
            reason = self.state.error or "The connection was lost."
            raise ConnectionFailed(f"it is not connected since {self.state.since}: {reason}")
        return session

    def _named(self, error: ConnectionFailed) -> ConnectionFailed:
        """The same error, saying of which connection it is."""
        settings = self.settings
        reason = settings.cleaned(error.message).rstrip(".")
        what = f"Outgoing WebSocket connection {settings.name!r} to {settings.shown_address}"
        return type(error)(current_cid.get(), f"{what}: {reason}.")


def remote_error(settings: LinkSettings, answer: ServerMessage) -> RemoteCallFailed:
    """The error for a call that the remote end answered with one."""
    reason = settings.cleaned(answer.error_message)
    found = answer.data.get("cid") if isinstance(answer.data, dict) else ""
    remote_cid = found[:64] if isinstance(found, str) else ""
    return RemoteCallFailed(
        f"The remote end of outgoing WebSocket connection {settings.name!r} answered {answer.status} {reason!r}"
        f"{f' (CID {remote_cid} there)' if remote_cid else ''}.",
        status=answer.status,
        reason=reason,
        remote_cid=remote_cid,
    )
