"""Sessions of users: ``login``, ``logout``, ``sessions`` and ``end-session`` of ``junctor sso``."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.session import Session
from junctor.cli.sso_options import USER, invoke, print_fields

COLUMNS: Final = {
    "Session": "public_id",
    "Application": "app",
    "From": "remote_addr",
    "Factors": "auth_factors",
    "Began": "creation_time",
    "Last used": "last_used",
    "Expires": "expiration_time",
}
TIME: Final = 19  # characters of a time, without fractions


@click.command(cls=ClusterCommand)
@click.argument("name", metavar=USER)
@click.option("--current-app", metavar="NAME", help="The application that the session is for.")
@click.option("--remote-addr", metavar="ADDRESS", help="Where the user comes from, if that is limited.")
@pass_session
def login(session: Session, /, name: str, **options: Any) -> None:
    """Opens a session of a user without the password, and prints its token.

    For support and for tests.  The user must be one who could log in; the audit trail says who did it.
    """
    answer = invoke(session, "log-in", {"username": name, **options})
    session.answer(answer, lambda: print_fields(answer))


@click.command(cls=ClusterCommand)
@click.argument("ust", metavar="[UST]", required=False)
@pass_session
def logout(session: Session, /, ust: str | None) -> None:
    """Ends the session of a token, which is read from standard input unless it is given.

    As an argument, others on this machine can see it.
    """
    token = ust or sys.stdin.readline().strip()
    if not token:
        raise click.UsageError("There is no token, neither as an argument nor on standard input.")
    answer = invoke(session, "log-out", {"ust": token})
    ended = "The session has ended." if answer["was_session"] else "There was no such session."
    session.answer(answer, lambda: session.say(ended))


@click.command(cls=ClusterCommand)
@click.argument("name", metavar=USER)
@pass_session
def sessions(session: Session, /, name: str) -> None:
    """Lists the sessions of a user, newest first; never their tokens."""
    answer = invoke(session, "get-sessions", {"username": name})

    def show() -> None:
        rows = [[_cell(item, field) for field in COLUMNS.values()] for item in answer["items"]]
        output.print_table(list(COLUMNS), rows)

    session.answer(answer, show)


def _cell(item: dict[str, Any], field: str) -> Any:
    value = item.get(field)
    return str(value)[:TIME] if field in ("creation_time", "last_used", "expiration_time") else value


@click.command("end-session", cls=ClusterCommand)
@click.argument("session_id", metavar="SESSION")
@pass_session
def end_session(session: Session, /, session_id: str) -> None:
    """Ends a session, whose id 'junctor sso sessions' shows."""
    answer = invoke(session, "end-session", {"public_id": session_id})
    session.answer(answer, lambda: session.say(f"Session {session_id} has ended."))


COMMANDS: Final = (login, logout, sessions, end_session)
