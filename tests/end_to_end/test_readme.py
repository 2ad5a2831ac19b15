"""What the README tells newcomers to type works, in its order, as it stands there.

A block that follows the comment ``<!-- run -->`` is run, one that follows ``<!-- file: NAME -->`` is a file that is put there before.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- (?:(run)|file: (\S+)) -->\n```(?:bash|python|yaml)\n(.*?)```", re.DOTALL)
TIMEOUT = 120.0  # seconds


def test_the_first_ten_minutes_of_the_readme_work(own_quickstart, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("The README calls the channel with curl, which is not installed.")
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert [run for run, _, _ in blocks if run], "The README has nothing to run."
    variables = {"ENV": str(own_quickstart.path), "ADDRESS": own_quickstart.address}
    output = ""

    for _, file, text in blocks:
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=own_quickstart.environment | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        output += done.stdout

    assert '"total":' in output
    assert "is live on all workers" in output
