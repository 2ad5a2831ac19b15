"""The base of administrative services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from junctor.server.service.base import Service
from junctor.sql.errors import BadRequest, InvalidInput, Problem

if TYPE_CHECKING:
    from junctor.server.context import Context

DEFAULT_WAIT = 5.0  # seconds
MAX_WAIT = 300.0  # seconds


class AdminService(Service):
    """A service that administers the cluster; its payload is a JSON object, and so is its answer."""

    zato_dont_import = True

    @property
    def context(self) -> Context:
        """The worker that runs the service."""
        context: Context = self.server  # type: ignore[assignment]  # the platform of our own services
        return context

    @property
    def who(self) -> str:
        """The name of the caller, for the change feed."""
        security = self.channel.security
        return security.username or security.name or "internal"

    @property
    def fields(self) -> dict[str, Any]:
        """The request's fields; raises ``BadRequest`` when it is not a JSON object."""
        payload = self.request.payload
        if payload in ("", None, b""):
            return {}
        if not isinstance(payload, dict):
            raise BadRequest(self.cid, "The payload must be a JSON object.")
        return dict(payload)

    def text(self, fields: dict[str, Any], name: str, default: str | None = None) -> str:
        """A text among the fields; raises ``InvalidInput`` when it is missing (without a default) or something else."""
        value = fields.get(name, default)
        if value is None:
            raise InvalidInput.one(name, "is required.")
        if not isinstance(value, str):
            raise InvalidInput.one(name, "must be text.")
        return value

    def flag(self, fields: dict[str, Any], name: str) -> bool:
        """A yes or no among the fields, no by default; raises ``InvalidInput``: the text 'false' must not mean yes."""
        value = fields.get(name, False)
        if not isinstance(value, bool):
            raise InvalidInput.one(name, "must be true or false.")
        return value

    def number(self, fields: dict[str, Any], name: str, default: float, *, high: float) -> float:
        """A number from 0 to ``high`` among the fields; raises ``InvalidInput``."""
        value = fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
            raise InvalidInput([Problem(name, f"must be a number from 0 to {high:g}.")])
        return value

    def committed(self, version: int, wait: float) -> dict[str, Any]:
        """Makes a committed version known, and what the answer to a write says of it.

        Waits for up to ``wait`` seconds until every live worker has applied it, and names those that have not.
        """
        context = self.context
        context.publisher.publish(version)
        context.listener.catch_up()
        missing = context.convergence.wait(version, wait) if wait else []
        return {"config_version": version, "converged": bool(wait) and not missing, "missing": missing}
