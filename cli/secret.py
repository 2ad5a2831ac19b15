"""``junctor secret``: secrets of objects, and the keys that encrypt them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from junctor.cli import manifest
from junctor.cli.command import Command, Group, LocalCommand, pass_session
from junctor.cli.database import opened_store
from junctor.cli.environment import Environment
from junctor.cli.manifest import FieldInfo, TypeInfo
from junctor.cli.passwords import given_secret
from junctor.cli.private_files import replace_file
from junctor.cli.session import Session
from junctor.cli.written import NO_WAIT, WAIT, tell_version, wait_seconds
from junctor.sql.errors import EnvironmentProblem

KEYS_VARIABLE = "JUNCTOR_SECRET_KEYS"


@click.group(cls=Group)
def secret() -> None:
    """Secrets of objects, and the keys that encrypt them."""


@secret.command("set", params=[WAIT, NO_WAIT])
@click.argument("object_type", metavar="TYPE")
@click.argument("name", metavar="NAME")
@click.argument("field_name", metavar="[FIELD]", required=False)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input.")
@click.option("--file", "file", metavar="FILE", help="Read it from a file.")
@click.option("--generate", is_flag=True, help="Make one, and show it once.")
@pass_session
def set_(session: Session, /, object_type: str, name: str, field_name: str | None, **options: Any) -> None:
    """Gives an object another secret, such as a password; asks for it unless an option says where it is.

    FIELD is needed for types that have several.
    """
    info, field = _secret_field(object_type, field_name)
    sources = {"stdin": options["from_stdin"], "file": options["file"], "generate": options["generate"]}
    named = {f"{field.name}__{source}": value for source, value in sources.items()}
    value, generated = given_secret(session, field, named, ask=True)
    if value is None:
        raise click.UsageError("Nobody can be asked here; use --stdin, --file FILE or --generate.")
    wait = wait_seconds(options)
    answer = session.invoke(
        f"{info.service}.edit", {"name": name, field.name: value, "wait": wait}, wait=wait
    )

    def show() -> None:
        session.say(f"{info.label} {name!r} has another {field.label.lower()}.")
        if generated:
            session.say(f"{field.label}: {value}   (shown this once)")
        tell_version(session, answer)

    session.answer(answer | ({"generated": {field.name: value}} if generated else {}), show)


@secret.command("new-key", cls=Command)
@pass_session
def new_key(session: Session) -> None:
    """Prints a new line for a file of keys; nothing is changed."""
    from junctor.sql.secrets import new_key_line

    line = new_key_line().strip()
    session.answer({"key": line}, lambda: click.echo(line))


@secret.command(cls=LocalCommand)
@pass_session
def rotate(session: Session) -> None:
    """Makes a new key and encrypts every secret with it.

    The earlier keys stay in the key file, since running servers use them until they are restarted; 'junctor secret retire'
    removes them then.  Servers need not stop.  On a cluster of several machines, copy the key file to the others first
    with the new key in its second line, and run this on one machine.
    """
    from junctor.server.audit.anchor import reseal
    from junctor.sql.rekey import rekey
    from junctor.sql.secrets import Keyring, new_key_line, parse_keys

    environment = session.environment()
    path = _key_file(environment)
    with environment.locked():
        with opened_store(environment) as store:
            store.version()  # the database answers, before anything is changed
        text = path.read_text(encoding="ascii")
        parse_keys(text)
        replace_file(path, new_key_line() + text)
        with opened_store(environment) as store:
            done = rekey(store)
            reseal(store)
        active = Keyring.load(path).active
    found = {"key": active, "secrets": done.total, "encrypted": done.changed, "file": str(path)}

    def show() -> None:
        session.say(f"{path} has the new key {active}; {done.changed} secrets are encrypted with it now.")
        _tell_unreadable(session, done.unreadable)
        session.say(
            "Restart the servers at some time, then run 'junctor secret retire' to remove the earlier keys."
        )

    session.answer(found, show)


@secret.command(cls=LocalCommand)
@pass_session
def status(session: Session) -> None:
    """Tells which keys there are, and what still needs those before the newest; nothing is changed.

    Secrets of earlier keys are encrypted anew by 'junctor secret retire'.  What ends with them are sessions, recovery codes and
    tokens of users, of which only digests are stored, and the possibility to verify audit events one by one.
    """
    from junctor.sql import rekey_sso
    from junctor.sql.rekey import outdated

    environment = session.environment()
    path = _key_file(environment)
    with opened_store(environment) as store:
        found, ending = outdated(store), rekey_sso.ending(store, _made(path))
        keys = list(store.keyring.ids)
    answer = {
        "keys": keys,
        "secrets": found.total,
        "outdated": found.changed,
        "unreadable": found.unreadable,
        "ending": ending if len(keys) > 1 else {},
    }

    def show() -> None:
        session.say(f"The key {keys[0]} is the newest of {len(keys)}.")
        session.say(f"{found.changed} of {found.total} secrets are encrypted with an earlier one.")
        _tell_unreadable(session, found.unreadable)
        if len(keys) > 1 and ending:
            session.say(f"With the earlier keys end: {_shown(ending)}.")

    session.answer(answer, show)


@secret.command(cls=LocalCommand)
@click.option("--yes", "-y", is_flag=True, help="Do not ask whether what has an earlier key may end.")
@pass_session
def retire(session: Session, /, yes: bool) -> None:
    """Removes all keys but the newest from the key file.

    Secrets that others have meanwhile stored with an earlier key are encrypted anew first.  Refused while a server runs
    that was started before the newest key was made: it would go on using an earlier one.  Sessions, recovery codes and tokens of
    users that are older than the newest key end: asks before that.
    """
    from junctor.server.audit.anchor import reseal
    from junctor.sql import rekey_sso
    from junctor.sql.rekey import rekey
    from junctor.sql.secrets import parse_keys

    environment = session.environment()
    path = _key_file(environment)
    with environment.locked():
        _refuse_old_servers(environment, path)
        with opened_store(environment) as store:
            done = rekey(store)
            agree(session, rekey_sso.ending(store, _made(path)), yes=yes)
            reseal(store)
        text = path.read_text(encoding="ascii")
        keys = list(parse_keys(text))
        replace_file(path, _only(text, keys[0]))
    found = {"key": keys[0], "removed": keys[1:], "secrets": done.total, "encrypted": done.changed}
    session.answer(
        found, lambda: session.say(f"The key {keys[0]} is the only one now; removed: {len(keys) - 1}.")
    )


def _made(path: Path) -> datetime:
    """When the newest key was put into a key file."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def agree(session: Session, ending: dict[str, int], *, yes: bool) -> None:
    """Asks whether users may lose what cannot be given another key; if there is nothing, does not ask.

    Raises ``UsageError`` when nobody can be asked.
    """
    from junctor.sql.rekey_sso import AUDIT_SEALS

    lost = {kind: count for kind, count in ending.items() if kind != AUDIT_SEALS}
    if yes or not lost:
        return
    question = f"With the earlier keys end: {_shown(lost)}."
    if not session.interactive:
        raise click.UsageError(f"{question} Wait until they have expired, or say --yes.")
    click.confirm(f"{question} Go on?", abort=True, err=True)


def _shown(ending: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in ending.items())


def _tell_unreadable(session: Session, unreadable: int) -> None:
    if unreadable:
        session.say(f"{unreadable} secrets of users cannot be read with any key; they stay as they are.")


def _secret_field(object_type: str, field_name: str | None) -> tuple[TypeInfo, FieldInfo]:
    info = manifest.find(object_type)
    if info is None:
        known = ", ".join(item.command for item in manifest.load() if list(_secret_fields(item)))
        raise click.UsageError(f"There is no type {object_type!r}; those with secrets are {known}.")
    fields = list(_secret_fields(info))
    if field_name is None and len(fields) == 1:
        return info, fields[0]
    field = info.field((field_name or "").replace("-", "_"))
    if field not in fields or field is None:
        names = ", ".join(item.name for item in fields) or "none"
        raise click.UsageError(f"The secrets of a {info.label} are: {names}.")
    return info, field


def _secret_fields(info: TypeInfo) -> Iterable[FieldInfo]:
    return (field for field in info.fields if field.is_secret)


def _key_file(environment: Environment) -> Path:
    """The file of the keys; raises ``EnvironmentProblem`` when they come from somewhere else."""
    given = os.environ.get(KEYS_VARIABLE, "")
    if given and not given.startswith("/"):
        raise EnvironmentProblem(
            f"The keys come from ${KEYS_VARIABLE} itself, which a command cannot change."
        )
    return Path(given) if given else environment.keyring_path


def _only(text: str, key_id: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith(f"{key_id}:"))


def _refuse_old_servers(environment: Environment, path: Path) -> None:
    from junctor.cli.cluster import Cluster

    made = path.stat().st_mtime
    for server in Cluster(environment).servers:
        status = server.daemon().status()
        if status.running and status.started <= made:
            raise EnvironmentProblem(
                f"{server.name} was started before the newest key was made; restart it first: "
                f"'junctor stop {environment.path}', 'junctor start {environment.path}'."
            )
