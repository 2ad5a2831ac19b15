"""Pages of the documentation that can be followed to the letter.

A block that follows the comment ``<!-- run -->`` is run, one that follows ``<!-- file: NAME -->`` is a file that is put there before.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

TIMEOUT = 120.0  # seconds, for each block

_BLOCK = re.compile(r"<!-- (?:(run)|file: (\S+)) -->\n```(?:bash|python|yaml)\n(.*?)```", re.DOTALL)


def follow(page: Path, directory: Path, environment: Mapping[str, str]) -> str:
    """What a reader sees who does all that a page says, in its order; every command must succeed."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    assert any(run for run, _, _ in blocks), f"{page} has nothing to run."
    output = ""
    for _, file, text in blocks:
        if file:
            (directory / file).write_text(text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=directory,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        output += done.stdout
    return output
