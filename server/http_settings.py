"""What the HTTP worker allows and how long it waits: the limits, and whom it believes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Network = IPv4Network | IPv6Network
ProxyProtocol = Literal["off", "v1", "v2", "auto"]

NEVER: Final = float("inf")

# The spellings that proxies use to say that their client came through TLS, and the value that means so.
SECURE_HEADERS: Final = (("HTTP_X_FORWARDED_PROTO", "https"),)


@dataclass(frozen=True, slots=True)
class HTTPLimits:
    """What one connection and one request may cost.

    Sizes are bytes, times are seconds.  A request beyond ``request_line`` is answered with 414, one beyond
    ``header_count``, ``header_size`` (one field, name and value) or ``head_size`` (all of it) with 431, one beyond
    ``body_size`` with 413, one that does not arrive in time with 408.
    """

    request_line: int = 8190
    header_count: int = 100
    header_size: int = 8190
    head_size: int = 65_536
    body_size: int = 100 * 1024 * 1024
    requests_per_connection: int = 10_000
    # From the first byte of a request to the end of its headers, however often a byte arrives.
    header_timeout: float = 10.0
    # Between two pieces of a body; on average they must also come at body_rate bytes a second.
    body_timeout: float = 30.0
    body_rate: int = 1024
    # In which a client must take some of the response.
    write_timeout: float = 60.0
    # How long a connection may be kept open without a request.
    idle_timeout: float = 75.0
    # How long a stopping server still accepts, so that a load balancer sees its readiness fail before that.
    drain_delay: float = 0.0
    # How long a stopping server keeps idle connections; HAProxy drops its own idle ones after 5 seconds.
    drain_idle: float = 6.0
    # How long a connection may keep the others waiting before it lets them have their turn.
    turn: float = 0.001


@dataclass(frozen=True, slots=True)
class TrustedPeers:
    """The addresses of the proxies whose word is taken for where a client comes from."""

    networks: tuple[Network, ...] = ()
    everybody: bool = False

    @classmethod
    def parse(cls, addresses: Iterable[str]) -> TrustedPeers:
        """The peers of a list of addresses and networks, where ``*`` is everybody; ValueError if one is neither."""
        listed = [address.strip() for address in addresses]
        networks = tuple(ip_network(address) for address in listed if address != "*")
        return cls(networks, "*" in listed)

    def __contains__(self, address: object) -> bool:
        """True for a listed address and, as there is none to look at, for ``''``: a peer on a Unix socket."""
        if self.everybody or address == "":
            return True
        try:
            ip = ip_address(str(address))
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class HTTPSettings:
    """How a server treats its connections.

    ``forwarders`` may say with a header of ``secure_headers`` (WSGI names and values) that a request came through TLS;
    ``proxies`` may, and then must, start a connection with a PROXY protocol header.
    """

    limits: HTTPLimits = HTTPLimits()
    max_connections: int = 10_000
    multiprocess: bool = False
    forwarders: TrustedPeers = TrustedPeers()
    secure_headers: tuple[tuple[str, str], ...] = SECURE_HEADERS
    proxy_protocol: ProxyProtocol = "off"
    proxies: TrustedPeers = TrustedPeers()
