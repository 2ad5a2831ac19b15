"""The pickup directory: a service file that is copied into it is deployed on all servers.

One worker of a server watches; it holds a lock that the next one gets when it ends.  Looking at names, sizes and times a few
times a second costs microseconds, and works on any file system, network ones included.  Which text of a file has been handled is
kept in a file, so that neither a restart nor another watcher deploys an old text again, while what was dropped when the server
was down is deployed when it starts.
"""

from __future__ import annotations

import fcntl
import logging
import os
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import orjson

from junctor.server.admin.deploy import deploy, digest_of
from junctor.sql.errors import DeploymentRefused, JunctorError

if TYPE_CHECKING:
    from junctor.server.context import Context

INTERVAL = 0.2  # seconds
MAX_SIZE = 5 * 1024 * 1024  # bytes
REFUSED = ".refused.txt"
log = logging.getLogger(__name__)

Stamp = tuple[int, int]


class Pickup:
    """Watches the pickup directory of a server, in a greenlet of its own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = context.settings.pickup_directory
        self._record = context.settings.directory / "work" / "pickup.json"
        self._lock = -1
        self._stamps: dict[str, Stamp] = {}
        self._settled: dict[str, Stamp] = {}
        self._handled: dict[str, str] = {}
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins to watch, or to wait for the lock; returns at once."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ends it."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _run(self) -> None:
        while not self._acquire():
            gevent.sleep(1.0)
        while True:
            try:
                self.look()
            except OSError as error:
                log.warning("The pickup directory %s cannot be read: %s", self._directory, error)
                gevent.sleep(5.0)
            except Exception:
                log.exception("The pickup directory could not be handled.")
                gevent.sleep(5.0)
            gevent.sleep(INTERVAL)

    def _acquire(self) -> bool:
        """Takes the lock and reads what has been handled; whether this worker is the one that watches."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._record.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        try:
            self._handled = orjson.loads(self._record.read_bytes())
        except FileNotFoundError:
            self._handled = {}
        except orjson.JSONDecodeError:
            log.warning("%s is damaged; every file in the pickup directory counts as new.", self._record)
            self._handled = {}
        return True

    def look(self) -> None:
        """Deploys the files that are new or changed, once they have been at rest for one interval."""
        stamps = {}
        for entry in os.scandir(self._directory):
            if entry.name.endswith(".py") and entry.is_file():
                status = entry.stat()
                stamps[entry.name] = (status.st_mtime_ns, status.st_size)
        ready = [
            name
            for name, stamp in stamps.items()
            if self._stamps.get(name) == stamp != self._settled.get(name)
        ]
        self._stamps = stamps
        sources = {}
        for name in sorted(ready):
            self._settled[name] = stamps[name]
            source = self._read(name, stamps[name])
            if source is not None and self._handled.get(name) != digest_of(source):
                sources[name] = source
        if sources:
            self._deploy(sources)

    def _read(self, name: str, stamp: Stamp) -> str | None:
        if stamp[1] > MAX_SIZE:
            self._refuse(name, f"{name} has more than {MAX_SIZE} bytes.")
            return None
        try:
            return decode_source((self._directory / name).read_bytes())
        except (SyntaxError, UnicodeDecodeError, LookupError) as error:
            self._refuse(name, f"{name} is not text in the encoding that it declares, or UTF-8: {error}")
        except FileNotFoundError:
            log.debug("%s is gone again.", name)
        except OSError as error:
            self._refuse(name, f"{name} cannot be read: {error}")
        return None

    def _deploy(self, sources: dict[str, str]) -> None:
        """Deploys the files together; when they are refused together, one by one, so that a broken file does not hold up another."""
        try:
            done = deploy(self._context, sources, who=f"pickup {self._context.settings.server_name}")
        except DeploymentRefused as error:
            if len(sources) > 1:
                for name, source in sources.items():
                    self._deploy({name: source})
            else:
                self._refuse(next(iter(sources)), str(error))
                self._remember(sources)
            return
        except JunctorError as error:
            # The database is away, say: the files are tried again as if they were new.
            log.warning("%s cannot be deployed now and will be tried again: %s", ", ".join(sources), error)
            for name in sources:
                self._settled.pop(name, None)
            gevent.sleep(2.0)
            return
        self._context.publisher.publish(done.version)
        self._context.listener.wake()
        self._remember(sources)
        for name in sources:
            self._refusal(name).unlink(missing_ok=True)
        services = ", ".join(service for _, service in done.services)
        log.info(
            "Deployed %s from the pickup directory (%s), version %d.",
            ", ".join(sources),
            services,
            done.version,
        )

    def _refuse(self, name: str, reason: str) -> None:
        """Tells whoever copied the file: in the log, and in a file beside it."""
        log.error("Not deployed from the pickup directory: %s", reason)
        self._refusal(name).write_text(f"{reason}\n", encoding="utf-8")

    def _refusal(self, name: str) -> Path:
        return self._directory / f"{name}{REFUSED}"

    def _remember(self, sources: dict[str, str]) -> None:
        self._handled |= {name: digest_of(source) for name, source in sources.items()}
        scratch = self._record.with_suffix(".new")
        scratch.write_bytes(orjson.dumps(self._handled))
        scratch.replace(self._record)
