"""How secrets come to a command: from standard input, a file, a generator or a prompt; as an argument only with a warning."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import click

from junctor.cli.manifest import FieldInfo
from junctor.cli.session import Session, read_secret_file

ASK = "\0ask"  # what an option without its value stands for; no argument of a process can have a NUL
GENERATED_BYTES = 24  # 192 bits


def secret_options(field: FieldInfo, flag: str, *, edit: bool) -> list[click.Parameter]:
    """The options by which a secret field is given: ``--password``, ``--password-stdin``, ``--password-file``, ``--generate-password``."""
    name = flag[2:]
    when = "asked for when no value follows" if edit else "asked for when nothing says what it is"
    options: list[click.Parameter] = [
        click.Option(
            [field.name, flag],
            is_flag=False,
            flag_value=ASK,
            metavar="[VALUE]",
            help=f"{field.help}  [{when}; a VALUE here is visible to others on this machine]",
        ),
        click.Option(
            [f"{field.name}__stdin", f"{flag}-stdin"], is_flag=True, help="Read it from standard input."
        ),
        click.Option([f"{field.name}__file", f"{flag}-file"], metavar="FILE", help="Read it from a file."),
        click.Option(
            [f"{field.name}__generate", f"--generate-{name}"],
            is_flag=True,
            help="Make one, and show it once.",
        ),
    ]
    for alias in field.aliases:
        as_alias = f"--{alias.replace('_', '-')}"
        options.append(
            click.Option([f"{field.name}__{alias}", as_alias], is_flag=False, flag_value=ASK, hidden=True)
        )
    return options


def given_secret(
    session: Session, field: FieldInfo, options: Mapping[str, Any], *, ask: bool
) -> tuple[str | None, bool]:
    """The secret that the options stand for, None for none, and whether it was generated.

    With ``ask``, it is asked for when no option says anything and somebody is there; no answer means a generated one.
    Raises ``click.UsageError`` for options that contradict each other and ``InvalidInput`` for files that cannot be read.
    """
    direct = [options.get(name) for name in (field.name, *(f"{field.name}__{a}" for a in field.aliases))]
    value = next((item for item in direct if item is not None), None)
    file = "-" if options.get(f"{field.name}__stdin") else options.get(f"{field.name}__file")
    generate = bool(options.get(f"{field.name}__generate"))
    if (value is not None) + (file is not None) + generate > 1:
        raise click.UsageError(f"{field.label}: give it in one way only.")
    if file is not None:
        return read_secret_file(file), False
    if generate:
        return new_secret(), True
    if value is not None and value != ASK:
        if value:
            session.warn(
                f"The {field.label.lower()} was visible to others on this machine; --{field.flag}-file is not."
            )
        return value, False
    if value == ASK or (ask and session.interactive):
        return _asked(session, field)
    return None, False


def new_secret() -> str:
    """A secret of 192 random bits, made of letters, digits, '-' and '_'."""
    return secrets.token_urlsafe(GENERATED_BYTES)


def _asked(session: Session, field: FieldInfo) -> tuple[str, bool]:
    if not session.interactive:
        raise click.UsageError(
            f"{field.label}: nobody can be asked here; use --{field.flag}-stdin or --{field.flag}-file."
        )
    value: str = click.prompt(
        f"{field.label} (nothing = make one)",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return (value, False) if value else (new_secret(), True)
