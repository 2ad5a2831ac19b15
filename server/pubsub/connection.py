"""Whether an HTTP client that waits for its answer is still there."""

from __future__ import annotations

import select
from collections.abc import Mapping
from typing import Any, Final

from gevent.monkey import get_original

HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_poll: Final = get_original("select", "poll")  # gevent's would wait for a turn of its hub


def has_left(environ: Mapping[str, Any]) -> bool:
    """Whether the client of a request has closed its connection, as far as can be told without reading from it."""
    connection = environ.get("junctor.socket")
    if connection is None or connection.fileno() < 0:
        return connection is not None
    poll = _poll()
    poll.register(connection.fileno(), HUNG_UP)
    return bool(poll.poll(0))
