"""The publish/subscribe parts of one worker, and their life."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from junctor.server.pubsub.deliveries import Deliveries
from junctor.server.pubsub.directory import Directory
from junctor.server.pubsub.hints import Hints
from junctor.server.pubsub.hooks import Hooks
from junctor.server.pubsub.identity import Identities
from junctor.server.pubsub.maintenance import Maintenance
from junctor.server.pubsub.publishing import Publishing
from junctor.server.pubsub.pull import Pull
from junctor.server.pubsub.service_topics import ServiceTopics
from junctor.server.pubsub.subscribing import Subscribing
from junctor.server.pubsub.writer import Writer
from junctor.server.service.pubsub import PubSub
from junctor.sql.engine import connect

if TYPE_CHECKING:
    from junctor.server.context import Context

POOL_SIZE: Final = (
    4  # connections that stay open: the writer's, the exchange's, and those of who pulls or browses
)
log = logging.getLogger(__name__)


class Broker:
    """``context.pubsub``: made before the configuration is loaded, whose objects register here.

    The life cycle: ``start`` once the worker has its row; ``stop`` while the relay still works.  A part takes the context, and finds the
    other parts in ``context.pubsub`` when it needs them.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self.engine = connect(
            settings.odb_url, pool_size=POOL_SIZE, application=f"junctor {settings.server_name} pubsub"
        )
        self.directory = Directory(context)
        self.hints = Hints(context)
        self.writer = Writer(context)
        self.hooks = Hooks(context)
        self.deliveries = Deliveries(context)
        self.publishing = Publishing(context)
        self.subscribing = Subscribing(context)
        self.pull = Pull(context)
        self.identities = Identities(context)
        self.service_topics = ServiceTopics(context)
        self.of_services = PubSub(context)
        self.maintenance = Maintenance(context)

    def start(self) -> None:
        """Begins to deliver, and to listen for hints.  Raises ``AddressUnavailable``, ``StoreUnavailable``."""
        self.maintenance.prepare()
        self.hints.start()
        self.writer.start()
        self.deliveries.start()
        self.maintenance.start()

    def drain(self) -> None:
        """Lets go of requests that only wait for messages.  Neither blocks nor raises."""
        self.pull.stop()

    def stop(self) -> None:
        """Stores what is being published, lets others have what this worker delivers, and ends.  Waits a few seconds at the most."""
        self.drain()
        self.maintenance.stop()
        self.deliveries.stop()
        self.writer.stop()
        self.hints.stop()
        self.engine.dispose()
