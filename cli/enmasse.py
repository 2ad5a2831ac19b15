"""``junctor enmasse``: objects in bulk, out of a cluster into a file and back, in one transaction."""

from __future__ import annotations

import configparser
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from junctor.cli import enmasse_file, manifest
from junctor.cli.command import Group, pass_session
from junctor.cli.enmasse_file import Document
from junctor.cli.enmasse_nodes import render
from junctor.cli.exit_codes import ExitCode
from junctor.cli.history import change_lines
from junctor.cli.private_files import replace_file
from junctor.cli.session import Session
from junctor.cli.written import NO_WAIT, WAIT, tell_version, wait_seconds
from junctor.sql.errors import InvalidInput

IMPORTING = 300.0  # seconds that an import may take, beside the wait for the workers
PUBLIC_FILE = 0o644
HEADING = (
    "# Junctor configuration; no secrets are in it. 'junctor enmasse import --input FILE' brings it back.\n"
)
ZATO_VERBS = {"--export": "export", "--export-odb": "export", "--import": "import"}
FORMAT = click.Option(
    ["--format", "--dump-format", "file_format"],
    type=click.Choice(["yaml", "json"]),
    help="Of the file; by default what its name ends in says.",
)
INPUT = (
    click.Option(
        ["--input", "-i", "file"], required=True, metavar="FILE", help="The file; '-' is standard input."
    ),
    FORMAT,
    click.Option(
        ["--env-file"], metavar="FILE", help="An .ini file whose section [env] sets environment variables."
    ),
    click.Option(
        ["--owner"], default="", metavar="LABEL", help="A label for what is created, e.g. a project's name."
    ),
    click.Option(["--prune"], is_flag=True, help="Delete what has the label and is not in the file."),
    click.Option(
        ["--skip-unknown"], is_flag=True, help="Leave out, with warnings, what Junctor does not know."
    ),
    click.Option(["--replace"], is_flag=True, hidden=True, expose_value=False),  # Zato's; it is always so
    click.Option(["--replace-odb-objects"], is_flag=True, hidden=True, expose_value=False),
)


class EnmasseGroup(Group):
    """Takes Zato's form of the command as well: ``enmasse [ENV] --import --input FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments in our own form."""
        verb = next((ZATO_VERBS[arg] for arg in args if arg in ZATO_VERBS), None)
        if verb is not None:
            rest = [arg for arg in args if arg not in ZATO_VERBS]
            args = [verb, *(["--path"] if rest and not rest[0].startswith("-") else []), *rest]
        return super().parse_args(ctx, args)


@click.group(cls=EnmasseGroup)
def enmasse() -> None:
    """Exports, compares and imports objects in bulk.

    A file is YAML or JSON: a list of objects for each type.  Zato's own files can be imported, too.  Secrets are never
    exported; in a file they are best given as $VARIABLE or file:PATH.
    """


@enmasse.command(params=[FORMAT])
@click.option("--output", "-o", metavar="FILE", help="The file to write; by default standard output.")
@click.option("--types", "--include-type", metavar="TYPES", help="Only these types, with commas between.")
@click.option("--internal", is_flag=True, help="Include what comes with the server.")
@pass_session
def export(
    session: Session, file_format: str | None, output: str | None, types: str | None, internal: bool
) -> None:
    """Writes all objects to a file, sorted, without what is default anyway, and without secrets."""
    request: dict[str, Any] = {"internal": internal}
    if types and types != "all":
        request["kinds"] = [_kind(name) for name in types.split(",")]
    answer = session.invoke("junctor.enmasse.export", request, wait=IMPORTING)
    is_json = _is_json(output, file_format, default=session.as_json)
    text = render(answer["document"], is_json=bool(is_json))
    text = text if is_json else HEADING + text
    if output is None:
        click.echo(text, nl=False)
        return
    replace_file(Path(output), text, mode=PUBLIC_FILE)
    count = sum(len(items) for items in answer["document"].values())
    found = {"file": output, "objects": count, "config_version": answer["config_version"]}
    version = answer["config_version"]
    session.answer(found, lambda: session.say(f"{count} objects of version {version} are in {output}."))


@enmasse.command(params=list(INPUT))
@pass_session
def plan(session: Session, /, **options: Any) -> None:
    """Shows what an import would change, field by field, and changes nothing."""
    answer = _import(session, options, {"dry_run": True}, 0.0)
    session.answer(answer, lambda: _show_plan(session, answer))


@enmasse.command(params=list(INPUT))
@pass_session
@click.pass_context
def drift(context: click.Context, session: Session, /, **options: Any) -> None:
    """Like plan; the exit code is 1 when the cluster and the file differ."""
    answer = _import(session, options, {"dry_run": True}, 0.0)
    session.answer(answer, lambda: _show_plan(session, answer))
    if answer["changes"]:
        context.exit(ExitCode.NO)


@enmasse.command("import", params=[*INPUT, WAIT, NO_WAIT])
@click.option("--dry-run", is_flag=True, help="Change nothing, and show what would be changed.")
@click.option(
    "--base-version",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Refuse unless the configuration has this version.",
)
@pass_session
def import_(session: Session, /, dry_run: bool, base_version: int | None, **options: Any) -> None:
    """Makes the objects of a cluster what a file says: all of it, or nothing.

    Objects that exist are edited; others are created; none is deleted without --prune.  Fields that an object does not name
    get their defaults; secrets that it does not name stay.
    """
    request: dict[str, Any] = {"dry_run": dry_run}
    if base_version is not None:
        request["base_version"] = base_version
    wait = wait_seconds(options)
    answer = _import(session, options, request, wait)

    def show() -> None:
        _show_plan(session, answer, done=not dry_run)
        if not dry_run and answer["changes"]:
            tell_version(session, answer)

    session.answer(answer, show)


@enmasse.command()
@pass_session
def schema(session: Session) -> None:
    """Prints the JSON Schema of files, for editors and checks."""
    click.echo(json.dumps(session.invoke("junctor.enmasse.schema"), indent=2))


def _import(
    session: Session, options: Mapping[str, Any], request: dict[str, Any], wait: float
) -> dict[str, Any]:
    if options["env_file"]:
        _read_env_file(options["env_file"])
    document = _load(options)
    for warning in document.warnings:
        session.warn(warning)
    request |= {
        "document": document.payload(),
        "owner": options["owner"],
        "prune": options["prune"],
        "wait": wait,
    }
    try:
        answer: dict[str, Any] = session.invoke("junctor.enmasse.import", request, wait=wait + IMPORTING)
    except InvalidInput as error:
        raise InvalidInput(document.located(error.problems)) from error
    return answer


def _load(options: Mapping[str, Any]) -> Document:
    file = options["file"]
    is_json = _is_json(file, options["file_format"], default=None)
    text = sys.stdin.read() if file == "-" else None
    path = Path("standard input" if file == "-" else file)
    if file == "-" and is_json is None:
        is_json = (text or "").lstrip().startswith("{")
    return enmasse_file.load(path, text=text, is_json=is_json, skip_unknown=options["skip_unknown"])


def _is_json(name: str | None, given: str | None, *, default: bool | None) -> bool | None:
    if given:
        return given == "json"
    return name.lower().endswith(".json") if name and name != "-" else default


def _kind(name: str) -> str:
    info = manifest.find(name.strip())
    return info.kind if info else name.strip()


def _read_env_file(name: str) -> None:
    """Sets the variables of [env] where they are not set; raises ``InvalidInput``."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the documentation says: names keep their case
    try:
        with Path(name).open(encoding="utf-8") as file:
            parser.read_file(file)
        values = dict(parser["env"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        # The error's own text may quote the line, which may hold a secret.
        reason = (
            error.strerror if isinstance(error, OSError) else "it is not an .ini file with a section [env]"
        )
        raise InvalidInput.one("env_file", f"{name} cannot be read: {reason}.") from error
    for key, value in values.items():
        os.environ.setdefault(key, value)


def _show_plan(session: Session, answer: Mapping[str, Any], *, done: bool = False) -> None:
    changes = answer["changes"]
    for change in changes:
        for line in change_lines(change):
            click.echo(line)
    if not changes:
        session.say(f"Nothing to change: version {answer['config_version']} is what the file says.")
        return
    counts = Counter(change["verb"] for change in changes)
    verbs = {"create": "created", "edit": "changed", "delete": "deleted"}
    word = "" if done else " would be"
    session.say(
        ", ".join(f"{counts[verb]}{word} {name}" for verb, name in verbs.items() if counts[verb]) + "."
    )
