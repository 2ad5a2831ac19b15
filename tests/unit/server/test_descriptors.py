"""A server may have as many connections as its account may, whatever the shell that started it says."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
from junctor.server.runtime.descriptors import allow_all
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
allowed = allow_all()
print(allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["128", "128"]


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    script = SCRIPT.replace("(64, 128)", "(128, 128)")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["128", "128"]
