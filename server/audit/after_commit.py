"""What is to be done once a transaction is committed, and not if it is rolled back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

_KEY: Final = "junctor.after_commit"
Action = Callable[[], None]


@dataclass(slots=True)
class _Pending:
    actions: list[Action] = field(default_factory=list)
    savepoints: list[int] = field(default_factory=list)
    is_committing: bool = False


class AfterCommit:
    """Actions that wait for the commit of their connections; they must neither block nor raise.

    SQLAlchemy tells of a commit before it is done.  So actions are run when the connection goes back to its pool or begins its next
    transaction, unless something went wrong in between.
    """

    def __init__(self) -> None:
        self._engines: WeakSet[Engine] = WeakSet()

    def add(self, connection: Connection, action: Action) -> None:
        """Has ``action`` run after the commit of the connection's transaction."""
        self._listen(connection.engine)
        pending = connection.info.get(_KEY)
        if pending is None:
            pending = connection.info[_KEY] = _Pending()
        pending.actions.append(action)

    def _listen(self, engine: Engine) -> None:
        if engine in self._engines:
            return
        self._engines.add(engine)
        event.listen(engine, "commit", _committing)
        event.listen(engine, "rollback", _rolled_back)
        event.listen(engine, "savepoint", _savepoint)
        event.listen(engine, "release_savepoint", _released)
        event.listen(engine, "rollback_savepoint", _rolled_back_to)
        event.listen(engine, "handle_error", _failed)
        event.listen(engine, "begin", _begun)
        event.listen(engine, "checkin", _returned)


def _committing(connection: Connection) -> None:
    if (pending := connection.info.get(_KEY)) is not None:
        pending.is_committing = True


def _rolled_back(connection: Connection) -> None:
    connection.info.pop(_KEY, None)


def _savepoint(connection: Connection, name: str) -> None:
    del (
        name
    )  # SQLAlchemy does not know it yet; savepoints end in the order that is the reverse of their beginning
    pending = connection.info.setdefault(_KEY, _Pending())
    pending.savepoints.append(len(pending.actions))


def _released(connection: Connection, name: str, context: None) -> None:
    del name, context
    if (pending := connection.info.get(_KEY)) is not None and pending.savepoints:
        pending.savepoints.pop()


def _rolled_back_to(connection: Connection, name: str, context: None) -> None:
    del name, context
    if (pending := connection.info.get(_KEY)) is not None:
        del pending.actions[pending.savepoints.pop() if pending.savepoints else 0 :]


def _failed(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is None or connection.invalidated or connection.closed:
        return
    pending = connection.info.get(_KEY)
    if pending is not None and pending.is_committing:
        connection.info.pop(_KEY, None)


def _begun(connection: Connection) -> None:
    _run(connection.info)


def _returned(dbapi_connection: Any, record: Any) -> None:
    if dbapi_connection is not None:
        _run(record.info)


def _run(info: dict[str, Any]) -> None:
    pending = info.pop(_KEY, None)
    if pending is not None and pending.is_committing:
        for action in pending.actions:
            action()
