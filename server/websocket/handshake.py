"""The opening handshake of both sides (RFC 6455, section 4)."""

from __future__ import annotations

import io
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha1
from hmac import compare_digest
from http.client import HTTPException, HTTPMessage, parse_headers
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import gevent
from gevent import socket

from junctor.server.websocket import deflate, tls
from junctor.sql.errors import BadRequest, ConnectionFailed, ConnectionTimeout, UpgradeRequired

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION: Final = "13"
KEY_SIZE, MAX_HEAD = 16, 65_536
SWITCHING = 101
PORTS: Final = {"ws": 80, "wss": 443}


class Answer(NamedTuple):
    """What a server answered: the compression that was agreed on, and what came after the handshake."""

    compression: deflate.Agreement | None
    received: bytes


def accept_key(key: str) -> str:
    """What the server answers to a key."""
    return b64encode(sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()).decode()


def response(environ: Mapping[str, Any], *, extensions: str = "") -> bytes:
    """The answer that makes a request a WebSocket with these extensions.  Raises ``BadRequest`` or ``UpgradeRequired``."""
    options = {item.strip().lower() for item in environ.get("HTTP_CONNECTION", "").split(",")}
    if environ.get("REQUEST_METHOD") != "GET" or "upgrade" not in options:
        raise BadRequest(msg="A WebSocket begins with a GET that has Connection: Upgrade.")
    if environ.get("HTTP_UPGRADE", "").strip().lower() != "websocket":
        raise BadRequest(msg="Upgrade must be websocket.")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != VERSION:
        raise UpgradeRequired(msg=f"The version of the WebSocket protocol must be {VERSION}.")
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    try:
        is_key = len(b64decode(key, validate=True)) == KEY_SIZE
    except (Base64Error, ValueError):
        is_key = False
    if not is_key:
        raise BadRequest(msg="Sec-WebSocket-Key must be 16 bytes in base64.")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key)}",
    ]
    if extensions:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join((*lines, "\r\n")).encode()


def connect(
    address: str, *, timeout: float, tls_verify: bool, headers: Mapping[str, str], compression: bool
) -> tuple[socket.socket, Answer]:
    """A socket on which a server has agreed to speak WebSocket, within ``timeout`` seconds, and what it answered.

    Raises ``ConnectionFailed``, or ``ConnectionTimeout``.
    """
    parts = parse_address(address)
    opened = None
    timer = gevent.Timeout.start_new(timeout)
    try:
        opened = open_socket(parts, timeout=timeout, tls_verify=tls_verify)
        answer = shake_hands(opened, parts, headers, compression=compression)
        opened.settimeout(None)
    except BaseException as error:
        if opened is not None:
            opened.close()
        if error is timer or isinstance(error, TimeoutError):
            raise ConnectionTimeout(f"{address} did not answer within {timeout:g} s.") from error
        if isinstance(error, OSError):
            raise ConnectionFailed(f"{address} cannot be connected to: {error}.") from error
        raise
    else:
        return opened, answer
    finally:
        timer.close()


def parse_address(address: str) -> SplitResult:
    """The parts of a ws:// or wss:// address.  Raises ``ConnectionFailed``."""
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme.lower() in PORTS and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConnectionFailed(f"{address!r} is not the address of a WebSocket, such as ws://host:port/path.")
    return parts


def open_socket(parts: SplitResult, *, timeout: float, tls_verify: bool) -> socket.socket:
    """A connected socket, with TLS for wss.  Raises OSError."""
    host = str(parts.hostname)
    scheme = parts.scheme.lower()
    opened = socket.create_connection((host, parts.port or PORTS[scheme]), timeout=timeout)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if scheme == "ws":
            return opened
        return tls.client_context(verify=tls_verify).wrap_socket(opened, server_hostname=host)
    except BaseException:
        opened.close()
        raise


def shake_hands(
    opened: socket.socket, parts: SplitResult, headers: Mapping[str, str], *, compression: bool = False
) -> Answer:
    """What the server answered to our request.  Raises ``ConnectionFailed``, OSError."""
    key = b64encode(os.urandom(KEY_SIZE)).decode()
    extensions = {"Sec-WebSocket-Extensions": deflate.OFFER} if compression else {}
    opened.sendall(_request(parts, key, {**extensions, **headers}))
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        data: bytes = opened.recv(MAX_HEAD)
        received += data
        if not data or len(received) > MAX_HEAD:
            raise ConnectionFailed("The remote end did not answer the handshake with HTTP.")
    fields = _check_answer(received[: end + 4], key)
    return Answer(_agreed(fields, is_offered=compression), received[end + 4 :])


def _request(parts: SplitResult, key: str, headers: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    if parts.port and parts.port != PORTS[parts.scheme.lower()]:
        host = f"{host}:{parts.port}"
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": VERSION,
        **headers,
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(character in line for line in lines for character in "\r\n\0"):
        raise ConnectionFailed("The address or a header has a line break in it.")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")


def _check_answer(head: bytes, key: str) -> HTTPMessage:
    """The header fields of an answer that agrees to speak WebSocket."""
    line, _, rest = head.partition(b"\r\n")
    version, _, status = line.decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not (status[:3].isascii() and status[:3].isdigit()):
        raise ConnectionFailed("The remote end did not answer the handshake with HTTP.")
    if int(status[:3]) != SWITCHING:
        raise ConnectionFailed(f"The remote end refused the WebSocket: {status.strip()}.")
    try:
        fields: HTTPMessage = parse_headers(io.BytesIO(rest))
    except HTTPException as error:
        raise ConnectionFailed(f"The remote end answered the handshake wrongly: {error}.") from error
    given = fields.get("Sec-WebSocket-Accept", "").strip()
    is_upgrade = fields.get("Upgrade", "").strip().lower() == "websocket"
    if not is_upgrade or not compare_digest(given.encode("latin-1", "replace"), accept_key(key).encode()):
        raise ConnectionFailed("The remote end answered the handshake wrongly: it is no WebSocket server.")
    return fields


def _agreed(fields: HTTPMessage, *, is_offered: bool) -> deflate.Agreement | None:
    """The compression that the server agreed to."""
    extensions = ", ".join(fields.get_all("Sec-WebSocket-Extensions", []))
    agreed = deflate.accepted(extensions) if is_offered and extensions else None
    if (extensions and agreed is None) or fields.get("Sec-WebSocket-Protocol"):
        raise ConnectionFailed("The remote end answered with an extension that it was not asked for.")
    return agreed
