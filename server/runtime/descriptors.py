"""How many files and connections a process may have open."""

from __future__ import annotations

import resource
from typing import Final

MOST: Final = 1_048_576  # some systems say infinity, and programs loop over all of them


def allow_all() -> int:
    """How many descriptors this process and its children may have: as many as its account may, not the few of a login shell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
