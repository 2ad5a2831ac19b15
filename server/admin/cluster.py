"""The state of the cluster: its servers and workers, what lags, what changed."""

from __future__ import annotations

from typing import Any

from junctor.server.admin.service import DEFAULT_WAIT, MAX_WAIT, AdminService
from junctor.sql.changes import Change
from junctor.sql.errors import InvalidInput

MAX_HISTORY = 1000


class Status(AdminService):
    """Every server of the cluster with its workers: pid, memory, the version that it has applied, what does not work."""

    name = "junctor.cluster.status"

    def handle(self) -> None:
        """No input."""
        context = self.context
        version, workers = context.status.cluster()
        servers: dict[str, dict[str, Any]] = {}
        for config in context.store.find("server", internal=True).objects:
            servers[config.name] = {
                "name": config.name,
                "host": config["host"],
                "port": config["port"],
                "workers": [],
            }
        for worker in workers:
            missing = {"name": worker["server"], "host": worker["host"], "port": None, "workers": []}
            shown = worker | {"lag": max(0, version - worker["applied_version"])}
            servers.setdefault(worker["server"], missing)["workers"].append(shown)
        self.response.payload = {
            "cluster": context.settings.cluster,
            "config_version": version,
            "servers": list(servers.values()),
        }


class Wait(AdminService):
    """Waits until every live worker has applied a version, and names those that have not."""

    name = "junctor.cluster.wait"

    def handle(self) -> None:
        """``version``, the newest one by default; ``timeout`` in seconds."""
        fields = self.fields
        newest = self.context.store.version()
        version = fields.get("version") or newest
        if isinstance(version, bool) or not isinstance(version, int):
            raise InvalidInput.one("version", "must be a whole number.")
        if version > newest:
            raise InvalidInput.one(
                "version", f"there is no version {version} yet; the newest one is {newest}."
            )
        timeout = self.number(fields, "timeout", DEFAULT_WAIT, high=MAX_WAIT)
        missing = self.context.convergence.wait(version, timeout)
        self.response.payload = {"version": version, "converged": not missing, "missing": missing}


class History(AdminService):
    """The newest changes of the configuration, newest first: what, who, when, and the fields that differ."""

    name = "junctor.config.history"

    def handle(self) -> None:
        """``limit``, and ``before``: only versions below it."""
        fields = self.fields
        limit = int(self.number(fields, "limit", 50, high=MAX_HISTORY))
        before = fields.get("before")
        if before is not None and (isinstance(before, bool) or not isinstance(before, int)):
            raise InvalidInput.one("before", "must be a whole number.")
        self.response.payload = {
            "items": [shown(change) for change in self.context.store.history(before=before, limit=limit)]
        }


def shown(change: Change) -> dict[str, Any]:
    """A change as callers see it."""
    return {
        "version": change.version,
        "kind": change.kind,
        "name": change.name,
        "verb": change.verb,
        "who": change.who,
        "at": change.at.isoformat() if change.at else None,
        "cid": change.cid,
        "differences": {field: list(values) for field, values in change.differences().items()},
    }
