import threading
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest
from gevent import GreenletExit

from junctor.server.audit import writer as module
from junctor.server.audit.writer import Writer
from junctor.sql import engine
from junctor.sql.errors import StoreUnavailable
from tests.helpers.ports import free_port


class Recorded(Writer):
    """Writes into a list; ``before`` is called with each group first."""

    def __init__(self, before=lambda rows: None):
        super().__init__(lambda: None, lambda rows: None)
        self.groups = []
        self.before = before

    def _store(self, rows):
        self.before(rows)
        self.groups.append([row["n"] for row in rows])


def test_a_lonely_row_is_written_at_once():
    writer = Recorded()
    writer.write({"n": 1})
    assert writer.groups == [[1]]


def test_those_who_come_while_somebody_writes_are_written_together():
    go_on, begun = threading.Event(), threading.Event()

    def wait(rows):
        begun.set()
        go_on.wait(30)

    writer = Recorded(wait)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(writer.write, {"n": 0})
        begun.wait(30)
        others = [pool.submit(writer.write, {"n": number}) for number in range(1, 9)]
        while len(writer._queue) < 9:
            threading.Event().wait(0.001)
        go_on.set()
        for future in (first, *others):
            future.result(30)
    assert writer.groups[0] == [0]
    assert sorted(writer.groups[1]) == list(range(1, 9))
    assert not writer._queue
    assert not writer._is_led


def test_everybody_in_a_group_learns_of_its_failure_and_the_next_ones_are_written():
    def fail(rows):
        if rows[0]["n"] < 1:
            raise StoreUnavailable("away")

    writer = Recorded(fail)
    with pytest.raises(StoreUnavailable):
        writer.write({"n": 0})
    writer.write({"n": 1})
    assert writer.groups == [[1]]


def test_who_is_killed_while_writing_for_all_hands_over():
    def wait(rows):
        gevent.sleep(0)
        if rows[0]["n"] == 0:
            raise GreenletExit

    writer = Recorded(wait)
    with pytest.raises(GreenletExit):
        writer.write({"n": 0})
    writer.write({"n": 1})
    assert writer.groups == [[1]]


def test_too_many_do_not_wait(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    refused = []

    def come(rows):
        try:
            writer.write({"n": 1})
        except StoreUnavailable as error:
            refused.append(str(error))

    writer = Recorded(come)
    writer.write({"n": 0})
    assert refused == [module.IS_FULL]


def test_who_waits_too_long_is_told_and_is_in_nobodys_way(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.01)
    late = []

    def come(rows):
        if rows[0]["n"] == 0:
            try:
                writer.write({"n": 1})
            except StoreUnavailable as error:
                late.append(str(error))

    writer = Recorded(come)
    writer.write({"n": 0})
    writer.write({"n": 2})
    assert late == [module.IS_LATE]
    assert writer.groups == [[0], [2]]


def test_a_database_that_is_away_is_a_sentence():
    away = engine.connect(f"postgresql://junctor@127.0.0.1:{free_port()}/junctor")
    writer = Writer(lambda: away, lambda rows: None)
    row = dict.fromkeys(("cid", "op", "outcome", "actor", "target", "app", "remote_addr"), "")
    row |= {"user_agent": "", "reason": "", "key_id": "", "extra": {}, "cluster_id": 1, "at": None}
    with pytest.raises(StoreUnavailable):
        writer.write(row | {"mac": b""})
    writer.stop()
