"""The text of an enmasse file as values that know their lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from junctor.sql.errors import InvalidInput

if TYPE_CHECKING:
    from ruamel.yaml import YAML

MAX_NODES = 5_000_000  # aliases included: a few lines of YAML can stand for billions of values
MAX_DEPTH = 50
MAX_LOCATED_JSON = 1_000_000  # characters; values of a larger JSON file have no lines
TAG = "tag:yaml.org,2002:"
MERGE = "<<"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line that it begins in, 0 if unknown; ``value`` is a scalar, or a list or a dict of nodes."""

    value: Any
    line: int = 0

    def plain(self) -> Any:
        """The value alone, without any lines."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def parse(text: str, name: str, *, is_json: bool) -> Node:
    """The root of a document; ``name`` is what problems call the file.

    Raises ``InvalidInput`` naming the line for text that is not valid, has a key twice, or stands for more than it may.
    """
    try:
        return _from_json(text, name) if is_json else _Reader(name).read(text)
    except RecursionError as error:
        raise InvalidInput.one(name, "is nested too deeply.") from error


def render(document: dict[str, Any], *, is_json: bool) -> str:
    """The text of a document, in the order that it has."""
    if is_json:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    from io import StringIO

    yaml = _yaml("rt")
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _yaml(kind: str) -> YAML:
    from ruamel.yaml import YAML  # 60 ms

    yaml = YAML(typ=kind, pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    return yaml


class _Reader:
    """Makes nodes out of YAML's own, which keep lines; nothing but plain data is ever constructed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._yaml = _yaml("safe")

    def read(self, text: str) -> Node:
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            found = self._yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = " ".join(str(part) for part in (error.context, error.problem) if part)
            raise self._problem(mark.line + 1 if mark else 0, f"is not valid YAML: {reason}.") from error
        except YAMLError as error:
            raise self._problem(0, f"is not valid YAML: {str(error).partition(chr(10))[0]}.") from error
        return Node({}) if found is None else self._node(found, 0)

    def _node(self, node: Any, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise self._problem(line, "stands for too many values, or is nested too deeply.")
        if node.id == "mapping":
            return Node(self._mapping(node, depth), line)
        if node.id == "sequence":
            return Node([self._node(item, depth + 1) for item in node.value], line)
        return Node(self._scalar(node, line), line)

    def _mapping(self, node: Any, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise self._problem(line, "has a key that is not a word.")
            if key.value == MERGE and key.style is None:
                for part in self._merged(self._node(value, depth + 1), line):
                    merged = part | merged
            elif key.value in found:
                raise self._problem(line, f"has the key {key.value!r} twice.")
            else:
                made = self._node(value, depth + 1)
                found[key.value] = made if isinstance(made.value, list | dict) else Node(made.value, line)
        return merged | found

    def _merged(self, node: Node, line: int) -> Iterator[dict[str, Node]]:
        parts = node.value if isinstance(node.value, list) else [node]
        for part in parts:
            if not isinstance(part.value, dict):
                raise self._problem(line, "has a merge key, <<, that does not name a mapping.")
            yield part.value

    def _scalar(self, node: Any, line: int) -> Any:
        tag = str(node.tag).removeprefix(TAG)
        if tag in ("str", "timestamp"):
            return node.value
        constructors = {
            "null": lambda _: None,
            "bool": self._yaml.constructor.construct_yaml_bool,
            "int": self._yaml.constructor.construct_yaml_int,
            "float": self._yaml.constructor.construct_yaml_float,
        }
        if tag not in constructors:
            raise self._problem(line, f"has a value of the unknown kind {node.tag}.")
        try:
            return constructors[tag](node)
        except (ValueError, KeyError) as error:
            raise self._problem(line, f"has a value that is not valid: {node.value!r}.") from error

    def _problem(self, line: int, message: str) -> InvalidInput:
        return InvalidInput.one(f"{self._name}:{line}" if line else self._name, message)


def _from_json(text: str, name: str) -> Node:
    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise InvalidInput.one(name, f"has the key {twice!r} twice.")
        return found

    try:
        values = json.loads(text, object_pairs_hook=checked)
    except json.JSONDecodeError as error:
        raise InvalidInput.one(f"{name}:{error.lineno}", f"is not valid JSON: {error.msg}.") from error
    return _located(values, _composed(text))


def _composed(text: str) -> Any:
    """The same text as YAML, for its lines alone: nearly all JSON is YAML, too."""
    from ruamel.yaml.error import YAMLError

    if len(text) > MAX_LOCATED_JSON:
        return None
    try:
        return _yaml("safe").compose(text)
    except YAMLError:  # the few texts that are not YAML have no lines
        return None


def _located(value: Any, node: Any) -> Node:
    line = node.start_mark.line + 1 if node is not None else 0
    if isinstance(value, dict):
        nodes = {key.value: item for key, item in node.value} if getattr(node, "id", "") == "mapping" else {}
        return Node({name: _located(item, nodes.get(name)) for name, item in value.items()}, line)
    if isinstance(value, list):
        items = node.value if getattr(node, "id", "") == "sequence" else []
        padded = [*items, *([None] * (len(value) - len(items)))]
        return Node([_located(item, found) for item, found in zip(value, padded, strict=True)], line)
    return Node(value, line)
