"""The deliveries of a worker: which subscriptions it owns, who receives their messages, and how it comes by them and parts with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import gevent
import msgspec
from gevent.lock import Semaphore

from junctor.server.pubsub.claims import Claims
from junctor.server.pubsub.delivery import Delivery, Parts, Screened
from junctor.server.pubsub.exchange import Exchange
from junctor.server.pubsub.hooks import DELETE, SKIP
from junctor.server.pubsub.message import QueuedMessage
from junctor.server.pubsub.ownership import Claimed, Look, Ownership, WorkerPlace, chosen
from junctor.server.pubsub.sweep import Sweep
from junctor.server.pubsub.transports.base import DeliveryFailed, Transport
from junctor.server.pubsub.transports.rest import RestTransport
from junctor.server.pubsub.transports.service import ServiceTransport
from junctor.server.pubsub.transports.websocket import WebSocketTransport
from junctor.sql.errors import CallFailed
from junctor.sql.objects.pubsub import REST, SERVICE

if TYPE_CHECKING:
    from junctor.server.context import Context
    from junctor.server.pubsub.live import Subscription
    from junctor.server.websocket.client import Client

# How messages get to whoever is notified, by the target of a subscription; another package may add one.
TRANSPORTS: dict[str, Any] = {REST: RestTransport, SERVICE: ServiceTransport}
FINISH_TIMEOUT: Final = (
    10.0  # seconds in which what is out may still be acknowledged when a subscription moves
)
CLOSED_TIMEOUT: Final = 3.0  # ... when its client is gone
STOP_TIMEOUT: Final = 3.0  # ... when the worker stops
LEAVING_FOR: Final = (
    30.0  # seconds for which a worker that said that it stops owns nothing, whatever its lease says
)
DEFAULT_VOLATILE: Final = 1000  # messages of a topic that says nothing else
log = logging.getLogger(__name__)


class Deliveries:
    """The subscriptions that this worker delivers.

    ``start`` and ``stop`` are the broker's to call; ``changed`` may be called before.  Nothing raises but ``attach`` and ``owner_of``.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deliveries: dict[int, Delivery] = {}
        self._of_clients: dict[Client, set[int]] = {}
        self._ending: set[int] = set()
        self._leaving: dict[int, float] = {}
        self._transports = {target: made(context) for target, made in TRANSPORTS.items()}
        self._turn = Semaphore()
        self._worker_id: int | None = None
        self._wanted: frozenset[int] = frozenset()
        self._places: Mapping[int, WorkerPlace] = {}
        self._is_stale = True
        self._is_stopped = False

    def start(self) -> None:
        """Begins to deliver."""
        context = self._context
        engine = context.pubsub.engine
        self._ownership = Ownership(
            engine, context.store.cluster_id, context.links.leases, lambda: context.status.worker_id
        )
        self._claims = Claims(self._ownership)
        self._exchange = Exchange(engine, lambda: context.status.worker_id)
        self._parts = Parts(
            self._exchange,
            context.metrics,
            may_send=lambda: self._ownership.is_held,
            screen=self._screen,
            ended=self._ended,
        )
        self._sweep = Sweep(self._ownership, considers=self._consider, idle=self._idle, due=self.due)
        self._exchange.start()
        self._sweep.start()

    def stop(self) -> None:
        """Lets what is out be acknowledged, for a few seconds, and gives everything back: others go on within milliseconds."""
        if self._is_stopped or not hasattr(self, "_sweep"):
            return
        self._is_stopped = True
        self._sweep.stop()
        mine = list(self._deliveries.values())
        for delivery in mine:
            delivery.end()
        gevent.joinall([gevent.spawn(delivery.finish, STOP_TIMEOUT) for delivery in mine])
        with gevent.Timeout(STOP_TIMEOUT, False):  # without the database, the lease runs out instead
            self._claims.release(
                [(delivery.owned.sub_id, delivery.owned.epoch, delivery.sent) for delivery in mine]
            )
        for delivery in mine:
            delivery.drop()
        self._deliveries.clear()
        self._context.pubsub.hints.leaving()
        self._exchange.stop()
        self._ownership.give_up()

    def changed(self, sub_id: int) -> None:
        """A subscription is new, is another one, or is gone.  Never blocks."""
        self._is_stale = True
        delivery = self._deliveries.get(sub_id)
        subscription = self._context.pubsub.directory.subscription_by_id(sub_id)
        if delivery is not None:
            if subscription is None:
                self._forget(delivery)
                delivery.drop()
            else:
                delivery.apply(subscription)
        if hasattr(self, "_sweep"):
            self._sweep.now()

    def due(self, sub_ids: Iterable[int]) -> None:
        """There may be messages in these queues.  Never blocks."""
        for sub_id in sub_ids:
            if (delivery := self._deliveries.get(sub_id)) is not None:
                delivery.due()

    def add_volatile(self, sub_ids: Iterable[int], message: QueuedMessage) -> bool:
        """Whether a message without guaranteed delivery waits in this worker for all of these subscriptions.  Never blocks."""
        topic = self._context.pubsub.directory.topic_by_id(message.topic_id)
        most = topic.max_depth_non_gd if topic is not None else DEFAULT_VOLATILE
        found = {sub_id: self._deliveries.get(sub_id) for sub_id in sub_ids}
        is_complete = True
        for sub_id, delivery in found.items():
            if delivery is None or delivery.is_over:
                is_complete = False
                continue
            # Each has a message of its own: attempts are counted in it, and hooks may change it.
            delivery.add_volatile(msgspec.structs.replace(message, sub_id=sub_id), most)
        return is_complete

    def attach(self, subscription: Subscription, session: Client) -> None:
        """Has a subscription's messages sent to a WebSocket client of this worker; whoever was sent them before is not any more.

        Raises ``StoreUnavailable``.
        """
        claimed = self._claims.claim([subscription.id], by_force=True)
        if not claimed:
            return  # it was deleted meanwhile
        self._attached(subscription, session, claimed[0])

    def detach(self, session: Client) -> None:
        """A WebSocket client is gone: what it has not acknowledged waits for its return.  Never blocks."""
        for sub_id in self._of_clients.pop(session, ()):
            delivery = self._deliveries.get(sub_id)
            if delivery is not None and _client_of(delivery) is session:
                self._part_with(delivery, CLOSED_TIMEOUT)

    def doubted(self, sub_id: int) -> None:
        """It seems to be another worker's by now.  Never blocks."""
        if (delivery := self._deliveries.get(sub_id)) is not None:
            delivery.check()

    def leaves(self, worker_id: int) -> None:
        """Another worker stops, and owns nothing any more.  Never blocks."""
        self._leaving[worker_id] = monotonic() + LEAVING_FOR
        self.look_now()

    def look_now(self) -> None:
        """Hints may have been missed.  Never blocks."""
        self._sweep.now(at_queues=True)

    def owner_of(self, sub_id: int) -> int | None:
        """The id of the worker that owns a subscription; None if none does.  Raises ``StoreUnavailable``."""
        return self._ownership.owner_of(sub_id)

    def states(self) -> list[dict[str, Any]]:
        """What an administrator sees of the deliveries of this worker."""
        return [delivery.shown() for delivery in self._deliveries.values()]

    def _consider(self, look: Look) -> None:
        """Claims what this worker should deliver and does not, and parts with what another one should."""
        with self._turn:
            if self._is_stopped:
                return
            self._ownership.want(self._lease_changed)
            own_id = self._context.status.worker_id
            if own_id != self._worker_id:
                self._renamed(own_id)
            if own_id is None or own_id not in look.workers:
                return
            self._claims.tidy(self._deliveries.keys(), self._ending)
            self._look_around(look, own_id)
            for delivery in list(self._deliveries.values()):
                if _client_of(delivery) is None and delivery.owned.sub_id not in self._wanted:
                    self._part_with(delivery, FINISH_TIMEOUT)
            missing = [
                sub_id
                for sub_id in self._wanted
                if sub_id not in self._deliveries and sub_id not in self._ending
            ]
            for claimed in self._claims.claim(sorted(missing)):
                self._claimed(claimed)

    def _look_around(self, look: Look, own_id: int) -> None:
        """Finds out which subscriptions are this worker's to deliver, if anything has changed."""
        now = monotonic()
        self._leaving = {worker: until for worker, until in self._leaving.items() if until > now}
        places = {id_: place for id_, place in look.workers.items() if id_ not in self._leaving}
        self._context.pubsub.hints.places = places
        if not self._is_stale and places == self._places:
            return
        self._is_stale, self._places = False, places
        servers: dict[str, list[int]] = {}
        for id_, place in places.items():
            servers.setdefault(place.server, []).append(id_)
        wanted = set()
        for subscription in self._context.pubsub.directory.pushed():
            if subscription.target in self._transports and subscription.can_deliver:
                candidates = servers.get(subscription.config["server"] or "") or list(places)
                if chosen(subscription.id, candidates) == own_id:
                    wanted.add(subscription.id)
        self._wanted = frozenset(wanted)

    def _claimed(self, claimed: Claimed) -> None:
        subscription = self._context.pubsub.directory.subscription_by_id(claimed.sub_id)
        if subscription is None or self._is_stopped or claimed.sub_id in self._deliveries:
            self._claims.release([(claimed.sub_id, claimed.epoch, [])])
            return
        self._begin(subscription, claimed, self._transports[subscription.target])

    def _attached(self, subscription: Subscription, session: Client, claimed: Claimed) -> None:
        current = self._deliveries.get(subscription.id)
        if current is not None:
            if current.owned.epoch > claimed.epoch:
                return  # somebody was faster
            self._forget(current)
            current.drop()
        elif claimed.previous is not None:
            self._context.pubsub.hints.lost(subscription.id, claimed.previous)
        is_new = session not in self._of_clients
        self._of_clients.setdefault(session, set()).add(subscription.id)
        self._begin(subscription, claimed, WebSocketTransport(session))
        if is_new:
            session.when_gone(self.detach)  # last, since it may be gone already

    def _begin(self, subscription: Subscription, claimed: Claimed, transport: Transport) -> None:
        delivery = Delivery(subscription, claimed.epoch, transport, self._parts)
        self._deliveries[subscription.id] = delivery
        delivery.due()

    def _forget(self, delivery: Delivery) -> None:
        sub_id = delivery.owned.sub_id
        if self._deliveries.get(sub_id) is delivery:
            del self._deliveries[sub_id]
        client = _client_of(delivery)
        if client is not None and client in self._of_clients:
            self._of_clients[client].discard(sub_id)

    def _ended(self, delivery: Delivery) -> None:
        """It has no receiver any more, or it is another worker's."""
        if delivery.owned.is_over:
            self._forget(delivery)
            self._is_stale = True
        elif self._deliveries.get(delivery.owned.sub_id) is delivery:
            self._part_with(delivery, CLOSED_TIMEOUT)

    def _part_with(self, delivery: Delivery, timeout: float) -> None:
        """Gives a subscription back once what is out has been acknowledged."""
        self._forget(delivery)
        delivery.end()
        self._ending.add(delivery.owned.sub_id)
        gevent.spawn(self._finish, delivery, timeout)

    def _finish(self, delivery: Delivery, timeout: float) -> None:
        owned = delivery.owned
        try:
            delivery.finish(timeout)
            if not owned.is_over:
                self._claims.release([(owned.sub_id, owned.epoch, delivery.sent)])
            delivery.drop()
        finally:
            self._ending.discard(owned.sub_id)
        if _client_of(delivery) is not None and owned.sub_id not in self._deliveries:
            self._context.pubsub.subscribing.closed(delivery.subscription)
        else:
            self._sweep.now()

    def _renamed(self, own_id: int | None) -> None:
        """The worker's row is another one: what it owned under the old one is nobody's."""
        before = list(self._deliveries.values())
        attached = [
            (delivery.subscription, client)
            for delivery in before
            if (client := _client_of(delivery)) is not None
        ]
        ids = [subscription.id for subscription, _ in attached]
        claimed = (
            {one.sub_id: one for one in self._claims.claim(ids, by_force=True)} if own_id is not None else {}
        )
        self._worker_id, self._is_stale = own_id, True  # only now: what has failed is tried again
        for delivery in before:
            self._forget(delivery)
            delivery.drop()
        for subscription, client in attached:
            if subscription.id in claimed:
                self._attached(subscription, client, claimed[subscription.id])

    def _lease_changed(self, is_held: bool) -> None:
        """What is owned may be sent again, or not any more, until it may."""
        self._sweep.now()
        if is_held:
            for delivery in list(self._deliveries.values()):
                delivery.check()
                delivery.due()

    def _idle(self) -> list[int]:
        return [sub_id for sub_id, delivery in self._deliveries.items() if delivery.is_idle]

    def _screen(self, subscription: Subscription, messages: list[QueuedMessage]) -> Screened:
        """What the hook of a subscription says of messages."""
        if not subscription.hook_service:
            return Screened(messages)
        screened = Screened([], [], [])
        lists = {SKIP: screened.skip, DELETE: screened.delete}
        try:
            for message in messages:
                action = self._context.pubsub.hooks.before_delivery(subscription, message)
                lists.get(action, screened.deliver).append(message)
        except CallFailed as error:
            raise DeliveryFailed(error.message, is_transient=True) from error
        return screened


def _client_of(delivery: Delivery) -> Client | None:
    transport = delivery.transport
    return transport.client if isinstance(transport, WebSocketTransport) else None
