"""Deadlines: thrown where a call waits, not before they are due, and never into what the greenlet does afterwards."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event

from junctor.server.service import deadline
from junctor.server.service.deadline import Deadlines


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    monkeypatch.setattr(deadline, "LEAST", 0.0)  # short ones take the common timer, too
    return Deadlines()


def wait_for(deadlines: Deadlines, seconds: float) -> float:
    """How long a greenlet waited that may wait for ``seconds``, after which its time-out reached it."""
    waiting = deadlines.start(seconds)
    started = time.monotonic()
    try:
        with pytest.raises(gevent.Timeout) as caught:
            Event().wait(30)
        assert caught.value is waiting.thrown
        return time.monotonic() - started
    finally:
        deadlines.end(waiting)


def test_what_waits_for_too_long_is_interrupted_and_not_before(deadlines: Deadlines) -> None:
    assert wait_for(deadlines, 0.1) >= 0.1


def test_each_greenlet_gets_its_own(deadlines: Deadlines) -> None:
    waiting = [gevent.spawn(wait_for, deadlines, seconds) for seconds in (0.2, 0.1, 0.15)]
    gevent.joinall(waiting, raise_error=True)
    assert [greenlet.value >= due for greenlet, due in zip(waiting, (0.2, 0.1, 0.15), strict=True)] == [
        True
    ] * 3


def test_one_that_has_ended_is_never_thrown(deadlines: Deadlines) -> None:
    ended = deadlines.start(0.01)
    deadlines.end(ended)
    assert not Event().wait(0.15)
    assert ended.thrown is None


def test_the_timer_runs_only_while_something_waits(deadlines: Deadlines) -> None:
    assert wait_for(deadlines, 0.01) >= 0.01
    other = deadlines.start(5)
    deadlines.end(other)
    assert not Event().wait(3 * deadline.RESOLUTION)
    assert deadlines._timer is None
    assert wait_for(deadlines, 0.01) >= 0.01


def test_a_short_one_has_a_timer_of_its_own() -> None:
    assert wait_for(Deadlines(), 0.02) < 1
