"""What a load balancer must know of a cluster: its servers and its WebSocket channels.

Read without SQLAlchemy and the declarations, which take 300 ms to import and 35 MB to keep: the load balancer's agent asks every second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from psycopg2 import errorcodes

from junctor.sql.errors import NotFound, SchemaOutdated, StoreUnavailable

CONNECT_TIMEOUT: Final = 5  # seconds
STATEMENT_TIMEOUT: Final = 5  # seconds
SCHEMA_ERRORS: Final = frozenset(
    {errorcodes.UNDEFINED_TABLE, errorcodes.UNDEFINED_COLUMN, errorcodes.INVALID_SCHEMA_NAME}
)
VERSION: Final = "SELECT config_version FROM cluster WHERE name = %s"
# One statement, so that all of it is of one version; channels in the order in which they were made.
ROUTES: Final = """
    SELECT config_version,
           (SELECT coalesce(json_agg(json_build_array(name, host, port) ORDER BY name), '[]')
              FROM server WHERE cluster_id = cluster.id),
           (SELECT coalesce(json_agg(json_build_array(name, address) ORDER BY id), '[]')
              FROM channel_websocket WHERE cluster_id = cluster.id AND is_active)
      FROM cluster WHERE name = %s
"""


@dataclass(frozen=True, slots=True)
class ServerRoute:
    """A server, and where its HTTP port is."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ChannelRoute:
    """An active WebSocket channel, and its address as it was configured."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Routes:
    """The servers by name, and the active WebSocket channels, the oldest first, as of one version."""

    version: int = 0
    servers: tuple[ServerRoute, ...] = ()
    channels: tuple[ChannelRoute, ...] = ()


class RouteReader:
    """Asks for the routes of one cluster on a connection that it keeps, and makes anew after an error.

    ``url`` is that of the object database, as SQLAlchemy or libpq has it.  Nothing is connected until the first question.
    Each question raises ``StoreUnavailable``, ``SchemaOutdated``, or ``NotFound`` when there is no such cluster.
    """

    def __init__(self, url: str, cluster: str) -> None:
        self._url = url.replace("+psycopg2", "", 1)
        self._cluster = cluster
        self._connection: Any = None

    def version(self) -> int:
        """The version of the configuration."""
        return int(self._ask(VERSION)[0])

    def read(self) -> Routes:
        """What there is now."""
        version, servers, channels = self._ask(ROUTES)
        return Routes(
            version,
            tuple(ServerRoute(*server) for server in servers),
            tuple(ChannelRoute(*channel) for channel in channels),
        )

    def close(self) -> None:
        """Gives the connection back; the next question makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, statement: str) -> tuple[Any, ...]:
        with self._errors():
            if self._connection is None:
                self._connection = self._connect()
            with self._connection.cursor() as cursor:
                cursor.execute(statement, (self._cluster,))
                row: tuple[Any, ...] | None = cursor.fetchone()
        if row is None:
            raise NotFound("cluster", self._cluster)
        return row

    def _connect(self) -> Any:
        try:
            connection = psycopg2.connect(
                self._url,
                connect_timeout=CONNECT_TIMEOUT,
                application_name="junctor load balancer",
                options=f"-c statement_timeout={STATEMENT_TIMEOUT}s",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
        except psycopg2.ProgrammingError:  # its message has the URL in it, password included
            raise StoreUnavailable("The URL of the object database is not valid.") from None
        connection.autocommit = True
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            self.close()
            if error.pgcode in SCHEMA_ERRORS:
                raise SchemaOutdated from error
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise StoreUnavailable(f"The object database cannot be used: {reason}") from error
