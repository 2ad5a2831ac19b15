"""Whether code asks for a connection to the database while it has one: when all who do so wait for a second one, nobody gets it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import gevent
from sqlalchemy import Engine, event

SERVER: Final = str(Path(__file__).resolve().parents[2] / "server")


@contextmanager
def one_at_a_time(engine: Engine) -> Iterator[list[str]]:
    """The places in the server's code that asked for a second connection of an engine, while this lasts."""
    held: dict[int, tuple[object, str]] = {}
    found: list[str] = []

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        greenlet, place = gevent.getcurrent(), _place()
        holders = [at for owner, at in held.values() if owner is greenlet and at]
        if holders and place:
            found.append(f"{place}, while {holders[0]} has one")
        held[id(record)] = greenlet, place

    def given_back(_connection: Any, record: Any) -> None:
        held.pop(id(record), None)

    event.listen(engine, "checkout", taken)
    event.listen(engine, "checkin", given_back)
    try:
        yield found
    finally:
        event.remove(engine, "checkout", taken)
        event.remove(engine, "checkin", given_back)


def _place() -> str:
    """The place in the server's code that asks, '' if it is a test."""
    frame = sys._getframe(2)
    while frame.f_back is not None and "/sqlalchemy/" in frame.f_code.co_filename:
        frame = frame.f_back
    if (
        frame.f_code.co_filename.endswith("contextlib.py") and frame.f_back is not None
    ):  # 'with engine.begin()'
        frame = frame.f_back
    name = frame.f_code.co_filename
    return f"{Path(name).name}:{frame.f_lineno}" if name.startswith(SERVER) else ""
