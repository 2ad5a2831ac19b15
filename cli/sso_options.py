"""What the commands of ``junctor sso`` have in common: the user that is meant, passwords, yes and no."""

from __future__ import annotations

from typing import Any, Final

import click

from junctor.cli import output
from junctor.cli.manifest import FieldInfo
from junctor.cli.passwords import given_secret, secret_options
from junctor.cli.session import Session

SERVICE: Final = "zato.sso.admin."
PASSWORD: Final = FieldInfo(
    name="password",
    type="secret",
    label="Password",
    help="The user's password.",
    required=True,
    default="",
    unit="",
    min=None,
    max=None,
    choices=(),
    reference="",
    aliases=(),
    block=False,
    read_only=False,
)
PASSWORD_OPTIONS: Final = tuple(secret_options(PASSWORD, "--password", edit=False))
NAMES: Final = ("email", "display_name", "first_name", "middle_name", "last_name")
NAME_OPTIONS: Final = (
    click.Option(["--email"], metavar="ADDRESS", help="The e-mail address."),
    click.Option(["--display-name"], metavar="NAME", help="The name as others see it."),
    click.Option(["--first-name"], metavar="NAME", help="The first name."),
    click.Option(["--middle-name"], metavar="NAME", help="The middle name."),
    click.Option(["--last-name"], metavar="NAME", help="The last name."),
)
EXPIRY: Final = click.Option(
    ["--expiry"],
    type=click.IntRange(0, 36_500),
    metavar="DAYS",
    help="When the password expires, 0 = never; as the settings say by default.",
)
MUST_CHANGE: Final = click.Option(
    ["--must-change"],
    type=click.BOOL,
    metavar="true|false",
    help="Whether it must be changed at the next log-in.",
)
YES: Final = click.Option(["--yes", "-y"], is_flag=True, help="Do not ask.")
USER: Final = "USERNAME"


def invoke(session: Session, service: str, request: dict[str, Any]) -> Any:
    """What a service of Single Sign-On answers; options that were not given are left out."""
    given = {name: value for name, value in request.items() if value is not None}
    return session.invoke(SERVICE + service, given)


def password_of(session: Session, options: dict[str, Any]) -> tuple[str, bool]:
    """The password that the options stand for, or that is asked for twice; and whether it was generated."""
    value, generated = given_secret(session, PASSWORD, options, ask=True)
    if value is None:
        raise click.UsageError(
            "Nobody can be asked here; use --password-stdin, --password-file FILE or --generate-password."
        )
    return value, generated


def confirmed(session: Session, yes: bool, question: str) -> None:
    """Asks, unless the answer was given.  Raises ``click.Abort`` for no."""
    if yes:
        return
    if not session.interactive:
        raise click.UsageError("This cannot be undone; say --yes.")
    click.confirm(question, abort=True, err=True)


def print_fields(fields: dict[str, Any]) -> None:
    """A line for each field that has a value."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {output.shown(value)}")
