"""The commands of object types: ``create-TYPE``, ``edit-TYPE``, ``delete-TYPE``, ``list-TYPE`` and ``get-TYPE``.

All of them are derived from the declarations in ``junctor.sql.objects``, by way of ``manifest``; no type is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import click

from junctor.cli import manifest, output
from junctor.cli.command import ClusterCommand
from junctor.cli.manifest import FieldInfo, TypeInfo
from junctor.cli.object_options import field_options, flag, given_values, settable
from junctor.cli.passwords import given_secret
from junctor.cli.session import Session
from junctor.cli.written import NO_WAIT, WAIT, tell_version, wait_seconds

PAGE = 1000
MAX_COLUMNS = 7


def command_names() -> list[str]:
    """The names of all commands of object types, without Zato's names for them."""
    return [f"{verb}-{info.command}" for info in manifest.load() for verb in info.all_verbs]


def command(name: str) -> click.Command | None:
    """The command ``VERB-TYPE``; None when there is no such type, or it has no such verb."""
    verb, _, type_name = name.partition("-")
    info = manifest.find(type_name)
    if info is None or verb not in info.all_verbs:
        return None
    return _BUILDERS[verb](name, info)


def _command(
    name: str, help: str, run: Callable[..., None], options: Sequence[click.Parameter]
) -> ClusterCommand:
    return ClusterCommand(name, callback=run, help=help, short_help=help, params=list(options))


def _identity(*, rename: bool = False) -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Argument(["positional"], metavar="[NAME]", required=False),
        click.Option(["--name"], metavar="NAME", help="The object's name, instead of as an argument."),
        click.Option(
            ["object_id", "--id"], type=int, metavar="NUMBER", help="The object's id, instead of its name."
        ),
    ]
    if rename:
        options.append(click.Option(["--new-name"], metavar="NAME", help="Rename it; references follow."))
        options.append(
            click.Option(
                ["--expected-version"],
                type=int,
                metavar="NUMBER",
                help="Refuse if somebody has changed it since this version.",
            )
        )
    return options


def _key(options: dict[str, Any]) -> dict[str, Any]:
    """The name or the id that the options give; raises ``click.UsageError`` unless there is exactly one."""
    found = {"name": options["positional"] or options["name"], "id": options["object_id"]}
    given = {name: value for name, value in found.items() if value is not None}
    both = options["positional"] and options["name"]
    if len(given) != 1 or both:
        raise click.UsageError("Give either the object's name or its id.")
    return given


def _create(name: str, info: TypeInfo) -> click.Command:
    options: list[click.Parameter] = [
        click.Argument(["positional"], metavar="[NAME]", required=False),
        click.Option(["--name"], metavar="NAME", help="The object's name, instead of as an argument."),
        *field_options(info, edit=False),
        WAIT,
        NO_WAIT,
    ]
    return _command(name, f"Creates: {info.label}. {info.help}", partial(_run_create, info), options)


def _run_create(info: TypeInfo, **options: Any) -> None:
    session = click.get_current_context().ensure_object(Session)
    if options["positional"] and options["name"]:
        raise click.UsageError("Give the name once.")
    object_name = options["positional"] or options["name"]
    values = given_values(info, options)
    missing = [] if object_name else ["--name"]
    missing += [flag(f) for f in settable(info) if f.required and not f.is_secret and f.name not in values]
    if missing:
        raise click.UsageError(f"Missing: {', '.join(missing)}.")
    secrets, made = _secrets(session, info, options, ask=True)
    wait = wait_seconds(options)
    payload = {"name": object_name} | values | secrets | {"wait": wait}
    answer = session.invoke(f"{info.service}.create", payload, wait=wait)
    for field in info.fields:
        if field.is_secret and field.name not in secrets:
            session.warn(f"There is no {field.label.lower()} yet. {field.help}")
    _tell(session, info, "Created", answer, made)


def _edit(name: str, info: TypeInfo) -> click.Command:
    options = [*_identity(rename=True), *field_options(info, edit=True), WAIT, NO_WAIT]
    return _command(
        name, f"Changes what is given of: {info.label}. {info.help}", partial(_run_edit, info), options
    )


def _run_edit(info: TypeInfo, **options: Any) -> None:
    session = click.get_current_context().ensure_object(Session)
    payload = _edit_key(options)
    secrets, made = _secrets(session, info, options, ask=False)
    changes = given_values(info, options) | secrets
    if options["new_name"] is not None:
        changes["name" if "id" in payload else "new_name"] = options["new_name"]
    if not changes:
        raise click.UsageError("Nothing is given that should change.")
    wait = wait_seconds(options)
    payload |= changes | {"wait": wait}
    if options["expected_version"] is not None:
        payload["expected_version"] = options["expected_version"]
    answer = session.invoke(f"{info.service}.edit", payload, wait=wait)
    _tell(session, info, "Changed", answer, made)


def _edit_key(options: dict[str, Any]) -> dict[str, Any]:
    """As ``_key``; with --id, --name is Zato's way to give the new name."""
    if options["object_id"] is not None and options["name"] is not None and options["new_name"] is None:
        options["new_name"], options["name"] = options["name"], None
    return _key(options)


def _secrets(
    session: Session, info: TypeInfo, options: dict[str, Any], *, ask: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """The secrets that are given, and those of them that were generated and must be shown."""
    given, made = {}, {}
    for field in settable(info):
        if field.is_secret:
            value, generated = given_secret(session, field, options, ask=ask)
            if value is not None:
                given[field.name] = value
            if value is not None and generated:
                made[field.name] = value
    return given, made


def _tell(session: Session, info: TypeInfo, done: str, answer: dict[str, Any], made: dict[str, str]) -> None:
    def show() -> None:
        session.say(f"{done} {info.label} {answer['name']!r} (id {answer['id']}).")
        for field in info.fields:
            if field.name in made:
                session.say(f"{field.label}: {made[field.name]}   (shown this once)")
        tell_version(session, answer)

    session.answer(answer | ({"generated": made} if made else {}), show)


def _delete(name: str, info: TypeInfo) -> click.Command:
    options = [
        *_identity(),
        click.Option(["--yes", "-y"], is_flag=True, help="Do not ask whether to delete it."),
        WAIT,
        NO_WAIT,
    ]
    return _command(
        name, f"Deletes: {info.label}. Refused while others use it.", partial(_run_delete, info), options
    )


def _run_delete(info: TypeInfo, **options: Any) -> None:
    session = click.get_current_context().ensure_object(Session)
    key = _key(options)
    if session.interactive and not options["yes"]:
        shown = repr(key["name"]) if "name" in key else f"with id {key['id']}"
        click.confirm(f"Delete {info.label} {shown}?", abort=True, err=True)
    wait = wait_seconds(options)
    answer = session.invoke(f"{info.service}.delete", key | {"wait": wait}, wait=wait)

    def show() -> None:
        session.say(f"Deleted {info.label} {answer['name']!r}.")
        tell_version(session, answer)

    session.answer(answer, show)


def _get(name: str, info: TypeInfo) -> click.Command:
    return _command(name, f"Shows one: {info.label}. {info.help}", partial(_run_get, info), _identity())


def _run_get(info: TypeInfo, **options: Any) -> None:
    session = click.get_current_context().ensure_object(Session)
    answer = session.invoke(f"{info.service}.get", _key(options))
    rows = [
        (field.label, _with_unit(field, answer.get(field.name)))
        for field in info.fields
        if not field.is_secret
    ]
    for field in info.fields:
        if field.is_secret:
            fingerprint = answer.get("secrets", {}).get(field.name)
            rows.append((field.label, f"set (fingerprint {fingerprint})" if fingerprint else "not set"))
    rows += [("Id", answer.get("id")), ("Version", answer.get("version")), ("Owner", answer.get("owner"))]
    session.answer(answer, lambda: output.print_table(("Field", "Value"), rows))


def _with_unit(field: FieldInfo, value: Any) -> Any:
    return f"{value} {field.unit}" if field.unit and value is not None else value


def _list(name: str, info: TypeInfo) -> click.Command:
    options: list[click.Parameter] = [
        click.Option(
            ["--query", "-q"], default="", metavar="TEXT", help="Only those with TEXT in their names."
        ),
        click.Option(["--internal"], is_flag=True, help="Include those that come with the server."),
        click.Option(
            ["--columns"], metavar="FIELDS", help="The fields to show, with commas between; 'all' for all."
        ),
        click.Option(["--limit"], type=click.IntRange(1), metavar="NUMBER", help="At most so many."),
        click.Option(
            ["--offset"], type=click.IntRange(0), default=0, metavar="NUMBER", help="Leave out so many first."
        ),
    ]
    return _command(name, f"Lists all: {info.label}. {info.help}", partial(_run_list, info), options)


def _run_list(info: TypeInfo, **options: Any) -> None:
    session = click.get_current_context().ensure_object(Session)
    columns = _columns(info, options["columns"])
    request = {"query": options["query"], "internal": options["internal"]}
    items, total = _pages(session, info, request, offset=options["offset"], limit=options["limit"])

    def show() -> None:
        if items:
            rows = [[item.get("id"), *(item.get(field.name) for field in columns)] for item in items]
            output.print_table(("Id", *(field.label for field in columns)), rows)
        if not items or len(items) < total:
            session.say(f"{len(items)} of {total}.")

    session.answer({"items": items, "total": total}, show)


def _pages(
    session: Session, info: TypeInfo, request: dict[str, Any], *, offset: int, limit: int | None
) -> tuple[list[dict[str, Any]], int]:
    """The objects of a type, asked for page by page, and how many match."""
    items: list[dict[str, Any]] = []
    while True:
        size = PAGE if limit is None else min(PAGE, limit - len(items))
        page = {"offset": offset + len(items), "limit": size}
        answer = session.invoke(f"{info.service}.get-list", request | page)
        items += answer["items"]
        if len(answer["items"]) < size or len(items) == limit or offset + len(items) >= answer["total"]:
            return items, answer["total"]


def _columns(info: TypeInfo, given: str | None) -> list[FieldInfo]:
    """The fields to show: those that are named, or those that tell objects of the type apart."""
    fields = [field for field in info.fields if not field.is_secret and not field.block]
    if given == "all":
        return fields
    if given:
        names = [name.strip() for name in given.split(",")]
        found = [field for name in names if (field := info.field(name.replace("-", "_"))) in fields and field]
        if len(found) != len(names):
            raise click.BadParameter(
                f"there are {', '.join(field.name for field in fields)}.", param_hint="--columns"
            )
        return found
    first = [*_telling(fields)]
    rest = [field for field in fields if field not in first]
    chosen = first[:MAX_COLUMNS] if len(first) > 2 else [*first, *rest][:4]
    return [field for field in fields if field in chosen]


def _telling(fields: Sequence[FieldInfo]) -> Iterator[FieldInfo]:
    return (field for field in fields if field.required or field.reference or field.name == "is_active")


_BUILDERS: dict[str, Callable[[str, TypeInfo], click.Command]] = {
    "create": _create,
    "edit": _edit,
    "delete": _delete,
    "list": _list,
    "get": _get,
}
