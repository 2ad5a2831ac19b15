"""Metrics: what a worker counts, and what the master makes of it."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from junctor.server import metrics_total
from junctor.server.metrics import BUCKETS, MAX_SERIES, SERIES_PER_MESSAGE, Counter, Gauge, Histogram, Metrics
from junctor.server.metrics_total import Aggregator
from tests.helpers.waiting import wait_until


@pytest.fixture
def aggregator(public_directory: Path) -> Aggregator:
    """An aggregator with its sockets, whose thread ends with the process."""
    directory = public_directory / f"run-{next(_numbers)}"  # short: a socket's path has 107 bytes at the most
    directory.mkdir()
    made = Aggregator(directory, server="server1")
    made.start()
    return made


_numbers = itertools.count(1)


def value(exposition: bytes, name: str, **labels: str) -> float | None:
    """The value of a sample with these labels, or None."""
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return None


class TestSeries:
    def test_asking_again_gives_the_same_series(self) -> None:
        metrics = Metrics()
        assert metrics.counter("c", a="1", b="2") is metrics.counter("c", b="2", a="1")
        assert metrics.counter("c", a="1") is not metrics.counter("c", a="2")

    def test_a_counter_gives_what_was_added_since_the_last_time(self) -> None:
        counter = Counter("c", ())
        assert counter.take() is None
        counter.inc()
        counter.inc(2.5)
        assert counter.take() == 3.5
        assert counter.take() is None
        counter.inc()
        assert counter.take() == 1

    def test_a_gauge_gives_its_value_when_it_is_another(self) -> None:
        gauge = Gauge("g", ())
        assert gauge.take() == 0
        assert gauge.take() is None
        gauge.set(7)
        assert gauge.take() == 7

    def test_a_histogram_counts_by_buckets_whose_bounds_belong_to_them(self) -> None:
        histogram = Histogram("h", ())
        assert histogram.take() is None
        for seconds in (0.0, BUCKETS[0], BUCKETS[0] + 1e-9, 100.0):
            histogram.observe(seconds)
        counts, total = histogram.take()
        assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
        assert total == pytest.approx(100.002)
        assert histogram.take() is None

    def test_there_is_an_end_to_the_series_of_a_worker(self) -> None:
        metrics = Metrics()
        for number in range(MAX_SERIES):
            metrics.counter("c", n=str(number))
        assert metrics.counter("one", more="x") is not metrics.counter("one", more="x")
        assert metrics.counter("c", n="5") is metrics.counter("c", n="5")


class TestSending:
    def test_what_changed_is_sent_in_messages_of_bounded_size(self, public_directory: Path) -> None:
        path = public_directory / f"in-{next(_numbers)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(path))
            receiver.settimeout(5)
            metrics = Metrics(path)
            for number in range(SERIES_PER_MESSAGE + 1):
                metrics.counter("c", n=str(number)).inc()
            metrics.flush()
            first, second = orjson.loads(receiver.recv(1 << 20)), orjson.loads(receiver.recv(1 << 20))
            assert (first[0], len(first[1]), len(second[1])) == (os.getpid(), SERIES_PER_MESSAGE, 1)
            assert second[1] == [["counter", "c", [["n", str(SERIES_PER_MESSAGE)]], 1.0]]
            metrics.flush()
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(10)
        metrics._socket.close()  # type: ignore[union-attr]

    def test_what_nobody_takes_is_counted_as_lost_and_the_next_is_sent_again(
        self, public_directory: Path
    ) -> None:
        path = public_directory / f"in-{next(_numbers)}"
        metrics = Metrics(path)
        metrics.counter("c").inc()
        metrics.flush()
        assert metrics.lost == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(path))
            receiver.settimeout(5)
            metrics.counter("c").inc()
            metrics.flush()
            assert orjson.loads(receiver.recv(1000))[1] == [["counter", "c", [], 1.0]]
        metrics.counter("c").inc()
        metrics.flush()
        assert metrics.lost == 2

    def test_without_an_address_nothing_is_sent(self) -> None:
        metrics = Metrics()
        metrics.counter("c").inc()
        metrics.flush()
        assert metrics.lost == 0


class TestTotals:
    def test_counters_and_histograms_are_added_up_over_workers(self, tmp_path: Path) -> None:
        aggregator = Aggregator(tmp_path, server="s")
        counts = [1] * (len(BUCKETS) + 1)
        for pid in (1, 2):
            aggregator.add([pid, [["counter", "junctor_requests_total", [["channel", "a"]], 2.0]]])
            aggregator.add([pid, [["histogram", "h", [], [counts, 1.5]]]])
        text = aggregator.exposition()
        assert value(text, "junctor_requests_total", channel="a", server="s") == 4
        assert value(text, "h_count") == 2 * len(counts)
        assert value(text, "h_sum") == 3.0
        assert value(text, "h_bucket", le="0.001") == 2
        assert b"# HELP junctor_requests_total Requests by channel and status." in text

    def test_gauges_are_those_of_the_workers_that_live(self, tmp_path: Path) -> None:
        aggregator = Aggregator(tmp_path, server="s")
        for pid, version in ((1, 5), (2, 6), (1, 7)):
            aggregator.add([pid, [["gauge", "junctor_config_version", [], version]]])
        text = aggregator.exposition()
        assert value(text, "junctor_config_version", pid="1") == 7
        assert value(text, "junctor_config_version", pid="2") == 6
        aggregator.forget(1)
        aggregator.forget(99)
        text = aggregator.exposition()
        assert value(text, "junctor_config_version", pid="1") is None
        assert value(text, "junctor_config_version", pid="2") == 6

    def test_label_values_are_escaped(self, tmp_path: Path) -> None:
        aggregator = Aggregator(tmp_path, server="s")
        odd = 'quote " backslash \\ newline \n ä'
        aggregator.add([1, [["counter", "c_total", [["channel", odd]], 1.0]]])
        assert value(aggregator.exposition(), "c_total", channel=odd) == 1


class TestTheMaster:
    def test_everything_that_was_sent_before_a_question_is_in_the_answer(
        self, aggregator: Aggregator
    ) -> None:
        metrics = Metrics(aggregator.datagrams)
        for round_ in range(1, 6):
            for number in range(3 * SERIES_PER_MESSAGE):
                metrics.counter("c_total", n=str(number)).inc()
            metrics.flush()
            text = metrics_total.fetch(aggregator.queries)
            assert value(text, "c_total", n=str(3 * SERIES_PER_MESSAGE - 1)) == round_
        assert metrics.lost == 0
        metrics._socket.close()  # type: ignore[union-attr]

    def test_it_survives_what_is_no_message(self, aggregator: Aggregator) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(aggregator.datagrams))
            for rubbish in (b"", b"{", b"[]", b"[1]", b"[1,[[]]]"):
                sender.send(rubbish)
            sender.send(orjson.dumps([1, [["counter", "after_total", [], 1.0]]]))
        assert value(metrics_total.fetch(aggregator.queries), "after_total") == 1

    def test_it_starts_where_another_one_ended_without_cleaning_up(self, aggregator: Aggregator) -> None:
        successor = Aggregator(aggregator.datagrams.parent, server="server1")
        successor.start()
        metrics = Metrics(successor.datagrams)
        metrics.counter("c_total").inc()
        metrics.flush()
        assert value(metrics_total.fetch(successor.queries), "c_total") == 1
        metrics._socket.close()  # type: ignore[union-attr]

    def test_a_worker_closes_what_it_got_by_being_forked(self, aggregator: Aggregator) -> None:
        pid = os.fork()
        if pid == 0:
            aggregator.after_fork()
            os._exit(0 if all(item.fileno() == -1 for item in aggregator._sockets) else 1)
        wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid or None)
        assert metrics_total.fetch(aggregator.queries) is not None

    def test_asking_a_server_that_is_not_there_fails(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            metrics_total.fetch(tmp_path / "metrics.out")
