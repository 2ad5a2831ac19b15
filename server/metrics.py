"""Numbers about a server: counted in each worker, added up by its master, shown by ``/metrics``.

A worker counts in plain Python objects, which costs a request well under a microsecond, and once a second sends what has changed over a
Unix socket to ``metrics_total.Aggregator``.  Totals are exact over workers, and a worker that ends takes nothing with it.
"""

from __future__ import annotations

import os
import socket
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import orjson

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
SERIES_PER_MESSAGE = 50
MAX_SERIES = 100_000

Labels = tuple[tuple[str, str], ...]


class Counter:
    """Counts up: requests, errors, bytes."""

    __slots__ = ("_sent", "labels", "name", "value")
    type = "counter"

    def __init__(self, name: str, labels: Labels) -> None:
        self.name, self.labels = name, labels
        self.value = self._sent = 0.0

    def inc(self, amount: float = 1) -> None:
        """Adds ``amount``."""
        self.value += amount

    def take(self) -> Any:
        """What was added since the last time; None when nothing was."""
        if self.value == self._sent:
            return None
        delta, self._sent = self.value - self._sent, self.value
        return delta


class Gauge:
    """A value that goes up and down: open connections, the applied version.  A server's is the sum over its workers."""

    __slots__ = ("_sent", "labels", "name", "value")
    type = "gauge"

    def __init__(self, name: str, labels: Labels) -> None:
        self.name, self.labels = name, labels
        self.value = 0.0
        self._sent: float | None = None

    def set(self, value: float) -> None:
        """Sets the value."""
        self.value = value

    def take(self) -> Any:
        """The value, when it is another than the last time."""
        if self.value == self._sent:
            return None
        self._sent = self.value
        return self.value


class Histogram:
    """How long something took, in seconds, by ``BUCKETS``."""

    __slots__ = ("_sent", "counts", "labels", "name", "total")
    type = "histogram"

    def __init__(self, name: str, labels: Labels) -> None:
        self.name, self.labels = name, labels
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self._sent: tuple[list[int], float] = ([0] * (len(BUCKETS) + 1), 0.0)

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def take(self) -> Any:
        """What was counted since the last time: counts by bucket, and the sum of seconds; None when nothing was."""
        counts, total = self._sent
        if self.counts == counts:
            return None
        delta = [now - then for now, then in zip(self.counts, counts, strict=True)], self.total - total
        self._sent = self.counts.copy(), self.total
        return delta


Series = Counter | Gauge | Histogram


class Metrics:
    """The series of one worker.  Asking for a series again returns the same one; callers keep the ones that they use often."""

    def __init__(self, address: Path | None = None) -> None:
        self._series: dict[tuple[str, Labels], Series] = {}
        self._address = str(address) if address else ""
        self._socket: socket.socket | None = None
        self.lost = 0

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter of this name and these labels."""
        return cast(Counter, self._find(Counter, name, labels))

    def gauge(self, name: str, **labels: str) -> Gauge:
        """The gauge of this name and these labels."""
        return cast(Gauge, self._find(Gauge, name, labels))

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram of this name and these labels."""
        return cast(Histogram, self._find(Histogram, name, labels))

    def _find(self, kind: type[Series], name: str, labels: Mapping[str, str]) -> Series:
        key = (name, tuple(sorted(labels.items())))
        found = self._series.get(key)
        if found is None:
            found = kind(name, key[1])
            if len(self._series) < MAX_SERIES:
                self._series[key] = found
        return found

    def flush(self) -> None:
        """Sends what has changed; what cannot be sent is counted in ``lost`` and is missing from the totals."""
        for message in self._messages():
            self._send(message)

    def _messages(self) -> Iterator[list[Any]]:
        batch: list[Any] = []
        for series in list(self._series.values()):
            if (change := series.take()) is not None:
                batch.append([series.type, series.name, series.labels, change])
                if len(batch) == SERIES_PER_MESSAGE:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _send(self, batch: list[Any]) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(1.0)
                self._socket.connect(self._address)
            self._socket.send(orjson.dumps([os.getpid(), batch]))
        except OSError:
            self.lost += len(batch)
            if self._socket is not None:
                self._socket.close()
            self._socket = None
