"""A worker's parts in this process, without a database: configured objects become live as in a server, and channels are served."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from junctor.server.context import Context
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.runtime.live import Live
from junctor.server.runtime.registry import Registry
from junctor.server.service.base import Service
from junctor.server.service.info import describe
from junctor.server.service.invoke import Invoker, InvokerSettings
from junctor.server.service.store import ServiceStore
from junctor.server.settings import Settings
from junctor.server.websocket.clients import ConnectedClients
from junctor.server.websocket.endpoints import Endpoints
from junctor.sql import base
from junctor.sql.changes import CREATE, DELETE, EDIT, Change
from junctor.sql.config import Config
from junctor.sql.secrets import Secret
from junctor.sql.store import News


class OneWorker:
    """``create``, ``edit`` and ``delete`` do at once what the administrative services do by way of the database."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        logs = Logs(directory, size=1_000_000, count=1)
        given = Settings(directory=directory, odb_url="", **{"graceful_timeout": 2, **settings})
        self.context = context = Context(given, logs, Metrics())
        context.services = ServiceStore()
        context.invoker = Invoker(context.services, context, InvokerSettings())
        context.registry = Registry(context)
        context.clients = ConnectedClients()
        context.websockets = Endpoints(context)
        context.websockets.open()
        context.is_loaded, context.not_ready = True, ""
        self._values: dict[tuple[str, str], dict[str, Any]] = {}
        self._ids = itertools.count(1)
        self._versions = itertools.count(1)
        self.create("cluster", "cluster")

    def deploy(self, *services: type[Service]) -> None:
        """Makes services callable, and known as objects."""
        for service in services:
            info = describe(service)
            self.context.services.replace(f"{info.name}.py", [info])
            if ("service", info.name) not in self._values:
                self.create("service", info.name)

    def create(self, kind: str, name: str, /, **fields: Any) -> Config:
        """A new object, live."""
        declared = base.declared(base.kind_class(kind))
        values: dict[str, Any] = {"id": next(self._ids), "version": 0, "is_internal": False, "owner": ""}
        for field_name, field in declared.items():
            values[field_name] = [] if field.type.name == "LIST" else field.default
        self._values[kind, name] = values | {"name": name}
        return self.edit(kind, name, verb=CREATE, **fields)

    def edit(self, kind: str, name: str, /, verb: str = EDIT, **fields: Any) -> Config:
        """An object with other fields, live if it starts; secrets and references are given as text."""
        values = self._values[kind, name]
        values |= fields | {"version": values["version"] + 1}
        self._values[kind, values["name"]] = self._values.pop((kind, name))
        config = self._config(kind, values)
        self._apply(config, verb, {(kind, config.id): config})
        return config

    def delete(self, kind: str, name: str, /) -> None:
        """The object is gone."""
        values = self._values.pop((kind, name))
        self._apply(self._config(kind, values), DELETE, {})

    def live(self, kind: str, name: str, /) -> Live:
        """The live object."""
        entry = self.context.registry.find(kind, name)
        assert entry is not None
        assert entry.live is not None
        return entry.live

    def problems(self) -> Iterable[str]:
        """What does not work as configured."""
        return self.context.registry.problems.values()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a counter or a gauge."""
        metrics = self.context.metrics
        find = metrics.counter if name.endswith("_total") else metrics.gauge
        return find(name, **labels).value

    def access_log(self) -> str:
        """The lines of the access log."""
        self.context.logs.flush()
        path = self.context.settings.directory / "access.log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        """Nothing is served any more."""
        self.context.websockets.stop()

    def _config(self, kind: str, values: dict[str, Any]) -> Config:
        made = dict(values)
        for name, field in base.declared(base.kind_class(kind)).items():
            if field.is_secret:
                made[name] = Secret(made[name] or "")
            elif field.reference:
                made[f"{name}_id"] = self._id_of(field.reference, made[name])
        return Config(kind, {name: position for position, name in enumerate(made)}, tuple(made.values()))

    def _id_of(self, target: str, name: str | None) -> int | None:
        for kind in base.members(target):
            if (kind, name) in self._values:
                return int(self._values[kind, str(name)]["id"])
        assert not name, f"there is no {target} {name!r}"
        return None

    def _apply(self, config: Config, verb: str, objects: dict[tuple[str, int], Config]) -> None:
        change = Change(config.kind, config.id, config.name, verb, None, None)
        self.context.registry.apply(News(next(self._versions), [change], objects))
