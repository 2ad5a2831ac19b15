"""How a command tells that it failed: one message on standard error, never a traceback."""

from __future__ import annotations

import json
import os
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from junctor.cli.exit_codes import ExitCode, code_of
from junctor.cli.visible import visible
from junctor.sql.errors import InvalidInput, JunctorError, Problem

HINTS = {
    ExitCode.UNREACHABLE: "'junctor status' shows what runs, 'junctor start' starts it.",
    ExitCode.UNAUTHORIZED: "Give the right --path, or --username and --password-file.",
}
MAX_LOG_SIZE = 1_000_000  # bytes; a larger log of crashes is begun anew


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of a failure.  ``cid`` is what to look for in the server's log."""

    code: ExitCode
    message: str
    problems: Sequence[Problem] = ()
    hint: str = ""
    cid: str = ""

    def text(self) -> str:
        """For people: the message, each problem on a line of its own, and what may help."""
        lines = [f"Error: {self.message}"]
        lines += [f"  {problem}" for problem in self.problems]
        lines += [f"The server's log has more under the CID {self.cid}."] if self.cid else []
        lines += [self.hint] if self.hint else []
        return visible("\n".join(lines))

    def json(self) -> str:
        """For programs: one line of JSON."""
        shown = {
            "error": self.message,
            "exit_code": int(self.code),
            "problems": [{"field": problem.field, "message": problem.message} for problem in self.problems],
            "cid": self.cid,
            "hint": self.hint,
        }
        return json.dumps({name: value for name, value in shown.items() if value})


def describe(error: BaseException) -> Failure:
    """What is told of ``error``.  The traceback of one that nobody expected goes to a file, which is named."""
    if isinstance(error, click.Abort | KeyboardInterrupt | EOFError):
        return Failure(ExitCode.INTERRUPTED, "Interrupted.")
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, InvalidInput):
        return _invalid(error)
    code = code_of(error)
    if isinstance(error, JunctorError) and code is not ExitCode.BUG:
        cid = error.cid if code is ExitCode.REMOTE else ""
        return Failure(code, error.message, hint=HINTS.get(code, ""), cid=cid)
    return _unexpected(error)


def _usage(error: click.ClickException) -> Failure:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"'{error.ctx.command_path} --help' shows what it takes."
    return Failure(ExitCode.USAGE, error.format_message(), hint=hint)


def _invalid(error: InvalidInput) -> Failure:
    if len(error.problems) == 1:
        return Failure(code_of(error), str(error.problems[0]))
    count = len(error.problems)
    message = f"There are {count} problems:" if count else error.message
    return Failure(code_of(error), message, error.problems)


def _unexpected(error: BaseException) -> Failure:
    summary = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
    try:
        where = f"The details are in {_log(error)}."
    except OSError as e:
        where = f"The details could not be logged: {e}."
    return Failure(ExitCode.BUG, f"Something unexpected happened: {summary}", hint=where)


def _log(error: BaseException) -> Path:
    """Appends the traceback, which has no values of variables, to the log of crashes of this user."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = Path(home) / "junctor" if os.path.isabs(home) else Path(tempfile.mkdtemp(prefix="junctor-"))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / "crashes.log"
    fresh = not path.exists() or path.stat().st_size > MAX_LOG_SIZE
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if fresh else os.O_APPEND)
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} process {os.getpid()}\n")
        file.write("".join(traceback.format_exception(error)))
    return path
