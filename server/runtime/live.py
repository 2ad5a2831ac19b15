"""Live objects: what a worker makes of the objects in the database."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from junctor.sql.config import Config

if TYPE_CHECKING:
    from junctor.server.context import Context

MODULES = (
    "junctor.server.runtime.cluster",
    "junctor.server.service.live",
    "junctor.server.security.definitions",
    "junctor.server.security.jwt",
    "junctor.server.channels.rest",
    "junctor.server.channels.websocket",
    "junctor.server.outgoing.rest_live",
    "junctor.server.outgoing.websocket_live",
    "junctor.server.pubsub.live",
    "junctor.server.email.live",
    "junctor.server.sso.live",
)


class Live:
    """One object of one type, working.

    The life cycle, which the registry alone drives, each verb once and in this order:

    * ``__init__``: takes what it needs out of ``config``.  Must not block; may raise.
    * ``start``: connects, compiles, loads.  May block (in gevent's hub) and may raise: then the predecessor, if any, goes on.
    * ``take_over``: from now on this object is the one that is found, in the place of ``previous``.  Must neither block nor raise.
    * ``leave``: the object was deleted and is not found any more.  Must neither block nor raise.
    * ``stop``: after ``take_over`` of a successor, or after ``leave``: lets calls finish that still use it, and closes.
      May block; errors are logged.
    """

    kind: ClassVar[str]

    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.context = context

    def start(self) -> None:
        """Gets ready."""

    def take_over(self, previous: Live | None) -> None:
        """Becomes the one that is found."""

    def leave(self) -> None:
        """Is not found any more."""

    def stop(self) -> None:
        """Closes."""

    def runtime_state(self) -> dict[str, Any] | None:
        """What an administrator should see of its state, as JSON; None = nothing: it works as configured, or it is a problem."""
        return None


@cache
def live_classes() -> dict[str, type[Live]]:
    """The live class of each object type that has one, those of other packages (entry points ``junctor.live``) included."""
    for module in MODULES:
        import_module(module)
    for point in entry_points(group="junctor.live"):
        point.load()
    found: dict[str, type[Live]] = {}
    pending = list(Live.__subclasses__())
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if "kind" in vars(cls):
            found[cls.kind] = cls
    return found
