"""Gunicorn's own gevent worker as an oracle: of the same bytes, both make the same requests or none.

Ours may refuse what the other one takes, for the reasons in ``STRICTER`` and only for these, never the other way round.
Beyond that it differs in what ``normalised`` evens out, and in that it ignores a header SCRIPT_NAME, which is why there
is none here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

Seen = dict[str, Any]

# Reason -> whether it applies to a request that gunicorn's worker has seen.
STRICTER: dict[str, Callable[[Seen], object]] = {
    "a body that is cut off is not a body": lambda seen: int(seen["length"] or 0) > len(seen["body"]),
    "HTTP/1.1 has a Host": lambda seen: seen["protocol"] == "HTTP/1.1" and "HTTP_HOST" not in seen["headers"],
    "a Host is a host": lambda seen: (
        not re.fullmatch(r"[\w.\-%]*(:\d*)?", seen["headers"].get("HTTP_HOST", ""), re.A)
    ),
    "there are 1.0 and 1.1": lambda seen: seen["protocol"] not in ("HTTP/1.0", "HTTP/1.1"),
    "chunked is the only coding": lambda seen: (
        seen["headers"].get("HTTP_TRANSFER_ENCODING", "chunked").lower() != "chunked"
    ),
    "CONNECT is for proxies": lambda seen: seen["method"] == "CONNECT",
    "methods are registered ones": lambda seen: seen["method"] not in METHODS,
    "fragments stay with the client": lambda seen: "#" in seen["target"],
    "a target and a Host that differ": lambda seen: not _same_host(seen),
    "only HTTP is served": lambda seen: re.match(r"(?!https?:)[^/]*:", seen["target"], re.I),
}

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "QUERY"}


def _same_host(seen: Seen) -> bool:
    absolute = re.match(r"https?://([^/?]*)", seen["target"], re.I)
    return absolute is None or absolute[1].lower() == seen["headers"].get("HTTP_HOST", absolute[1]).lower()


def normalised(seen: Seen) -> Seen:
    """What was seen, without what is told differently: RFC 6265 joins cookies with semicolons, an empty path is /."""
    headers = dict(seen["headers"])
    if "HTTP_COOKIE" in headers:
        headers["HTTP_COOKIE"] = headers["HTTP_COOKIE"].replace("; ", ",")
    return {**seen, "headers": headers, "path": seen["path"] or "/"}


class Worker:
    """What a worker makes of bytes."""

    def __init__(self, address) -> None:
        self._address = address

    def answers(self) -> bool:
        try:
            return self.requests(b"GET / HTTP/1.0\r\n\r\n") != []
        except OSError:
            return False

    def requests(self, data: bytes) -> list[Seen | None]:
        """What the application saw, request by request, with None where the worker refused one."""
        received = b""
        with socket.create_connection(self._address, timeout=5) as connection:
            with contextlib.suppress(ConnectionError, OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while more := connection.recv(65536):
                    received += more
        seen: list[Seen | None] = []
        while received:
            head, _, received = received.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            if status != 100:
                length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
                seen.append(json.loads(received[:length]) if status == 200 else None)
                received = received[length:]
        return seen


@pytest.fixture(scope="module")
def workers(gunicorns) -> tuple[Worker, Worker]:
    """Ours and the oracle."""
    ours = Worker(gunicorns(application="app:echo", forwarded_allow_ips="").address)
    oracle = Worker(gunicorns(application="app:echo", forwarded_allow_ips="", worker_class="gevent").address)
    with gevent.Timeout(10):
        while not (ours.answers() and oracle.answers()):
            gevent.sleep(0.05)
    return ours, oracle


METHOD = st.sampled_from(
    [b"GET"] * 4 + [b"POST"] * 4 + [b"PUT", b"OPTIONS", b"M-SEARCH", b"CONNECT", b"HACK", b"get", b""]
)
TARGET = st.sampled_from(
    [b"/a"] * 4
    + [
        b"/",
        b"/a%20b?x=1",
        b"/a?b?c",
        b"//x",
        b"/%",
        b"/%zz%2f",
        b"http://a/b?c",
        b"HTTP://localhost/b",
        b"http://localhost",
    ]
    + [
        b"*",
        b"/a#b",
        b"/\xe9",
        b"a",
        b"/..;/",
        b"/a\\b",
        b"/?",
        b"?a",
        b'/a"<>{}|^`',
        b"/" + b"a" * 8190,
        b"ftp://localhost/",
    ]
)
VERSION = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0"] * 2 + [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "]
)
HEADER = st.sampled_from(
    [
        b"Host: localhost",
        b"Host: other",
        b"host:",
        b"Host: a b",
        b"X-A: b",
        b"X-A:",
        b"X-A: \t b \t",
        b"x-a: c",
        b"X_A: d",
        b"Cookie: a=1",
        b"Cookie: b=2",
        b"Content-Type: text/plain",
        b"Content-Type: a/b",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Expect: x",
        b"X-A : b",
        b" folded",
        b"\tfolded",
        b"X-B: \xe9\xff",
        b"X-C: a\x01b",
        b"X-D: a\0b",
        b"X(): a",
        b"NoColon",
        b": empty",
        b"X-E: a\rb",
        b"X-F: a\nb",
        b"X-Forwarded-Proto: https",
        b"TE: trailers",
        b"X-G: " + b"a" * 8190,
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Length: 3",
        b"Content-Length: 03",
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"Content-Length: 0",
        b"Content-Length: -1",
        b"Content-Length: ",
    ]
)
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = st.sampled_from(
    [(b"", b"")] * 3
    + [(LENGTH, b"hello"), (LENGTH, b"hel"), (LENGTH, b"hello, GET"), (LENGTH, b"")]
    + [(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), (CHUNKED, b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX-T: a\r\n\r\n")]
    + [
        (CHUNKED, b"5\r\nhello\r\n"),
        (CHUNKED, b"05\r\nhello\r\n000\r\n\r\n"),
        (CHUNKED, b"5 ;a\r\nhello\r\n0\r\nHost: a\r\n\r\n"),
    ]
    + [
        (CHUNKED, b"5\r\nhelloo\r\n0\r\n\r\n"),
        (CHUNKED, b"5\nhello\n0\n\n"),
        (CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    ]
    + [(CHUNKED, b'5;a="b;"\r\nhello\r\n0;x\r\n\r\n'), (CHUNKED, b"5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\n")]
)
NOISE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b",", b"a", b"0", b"\xff", b"/"]
)


@st.composite
def requests(draw) -> bytes:
    """One request or several, more or less well-formed, with a few bytes changed."""
    data = b""
    for _ in range(draw(st.integers(1, 3))):
        headers = draw(st.lists(HEADER, max_size=3)) + [b"Host: localhost"] * draw(
            st.sampled_from([1, 1, 1, 1, 0])
        )
        framing, body = draw(BODY)
        line = b" ".join([draw(METHOD), draw(TARGET), draw(VERSION)])
        data += line + b"\r\n" + b"".join(header + b"\r\n" for header in headers) + framing + b"\r\n" + body
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(NOISE) + data[at + draw(st.integers(0, 1)) :]
    return data


@settings(
    max_examples=600,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=requests())
@example(data=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
@example(data=b"\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
@example(data=b"CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
def test_both_workers_see_the_same(workers, data):
    ours, oracle = (worker.requests(data) for worker in workers)
    for number in range(max(len(ours), len(oracle))):
        mine = ours[number] if number < len(ours) else None
        other = oracle[number] if number < len(oracle) else None
        if mine is None:
            if other is not None:
                assert [reason for reason, applies in STRICTER.items() if applies(other)]
            return
        assert other is not None
        assert normalised(mine) == normalised(other)
