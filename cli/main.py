"""The command ``junctor``.

Only what every command needs is imported here: ``junctor --help`` must be there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from junctor.cli import exit_codes
from junctor.cli.command import CONTEXT, Group, common_options
from junctor.cli.commands import COMMANDS, SECTIONS
from junctor.cli.failures import describe
from junctor.cli.session import Session

PROGRAM = "junctor"
EXIT_CODES = f"\b\nExit codes:\n{exit_codes.table()}"


class Root(Group):
    """The commands of ``commands.py`` and, for each object type, those that are derived from its declaration."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command but those that are other names for one."""
        from junctor.cli import objects

        del ctx
        return [*COMMANDS, *objects.command_names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, from its module."""
        del ctx
        if entry := COMMANDS.get(cmd_name):
            module, _, attribute = entry.target.partition(":")
            found: click.Command = getattr(import_module(f"junctor.cli.{module}"), attribute)
            return found
        if cmd_name.partition("-")[0] not in VERBS:
            return None
        from junctor.cli import objects

        return objects.command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with; Zato's two words, as in ``create basic-auth``, are one command."""
        if args[0] in VERBS and len(args) > 1 and not args[1].startswith("-"):
            args = [f"{args[0]}-{args[1]}", *args[2:]]
        if (
            self.get_command(ctx, args[0]) is None
            and not args[0].startswith("-")
            and not ctx.resilient_parsing
        ):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section; those of object types as one line for each type."""
        from junctor.cli.manifest import load

        del ctx
        for section in SECTIONS:
            shown = [(name, entry.help) for name, entry in COMMANDS.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(shown)
            if section == "Processes":
                with formatter.section("Objects: VERB-TYPE, e.g. create-channel-rest, list-channel-rest"):
                    formatter.write_dl(
                        [(kind.command, f"{kind.help} [{', '.join(kind.all_verbs)}]") for kind in load()]
                    )

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Runs the command line ``args`` and exits with its code; whatever goes wrong is told in one message."""
        session = Session()
        try:
            code = super().main(args, PROGRAM, standalone_mode=False, obj=session)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(exit_codes.ExitCode.USAGE)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the end of the process; describe() logs the unexpected
            failure = describe(error)
            click.echo(failure.json() if session.as_json else failure.text(), err=True)
            sys.exit(failure.code)
        sys.exit(code if isinstance(code, int) else exit_codes.ExitCode.OK)


VERBS = ("create", "edit", "delete", "list", "get")
root = Root(
    PROGRAM,
    help="Runs and administers Junctor, the integration platform and API server.",
    epilog=EXIT_CODES,
    params=list(common_options()),
    context_settings=CONTEXT,
    no_args_is_help=True,
)


def main() -> NoReturn:
    """Runs the command line of this process."""
    root.main()
