"""``self.out`` of services: the outgoing connections of every type."""

from __future__ import annotations

from typing import Any, ClassVar

from junctor.server.runtime.live import Live, live_classes


class OutgoingLive(Live):
    """The live counterpart of an outgoing connection.

    ``names`` are the attributes of ``self.out`` under which connections of the type are found; ``view`` makes what is found there
    of a mapping of names to connections, which stays current.  ``connection`` is set by ``__init__`` of the type.
    """

    names: ClassVar[tuple[str, ...]]
    view: ClassVar[type[Any]]
    connection: Any

    def take_over(self, previous: Live | None) -> None:
        """Is found under its name, and no longer under the one that it had before."""
        if isinstance(previous, OutgoingLive):
            previous.leave()
        self.context.outgoing.connections(self.kind)[self.config.name] = self.connection

    def leave(self) -> None:
        """Is not found any more, unless the name is another connection's by now, as when two exchange theirs."""
        connections = self.context.outgoing.connections(self.kind)
        if connections.get(self.config.name) is self.connection:
            del connections[self.config.name]


class Outgoing:
    """The outgoing connections of a worker; an attribute for each name of each type, e.g. ``self.out.rest``."""

    def __init__(self) -> None:
        self._connections: dict[str, dict[str, Any]] = {}
        self._views: dict[str, Any] = {}
        for kind, cls in live_classes().items():
            if issubclass(cls, OutgoingLive):
                view = cls.view(self.connections(kind))
                self._views |= dict.fromkeys(cls.names, view)

    def connections(self, kind: str) -> dict[str, Any]:
        """The connections of an object type by name."""
        return self._connections.setdefault(kind, {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_views"][name]
        except KeyError:
            known = ", ".join(sorted(self.__dict__.get("_views", ())))
            raise AttributeError(f"There is no self.out.{name}; there are {known}.") from None
