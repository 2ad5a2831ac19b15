"""What the README tells newcomers to type works, in its order, as it stands there."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.pages import follow

README = Path(__file__).parents[2] / "README.md"


def test_the_first_ten_minutes_of_the_readme_work(own_quickstart, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("The README calls the channel with curl, which is not installed.")
    variables = {"ENV": str(own_quickstart.path), "ADDRESS": own_quickstart.address}

    output = follow(README, tmp_path, own_quickstart.environment | variables)

    assert '"total":' in output
    assert "is live on all workers" in output
