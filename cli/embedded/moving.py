"""Starting a store whose port may have been taken by somebody else in the meantime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from junctor.cli import ports
from junctor.cli.embedded.store import Started
from junctor.cli.process import Daemon
from junctor.sql.errors import ProcessFailed

ATTEMPTS = 3


class Movable(Protocol):
    """A store that can listen on any port, because everybody learns the port from the environment."""

    name: str

    @property
    def port(self) -> int:
        """The port of its settings."""

    def move(self, port: int) -> None:
        """Its settings have another port now."""

    def daemon(self) -> Daemon:
        """Its process, as its settings are now."""

    def ping(self) -> bool:
        """Whether it answers."""


def start_on_a_free_port(
    store: Movable, timeout: float, prepare: Callable[[], None] = lambda: None
) -> Started:
    """What starting ``store`` came to; it is ready, on its own port or else on a new one.

    A store that seems to run but is just dying is started anew.

    ``prepare`` is called before each attempt, when the port is known.  Raises ``ProcessFailed``.
    """
    first = store.port
    for attempt in range(1, ATTEMPTS + 1):
        daemon = store.daemon()
        fresh = not daemon.status().running
        if fresh:
            daemon.end_orphans()
            if not ports.is_free(ports.LOOPBACK, store.port):
                store.move(ports.free_port())
                daemon = store.daemon()
            prepare()
        try:
            fresh = daemon.spawn()
            daemon.wait_ready(store.ping, timeout)
        except ProcessFailed:
            lost_the_race = not ports.is_free(ports.LOOPBACK, store.port)
            had_just_been_killed = not fresh and not daemon.status().running
            if attempt == ATTEMPTS or not (lost_the_race or had_just_been_killed):
                raise
            continue
        moved_from = first if store.port != first else 0
        return Started(store.name, store.port, fresh, moved_from, _notes(store, moved_from))
    raise AssertionError  # the last attempt either returns or raises


def _notes(store: Movable, moved_from: int) -> tuple[str, ...]:
    if not moved_from:
        return ()
    return (
        f"{store.name} listens on {store.port} now: {moved_from} is taken by {ports.holder(moved_from)}.",
    )
