"""Where a WebSocket channel listens."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a channel's address; ``port`` is 0 for a path alone, which is served on the server's own HTTP port."""

    host: str
    port: int
    path: str
    is_secure: bool

    @classmethod
    def parse(cls, address: str) -> Address:
        """The parts of ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, or /PATH, whose form the declaration has checked."""
        if address.startswith("/"):
            return cls("", 0, unquote(address), is_secure=False)
        parts = urlsplit(address)
        return cls(parts.hostname or "", parts.port or 0, unquote(parts.path), parts.scheme == "wss")

    @property
    def is_own(self) -> bool:
        """Whether it needs a listener of its own."""
        return bool(self.port)

    def __str__(self) -> str:
        if not self.is_own:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.is_secure else 'ws'}://{host}:{self.port}{self.path}"
