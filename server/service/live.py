"""The live counterparts of services and of the files that they are deployed from."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from junctor.server.runtime.live import Live
from junctor.server.service.hot_deploy import LoadedModule, load_source, publish, unload
from junctor.server.service.store import ServiceSettings
from junctor.sql.config import Config
from junctor.sql.errors import DeploymentRefused

if TYPE_CHECKING:
    from junctor.server.context import Context

log = logging.getLogger(__name__)


class ServiceLive(Live):
    """What an administrator has set for a service."""

    kind = "service"

    def take_over(self, previous: Live | None) -> None:
        """Holds from the next call on."""
        del previous
        settings = ServiceSettings(self.config["is_active"], self.config["slow_threshold"] / 1000)
        self.context.services.configure({self.config.name: settings})

    def leave(self) -> None:
        """Forgets it."""
        self.context.services.configure({self.config.name: None})


class SourceLive(Live):
    """A deployed file: its module, whose classes are the services that run."""

    kind = "service_source"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._module: LoadedModule | None = None

    def start(self) -> None:
        """Loads the module; raises ``DeploymentRefused``, and then the one that works stays."""
        self._module = load_source(self.config.name, self.config["content"], self.config["digest"])

    def take_over(self, previous: Live | None) -> None:
        """From now on, calls run this module's classes; those under way finish on the old one's."""
        del previous
        assert self._module is not None
        publish(self._module)
        try:
            self.context.services.replace(self.config.name, self._module.services)
        except DeploymentRefused as error:
            self.context.registry.problems[self.kind, self.config.name] = str(error)
            log.error("The services of %s cannot be used: %s", self.config.name, error)

    def leave(self) -> None:
        """Its services are gone."""
        self.context.services.remove(self.config.name)

    def stop(self) -> None:
        """Forgets the module; calls that run its code finish."""
        if self._module is not None:
            unload(self._module)
