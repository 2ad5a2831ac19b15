"""Writes ``docs/cli.md`` anew: every command with its options, from the commands themselves.

python docs/render_cli.py           writes it
python docs/render_cli.py --check   exits with 1 when it is not what it would write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from junctor.cli import exit_codes
from junctor.cli.command import CommonOption, common_options
from junctor.cli.commands import COMMANDS, SECTIONS
from junctor.cli.main import VERBS, root
from junctor.cli.session import Session

PAGE = Path(__file__).with_name("cli.md")
EXAMPLE = "channel-rest"
HEAD = """# The command line

Written by `python docs/render_cli.py` from the commands themselves; do not edit it. `cli/README.md` has the conventions.
"""


def page() -> str:
    """The whole page."""
    context = click.Context(root, info_name="junctor", obj=Session())
    lines = [HEAD, "## Options of many commands\n", *_options(common_options())]
    for section in SECTIONS:
        lines.append(f"## {section}\n")
        for name, entry in COMMANDS.items():
            if entry.section == section:
                lines += _command(context, ("junctor", name), _found(context, name))
    lines.append("## Objects\n")
    lines.append(
        f"Every type has commands of its own; `docs/objects.md` lists types and fields. With `{EXAMPLE}` as the example:\n"
    )
    for verb in VERBS:
        lines += _command(context, ("junctor", f"{verb}-{EXAMPLE}"), _found(context, f"{verb}-{EXAMPLE}"))
    lines += ["## Exit codes\n", "| code | meaning |", "|---|---|"]
    lines += [f"| {code.value} | {meaning} |" for code, meaning in exit_codes.MEANING.items()]
    return "\n".join(lines) + "\n"


def _found(context: click.Context, name: str) -> click.Command:
    found = root.get_command(context, name)
    assert found is not None
    return found


def _command(parent: click.Context, path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path[-1], parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"### {' '.join(path)}\n"
    yield f"    {' '.join(path)} {usage}\n"
    yield f"{_text(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name, found in command.commands.items():
            yield from _command(context, (*path, name), found)
        return
    yield from _options(
        [
            item
            for item in command.params
            if isinstance(item, click.Option) and not isinstance(item, CommonOption)
        ],
        context,
    )


def _text(help: str) -> str:
    return "\n".join(line.strip() for line in help.splitlines()).strip()


def _options(
    options: list[click.Option] | list[CommonOption], context: click.Context | None = None
) -> Iterator[str]:
    context = context or click.Context(root)
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        yield "| option | what |\n|---|---|"
        for name, text in records:
            yield _row(name, text)
        yield ""


def _row(name: str, text: str) -> str:
    bar = "\\|"
    return f"| `{name.replace('|', bar)}` | {' '.join(text.replace('|', bar).split())} |"


def main() -> int:
    """The exit code."""
    text = page()
    if "--check" in sys.argv:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
