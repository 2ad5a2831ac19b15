"""Configurations of objects for live ones, without a database."""

from __future__ import annotations

from typing import Any

from junctor.sql import base
from junctor.sql.config import Config


def config(kind: str, **fields: Any) -> Config:
    """The configuration of an object with these fields; the others have their defaults, references None."""
    cls = base.kind_class(kind)
    declared = base.declared(cls)
    values = {
        name: None if field.reference or field.required else field.default for name, field in declared.items()
    }
    values |= {f"{name}_id": None for name in base.references(cls)}
    values |= {"id": 1, "version": 1, "is_internal": False, "owner": "", **fields}
    return Config(kind, {name: place for place, name in enumerate(values)}, tuple(values.values()))
