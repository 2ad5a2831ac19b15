"""``junctor odb``: the schema of the object database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from junctor.cli import output
from junctor.cli.command import Group, LocalCommand, pass_session
from junctor.cli.database import database_url, opened_engine
from junctor.cli.exit_codes import ExitCode
from junctor.cli.session import Session

if TYPE_CHECKING:
    from junctor.sql.schema import SchemaState


class OdbGroup(Group):
    """The commands of the object database."""

    command_class = LocalCommand


@click.group(cls=OdbGroup)
def odb() -> None:
    """The schema of the object database: check, upgrade, downgrade.

    It is the environment's, or the one that $JUNCTOR_ODB_URL names.
    """


@odb.command()
@pass_session
@click.pass_context
def check(context: click.Context, session: Session) -> None:
    """Says whether the schema is the one that this version needs; the exit code is 1 when it is not."""
    from junctor.sql import schema

    with opened_engine(database_url(session)) as engine:
        state = schema.state(engine)
    _tell(session, state)
    if not state.up_to_date:
        context.exit(ExitCode.NO)


@odb.command()
@click.argument("revision", default="head")
@pass_session
def upgrade(session: Session, revision: str) -> None:
    """Brings the schema to what this version needs, or to REVISION.

    All of it is done in one transaction, or nothing.  It is safe to run on several machines at once.
    """
    from junctor.sql import schema

    with opened_engine(database_url(session)) as engine:
        state = schema.upgrade(engine, revision)
    _tell(session, state)


@odb.command()
@click.argument("revision")
@click.option("--yes", "-y", is_flag=True, help="Do not ask; data of newer versions is lost.")
@pass_session
def downgrade(session: Session, revision: str, yes: bool) -> None:
    """Takes the schema back to REVISION; 'base' removes everything."""
    from junctor.sql import schema

    if not yes:
        if not session.interactive:
            raise click.UsageError("Data of newer versions is lost; say --yes.")
        click.confirm("Data of newer versions is lost. Go on?", abort=True, err=True)
    with opened_engine(database_url(session)) as engine:
        state = schema.downgrade(engine, revision)
    _tell(session, state)


@odb.command()
@pass_session
def history(session: Session) -> None:
    """Lists the steps of the schema, newest first, and which of them the database has."""
    from alembic.script import ScriptDirectory

    from junctor.sql import schema

    with opened_engine(database_url(session)) as engine:
        state = schema.state(engine)
    steps = [
        {"revision": step.revision, "text": step.doc, "applied": step.revision not in state.pending}
        for step in ScriptDirectory(str(schema.SCRIPTS)).walk_revisions()
    ]
    rows = [(step["revision"], step["applied"], step["text"]) for step in steps]
    session.answer(steps, lambda: output.print_table(("Revision", "Applied", "What"), rows))


def _tell(session: Session, state: SchemaState) -> None:
    found = {
        "current": state.current,
        "head": state.head,
        "pending": list(state.pending),
        "up_to_date": state.up_to_date,
    }

    def show() -> None:
        session.say(f"The schema is at {state.current or 'nothing yet'}.")
        if state.up_to_date:
            session.say("That is what this version needs.")
        else:
            session.say(f"This version needs {state.head}; steps to take: {', '.join(state.pending)}.")

    session.answer(found, show)
