"""What is measured of an outgoing WebSocket connection."""

from __future__ import annotations

from typing import Final

from junctor.server.metrics import Metrics

OK, ERROR, TIMEOUT, FAILED = "ok", "error", "timeout", "failed"
OUTCOMES: Final = (OK, ERROR, TIMEOUT, FAILED)  # of calls: 'error' is what the remote service answered
_PREFIX: Final = "junctor_outgoing_websocket"


class LinkMetrics:
    """The series of one connection, by its name."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.connected = metrics.gauge(f"{_PREFIX}_connected", connection=name)
        self.seconds = metrics.histogram(f"{_PREFIX}_seconds", connection=name)
        self.pings = metrics.histogram(f"{_PREFIX}_ping_seconds", connection=name)
        self.reconnects = metrics.counter(f"{_PREFIX}_reconnects_total", connection=name)
        self.messages = metrics.counter(f"{_PREFIX}_messages_total", connection=name)
        self._calls = {
            outcome: metrics.counter(f"{_PREFIX}_calls_total", connection=name, outcome=outcome)
            for outcome in OUTCOMES
        }

    def called(self, outcome: str, seconds: float) -> None:
        """Counts a call; those that failed at once are not in the histogram, where they would look fast."""
        self._calls[outcome].inc()
        if outcome != FAILED:
            self.seconds.observe(seconds)
