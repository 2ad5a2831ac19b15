"""Writes ``docs/objects.md`` anew: every object type and its fields, from their declarations.

python docs/render.py           writes it
python docs/render.py --check   exits with 1 when it is not what it would write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from junctor.sql import base
from junctor.sql.fields import Field, FieldType

PAGE = Path(__file__).with_name("objects.md")
HEAD = """# Object types

Written by `python docs/render.py` from the declarations in `sql/objects/`; do not edit it.

Every type has the administrative services `PREFIX.get` and `PREFIX.get-list`, and those of its verbs; the commands
`junctor VERB-TYPE`, with
`-` for `_`; and, if it can be created, a key in enmasse files. Fields without a default must be given.
"""


def page() -> str:
    """The whole page."""
    sections = [HEAD]
    for kind, cls in base.kinds().items():
        sections.append("\n".join(_section(kind, cls)))
    return "\n".join(sections)


def _section(kind: str, cls: type[base.Object]) -> Iterator[str]:
    yield f"## {cls.label} (`{kind}`)\n"
    yield f"{(cls.__doc__ or '').strip()}\n"
    yield f"Services: `{base.service_prefix(cls)}`. Verbs: {', '.join(sorted(cls.verbs))}."
    if cls.enmasse_aliases or cls.command_aliases:
        yield f"Zato's names: {', '.join(f'`{alias}`' for alias in (*cls.enmasse_aliases, *cls.command_aliases))}."
    yield "\n| field | type | default | what |\n|---|---|---|---|"
    for name, field in base.declared(cls).items():
        yield f"| `{name}` | {_type(field)} | {_default(field)} | {field.help}{_aliases(field)} |"
    yield ""


def _type(field: Field) -> str:
    if field.type is FieldType.REFERENCE:
        return f"name of a {field.reference.replace('_', ' ')}"
    if field.type is FieldType.CHOICE:
        return ", ".join(f"`{choice}`" if choice else "empty" for choice in field.choices)
    if field.type is FieldType.INTEGER:
        unit = f" {field.unit}" if field.unit else ""
        return f"{field.min} to {field.max}{unit}" if field.max is not None else f"number{unit}"
    return {FieldType.TEXT: "text", FieldType.BOOLEAN: "true or false", FieldType.SECRET: "secret"}.get(
        field.type, "texts"
    )


def _default(field: Field) -> str:
    if field.read_only:
        return "set by the server"
    if field.required:
        return "**required**"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"`{field.default}`" if field.default not in ("", ()) else "empty"


def _aliases(field: Field) -> str:
    return f" Also `{'`, `'.join(field.aliases)}`." if field.aliases else ""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments == ["--check"]:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
