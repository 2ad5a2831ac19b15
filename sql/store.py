"""The object database of one cluster: reading objects, and changing them in transactions that each make one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from junctor.sql import base, changes
from junctor.sql.base import Object
from junctor.sql.changes import Change
from junctor.sql.config import Config
from junctor.sql.engine import database_errors
from junctor.sql.errors import AlreadyExists, NotFound
from junctor.sql.objects.cluster import ClusterRow
from junctor.sql.secrets import Keyring
from junctor.sql.shape import can_exist, find_id, shape
from junctor.sql.transaction import Transaction

MAX_NEWS = 1_000  # versions
MAX_PAGE = 10_000
MAX_OFFSET = 10**9
MAX_HISTORY = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects at one version of the configuration, by type."""

    version: int
    objects: Mapping[str, Sequence[Config]]


@dataclass(frozen=True, slots=True)
class News:
    """What changed up to ``version``: the changes, and those of the changed objects that still exist, by (kind, id)."""

    version: int
    changes: Sequence[Change]
    objects: Mapping[tuple[str, int], Config]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of a type, of ``total`` that match."""

    objects: Sequence[Config]
    total: int


class Store:
    """The objects of one cluster.

    Every method may raise ``StoreUnavailable`` or ``SchemaOutdated``.  Objects are shared and read-only.
    """

    def __init__(self, engine: Engine, cluster_id: int, keyring: Keyring) -> None:
        self.engine = engine
        self.cluster_id = cluster_id
        self.keyring = keyring

    @classmethod
    def open(cls, engine: Engine, cluster: str, keyring: Keyring) -> Store:
        """The store of the cluster of this name; raises ``NotFound``."""
        with database_errors(), engine.connect() as connection:
            found = connection.scalar(select(ClusterRow.id).where(ClusterRow.name == cluster))
        if found is None:
            raise NotFound("cluster", cluster)
        return cls(engine, found, keyring)

    @classmethod
    def create(
        cls, engine: Engine, cluster: str, keyring: Keyring, fill: Callable[[Transaction], None] | None = None
    ) -> Store:
        """A new cluster with what ``fill`` puts into it, made in one transaction; raises ``AlreadyExists``."""
        try:
            with database_errors(), engine.begin() as connection:
                made = connection.execute(
                    insert(ClusterRow).values(name=cluster).returning(ClusterRow.id)
                ).scalar_one()
                store = cls(engine, made, keyring)
                transaction = Transaction(connection, made, keyring)
                transaction.create("cluster", {"name": cluster})
                if fill is not None:
                    fill(transaction)
                store._record(transaction, who="junctor", cid="")
                return store
        except IntegrityError as error:
            raise AlreadyExists("Cluster", cluster) from error

    @contextmanager
    def transaction(self, *, who: str, cid: str = "", dry_run: bool = False) -> Iterator[Transaction]:
        """Changes that are made together or not at all, and become one version; ``who`` is named in the change feed.

        One writer at a time: others wait for up to ``LOCK_TIMEOUT`` seconds.  Nobody sees anything of it before the end.
        A dry run does it all and then undoes it; ``Transaction.changes`` tells what it would have changed.
        """
        with database_errors(), self.engine.connect() as connection, connection.begin() as work:
            transaction = Transaction(connection, self.cluster_id, self.keyring)
            yield transaction
            if dry_run or not transaction.changes:
                work.rollback()
                return
            self._record(transaction, who=who, cid=cid)

    def _record(self, transaction: Transaction, *, who: str, cid: str) -> None:
        transaction.version += 1
        changes.record(
            transaction.connection,
            self.cluster_id,
            transaction.version,
            transaction.changes,
            who=who,
            cid=cid,
        )

    def version(self) -> int:
        """The current version of the configuration."""
        with database_errors(), self.engine.connect() as connection:
            return changes.current_version(connection, self.cluster_id)

    def get(self, kind: str, name: str) -> Config:
        """The object of this type and name; ``kind`` may be a family.  Raises ``NotFound``."""
        for member in base.members(kind):
            cls = base.kind_class(member)
            if not can_exist(name):
                continue
            statement = shape(cls).select.where(*self._mine(cls), base.columns(cls)["name"] == name)
            with database_errors(), self.engine.connect() as connection:
                row = connection.execute(statement).first()
            if row is not None:
                return shape(cls).config(row, self.keyring)
        raise NotFound(_label(kind), name)

    def get_by_id(self, kind: str, object_id: int) -> Config:
        """The object of this type and id; raises ``NotFound``."""
        cls = base.kind_class(kind)
        statement = shape(cls).select.where(*self._mine(cls), base.columns(cls)["id"] == object_id)
        with database_errors(), self.engine.connect() as connection:
            row = connection.execute(statement).first() if can_exist(object_id) else None
        if row is None:
            raise NotFound(_label(kind), object_id)
        return shape(cls).config(row, self.keyring)

    def find(
        self, kind: str, *, query: str = "", internal: bool = False, offset: int = 0, limit: int = MAX_PAGE
    ) -> Page:
        """The objects of a type by name; those that have ``query`` in their names when it is given.

        Internal ones, which come with the server, only when ``internal``.  ``limit`` is at most ``MAX_PAGE``.
        """
        cls = base.kind_class(kind)
        columns = base.columns(cls)
        where = self._mine(cls)
        if not can_exist(query):
            return Page([], 0)
        if not internal:
            where.append(columns["is_internal"].is_(False))
        if query:
            where.append(columns["name"].icontains(query, autoescape=True))
        rows = (
            shape(cls)
            .select.where(*where)
            .order_by(columns["name"])
            .offset(max(0, min(offset, MAX_OFFSET)))
            .limit(max(0, min(limit, MAX_PAGE)))
        )
        count = select(func.count()).select_from(columns["name"].table).where(*where)
        if len(shape(cls).tables) > 1:
            count = count.where(columns["type"] == kind)
            rows = rows.where(columns["type"] == kind)
        with database_errors(), self.engine.connect() as connection:
            found = [shape(cls).config(row, self.keyring) for row in connection.execute(rows)]
            return Page(found, connection.execute(count).scalar_one())

    def snapshot(self) -> Snapshot:
        """Everything there is, as of one version."""
        with database_errors(), self._frozen() as connection:
            version = changes.current_version(connection, self.cluster_id)
            return Snapshot(version, {kind: self._all(connection, cls) for kind, cls in base.kinds().items()})

    def news(self, version: int) -> News:
        """What changed after ``version``, with the changed objects as they are now.

        Not complete after more than ``MAX_NEWS`` versions, or when the database is at an earlier version, because an old state of
        it was restored: then only a snapshot tells.
        """
        with database_errors(), self._frozen() as connection:
            now = changes.current_version(connection, self.cluster_id)
            if now == version:
                return News(now, (), {})
            if not version < now <= version + MAX_NEWS:
                return News(now, (), {}, is_complete=False)
            found = changes.since(connection, self.cluster_id, version)
            wanted: dict[str, set[int]] = {}
            for change in found:
                wanted.setdefault(change.kind, set()).add(change.object_id)
            objects = {
                (kind, config.id): config
                for kind, ids in wanted.items()
                if kind in base.kinds()
                for config in self._all(connection, base.kind_class(kind), ids)
            }
            return News(now, found, objects)

    def history(self, *, before: int | None = None, limit: int = 50) -> list[Change]:
        """The newest changes, newest first, at most ``MAX_HISTORY``; those of versions below ``before`` when it is given."""
        with database_errors(), self.engine.connect() as connection:
            return changes.history(
                connection, self.cluster_id, before=before, limit=max(0, min(limit, MAX_HISTORY))
            )

    @contextmanager
    def _frozen(self) -> Iterator[Connection]:
        """A connection that sees one state of the database throughout."""
        with self.engine.begin() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection

    def _all(
        self, connection: Connection, cls: type[Object], ids: Iterable[int] | None = None
    ) -> list[Config]:
        columns = base.columns(cls)
        statement = shape(cls).select.where(*self._mine(cls)).order_by(columns["id"])
        if ids is not None:
            statement = statement.where(columns["id"].in_(list(ids)))
        return [shape(cls).config(row, self.keyring) for row in connection.execute(statement)]

    def _mine(self, cls: type[Object]) -> list[Any]:
        return [base.columns(cls)["cluster_id"] == self.cluster_id]

    def id_of(self, kind: str, name: str) -> int | None:
        """The id of the object of a type or family by its name; None when there is none.  Raises ``UnknownKind``."""
        for member in base.members(kind):
            base.kind_class(member)
        with database_errors(), self.engine.connect() as connection:
            return find_id(connection, self.cluster_id, kind, name)


def _label(kind: str) -> str:
    return (
        kind.replace("_", " ")
        if len(base.members(kind)) > 1 or kind not in base.kinds()
        else base.kinds()[kind].label
    )
