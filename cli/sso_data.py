"""Data of users: ``search``, ``show``, ``update``, ``export``, ``erase`` and ``import`` of ``junctor sso``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.session import Session
from junctor.cli.sso_import import import_
from junctor.cli.sso_options import NAME_OPTIONS, USER, YES, confirmed, invoke, print_fields
from junctor.sql.errors import InvalidInput

PAGE: Final = 100
COLUMNS: Final = {
    "User name": "username",
    "Name": "display_name",
    "E-mail": "email",
    "Sign-up": "sign_up_status",
    "Approval": "approval_status",
    "Locked": "is_locked",
    "Super-user": "is_super_user",
    "Id": "user_id",
}
CHANGES: Final = (
    *NAME_OPTIONS,
    click.Option(["--new-username"], metavar="NAME", help="Another user name."),
    click.Option(
        ["--totp", "is_totp_enabled"],
        type=click.BOOL,
        metavar="true|false",
        help="Whether codes are asked for.",
    ),
    click.Option(
        ["--must-change", "password_must_change"],
        type=click.BOOL,
        metavar="true|false",
        help="Whether the password must be changed at the next log-in.",
    ),
    click.Option(
        ["--password-expiry"],
        metavar="TIME",
        help="When the password expires, ISO 8601 in UTC; '' = never.",
    ),
    click.Option(["--sign-up-status"], metavar="STATUS", help="before_confirmation or final."),
    click.Option(
        ["--app", "app_list"],
        multiple=True,
        metavar="NAME",
        help="An application that the user is granted; once for each, and they take the place of those before. '' = none.",
    ),
)


@click.command(cls=ClusterCommand, params=[*NAME_OPTIONS])
@click.option("--username", metavar=USER, help="The user of this name.")
@click.option("--user-id", metavar="ID", help="The user of this id.")
@click.option("--sign-up-status", metavar="STATUS", help="before_confirmation or final.")
@click.option("--approval-status", metavar="STATUS", help="before_decision, approved or rejected.")
@click.option("--contains", is_flag=True, help="Names that contain what is given; the whole name by default.")
@click.option("--any", "is_any", is_flag=True, help="One of the names is enough; all of them by default.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    metavar="NUMBER",
    help="At most so many.",
)
@pass_session
def search(session: Session, /, contains: bool, is_any: bool, limit: int, **options: Any) -> None:
    """Finds users, in upper or lower case; all of them if nothing is given."""
    wanted = options | {"is_name_exact": not contains, "name_op": "or" if is_any else "and"}
    users: list[dict[str, Any]] = []
    while True:
        page = invoke(session, "search-users", wanted | {"page_size": min(PAGE, limit - len(users))})
        users += page["result"]
        wanted["cursor"] = page["next_cursor"]
        if not wanted["cursor"] or len(users) >= limit:
            break
    total = page["total"]

    def show() -> None:
        output.print_table(list(COLUMNS), [[user.get(field) for field in COLUMNS.values()] for user in users])
        if wanted["cursor"]:
            about = "" if page["total_is_exact"] else "about "
            session.say(f"{len(users)} of {about}{total} users; see --limit.")

    session.answer({"items": users, "total": total, "has_more": bool(wanted["cursor"])}, show)


@click.command(cls=ClusterCommand)
@click.argument("name", metavar=USER)
@pass_session
def show(session: Session, /, name: str) -> None:
    """Shows what super-users see of a user."""
    answer = invoke(session, "get-user", {"username": name})
    session.answer(answer, lambda: print_fields(answer))


@click.command(cls=ClusterCommand, params=[*CHANGES])
@click.argument("name", metavar=USER)
@pass_session
def update(session: Session, /, name: str, **options: Any) -> None:
    """Changes fields of a user; '' empties a name or the e-mail address."""
    changes: dict[str, Any] = {
        field: None if value == "" else value
        for field, value in options.items()
        if value is not None and field not in ("new_username", "app_list")
    }
    if options["new_username"]:
        changes["username"] = options["new_username"]
    if options["app_list"]:
        changes["app_list"] = [app for app in options["app_list"] if app]
    if not changes:
        raise InvalidInput.one("", "Say what to change; 'junctor sso update --help' shows what can be.")
    answer = invoke(session, "update-user", {"username": name, "changes": changes})
    session.answer(answer, lambda: session.say(f"User {name!r} was changed: {', '.join(sorted(changes))}."))


@click.command(cls=ClusterCommand)
@click.argument("name", metavar=USER)
@click.option(
    "--output", "file", metavar="FILE", help="A new file, readable for you alone; standard output by default."
)
@pass_session
def export(session: Session, /, name: str, file: str | None) -> None:
    """Writes all that is stored of a user as one JSON document, for the user (GDPR, articles 15 and 20)."""
    document = invoke(session, "export-user", {"username": name})
    if file is None:
        output.print_json(document)
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput.one("output", f"{file} cannot be made: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        json.dump(document, written, indent=2, ensure_ascii=False)
    path = str(Path(file).absolute())
    session.answer({"file": path}, lambda: session.say(f"{path} has everything about {name!r}."))


@click.command(cls=ClusterCommand, params=[YES])
@click.argument("name", metavar=USER)
@pass_session
def erase(session: Session, /, name: str, yes: bool) -> None:
    """Deletes a user and everything that belongs to the user, for good (GDPR, article 17).

    Audit events stay: they name the user by an id that leads to nobody any more.
    """
    confirmed(session, yes, f"Erase the user {name} and everything that belongs to the user?")
    answer = invoke(session, "erase-user", {"username": name})
    session.answer(answer, lambda: session.say(f"User {name!r} was erased."))


COMMANDS: Final = (search, show, update, export, erase, import_)
