"""The REST channels of Single Sign-On, and the objects that come with every cluster.

The channels have no security definition: who may call depends on the session, and the endpoints find out who is calling.
"""

from __future__ import annotations

from typing import Any, Final

from junctor.server.sso.http import MAX_BODY, PREFIX, by_path, name_of
from junctor.server.sso.openapi import OPENAPI_PATH, OpenApi
from junctor.sql.store import Store
from junctor.sql.transaction import Transaction

SETTINGS: Final = "sso"
TIMEOUT: Final = 60  # seconds


def _channel(path: str, service: str, methods: str) -> dict[str, Any]:
    return {
        "url_path": path,
        "service": service,
        "method": methods,
        "error_format": "3.2",
        "max_body_size": MAX_BODY,
        "timeout": TIMEOUT,
    }


CHANNELS: Final[dict[str, dict[str, Any]]] = {
    **{
        f"zato.sso.{name_of(path)}": _channel(path, PREFIX + name_of(path), ",".join(sorted(endpoints)))
        for path, endpoints in by_path().items()
    },
    "zato.sso.openapi": _channel(OPENAPI_PATH, OpenApi.name, "GET"),
}


def has_objects(store: Store) -> bool:
    """Whether all of them are there."""
    return store.id_of("sso", SETTINGS) is not None


def create_objects(transaction: Transaction) -> None:
    """Creates those that are not there; what an administrator has changed stays as it is."""
    if transaction.find("sso", SETTINGS) is None:
        transaction.create("sso", {"name": SETTINGS})
