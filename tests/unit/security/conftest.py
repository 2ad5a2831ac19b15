"""Security definitions without a database."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from junctor.server.context import Context
from junctor.server.runtime.live import live_classes
from junctor.server.security.definitions import Definition
from junctor.server.security.tokens import Tokens
from junctor.sql import base
from junctor.sql.config import Config
from junctor.sql.secrets import Keyring, Secret
from junctor.sql.store import Store

Make = Callable[..., Definition]


def worker(keyring: Keyring) -> Context:
    """The parts of a worker that definitions need, without a database: nothing can be logged out."""
    store = cast(Store, SimpleNamespace(keyring=keyring))
    return cast(Context, SimpleNamespace(store=store, tokens=Tokens(store, lambda: None)))


def build(context: Context, kind: str, **given: Any) -> Definition:
    """A live definition of a type from its fields; the others have their defaults."""
    declared = base.declared(base.kind_class(kind))
    values: dict[str, Any] = {"id": given.get("id", 7), "version": 1, "is_internal": False, "owner": ""}
    for name, field in declared.items():
        default = "the-name" if name == "name" else "" if field.required else field.default
        value = given.get(name, default)
        values[name] = Secret(value) if field.is_secret else value
    index = {name: position for position, name in enumerate(values)}
    definition = live_classes()[kind](Config(kind, index, tuple(values.values())), context)
    assert isinstance(definition, Definition)
    return definition


@pytest.fixture
def make(keyring: Keyring) -> Make:
    """Makes live definitions, as ``build`` does, for one worker; or for another, its ``context``."""
    here = worker(keyring)

    def made(kind: str, *, context: Context = here, **given: Any) -> Definition:
        return build(context, kind, **given)

    return made


@pytest.fixture(scope="session")
def rsa_keys() -> list[RSAPrivateKey]:
    """Three RSA keys, which take a while to make."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(3)]
