"""``junctor completion``: the script that makes a shell complete our command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from junctor.cli.command import Command

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_JUNCTOR_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Prints a script for completion in a shell.

    For bash, put this into ~/.bashrc:  eval "$(junctor completion bash)"
    """
    root = context.find_root()
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(root.command, {}, root.info_name or "junctor", VARIABLE).source())
