"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

Found = TypeVar("Found")

INTERVAL = 0.02  # seconds between two looks
PATIENCE = 3  # times as long as tests say: the machine may have more to do at the same time, and only failures take longer


def wait_until(condition: Callable[[], Found], timeout: float = 10.0, message: str = "") -> Found:
    """What ``condition()`` returned as soon as it was true.

    Raises ``AssertionError`` with ``message`` after ``timeout`` seconds of a machine that does nothing else, that is later; the condition
    is looked at once more then.  What ``condition`` raises is raised.
    """
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        late = time.monotonic() >= deadline
        if found := condition():
            return found
        if late:
            raise AssertionError(message or f"not true within {timeout:g} s: {condition}")
        time.sleep(INTERVAL)


def eventually(condition: Callable[[], Found], timeout: float = 10.0, message: str = "") -> Found:
    """The same for what greenlets of this very process do, which run meanwhile."""
    with gevent.Timeout(
        timeout * PATIENCE, AssertionError(message or f"not true within {timeout:g} s: {condition}")
    ):
        while not (found := condition()):
            gevent.sleep(0.005)
    return found


def succeeds(action: Callable[[], object], *errors: type[Exception]) -> bool:
    """Whether ``action()`` returns; False when it raises one of ``errors``: for conditions of ``wait_until``."""
    try:
        action()
    except errors:
        return False
    return True
