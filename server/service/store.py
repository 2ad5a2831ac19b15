"""The services of a worker, by name; reads take no lock, and a change is one assignment."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import RLock

from junctor.server.service.info import ServiceInfo
from junctor.sql.errors import DeploymentRefused, ServiceInactive, ServiceNotFound

logger = logging.getLogger("junctor.service")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What an administrator sets for a service; ``slow_threshold`` is in seconds, 0 for the server's default."""

    is_active: bool = True
    slow_threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreChange:
    """What a change did: the names of services that are new, replaced and gone, each sorted."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


_DEFAULT = ServiceSettings()


class ServiceStore:
    """All services, those of a file being replaced at once; a service keeps its settings when it is replaced.

    Built-in services belong to the file ''.  Settings may be made before their service is there.
    """

    def __init__(self) -> None:
        self._services: dict[str, ServiceInfo] = {}
        self._active: dict[str, ServiceInfo] = {}
        self._by_impl_name: dict[str, ServiceInfo] = {}
        self._settings: dict[str, ServiceSettings] = {}
        self._write = RLock()

    def get(self, name: str) -> ServiceInfo:
        """The active service of this name.  Raises ``ServiceNotFound``, or ``ServiceInactive``, which is one, too."""
        try:
            return self._active[name]
        except KeyError:
            if name in self._services:
                raise ServiceInactive(name) from None
            raise ServiceNotFound(name) from None

    def get_by_impl_name(self, impl_name: str) -> ServiceInfo:
        """The service of this implementation name, active or not.  Raises ``ServiceNotFound``."""
        try:
            return self._by_impl_name[impl_name]
        except KeyError:
            raise ServiceNotFound(impl_name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def __len__(self) -> int:
        return len(self._services)

    def all(self) -> list[ServiceInfo]:
        """All services, active or not, sorted by name."""
        return [service for _, service in sorted(self._services.items())]

    def of_file(self, file_name: str) -> list[ServiceInfo]:
        """The services of a file, sorted by name."""
        return [service for service in self.all() if service.file_name == file_name]

    def check(self, file_name: str, services: Iterable[ServiceInfo]) -> None:
        """Passes if ``replace`` would.  Raises ``DeploymentRefused``."""
        seen: set[str] = set()
        for service in services:
            if service.name in seen:
                raise DeploymentRefused(file_name, f"two services of this file are named {service.name!r}")
            seen.add(service.name)
            other = self._services.get(service.name)
            if other is not None and other.file_name != file_name:
                where = f"the file {other.file_name}" if other.file_name else "Junctor itself"
                raise DeploymentRefused(file_name, f"there is a service {service.name!r} already, in {where}")

    def replace(self, file_name: str, services: Iterable[ServiceInfo]) -> StoreChange:
        """Makes ``services`` the services of the file, all at once; calls under way finish with what they began with.

        Raises ``DeploymentRefused``, with nothing changed, if another file has a service of the same name.
        """
        given = list(services)
        new = {service.name: service for service in given}
        with self._write:
            self.check(file_name, given)
            old = {name for name, service in self._services.items() if service.file_name == file_name}
            kept = {name: service for name, service in self._services.items() if name not in old}
            self._swap({**kept, **new})
        for service in given:
            _after_add(service)
        return StoreChange(
            added=tuple(sorted(new.keys() - old)),
            replaced=tuple(sorted(new.keys() & old)),
            removed=tuple(sorted(old - new.keys())),
        )

    def remove(self, file_name: str) -> StoreChange:
        """Removes the services of a file, all at once."""
        return self.replace(file_name, ())

    def settings(self, name: str) -> ServiceSettings:
        """The settings of a service; the defaults if it has none of its own."""
        return self._settings.get(name, _DEFAULT)

    def configure(self, settings: Mapping[str, ServiceSettings | None]) -> None:
        """Changes the settings of services, all at once; None gives a service the defaults again."""
        with self._write:
            changed = {
                **self._settings,
                **{name: value for name, value in settings.items() if value is not None},
            }
            for name in (name for name, value in settings.items() if value is None):
                changed.pop(name, None)
            self._settings = changed
            self._swap(self._services)

    def _swap(self, services: dict[str, ServiceInfo]) -> None:
        settings = self._settings
        self._services = services
        self._by_impl_name = {service.impl_name: service for service in services.values()}
        self._active = {name: it for name, it in services.items() if settings.get(name, _DEFAULT).is_active}


def _after_add(service: ServiceInfo) -> None:
    try:
        service.cls.after_add_to_store(logger)
    except Exception:  # a user's hook, which cannot undo the deployment any more
        logger.exception("after_add_to_store of service %s failed", service.name)
