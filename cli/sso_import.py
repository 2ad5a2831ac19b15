"""``junctor sso import``: users from a file, with the hashes of their passwords."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import click

from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.session import Session
from junctor.cli.sso_options import invoke
from junctor.sql.errors import InvalidInput, Problem

BATCH: Final = 500  # users that are made in one transaction
FLAGS: Final = frozenset(
    {"is_email_verified", "password_must_change", "must_change", "is_locked", "is_totp_enabled"}
)
BOOLEANS: Final = {"true": True, "false": False}
LISTS: Final = frozenset({"app_list"})
Row = tuple[int, dict[str, Any]]


@click.command("import", cls=ClusterCommand)
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv"]),
    help="JSON objects, a line each, or CSV with a line of names; by default what the file's name ends with.",
)
@click.option(
    "--skip", type=click.IntRange(0), default=0, metavar="NUMBER", help="Leave the first so many users out."
)
@pass_session
def import_(session: Session, /, file: str, format_: str | None, skip: int) -> None:
    """Makes users who come from elsewhere, with the hashes of their passwords.

    Fields: username, and any of email, display_name, first_name, middle_name, last_name, password_hash (bcrypt, Argon2,
    scrypt or PBKDF2), sign_up_status, approval_status, app_list, totp_key, totp_label, and true or false for
    is_email_verified, password_must_change, is_locked, is_totp_enabled.  Lists in CSV have semicolons.

    Of each 500 users, all are made or none.  Users without a hash reset their passwords.
    """
    kind = format_ or ("csv" if file.lower().endswith(".csv") else "jsonl")
    done = 0
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as opened:
            rows = islice(_csv(opened) if kind == "csv" else _json_lines(opened), skip, None)
            while batch := list(islice(rows, BATCH)):
                _import(session, batch, done, skip)
                done += len(batch)
                if len(batch) == BATCH:
                    click.echo(f"{done} users so far", err=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput.one("", f"{file} cannot be read: {reason}.") from error
    session.answer({"imported": done}, lambda: session.say(f"Imported {done} users."))


def _import(session: Session, batch: list[Row], done: int, skip: int) -> None:
    """Makes the users of a batch; problems name the lines of the file."""
    try:
        invoke(session, "import-users", {"users": [row for _, row in batch]})
    except InvalidInput as refused:
        problems = [Problem(_place(problem.field, batch), problem.message) for problem in refused.problems]
        if done:
            go_on = f"{done} users were imported before that; go on with --skip {skip + done}."
            problems.append(Problem("", go_on))
        raise InvalidInput(problems) from None


def _place(field: str, batch: list[Row]) -> str:
    """'row 2 email' as 'line 17 email'."""
    found = re.match(r"row (\d+)", field)
    number = int(found[1]) if found else 0
    if not found or not 0 < number <= len(batch):
        return field
    return f"line {batch[number - 1][0]}{field[found.end() :]}"


def _json_lines(opened: TextIO) -> Iterator[Row]:
    for number, line in enumerate(opened, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInput.one(f"line {number}", f"is not JSON: {error.msg}.") from None
        if not isinstance(row, dict):
            raise InvalidInput.one(f"line {number}", "must be a JSON object.")
        yield number, row


def _csv(opened: TextIO) -> Iterator[Row]:
    reader = csv.DictReader(opened, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InvalidInput.one(
                    f"line {reader.line_num}", "has another number of fields than the first line."
                )
            yield (
                reader.line_num,
                {name: _cell(name, text, reader.line_num) for name, text in row.items() if text},
            )
    except csv.Error as error:
        raise InvalidInput.one(f"line {reader.line_num}", f"is not CSV: {error}.") from None


def _cell(name: str, text: str, line: int) -> Any:
    if name in FLAGS:
        if text.lower() not in BOOLEANS:
            raise InvalidInput.one(f"line {line} {name}", "must be true or false.")
        return BOOLEANS[text.lower()]
    return [item.strip() for item in text.split(";") if item.strip()] if name in LISTS else text
