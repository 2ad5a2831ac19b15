"""How Alembic reaches the database: over the connection that ``junctor.sql.schema`` hands it."""

from __future__ import annotations

from alembic import context

from junctor.sql import base
from junctor.sql.tables import audit, change, process, pubsub, security, sso, websocket

TABLES = (audit, change, process, pubsub, security, sso, websocket)  # imported for what they declare
base.kinds()
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=base.METADATA,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
