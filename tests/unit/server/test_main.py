"""The server's process, as far as it gets without a database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USAGE, CANNOT_START = 2, 9  # not imported: the module patches its process for gevent


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What became of the process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JUNCTOR_")}
    return subprocess.run(
        [sys.executable, "-m", "junctor.server.main", *arguments],
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("one", "two")])
def test_it_wants_one_directory(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr == "Usage: python -m junctor.server.main DIRECTORY\n"


def test_settings_that_are_wrong_are_told_in_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    done = run(
        str(tmp_path), JUNCTOR_PORT="0", JUNCTOR_ODB_URL="", JUNCTOR_REDIS_URL="redis://:canary@127.0.0.1"
    )
    assert (done.returncode, done.stdout) == (CANNOT_START, "")
    assert done.stderr.startswith(
        "The server cannot start: port: must be from 1 to 65535.; JUNCTOR_ODB_URL: "
    )
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.stderr
    assert list(tmp_path.iterdir()) == []
