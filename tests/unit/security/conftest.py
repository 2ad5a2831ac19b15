"""Security definitions without a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from junctor.server.context import Context
from junctor.server.runtime.live import live_classes
from junctor.server.security.definitions import Definition
from junctor.sql import base
from junctor.sql.config import Config
from junctor.sql.secrets import Secret

Make = Callable[..., Definition]


@pytest.fixture
def make() -> Make:
    """Makes a live definition of a type from its fields; the others have their defaults."""

    def made(kind: str, **given: Any) -> Definition:
        declared = base.declared(base.kind_class(kind))
        values: dict[str, Any] = {
            "id": 7,
            "version": 1,
            "is_internal": False,
            "owner": "",
            "name": "the-name",
        }
        for name, field in declared.items():
            value = given.get(name, values.get(name, "" if field.required else field.default))
            values[name] = Secret(value) if field.is_secret else value
        index = {name: position for position, name in enumerate(values)}
        definition = live_classes()[kind](Config(kind, index, tuple(values.values())), cast(Context, None))
        assert isinstance(definition, Definition)
        return definition

    return made
