"""When a request that failed may be sent again, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
import urllib3

MAX_WAIT = 10.0  # seconds: whoever asks for more is told at once, rather than kept waiting

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 9.2.2
_FIRST_WAIT = 0.1
_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def is_idempotent(method: str) -> bool:
    """Whether sending a request with this method twice is the same as sending it once."""
    return method.upper() in _IDEMPOTENT


def wait_after_failure(error: requests.RequestException, attempt: int, *, idempotent: bool) -> float | None:
    """The seconds to wait before sending again a request that had no response, or None if it must not be.

    Any may be if no connection was made, since nothing was sent then; if the connection was closed, those that do
    no harm twice.  One that has timed out never is: the server may be at it still.
    """
    found = list(causes(error))
    unsent = any(
        isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
        for cause in found
    )
    closed = any(
        isinstance(cause, ConnectionResetError | ConnectionAbortedError | BrokenPipeError) for cause in found
    )
    if not unsent and not (closed and idempotent):
        return None
    return float(min(MAX_WAIT, _FIRST_WAIT * 2**attempt * random.uniform(0.5, 1)))  # noqa: S311 - no secret


def wait_after_response(response: requests.Response, *, idempotent: bool) -> float | None:
    """The seconds to wait before sending again a request that was not taken, or None if it must not be.

    That is for the server to say: without Retry-After (RFC 9110 10.2.3) there is no second attempt.
    """
    if response.status_code not in _LATER or not idempotent:
        return None
    seconds = _seconds(response.headers.get("Retry-After", ""))
    return None if seconds is None or seconds > MAX_WAIT else seconds


def _seconds(retry_after: str) -> float | None:
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from, however they were wrapped."""
    queue, seen = [error], set()
    while queue:
        current = queue.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            inner: list[Any] = [
                *current.args,
                getattr(current, "reason", None),
                current.__cause__,
                current.__context__,
            ]
            queue.extend(item for item in inner if isinstance(item, BaseException))
