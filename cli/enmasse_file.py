"""Enmasse files: what they say, as the objects that the server is given.

Zato's own files are understood as well: its names of sections and fields, ``security`` with a ``type``, ``include``, and items
that are paths of further files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from junctor.cli import manifest
from junctor.cli.enmasse_nodes import Node, parse
from junctor.cli.enmasse_references import resolve
from junctor.cli.manifest import FieldInfo, TypeInfo
from junctor.sql.errors import InvalidInput, Problem

INCLUDE = "include"
ANCHORS = "x-"  # of keys that are there for the file itself, such as values that others refer to by *name
MAX_FILE = 64 * 1024 * 1024  # bytes
MAX_FILES = 1000
FAMILY_ALIASES = {"def_sec": "security"}
# What Zato's exports have in every object, and an administrator never decides.
ZATO_FIELDS = frozenset(
    {"id", "cluster_id", "cluster", "cluster_name", "is_internal", "connection", "transport", "service_id"}
    | {"security_id", "sec_type", "sec_use_rbac", "has_rbac", "meta", "opaque1", "security_groups"}
)
ZATO_OBJECTS = re.compile(r"zato\..*|admin\.invoke|pubapi")
POSITION = re.compile(r"(?P<kind>\w+)\[(?P<position>\d+)\](?:\.(?P<field>.*))?")


@dataclass(frozen=True, slots=True)
class Item:
    """An object of a file, and where it is: ``lines`` are those of its fields."""

    info: TypeInfo
    values: Mapping[str, Any]
    file: str
    line: int
    lines: Mapping[str, int]


@dataclass(slots=True)
class Document:
    """The objects of a file and of what it includes, in their order, and ``warnings`` about what was left out."""

    items: dict[str, list[Item]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def payload(self) -> dict[str, list[dict[str, Any]]]:
        """The objects by kind, as the server takes them."""
        return {kind: [dict(item.values) for item in items] for kind, items in self.items.items()}

    def located(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """The server's problems, which name 'kind[position].field', with the lines of the files instead."""
        for problem in problems:
            found = POSITION.fullmatch(problem.field)
            items = self.items.get(found["kind"], []) if found else []
            if found is None or int(found["position"]) >= len(items):
                yield problem
                continue
            item, name = items[int(found["position"])], found["field"] or ""
            line = item.lines.get(name, item.line)
            where = f"{item.file}:{line}" if line else item.file
            what = f"{item.info.label} {item.values.get('name', '')!r}"
            yield Problem(
                where, f"{what}: {name} {problem.message}" if name else f"{what}: {problem.message}"
            )


def load(
    path: Path, *, text: str | None = None, is_json: bool | None = None, skip_unknown: bool = False
) -> Document:
    """The objects of the file at ``path``; of ``text``, when it is given, as if it were there.

    ``is_json`` overrides what the ending of the name says.  With ``skip_unknown``, sections and fields that are not known
    are left out with a warning; otherwise sections are refused here, and fields by the server.
    Raises ``InvalidInput`` with every problem, each with its file and line.
    """
    loader = _Loader(os.environ, skip_unknown)
    loader.load(path, text, is_json)
    if loader.problems:
        raise InvalidInput(loader.problems)
    return loader.document


class _Loader:
    def __init__(self, environ: Mapping[str, str], skip_unknown: bool) -> None:
        self.document = Document()
        self.problems: list[Problem] = []
        self._environ = environ
        self._skip_unknown = skip_unknown
        self._open: list[Path] = []
        self._seen: set[Path] = set()

    def load(
        self, path: Path, text: str | None = None, is_json: bool | None = None, section: str = ""
    ) -> None:
        """Adds what a file says; with ``section``, the file may be a single object of that section."""
        real = Path(os.path.realpath(path))
        if real in self._seen or len(self._seen) >= MAX_FILES:
            reason = "includes itself" if real in self._open else "is included twice"
            self._problem(str(path), 0, f"{reason}." if real in self._seen else "is one file too many.")
            return
        self._seen.add(real)
        self._open.append(real)
        try:
            given = _read(path) if text is None else text
            root = parse(
                given, str(path), is_json=path.suffix.lower() == ".json" if is_json is None else is_json
            )
            self._document(root, path, section)
        except InvalidInput as error:
            self.problems += error.problems
        finally:
            self._open.pop()

    def _document(self, root: Node, path: Path, section: str) -> None:
        if root.value is None:
            return
        if not isinstance(root.value, dict):
            self._problem(str(path), root.line, "must be a mapping of types to lists of objects.")
            return
        if section and isinstance(root.value.get("name", Node(None)).value, str):
            self._item(section, root, path)
            return
        for key, node in root.value.items():
            if key == INCLUDE:
                self._include(node, path)
            elif key.startswith(ANCHORS):
                continue
            elif isinstance(node.value, list):
                for item in node.value:
                    self._entry(key, item, path)
            elif node.value is not None:
                self._problem(str(path), node.line, f"{key} must be a list of objects.")

    def _include(self, node: Node, path: Path) -> None:
        names = node.plain()
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str):
                self.load(path.parent / name.removeprefix("file://"))
            else:
                self._problem(str(path), node.line, "include must be a list of paths.")

    def _entry(self, section: str, node: Node, path: Path) -> None:
        if isinstance(node.value, str):
            self.load(path.parent / node.value.removeprefix("file://"), section=section)
        elif isinstance(node.value, dict):
            self._item(section, node, path)
        else:
            self._problem(
                str(path), node.line, f"{section} must have objects, or paths of files with objects."
            )

    def _item(self, section: str, node: Node, path: Path) -> None:
        info = self._type(section, node, path)
        if info is None:
            return
        name = node.value.get("name", Node("")).value
        internal = node.value.get("is_internal", Node(False)).value
        if internal is True or (isinstance(name, str) and ZATO_OBJECTS.fullmatch(name)):
            self._warn(path, node.line, f"{info.label} {name!r} comes with the server; it is left out.")
            return
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value.items():
            found = info.field(key)
            target = found.name if found else key
            if self._is_left_out(info, section, found, key, value, path) or (
                target in values and target != key
            ):
                continue
            values[target], lines[target] = self._value(info, found, value, path), value.line
        self.document.items.setdefault(info.kind, []).append(Item(info, values, str(path), node.line, lines))

    def _type(self, section: str, node: Node, path: Path) -> TypeInfo | None:
        """The type of an object: that of its section or, for a family such as ``security``, the one that it names."""
        family = FAMILY_ALIASES.get(section, section)
        members = [info for info in manifest.load() if info.family == family and info.kind != family]
        if members:
            name = node.value.get("type", Node("")).value
            for info in members:
                if name in (info.kind, *info.enmasse_aliases, *info.command_aliases):
                    return info
            known = ", ".join(
                alias for info in members for alias in (info.enmasse_aliases or (info.kind,))[:1]
            )
            self._unknown(path, node.line, f"{section} has the type {name!r}; there are {known}.")
            return None
        for info in manifest.load():
            if section in (info.kind, *info.enmasse_aliases) and "create" in info.verbs:
                return info
        known = ", ".join(info.kind for info in manifest.load() if "create" in info.verbs)
        self._unknown(path, node.line, f"{section} is not a type of objects; there are {known}.")
        return None

    def _is_left_out(
        self, info: TypeInfo, section: str, found: FieldInfo | None, key: str, value: Node, path: Path
    ) -> bool:
        if found is not None:
            return value.value is None and "" not in found.choices
        if key in ZATO_FIELDS or value.value is None or (key == "type" and section != info.kind):
            return True
        if self._skip_unknown or section in info.enmasse_aliases:
            self._warn(path, value.line, f"{info.label} has no field {key}; it is left out.")
            return True
        return False

    def _value(self, info: TypeInfo, found: FieldInfo | None, node: Node, path: Path) -> Any:
        if node.value is None:
            return ""
        is_secret = found is not None and found.is_secret
        try:
            return resolve(node.plain(), self._environ, path.parent, is_secret=is_secret)
        except ValueError as error:
            name = found.name if found else info.label
            self._problem(str(path), node.line, f"{name} {error}")
            return ""

    def _unknown(self, path: Path, line: int, message: str) -> None:
        if self._skip_unknown:
            self._warn(path, line, f"{message} It is left out.")
        else:
            self._problem(str(path), line, message)

    def _warn(self, path: Path, line: int, message: str) -> None:
        self.document.warnings.append(f"{path}:{line}: {message}" if line else f"{path}: {message}")

    def _problem(self, name: str, line: int, message: str) -> None:
        self.problems.append(Problem(f"{name}:{line}" if line else name, message))


def _read(path: Path) -> str:
    """The text of a file; raises ``InvalidInput``."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise InvalidInput.one(str(path), f"is larger than {MAX_FILE // 1024 // 1024} MB.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput.one(str(path), "is not UTF-8 text.") from error
    except OSError as error:
        raise InvalidInput.one(str(path), f"cannot be read: {error.strerror}.") from error
