"""The object database of an environment, opened by a command of the same machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from junctor.cli.session import Session

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from junctor.cli.environment import Environment
    from junctor.sql.store import Store


@contextmanager
def opened_engine(url: str) -> Iterator[Engine]:
    """Connections to the object database at ``url``, closed in the end; raises ``StoreUnavailable`` when it is used."""
    from junctor.sql.engine import connect  # SQLAlchemy takes 300 ms

    engine = connect(url, pool_size=1, application="junctor command")
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def opened_store(environment: Environment) -> Iterator[Store]:
    """The objects of an environment's cluster."""
    from junctor.sql.secrets import Keyring
    from junctor.sql.store import Store

    with opened_engine(environment.odb_url()) as engine:
        yield Store.open(engine, environment.settings.cluster, Keyring.load(environment.keyring_path))


def database_url(session: Session) -> str:
    """The URL of the object database: $JUNCTOR_ODB_URL, or else the environment's."""
    return os.environ.get("JUNCTOR_ODB_URL") or session.environment().odb_url()
