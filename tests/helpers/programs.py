"""Where the programs that come in wheels are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def wheel(package: str) -> Path:
    """The directory of an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed; install the extra 'embedded'"
    assert spec.origin is not None, f"{package} is no package with files"
    return Path(spec.origin).parent
