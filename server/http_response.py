"""One response: the application's status, headers and body, as bytes of HTTP."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from types import TracebackType
from typing import Final

from junctor.server.http_request import RequestHead

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Headers = list[tuple[str, str]]

# A response of up to this many bytes is copied together and goes out in one system call.
_MAX_JOINED: Final = 262_144

_STATUS: Final = re.compile(r"[1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")

_MAX_KNOWN: Final = 1024
_PLAIN, _CONTENT_LENGTH, _DATE, _CONNECTION, _UPGRADE, _DROPPED = range(6)
_SPECIAL: Final = {
    "content-length": _CONTENT_LENGTH,
    "date": _DATE,
    "connection": _CONNECTION,
    "upgrade": _UPGRADE,
    # What concerns this connection is the server's to say: PEP 3333, "Other HTTP Features".
    "keep-alive": _DROPPED,
    "proxy-connection": _DROPPED,
    "te": _DROPPED,
    "trailer": _DROPPED,
    "transfer-encoding": _DROPPED,
}
_kinds: dict[str, int] = {}
_statuses: dict[str, tuple[int, str]] = {}

_date_second = 0
_date_line = ""


def _date() -> str:
    """The Date header of this second."""
    global _date_second, _date_line
    now = int(time.time())
    if now != _date_second:
        _date_second, _date_line = now, f"Date: {formatdate(now, usegmt=True)}"
    return _date_line


def _kind(name: str) -> int:
    """How a response header is treated.  Raises ValueError if it is not a header name."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"Invalid response header name {name!r}")
    kind = _SPECIAL.get(name.lower(), _PLAIN)
    if len(_kinds) < _MAX_KNOWN:
        _kinds[name] = kind
    return kind


def _status(status: str) -> tuple[int, str]:
    """The status code and the status line.  Raises ValueError if it is not a status."""
    if _STATUS.fullmatch(status) is None:
        raise ValueError(f"Invalid response status {status!r}")
    parsed = int(status[:3]), f"HTTP/1.1 {status if len(status) > 3 else status + ' '}"
    if len(_statuses) < _MAX_KNOWN:
        _statuses[status] = parsed
    return parsed


class Response:
    """The response to one request, for ``start`` is its WSGI ``start_response``.

    ``transmit`` sends bytes; ``may_keep_alive`` is asked, when the head is sent, whether the connection will take another
    request.  Afterwards ``keep_alive`` says what the client was told and ``problem`` what the application did wrong
    that the client could only be told by closing the connection.
    """

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_declared",
        "_http_1_1",
        "_is_head",
        "_may_keep_alive",
        "_transmit",
        "head_sent",
        "headers",
        "keep_alive",
        "problem",
        "sent",
        "status",
        "status_code",
    )

    def __init__(
        self, request: RequestHead, transmit: Callable[[bytes], None], may_keep_alive: Callable[[], bool]
    ) -> None:
        self._is_head = self._bodyless = request.is_head
        self._http_1_1 = request.http_1_1
        self._transmit = transmit
        self._may_keep_alive = may_keep_alive
        self._declared = -1
        self._chunked = False
        self.status = ""
        self.status_code = 0
        self.headers: Headers = []
        self.head_sent = self.keep_alive = False
        self.problem = ""
        self.sent = 0

    def start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """The ``write`` of PEP 3333.

        Raises the error in ``exc_info`` if there is one and the head has been sent, AssertionError if a response was
        started already and there is none.
        """
        if exc_info:
            try:
                if self.head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a traceback that refers to this frame would be a cycle
        elif self.status:
            raise AssertionError("start_response was called twice without an error")
        self.status_code, _ = _statuses.get(status) or _status(status)
        self.status = status
        self.headers = headers
        return self.write

    def send(self, result: Iterable[bytes]) -> None:
        """Sends what the application returned: a list of one at once, anything else piece by piece."""
        if type(result) is list and len(result) == 1 and not self.head_sent:
            self._send_all(result[0])
            return
        if isinstance(result, (list, tuple)) and not self.head_sent:
            self._declared = sum(map(len, result))
            if self._declared <= _MAX_JOINED:
                self._send_all(b"".join(result))
                return
        for piece in result:
            if piece:
                self.write(piece)
        self._finish()

    def write(self, data: bytes) -> None:
        """Sends the next piece of the body, after the head if it was not sent yet."""
        if not data:
            return
        head = b"" if self.head_sent else self._head(self._declared)
        if self._bodyless:
            data = b""
        elif self._declared >= 0:
            data = self._within_declared(data)
        if self._chunked and data:
            data, self.sent = b"%x\r\n%b\r\n" % (len(data), data), self.sent + len(data)
        else:
            self.sent += len(data)
        self._put(head, data)

    def _send_all(self, body: bytes) -> None:
        """Head and body at once."""
        length = len(body)
        head = self._head(length)
        if self._bodyless:
            body = b""
        elif self._declared != length:
            body = self._within_declared(body)
            self._check_length(len(body))
        self.sent = len(body)
        self._put(head, body)

    def _put(self, head: bytes, data: bytes) -> None:
        """Sends what there is of the head, and the data with it if that is not too much to be copied."""
        if len(data) > _MAX_JOINED:
            if head:
                self.head_sent = True
                self._transmit(head)
            self._transmit(data)
        elif joined := head + data:
            self.head_sent = True
            self._transmit(joined)

    def _finish(self) -> None:
        if not self.head_sent:
            self._put(self._head(0), b"")
        if self._chunked:
            self._transmit(b"0\r\n\r\n")
        elif not self._bodyless:
            self._check_length(self.sent)

    def _within_declared(self, data: bytes) -> bytes:
        """``data`` without what goes beyond the Content-Length that the client was told."""
        left = self._declared - self.sent
        if len(data) > left:
            self.problem = f"the body is longer than its Content-Length, {self._declared}"
            return data[:left]
        return data

    def _check_length(self, sent: int) -> None:
        if self._declared > sent:
            self.problem = f"the body has {sent} bytes, its Content-Length is {self._declared}"
            self.keep_alive = False

    def _head(self, length: int) -> bytes:
        """Status line and headers; ``length`` is the body's, -1 while it is not known.

        Raises ValueError or TypeError for a header that cannot be sent, AssertionError if there is no response.
        """
        if not self.status:
            raise AssertionError("the application did not call start_response")
        code, line = _statuses.get(self.status) or _status(self.status)
        interim = code < 200
        forbids_body = interim or code in (204, 304)
        self._bodyless = forbids_body or self._is_head

        lines = [line, _date()]
        declared, closes = self._add_headers(lines, interim=interim)
        if interim or code == 204:
            self._declared = -1
        elif declared >= 0:
            self._declared = declared
            lines.append(f"Content-Length: {declared}")
        elif length > 0 or (length == 0 and not self._bodyless):
            self._declared = length
            lines.append(f"Content-Length: {length}")
        elif not self._bodyless:
            self._chunked = self._http_1_1
            closes = closes or not self._http_1_1
            if self._chunked:
                lines.append("Transfer-Encoding: chunked")
        self._add_connection(lines, closes=closes, interim=interim)

        lines.append("\r\n")
        head = "\r\n".join(lines).encode("latin-1")
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise ValueError("A response header contains a line break or a NUL")
        return head

    def _add_headers(self, lines: list[str], *, interim: bool) -> tuple[int, bool]:
        """Appends the application's headers; its Content-Length (-1: none), and whether it wants to close."""
        declared, closes = -1, False
        for name, value in self.headers:
            kind = _kinds.get(name)
            if kind is None:
                kind = _kind(name)
            if kind == _PLAIN or (kind == _UPGRADE and interim):
                lines.append(name + ": " + value)
            elif kind == _CONTENT_LENGTH:
                if _LENGTH.fullmatch(value) is None or declared >= 0:
                    raise ValueError(f"Invalid response Content-Length {value!r}")
                declared = int(value)
            elif kind == _DATE:
                lines[1] = name + ": " + value
            elif kind == _CONNECTION:
                closes = closes or value.lower() == "close"
        return declared, closes

    def _add_connection(self, lines: list[str], *, closes: bool, interim: bool) -> None:
        if interim:
            lines.append("Connection: upgrade")
            return
        self.keep_alive = not closes and self._may_keep_alive()
        if not self.keep_alive:
            lines.append("Connection: close")
        elif not self._http_1_1:
            lines.append("Connection: keep-alive")


def plain_response(status: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A complete response of the server's own, after which the connection is closed."""
    lines = [f"HTTP/1.1 {status}", _date(), *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "\r\n"]
    return "\r\n".join(lines).encode("latin-1") + body
