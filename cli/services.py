"""Service files and services: ``deploy``, ``rollback``, ``invoke`` and the group ``service``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, Group, pass_session
from junctor.cli.object_options import read_text
from junctor.cli.session import Session
from junctor.cli.written import NO_WAIT, WAIT, tell_version, wait_seconds
from junctor.sql.errors import InvalidInput, Problem

PAYLOAD = click.Option(
    ["--payload"],
    metavar="JSON",
    help="What the service gets: JSON or text, '@FILE' for a file's content, '-' for standard input.",
)
TIMEOUT = click.Option(
    ["--timeout"],
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the service may take.",
)
LOADING = 60.0  # seconds that loading the files may take, beside the wait for the workers


def _sources(paths: Iterable[str]) -> dict[str, str]:
    """The texts of service files by their names, those in directories included; raises ``InvalidInput``."""
    found: dict[str, str] = {}
    problems = []
    for path in _files(paths):
        if path.name in found:
            problems.append(Problem(str(path), "there is another file of this name; names must be unique."))
        try:
            found[path.name] = read_text(str(path), "")
        except InvalidInput as error:
            problems += error.problems
    if not found and not problems:
        problems.append(Problem("", "There are no Python files to deploy."))
    if problems:
        raise InvalidInput(problems)
    return found


def _files(paths: Iterable[str]) -> Iterable[Path]:
    for name in paths:
        path = Path(name)
        if path.is_dir():
            yield from sorted(found for found in path.glob("*.py") if found.is_file())
        else:
            yield path


@click.command(cls=ClusterCommand, params=[WAIT, NO_WAIT])
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@pass_session
def deploy(session: Session, /, files: tuple[str, ...], **options: Any) -> None:
    """Deploys service files on all servers.

    All of them are deployed, or none when one does not load: then the file, the line and the reason are shown, and what
    ran before goes on running.  Of a directory, every .py file is taken.
    """
    sources = _sources(files)
    wait = wait_seconds(options)
    request = {"files": [{"name": n, "content": text} for n, text in sources.items()], "wait": wait}
    answer = session.invoke("junctor.service.deploy", request, wait=wait + LOADING)

    def show() -> None:
        for item in answer["services"]:
            session.say(f"Deployed {item['service']} ({item['file']}).")
        for name in sources:
            if name not in {item["file"] for item in answer["services"]}:
                session.say(f"Deployed {name}, which has no services.")
        tell_version(session, answer)

    session.answer(answer, show)


@click.command(cls=ClusterCommand, params=[WAIT, NO_WAIT])
@click.argument("file", metavar="FILE")
@click.option("--number", type=click.IntRange(1), help="The version; by default the one before the newest.")
@pass_session
def rollback(session: Session, /, file: str, number: int | None, **options: Any) -> None:
    """Deploys an earlier version of a service file again.

    FILE is the name of a deployed file.  'junctor service versions FILE' lists what there is.
    """
    wait = wait_seconds(options)
    request = {"name": Path(file).name, "wait": wait} | ({} if number is None else {"number": number})
    answer = session.invoke("junctor.service.rollback", request, wait=wait + LOADING)

    def show() -> None:
        chosen = answer.get("number")
        session.say(f"Deployed {Path(file).name}{f', version {chosen},' if chosen else ''} again.")
        tell_version(session, answer)

    session.answer(answer, show)


@click.command(cls=ClusterCommand, params=[WAIT, NO_WAIT])
@click.argument("file", metavar="FILE")
@click.option("--yes", "-y", is_flag=True, help="Do not ask whether to delete it.")
@pass_session
def undeploy(session: Session, /, file: str, yes: bool, **options: Any) -> None:
    """Deletes a deployed service file and its services.

    Refused while channels or other objects use one of them.
    """
    name = Path(file).name
    if session.interactive and not yes:
        click.confirm(f"Delete {name} and its services?", abort=True, err=True)
    wait = wait_seconds(options)
    answer = session.invoke("zato.service-source.delete", {"name": name, "wait": wait}, wait=wait)

    def show() -> None:
        session.say(f"Deleted {name}.")
        tell_version(session, answer)

    session.answer(answer, show)


@click.command(cls=ClusterCommand)
@click.argument("file", metavar="FILE")
@pass_session
def versions(session: Session, file: str) -> None:
    """Lists the versions of a deployed service file, newest first."""
    answer = session.invoke("junctor.service.versions", {"name": Path(file).name})
    items = answer["items"] if isinstance(answer, dict) else answer
    columns = ("number", "at", "who", "digest")
    rows = [[str(item.get(column) or "")[:19] for column in columns] for item in items]
    session.answer(answer, lambda: output.print_table(("Version", "Deployed", "By", "SHA-256"), rows))


@click.command(cls=ClusterCommand, params=[PAYLOAD, TIMEOUT])
@click.argument("service", metavar="SERVICE")
@pass_session
def invoke(session: Session, service: str, payload: str | None, timeout: float) -> None:
    """Invokes a service and prints its response.

    The response is JSON when it is an object or a list, and text as it is otherwise.
    """
    answer = session.client().invoke(service, parse_payload(payload), timeout=timeout)
    if isinstance(answer, str) and not session.as_json:
        click.echo(answer or "(None)")
    else:
        output.print_json(answer)


def parse_payload(given: str | None) -> Any:
    """What a service gets for --payload: parsed when it is JSON, as it is otherwise.  Raises ``InvalidInput``."""
    if given is None:
        return None
    if given == "-":
        given = sys.stdin.read()
    elif given.startswith("@"):
        given = read_text(given[1:], "payload")
    try:
        return json.loads(given)
    except ValueError as error:
        if given.lstrip().startswith(("{", "[")):
            raise InvalidInput.one("payload", f"is not valid JSON: {error}.") from error
        return given


@click.group(cls=Group)
def service() -> None:
    """Services: deploy, undeploy, invoke, versions."""


# Zato has the environment as the first argument here: zato service invoke PATH NAME.
@click.command("invoke", cls=ClusterCommand, params=[PAYLOAD, TIMEOUT])
@click.argument("arguments", metavar="[ENV] SERVICE", nargs=-1, required=True)
@click.pass_context
def service_invoke(context: click.Context, /, arguments: tuple[str, ...], **options: Any) -> None:
    """Invokes a service and prints its response; the same as 'junctor invoke SERVICE'."""
    if len(arguments) > 2:
        raise click.UsageError("Give a service, and before it perhaps an environment.")
    if len(arguments) == 2:
        context.ensure_object(Session).path = arguments[0]
    context.invoke(invoke, service=arguments[-1], **options)


for command in (deploy, undeploy, service_invoke, rollback, versions):
    service.add_command(command)
