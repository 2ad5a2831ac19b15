"""The totals of a server's metrics, kept by its master in a thread of the operating system.

The master forks workers and does nothing else, so its thread is always there, whatever happens to a worker.  It uses no gevent: the hub of
the master sleeps most of the time.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from gevent import monkey
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from junctor.server.metrics import BUCKETS, Labels

MAX_MESSAGE = 1 << 20
DESCRIPTIONS = {
    "junctor_requests_total": "Requests by channel and status.",
    "junctor_request_seconds": "Time from the head of a request to its response, by channel.",
    "junctor_service_seconds": "Time that calls of a service took.",
    "junctor_service_errors_total": "Calls of a service that raised an error.",
    "junctor_config_version": "The version of the configuration that a worker has applied.",
    "junctor_config_apply_seconds": "Time that a change took from its commit to its effect in a worker.",
    "junctor_config_problems": "Live objects that do not work.",
    "junctor_connections": "Open HTTP connections.",
    "junctor_worker_memory_bytes": "Resident memory of a worker.",
    "junctor_websocket_relayed_total": "Operations on WebSocket clients of other workers, by operation and error.",
    "junctor_pubsub_published_total": "Messages that were published, by topic.",
    "junctor_pubsub_refused_total": "Publications that were refused, by reason.",
    "junctor_pubsub_commit_seconds": "Time that a transaction took that stored messages.",
    "junctor_pubsub_writer_queue": "Messages that wait to be stored.",
    "junctor_pubsub_delivered_total": "Messages that were delivered and acknowledged, by delivery method.",
    "junctor_pubsub_delivery_failures_total": "Deliveries that failed, by delivery method.",
    "junctor_pubsub_dead_letters_total": "Messages that became dead letters, by delivery method.",
    "junctor_pubsub_hints_sent_total": "Hints to workers that there is something to deliver.",
    "junctor_pubsub_volatile_dropped_total": "Messages without guaranteed delivery for which there was no room.",
    "junctor_pubsub_depth": "Messages that wait, by topic, endpoint and subscription; set by one worker of the cluster.",
    "junctor_pubsub_oldest_seconds": "How long the oldest message waits, by topic, endpoint and subscription.",
    "junctor_pubsub_dead_letters": "Dead letters, by topic, endpoint and subscription.",
    "junctor_pubsub_partitions": "Partitions of the table of messages.",
    "junctor_pubsub_expired_total": "Messages that expired before they were delivered, by topic.",
    "junctor_pubsub_removed_total": "Rows that the maintenance has removed, by what they were.",
    "junctor_pubsub_maintenance_seconds": "Time that a step of the maintenance took, by chore.",
    "junctor_logins_refused_total": "Requests whose credentials were refused, by channel.",
}
log = logging.getLogger(__name__)


class Aggregator:
    """Adds up what workers send to ``datagrams`` and answers with the exposition format whoever connects to ``queries``.

    The life cycle: ``start`` binds both sockets and may raise ``OSError``; ``forget`` is called with the pid of a worker that ended;
    ``after_fork`` in each worker, where the sockets do not belong.
    """

    def __init__(self, directory: Path, *, server: str) -> None:
        self.datagrams = directory / "metrics.in"
        self.queries = directory / "metrics.out"
        self._server = server
        self._totals: dict[tuple[str, str, Labels], Any] = {}
        self._gauges: dict[tuple[str, Labels], dict[int, float]] = {}
        self._lock = monkey.get_original("_thread", "allocate_lock")()
        self._sockets: list[Any] = []

    def start(self) -> None:
        """Binds the sockets and starts the thread."""
        plain = monkey.get_original("socket", "socket")
        incoming = plain(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener = plain(socket.AF_UNIX, socket.SOCK_STREAM)
        for item, path in ((incoming, self.datagrams), (listener, self.queries)):
            path.unlink(missing_ok=True)
            item.bind(str(path))
            path.chmod(0o600)
        listener.listen(16)
        self._sockets = [incoming, listener]
        monkey.get_original("_thread", "start_new_thread")(self._run, ())

    def after_fork(self) -> None:
        """Closes the sockets in a worker; the thread stayed with the master."""
        for item in self._sockets:
            item.close()

    def forget(self, pid: int) -> None:
        """Takes the gauges of a worker that ended out of the sums; its counters stay."""
        with self._lock:
            for values in self._gauges.values():
                values.pop(pid, None)

    def _run(self) -> None:
        wait = monkey.get_original("select", "select")
        incoming, listener = self._sockets
        while True:
            ready, _, _ = wait([incoming, listener], [], [])
            try:
                if incoming in ready:
                    self.add(orjson.loads(incoming.recv(MAX_MESSAGE)))
                elif listener in ready:  # once everything that was sent before the question has been added
                    self._answer(listener)
            except (OSError, ValueError) as error:
                log.warning("A message of the metrics could not be handled: %s", error)

    def _answer(self, listener: Any) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2.0)
            connection.sendall(self.exposition())

    def add(self, message: Sequence[Any]) -> None:
        """Adds what a worker sent: its pid and the changes of its series."""
        pid, batch = message
        with self._lock:
            for type_, name, pairs, change in batch:
                labels = tuple((key, value) for key, value in pairs)
                if type_ == "gauge":
                    self._gauges.setdefault((name, labels), {})[pid] = change
                elif type_ == "counter":
                    self._totals[type_, name, labels] = self._totals.get((type_, name, labels), 0.0) + change
                else:
                    counts, total = self._totals.get((type_, name, labels), ([0] * (len(BUCKETS) + 1), 0.0))
                    added = [one + other for one, other in zip(counts, change[0], strict=True)]
                    self._totals[type_, name, labels] = (added, total + change[1])

    def exposition(self) -> bytes:
        """All totals in the text format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The totals as prometheus_client wants them."""
        with self._lock:
            totals = sorted(self._totals.items(), key=lambda item: item[0][1:])
            gauges = sorted((key, dict(values)) for key, values in self._gauges.items())
        families: dict[str, Metric] = {}
        for (type_, name, labels), value in totals:
            _add(families, type_, name, (*labels, ("server", self._server)), value)
        for (name, labels), values in gauges:
            for pid, value in values.items():
                _add(families, "gauge", name, (*labels, ("server", self._server), ("pid", str(pid))), value)
        yield from families.values()


def _add(families: dict[str, Metric], type_: str, name: str, labels: Labels, value: Any) -> None:
    keys, values = [key for key, _ in labels], [text for _, text in labels]
    help_ = DESCRIPTIONS.get(name, name)
    if type_ == "histogram":
        family = families.setdefault(name, HistogramMetricFamily(name, help_, labels=keys))
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric(values, buckets=list(_cumulative(value[0])), sum_value=value[1])
    elif type_ == "counter":
        family = families.setdefault(name, CounterMetricFamily(name, help_, labels=keys))
        assert isinstance(family, CounterMetricFamily)
        family.add_metric(values, value)
    else:
        family = families.setdefault(name, GaugeMetricFamily(name, help_, labels=keys))
        assert isinstance(family, GaugeMetricFamily)
        family.add_metric(values, value)


def _cumulative(counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        total += count
        yield bound, float(total)


def fetch(queries: Path) -> bytes:
    """The exposition of the server whose aggregator answers on ``queries``; raises ``OSError`` when it does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5.0)
        connection.connect(os.fspath(queries))
        return b"".join(iter(lambda: connection.recv(65536), b""))
