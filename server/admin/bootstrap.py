"""A new cluster: its settings, its servers, its administrator."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from junctor.server.admin.builtin import ADMIN, PUBLIC_API, builtin_services, create_builtin
from junctor.sql import schema
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from junctor.sql.transaction import Transaction

PASSWORD_BYTES = 24  # 192 bits


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What a new cluster's administrator must know; the passwords are nowhere else in plain text."""

    store: Store
    admin_password: str = field(repr=False)
    public_api_password: str = field(repr=False)


def create_cluster(
    engine: Engine,
    name: str,
    keyring: Keyring,
    *,
    servers: Iterable[tuple[str, str, int]] = (),
    admin_password: str = "",
    public_api_password: str = "",
) -> NewCluster:
    """Creates a cluster, all of it or nothing, in an object database whose schema is current.

    ``servers`` are names, hosts and ports.  Passwords that are not given are generated.  Raises ``AlreadyExists``, ``SchemaOutdated``.
    """
    schema.require(engine)
    admin = admin_password or secrets.token_urlsafe(PASSWORD_BYTES)
    public_api = public_api_password or secrets.token_urlsafe(PASSWORD_BYTES)

    def fill(transaction: Transaction) -> None:
        create_builtin(transaction, {cls.get_name(): cls.get_impl_name() for cls in builtin_services()})
        transaction.edit("security_basic_auth", ADMIN, {"password": admin})
        transaction.edit("security_basic_auth", PUBLIC_API, {"password": public_api})
        for server, host, port in servers:
            transaction.create("server", {"name": server, "host": host, "port": port})

    return NewCluster(Store.create(engine, name, keyring, fill), admin, public_api)
