"""Running the command ``junctor`` inside of the tests' process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from junctor.cli.main import root


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def run(*arguments: str, stdin: str = "", code: int | None = 0) -> Ran:
    """What a command line came to; it must have exited with ``code``, unless that is None."""
    result = CliRunner().invoke(root, arguments, input=stdin)
    ran = Ran(result.exit_code, result.stdout, result.stderr)
    assert code is None or ran.code == code, (
        f"exited with {ran.code}\n{ran.out}\n{ran.err}\n{result.exception!r}"
    )
    return ran
