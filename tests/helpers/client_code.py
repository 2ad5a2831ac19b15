"""Code that calls Junctor as an application would: that of the documentation, and that of tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "clients.md"
RUNNER = Path(__file__).with_name("client_runner.py")
TIMEOUT = 60.0  # seconds


@dataclass
class Junctor:
    """Where a Junctor server is and with what to call it; the stand-in of unit tests and a real cluster have the same."""

    address: str
    username: str
    password: str
    admin_password: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables from which the applications of the documentation learn it."""
        return {
            "JUNCTOR_URL": self.address,
            "JUNCTOR_USERNAME": self.username,
            "JUNCTOR_PASSWORD": self.password,
            "JUNCTOR_ADMIN_PASSWORD": self.admin_password,
        }


def documented(name: str) -> str:
    """The code under a heading comment of docs/clients.md."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"There is no code for {name!r} in {DOCS}."
    return found[1]


def run(kind: str, *paths: str, code: str, environment: Mapping[str, str]) -> Any:
    """What ``client_runner.py`` prints."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), kind, *paths],
        input=code,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def require_zato_client() -> None:
    """Skips the test where zato-client is not installed; in CI, it must be."""
    try:
        assert version("zato-client") == "3.2.1"
    except PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs: pip install --no-deps -r tests/requirements-zato-client.txt")
