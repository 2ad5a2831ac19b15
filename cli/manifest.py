"""What the command line needs to know of the object types, without importing their declarations.

Importing SQLAlchemy takes longer than most commands may.  So what the declarations say is kept as JSON in the user's cache
directory (``$XDG_CACHE_HOME/junctor``) until one of their files, or the set of installed packages, changes.  Without a cache
directory everything works as well, only slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
READERS = ("list", "get")
WRITERS = ("create", "edit", "delete")


class FieldInfo(NamedTuple):
    """A field, as ``junctor.sql.fields.Field`` declares it."""

    name: str
    type: str
    label: str
    help: str
    required: bool
    default: Any
    unit: str
    min: int | None
    max: int | None
    choices: tuple[str, ...]
    reference: str
    aliases: tuple[str, ...]
    block: bool
    read_only: bool

    @property
    def is_secret(self) -> bool:
        """Whether the value is never shown."""
        return self.type == "secret"

    @property
    def flag(self) -> str:
        """The name as options have it, e.g. ``url-path``."""
        return self.name.replace("_", "-")


class TypeInfo(NamedTuple):
    """An object type, as its class declares it; ``family`` is the kind by which references name it."""

    kind: str
    label: str
    help: str
    family: str
    service: str
    verbs: tuple[str, ...]
    enmasse_aliases: tuple[str, ...]
    command_aliases: tuple[str, ...]
    fields: tuple[FieldInfo, ...]

    @property
    def command(self) -> str:
        """The part of commands behind the verb, e.g. ``channel-rest``."""
        return self.kind.replace("_", "-")

    @property
    def all_verbs(self) -> tuple[str, ...]:
        """The verbs of its commands."""
        return (*(verb for verb in WRITERS if verb in self.verbs), *READERS)

    def field(self, name: str) -> FieldInfo | None:
        """The field of this name or alias."""
        for field in self.fields:
            if field.name == name:
                return field
        return next((field for field in self.fields if name in field.aliases), None)


@cache
def load() -> tuple[TypeInfo, ...]:
    """Every object type, those that others refer to first."""
    path = _cache_path()
    kept = _read(path) if path else None
    if kept is not None:
        return kept
    before = _stamps(_own_files())
    types, files = _declared()
    if path:
        _write(path, types, before | _stamps(files))
    return types


def find(name: str) -> TypeInfo | None:
    """The type of a kind, a command's name for it, or one of its aliases on command lines and in enmasse files."""
    for info in load():
        if name in (info.kind, info.command, *info.command_aliases, *info.enmasse_aliases):
            return info
    return None


def _declared() -> tuple[tuple[TypeInfo, ...], list[str]]:
    """The types from their classes, and the files that these are in."""
    from junctor.sql import base

    types, files = [], []
    for kind, cls in base.kinds().items():
        file = getattr(sys.modules[cls.__module__], "__file__", None)
        files += [file] if file else []
        families = [vars(c)["kind"] for c in cls.__mro__ if vars(c).get("is_family")]
        types.append(
            TypeInfo(
                kind,
                cls.label,
                (cls.__doc__ or "").partition("\n")[0],
                families[0] if families else kind,
                base.service_prefix(cls),
                tuple(verb for verb in WRITERS if verb in cls.verbs),
                cls.enmasse_aliases,
                cls.command_aliases,
                tuple(_field(name, field) for name, field in base.declared(cls).items()),
            )
        )
    return tuple(types), files


def _field(name: str, field: Any) -> FieldInfo:
    default = None if field.required else field.default
    return FieldInfo(
        name,
        str(field.type),
        field.label,
        field.help,
        field.required,
        list(default) if isinstance(default, tuple) else default,
        field.unit,
        field.min,
        field.max,
        field.choices,
        field.reference,
        field.aliases,
        field.large or field.multiline,
        field.read_only,
    )


def _own_files() -> list[str]:
    """The files of the declarations that come with Junctor, this one, and the directories packages are installed in."""
    import junctor.sql

    folder = Path(next(iter(junctor.sql.__path__)))
    objects = folder / "objects"
    files = [*(os.fspath(path) for path in sorted(objects.glob("*.py"))), os.fspath(objects)]
    files += [os.fspath(folder / name) for name in ("fields.py", "base.py")]
    packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return [*files, __file__, *packages]


def _stamps(files: Iterable[str]) -> dict[str, list[int]]:
    found = {}
    for file in files:
        with contextlib.suppress(OSError):  # a file that is gone has no stamp, which is a difference, too
            state = os.stat(file)
            found[file] = [state.st_mtime_ns, state.st_size]
    return found


def _cache_path() -> Path | None:
    given = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(given):
        return None
    key = hashlib.sha256("\0".join([__file__, sys.prefix, sys.version, str(FORMAT)]).encode()).hexdigest()[
        :16
    ]
    return Path(given) / "junctor" / f"object-types-{key}.json"


def _read(path: Path) -> tuple[TypeInfo, ...] | None:
    """The kept types; None when there are none, they are out of date, damaged, or not this user's."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            kept: Mapping[str, Any] = json.load(file)
        stamps = kept["stamps"]
        if _stamps({*_own_files(), *stamps}) != stamps:
            return None
        return tuple(_type_from(item) for item in kept["types"])
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
    ):  # written by another version, or by no version at all
        return None


def _type_from(item: list[Any]) -> TypeInfo:
    values = {
        key: tuple(v) if isinstance(v, list) else v for key, v in zip(TypeInfo._fields, item, strict=True)
    }
    return TypeInfo(**values | {"fields": tuple(_field_from(field) for field in values["fields"])})


def _field_from(item: list[Any]) -> FieldInfo:
    values = dict(zip(FieldInfo._fields, item, strict=True))
    return FieldInfo(**values | {"choices": tuple(values["choices"]), "aliases": tuple(values["aliases"])})


def _write(path: Path, types: tuple[TypeInfo, ...], stamps: Mapping[str, list[int]]) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch.write_text(json.dumps({"stamps": stamps, "types": types}), encoding="utf-8")
        scratch.replace(path)
    except OSError:  # a read-only home, a full disk: the cache is a convenience
        with contextlib.suppress(OSError):
            scratch.unlink()
