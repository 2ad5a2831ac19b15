"""Objects that tests need before they can say what they are about."""

from __future__ import annotations

from typing import Any

from junctor.sql.config import Config
from junctor.sql.store import Store
from junctor.sql.transaction import Transaction

WHO = "tester"


def add(store: Store, kind: str, name: str, /, **fields: Any) -> Config:
    """A new object, made in a transaction of its own."""
    with store.transaction(who=WHO) as transaction:
        return transaction.create(kind, {"name": name, **fields})


def edit(store: Store, kind: str, key: str | int, /, **fields: Any) -> Config:
    """An object as it is after an edit in a transaction of its own."""
    with store.transaction(who=WHO) as transaction:
        return transaction.edit(kind, key, fields)


def remove(store: Store, kind: str, key: str | int) -> Config:
    """An object that was deleted in a transaction of its own."""
    with store.transaction(who=WHO) as transaction:
        return transaction.delete(kind, key)


def add_channel(transaction: Transaction, name: str = "orders", **fields: Any) -> Config:
    """A new REST channel to a service that exists or is made."""
    service = fields.pop("service", "orders.get")
    if transaction.find("service", service) is None:
        transaction.create("service", {"name": service})
    return transaction.create(
        "channel_rest", {"name": name, "url_path": f"/{name}", "service": service, **fields}
    )
