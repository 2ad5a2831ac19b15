"""How often a user may call through a linked account: lines such as ``10.0.0.0/8 = 100/m`` and ``* = 5/s``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
ANYWHERE: Final = "*"
MAX_LINES: Final = 200
_LINE = re.compile(r"(\S{1,60}?)\s*=\s*([0-9]{1,9})\s*/\s*([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many calls within so many seconds from an address in ``network``, None = from anywhere."""

    network: IPv4Network | IPv6Network | None
    calls: int
    seconds: int

    def is_for(self, address: str) -> bool:
        """Whether a call from this address counts."""
        if self.network is None:
            return True
        try:
            found = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return found in self.network or (mapped is not None and mapped in self.network)


@lru_cache(1024)
def parse(definition: str) -> tuple[RateLimit, ...]:
    """The limits of a definition in their order, of which the first that is for an address counts.  Raises ValueError."""
    lines = [line.strip() for line in definition.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        raise ValueError(f"must not have more than {MAX_LINES} lines.")
    return tuple(_limit(line) for line in lines)


def limit_for(definition: str, address: str) -> RateLimit | None:
    """The limit for calls from an address, None if it is in no line.  Raises ValueError."""
    return next((limit for limit in parse(definition) if limit.is_for(address)), None)


def _limit(line: str) -> RateLimit:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(
            "must have lines such as 10.0.0.0/8 = 100/m or * = 5/s; the units are s, m, h and d."
        )
    source, calls, unit = found.groups()
    try:
        network = None if source == ANYWHERE else ip_network(source)
    except ValueError:
        raise ValueError(
            f"must begin each line with an address, a network or {ANYWHERE}, not {source}."
        ) from None
    return RateLimit(network, int(calls), SECONDS[unit])
