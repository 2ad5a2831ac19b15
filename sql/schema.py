"""The schema of the object database: creating and upgrading it, one step at a time and one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from junctor.sql.engine import database_errors
from junctor.sql.errors import InvalidInput, SchemaOutdated

SCRIPTS = Path(__file__).parent / "migrations"
LOCK_ID = 0x6A756E63  # 'junc': any constant that all processes share


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision that the database has ('' = none), the one that this code needs, and the steps in between."""

    current: str
    head: str
    pending: tuple[str, ...]

    @property
    def up_to_date(self) -> bool:
        """Whether the database has what this code needs."""
        return self.current == self.head


def _config(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config


def state(engine: Engine) -> SchemaState:
    """Where the schema is."""
    scripts = ScriptDirectory.from_config(_config())
    head = scripts.get_current_head() or ""
    with database_errors(), engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision() or ""
    known = [revision.revision for revision in scripts.walk_revisions()]
    if current and current not in known:
        raise SchemaOutdated(
            f"The object database has the schema {current}, which this version does not know: it belongs to a newer one."
        )
    pending = known[: known.index(current)] if current else known
    return SchemaState(current, head, tuple(reversed(pending)))


def upgrade(engine: Engine, revision: str = "head") -> SchemaState:
    """Brings the schema to ``revision``, in one transaction; processes that try at once wait for each other.

    Raises ``InvalidInput`` for a revision that does not exist and ``SchemaOutdated`` for a database of a newer version.
    """
    return _migrate(engine, revision, command.upgrade)


def downgrade(engine: Engine, revision: str) -> SchemaState:
    """Takes the schema back to ``revision`` ('base' = nothing), in one transaction; raises what ``upgrade`` raises."""
    return _migrate(engine, revision, command.downgrade)


def _migrate(engine: Engine, revision: str, step: Callable[[AlembicConfig, str], None]) -> SchemaState:
    state(engine)  # a database of a newer version is left alone
    with database_errors(), engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": LOCK_ID})
        try:
            step(_config(connection), revision)
        except CommandError as error:
            raise InvalidInput.one("revision", f"{error}.") from error
    return state(engine)


def require(engine: Engine) -> None:
    """Raises ``SchemaOutdated`` unless the schema is the one that this code needs."""
    found = state(engine)
    if not found.up_to_date:
        raise SchemaOutdated(
            f"The object database has the schema {found.current or '(none)'} and needs {found.head}; run 'junctor odb upgrade'."
        )
