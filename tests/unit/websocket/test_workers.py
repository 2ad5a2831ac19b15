"""Greenlets that do one job after another."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from junctor.server.websocket import workers as module
from junctor.server.websocket.workers import Workers
from tests.helpers.waiting import eventually


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.stop()
    gevent.sleep(0)


def test_a_greenlet_that_is_done_does_the_next_job(workers: Workers) -> None:
    seen: list[object] = []
    for number in range(3):
        workers.begin(lambda given: seen.append((given, gevent.getcurrent())), number)
        eventually(lambda number=number: len(seen) == number + 1)
    assert [given for given, _ in seen] == [0, 1, 2]
    assert len({greenlet for _, greenlet in seen}) == 1


def test_jobs_that_take_long_have_greenlets_of_their_own(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 2)
    go_on = gevent.event.Event()
    greenlets: list[gevent.Greenlet] = []

    def wait(_: object) -> None:
        greenlets.append(gevent.getcurrent())
        go_on.wait()

    for _ in range(5):
        workers.begin(wait, None)
    eventually(lambda: len(greenlets) == 5)
    go_on.set()
    eventually(lambda: sum(greenlet.dead for greenlet in greenlets) == 3)  # the others wait for more


def test_a_time_out_that_was_meant_for_the_last_job_does_not_reach_the_next_one(workers: Workers) -> None:
    done: list[str] = []

    def leaves_a_time_out_behind(_: object) -> None:
        gevent.Timeout.start_new(0.01, TimeoutError("too late"))
        done.append("first")

    workers.begin(leaves_a_time_out_behind, None)
    eventually(lambda: done)
    (worker,) = workers._idle
    eventually(lambda: worker.dead)
    assert not workers._idle
    workers.begin(done.append, "second")
    eventually(lambda: done == ["first", "second"])


def test_a_greenlet_that_is_woken_by_mistake_waits_on(workers: Workers) -> None:
    done: list[int] = []
    workers.begin(done.append, 1)
    eventually(lambda: done)
    (worker,) = workers._idle
    gevent.get_hub().loop.run_callback(worker.switch)
    gevent.sleep(0)
    assert workers._idle == [worker]
    workers.begin(done.append, 2)
    eventually(lambda: done == [1, 2])


def test_a_greenlet_that_was_killed_gets_no_job(workers: Workers) -> None:
    done: list[int] = []
    workers.begin(done.append, 1)
    eventually(lambda: done)
    workers._idle[0].kill()
    workers.begin(done.append, 2)
    eventually(lambda: done == [1, 2])


def test_greenlets_without_a_job_end_when_they_are_told(workers: Workers) -> None:
    done: list[int] = []
    workers.begin(done.append, 1)
    eventually(lambda: done)
    (worker,) = workers._idle
    workers.stop()
    eventually(lambda: worker.dead)


def test_a_job_is_not_lost_when_something_reaches_its_greenlet_before_it(workers: Workers) -> None:
    done: list[int] = []
    workers.begin(done.append, 1)
    eventually(lambda: done)
    (worker,) = workers._idle
    gevent.get_hub().loop.run_callback(worker.throw, TimeoutError("too late"))
    workers.begin(done.append, 2)
    eventually(lambda: done == [1, 2])
    assert worker.dead
