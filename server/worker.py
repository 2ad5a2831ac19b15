"""The life of a worker: from the fork to the last call."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import gevent

from junctor.server.admin.builtin import ADMIN, ensure_builtin, ensure_server
from junctor.server.audit.trail import AuditTrail
from junctor.server.bus.client import Publisher
from junctor.server.bus.listener import Convergence, Listener
from junctor.server.channels.router import Router
from junctor.server.email.connections import Email
from junctor.server.metrics import Histogram
from junctor.server.outgoing.facade import Outgoing
from junctor.server.outgoing.websocket_live import Links
from junctor.server.pubsub.broker import Broker
from junctor.server.runtime.accepting import Accepting
from junctor.server.runtime.lease import Leases
from junctor.server.runtime.registry import Registry
from junctor.server.runtime.status import WorkerStatus
from junctor.server.security.tokens import Tokens
from junctor.server.service.invoke import OK, Invoker, InvokerSettings
from junctor.server.service.pickup import Pickup
from junctor.server.service.store import ServiceStore
from junctor.server.service.wsx import WSX
from junctor.server.sso.single_sign_on import SingleSignOn
from junctor.server.websocket.client_rows import ClientRows
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.endpoints import Endpoints
from junctor.server.websocket.relay import Relay
from junctor.sql import schema
from junctor.sql.engine import connect
from junctor.sql.errors import JunctorError, NotFound
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store

if TYPE_CHECKING:
    from junctor.server.context import Context

RETRY_PAUSE = 1.0  # seconds
ASYNC_CALLS_TIMEOUT = 5.0  # seconds
FLUSH_INTERVAL = 0.5  # seconds
log = logging.getLogger(__name__)


class Worker:
    """Boots a worker and keeps it going.  ``start`` returns at once.

    Until the configuration is loaded, ``context.not_ready`` says why it is not.  ``accepting`` says whether connections should be
    accepted already.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        context.websockets = Endpoints(context)
        self.accepting = Accepting(context.settings.run_directory / "accepting.lock")
        self._greenlets: list[gevent.Greenlet] = []
        self._seconds: dict[str, Histogram] = {}
        self._pickup: Pickup | None = None
        self._rows: ClientRows | None = None

    def start(self) -> None:
        """Begins to boot; to be called after the fork."""
        self._greenlets = [gevent.spawn(self._boot), gevent.spawn(self._flush)]

    def drain(self) -> None:
        """Makes readiness fail, so that load balancers send no more requests, and begins to disconnect WebSocket clients."""
        self._context.not_ready = "The server is stopping."
        self._context.websockets.drain()
        if hasattr(self._context, "pubsub"):
            self._context.pubsub.drain()

    def stop(self) -> None:
        """Ends everything that the worker does by itself; calls that are under way are finished by then."""
        context = self._context
        self.drain()
        gevent.killall(self._greenlets, block=False)
        if self._pickup is not None:
            self._pickup.stop()
        context.websockets.stop()
        if hasattr(context, "listener"):
            context.listener.stop()
            context.tokens.revoked.stop()
            if unfinished := context.invoker.stop(ASYNC_CALLS_TIMEOUT):
                log.warning("%d asynchronous calls were stopped before they had finished.", unfinished)
            context.sso.stop()
            context.audit.stop()
            context.pubsub.stop()
            context.links.stop()
            context.relay.stop()
            if self._rows is not None:
                self._rows.stop()
            try:
                context.status.leave()
            except JunctorError as error:
                log.info("The worker leaves without saying so: %s", error)
        context.metrics.flush()
        context.logs.flush()

    def _boot(self) -> None:
        reported = ""
        while True:
            try:
                self._load()
                break
            except JunctorError as error:
                self._context.not_ready = str(error)
                if str(error) != reported:
                    log.error(
                        "The worker cannot start yet: %s  It tries again every %g s.", error, RETRY_PAUSE
                    )
                reported = str(error)
            except Exception:
                self._context.not_ready = "The server cannot start; see its log."
                log.exception("The worker cannot start; it tries again.")
            self.accepting.failed()
            gevent.sleep(RETRY_PAUSE)
        self._greenlets.append(gevent.spawn(self._beat))
        self._pickup = Pickup(self._context)
        self._pickup.start()
        self._context.is_loaded = True
        self._context.websockets.open()
        self._context.not_ready = ""
        self.accepting.loaded()
        log.info("The worker is ready with version %d of the configuration.", self._context.registry.version)

    def _load(self) -> None:
        context, settings = self._context, self._context.settings
        engine = connect(
            settings.odb_url, pool_size=settings.odb_pool_size, application=f"junctor {settings.server_name}"
        )
        try:
            schema.require(engine)
            keyring = Keyring.load(
                settings.directory.parent / "secrets" / "keyring", given=settings.secret_keys
            )
            context.store = Store.open(engine, settings.cluster, keyring)
            self._make_parts()
            _require_keys(context.store)
            changed = [ensure_builtin(context), ensure_server(context)]
            if any(changed):
                context.publisher.publish(context.store.version())
            context.registry.load(context.store.snapshot())
        except BaseException:
            engine.dispose()
            if hasattr(context, "pubsub"):
                context.pubsub.engine.dispose()
            raise
        registry = context.registry
        context.status = WorkerStatus(
            context.store, settings.server_name, registry.shown_problems, registry.shown_states
        )
        self._join()
        context.convergence = Convergence(context.status.behind)
        context.listener = Listener(
            context.store,
            context.registry,
            redis_url=settings.redis_url,
            poll_interval=settings.poll_interval,
            applied=self._applied,
            woken=context.tokens.revoked.wake,
        )
        context.listener.sessions_changed = context.sso.sessions.heard
        context.listener.start()
        context.links.start()
        context.pubsub.start()
        context.audit.start()
        context.sso.start()
        context.tokens.revoked.start()
        gc.freeze()

    def _make_parts(self) -> None:
        """What works with the store; nothing of it does anything yet."""
        context, settings = self._context, self._context.settings
        context.services = ServiceStore()
        context.publisher = Publisher(settings.redis_url, context.store.cluster_id)
        context.outgoing = Outgoing()
        context.links = Links(Leases(context.store, self._worker_id))
        context.clients = ConnectedClients()
        context.relay, context.wsx = Relay(context), WSX(context)
        context.tokens = Tokens(context.store, self._announce)
        context.websockets.abandon()
        context.invoker = Invoker(context.services, context, InvokerSettings(metrics=self._measured))
        context.pubsub = Broker(context)
        context.audit, context.sso = AuditTrail(context), SingleSignOn(context)
        context.registry = Registry(context)
        context.router, context.email = Router(), Email()

    def _join(self) -> None:
        """Makes the worker known to the cluster, so that others reach its WebSocket clients."""
        context = self._context
        context.status.clean()
        context.relay.start()
        try:
            context.status.register(context.registry.version)
        except BaseException:
            context.relay.stop()
            raise
        self._rows = ClientRows(context.store, context.clients, self._worker_id)
        self._rows.start()

    def _announce(self) -> None:
        """Has every worker look for what is new, though there is no new version of the configuration."""
        self._context.publisher.publish(self._context.registry.version)

    def _worker_id(self) -> int | None:
        return self._context.status.worker_id

    def _measured(self, service: str, seconds: float, outcome: str) -> None:
        metrics = self._context.metrics
        histogram = self._seconds.get(service)
        if histogram is None:
            if service not in self._context.services:
                return  # what callers make up is no label: there would be no end to the series
            histogram = metrics.histogram("junctor_service_seconds", service=service)
            self._seconds[service] = histogram
        histogram.observe(seconds)
        if outcome != OK:
            metrics.counter("junctor_service_errors_total", service=service, outcome=outcome).inc()

    def _applied(self, version: int) -> None:
        self._context.metrics.gauge("junctor_config_version").set(version)
        self._context.status.applied(version)

    def _beat(self) -> None:
        """Heartbeats, for as long as the worker lives; while the database is away, they are missed."""
        context = self._context
        problems = context.metrics.gauge("junctor_config_problems")
        while True:
            gevent.sleep(context.settings.heartbeat)
            problems.set(len(context.registry.problems))
            try:
                context.status.beat()
                context.status.clean()
            except JunctorError as error:
                log.debug("No heartbeat: %s", error)

    def _flush(self) -> None:
        while True:
            gevent.sleep(FLUSH_INTERVAL)
            self._context.logs.flush()
            self._context.metrics.flush()


def _require_keys(store: Store) -> None:
    """Raises ``SecretUnreadable`` when the administrator's own password cannot be read: then the keys are another environment's."""
    try:
        store.get("security", ADMIN)["password"].reveal()
    except NotFound:
        log.warning("There is no security definition %s: nobody can administer the cluster.", ADMIN)
