"""The kinds of commands: each takes the common options that it can use, and describes itself in one layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from junctor.cli.session import Session

Function = TypeVar("Function", bound=Callable[..., Any])

COMMON, LOCAL, CLUSTER = (
    ("as_json", "verbose"),
    ("as_json", "verbose", "path"),
    ("as_json", "verbose", "path", "address", "username", "password_file"),
)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class CommonOption(click.Option):
    """An option of many commands; its value goes to the ``Session``, not to the command."""


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False) and parameter.name:
        setattr(context.ensure_object(Session), parameter.name, value)


def _option(declarations: Sequence[str], help: str, **more: Any) -> CommonOption:
    return CommonOption(declarations, help=help, expose_value=False, callback=_remember, **more)


def common_options(names: Sequence[str] = CLUSTER, taken: Iterable[str] = ()) -> list[CommonOption]:
    """The common options of these names, but those whose flags a command uses itself."""
    made = {
        "as_json": _option(["--json", "as_json"], "Answer in JSON.", is_flag=True, is_eager=True),
        "verbose": _option(["--verbose", "-v"], "Say on standard error what is done.", is_flag=True),
        "path": _option(
            ["--path"],
            "The environment; by default $JUNCTOR_ENV, or the current directory.",
            metavar="ENV",
            type=click.Path(),
        ),
        "address": _option(
            ["--address"], "The cluster, without an environment; by default $JUNCTOR_ADDRESS.", metavar="URL"
        ),
        "username": _option(
            ["--username"], "Who is asking; admin.invoke, or $JUNCTOR_USERNAME.", metavar="NAME"
        ),
        "password_file": _option(
            ["--password-file"],
            "The password of who is asking; '-' is standard input. By default $JUNCTOR_PASSWORD_FILE.",
            metavar="FILE",
        ),
    }
    used = set(taken)
    return [made[name] for name in names if not used & set(made[name].opts)]


class Command(click.Command):
    """A command that takes the common options ``common``, and shows them below its own."""

    common: Sequence[str] = COMMON

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **more)
        taken = [flag for parameter in self.params for flag in parameter.opts]
        self.params += common_options(self.common, taken)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, then the common ones."""
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and record[1]:
                (common if isinstance(parameter, CommonOption) else own).append(record)
        for title, records in (("Options", own), ("Common options", common)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class LocalCommand(Command):
    """A command that works on an environment of this machine."""

    common = LOCAL


class ClusterCommand(Command):
    """A command that asks a cluster, here or elsewhere."""

    common = CLUSTER


class Group(click.Group):
    """Commands that belong together: ``junctor GROUP COMMAND``."""

    command_class: type[click.Command] = ClusterCommand

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **more)


pass_session = click.make_pass_decorator(Session, ensure=True)
