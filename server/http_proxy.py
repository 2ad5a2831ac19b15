"""The PROXY protocol, versions 1 and 2: who the client of a TCP load balancer is.

The specification is HAProxy's doc/proxy-protocol.txt.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from junctor.server.http_settings import ProxyProtocol
from junctor.sql.errors import BadRequest

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"

# Section 2.1: the longest line of version 1, CRLF included.
_MAX_V1: Final = 107
_V2_FIXED: Final = 16
# More than any address with the extensions that are in use.
_MAX_V2: Final = 4096
_MAX_PORT: Final = 65_535

_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES: Final = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a PROXY header says.

    ``consumed`` is the length of the header; ``client`` and ``server`` are the addresses and ports of the connection
    that the load balancer accepted, None if it made its connection for itself, as a health check does.
    """

    consumed: int
    client: tuple[str, int] | None = None
    server: tuple[str, int] | None = None


def parse_proxy_header(data: bytes, accepted: ProxyProtocol) -> ProxyHeader | None:
    """The header at the start of ``data``, None while it is not complete.

    Raises BadRequest if there is none, or one of a version that is not ``accepted``.
    """
    if accepted in ("v2", "auto") and (data.startswith(_V2) or _V2.startswith(data)):
        return _parse_v2(data)
    if accepted in ("v1", "auto") and (data.startswith(_V1) or _V1.startswith(data)):
        return _parse_v1(data)
    raise BadRequest(msg="no PROXY protocol header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _MAX_V1)
    if end < 0:
        if len(data) >= _MAX_V1:
            raise BadRequest(msg="malformed PROXY protocol header")
        return None
    fields = data[:end].decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":
        return ProxyHeader(end + 2)
    try:
        _, protocol, client, server, client_port, server_port = fields
        family = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}[protocol]
        for address in (client, server):
            socket.inet_pton(family, address)
        return ProxyHeader(end + 2, (client, _port(client_port)), (server, _port(server_port)))
    except (ValueError, KeyError, OSError):
        raise BadRequest(msg="malformed PROXY protocol header") from None


def _port(text: str) -> int:
    """A port number.  Raises ValueError if it is not one in the only spelling that the protocol knows."""
    port = int(text)
    if str(port) != text or not 0 <= port <= _MAX_PORT:
        raise ValueError(text)
    return port


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(_V2))
    if command not in (_LOCAL, _PROXY) or length > _MAX_V2:
        raise BadRequest(msg="malformed PROXY protocol header")
    consumed = _V2_FIXED + length
    if len(data) < consumed:
        return None
    if command == _LOCAL or family == 0:
        return ProxyHeader(consumed)
    known = _FAMILIES.get(family)
    if known is None or length < 2 * known[1] + 4:
        raise BadRequest(msg="unsupported address in the PROXY protocol header")
    kind, size = known
    addresses = data[_V2_FIXED:]
    client_port, server_port = struct.unpack_from("!HH", addresses, 2 * size)
    client = socket.inet_ntop(kind, addresses[:size])
    server = socket.inet_ntop(kind, addresses[size : 2 * size])
    return ProxyHeader(consumed, (client, client_port), (server, server_port))
