"""``junctor sso``: users of Single Sign-On, made and administered (facts sheet, section 3)."""

from __future__ import annotations

import sys
from typing import Any

import click

from junctor.cli.command import ClusterCommand, Group, pass_session
from junctor.cli.session import Session
from junctor.cli.sso_data import COMMANDS as DATA
from junctor.cli.sso_options import (
    EXPIRY,
    MUST_CHANGE,
    NAME_OPTIONS,
    NAMES,
    PASSWORD_OPTIONS,
    USER,
    YES,
    confirmed,
    invoke,
    password_of,
)
from junctor.cli.sso_sessions import COMMANDS as SESSIONS


@click.group(cls=Group)
def sso() -> None:
    """Users of Single Sign-On: made, found, locked, approved; their passwords and sessions.

    Settings, applications and addresses are objects: 'junctor get-sso sso', 'junctor create-sso-application --help'.
    """


def _create(session: Session, username: str, options: dict[str, Any], *, is_super_user: bool) -> None:
    password, generated = password_of(session, options)
    request = {name: options[name] for name in NAMES}
    request |= {"username": username, "password": password, "is_super_user": is_super_user}
    user = invoke(session, "create-user", request)
    what = "Super-user" if is_super_user else "User"

    def show() -> None:
        session.say(f"{what} {username!r} was created with the id {user['user_id']}.")
        if generated:
            session.say(f"Password: {password}   (shown this once)")

    session.answer(user | ({"password": password} if generated else {}), show)


@sso.command("create-user", params=[*NAME_OPTIONS, *PASSWORD_OPTIONS])
@click.argument("name", metavar=USER)
@pass_session
def create_user(session: Session, /, name: str, **options: Any) -> None:
    """Makes a user, who is signed up and approved, and can log in at once.

    The password is asked for twice unless an option says where it is.
    """
    _create(session, name, options, is_super_user=False)


@sso.command("create-super-user", params=[*NAME_OPTIONS, *PASSWORD_OPTIONS])
@click.argument("name", metavar=USER)
@pass_session
def create_super_user(session: Session, /, name: str, **options: Any) -> None:
    """Makes a super-user, who administers users over REST.

    Super-users are made here and by services alone, never over REST.
    """
    _create(session, name, options, is_super_user=True)


@sso.command("delete-user", params=[YES])
@click.argument("name", metavar=USER)
@pass_session
def delete_user(session: Session, /, name: str, yes: bool) -> None:
    """Deletes a user with sessions and attributes, for good."""
    confirmed(session, yes, f"Delete the user {name}?")
    answer = invoke(session, "delete-user", {"username": name})
    session.answer(answer, lambda: session.say(f"User {name!r} was deleted."))


def _simple(service: str, done: str, help: str) -> click.Command:
    """A command that does one thing to a user."""

    @click.command(service, cls=ClusterCommand, help=help)
    @click.argument("name", metavar=USER)
    @pass_session
    def command(session: Session, /, name: str) -> None:
        answer = invoke(session, service, {"username": name})
        session.answer(answer, lambda: session.say(f"User {name!r} {done}."))

    return command


@sso.command("change-user-password", params=[*PASSWORD_OPTIONS, EXPIRY, MUST_CHANGE])
@click.argument("name", metavar=USER)
@pass_session
def change_user_password(session: Session, /, name: str, **options: Any) -> None:
    """Gives a user another password; the user's sessions end.

    Without --must-change, whether it must be changed stays as it is.
    """
    password, generated = password_of(session, options)
    request = {"username": name, "new_password": password}
    request |= {"expiry": options["expiry"], "must_change": options["must_change"]}
    answer = invoke(session, "change-password", request)

    def show() -> None:
        session.say(f"User {name!r} has another password.")
        if generated:
            session.say(f"Password: {password}   (shown this once)")

    session.answer(answer | ({"password": password} if generated else {}), show)


@sso.command("reset-user-password", params=[EXPIRY, MUST_CHANGE])
@click.argument("name", metavar=USER)
@pass_session
def reset_user_password(session: Session, /, name: str, **options: Any) -> None:
    """Gives a user a random password, and prints it this once; the user's sessions end.

    Unless --must-change false is said, it must be changed at the next log-in.
    """
    answer = invoke(session, "reset-password", {"username": name, **options})
    session.answer(answer, lambda: click.echo(answer["password"]))


@sso.command("reset-totp-key")
@click.argument("name", metavar=USER)
@click.option("--key", metavar="KEY", help="The key in base32; one is made by default.")
@click.option("--key-label", metavar="TEXT", help="What authenticator applications show with the codes.")
@pass_session
def reset_totp_key(session: Session, /, name: str, key: str | None, key_label: str | None) -> None:
    """Gives a user another key for one-time codes, and prints it if it was made here.

    '--key -' reads it from standard input, which others on this machine do not see.
    """
    given = sys.stdin.readline().strip() if key == "-" else key
    answer = invoke(session, "reset-totp-key", {"username": name, "key": given, "key_label": key_label})

    def show() -> None:
        if given:
            session.say(f"User {name!r} has another key.")
        else:
            click.echo(answer["key"])

    session.answer(answer, show)


for command in (
    _simple("lock-user", "is locked", "Locks a user, whose sessions end."),
    _simple("unlock-user", "is not locked", "Unlocks a user."),
    _simple("approve-user", "is approved", "Approves a user who has signed up."),
    _simple("reject-user", "is rejected", "Rejects a user who has signed up; the user's sessions end."),
    *SESSIONS,
    *DATA,
):
    sso.add_command(command)
