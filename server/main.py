"""The server's process: ``python -m junctor.server.main DIRECTORY`` runs gunicorn's master in the foreground.

Workers are forked from a master that has imported everything, so they share most of their memory.
"""

# ruff: noqa: E402 - gevent patches before anything else is imported
from gevent import monkey

monkey.patch_all()

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from junctor.server import compat, settings
from junctor.server.app import App
from junctor.server.context import Context
from junctor.server.http_settings import HTTPLimits
from junctor.server.http_worker import HTTPWorker
from junctor.server.log import Logs
from junctor.server.metrics import Metrics
from junctor.server.metrics_total import Aggregator
from junctor.server.runtime import descriptors
from junctor.server.runtime.live import live_classes
from junctor.server.settings import Settings
from junctor.server.worker import Worker
from junctor.sql import base
from junctor.sql.errors import JunctorError

USAGE = 2
CANNOT_START = 9
log = logging.getLogger(__name__)


class MasterLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's messages go where all others go."""

    def setup(self, cfg: Any) -> None:
        """Leaves handlers to ``Logs.install``."""
        self.error_log.propagate = True
        self.error_log.handlers[:] = []
        self.error_log.setLevel(logging.INFO)
        del cfg


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The master: one context, which each worker gets a copy of by being forked."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self._directory = directory
        self._environ = environ
        self.settings = self._read()
        self._logs = Logs(
            self.settings.log_directory, size=self.settings.log_file_size, count=self.settings.log_file_count
        )
        self._aggregator = Aggregator(self.settings.run_directory, server=self.settings.server_name)
        self._worker: Worker | None = None
        super().__init__()

    def _read(self) -> Settings:
        return settings.load(self._directory, dict(self._environ))

    def load_config(self) -> None:
        """Gives gunicorn what the settings say; called again on SIGHUP, with what they say then."""
        self.settings = self._read()
        given = self.settings
        limits = HTTPLimits(drain_delay=given.drain_delay)
        options = {
            "bind": f"{given.host}:{given.port}",
            "workers": given.workers,
            "worker_class": HTTPWorker.with_limits(limits) if given.worker_class == "junctor" else "gevent",
            "worker_connections": given.max_connections,
            "timeout": given.worker_timeout,
            "graceful_timeout": given.graceful_timeout,
            "proxy_protocol": given.proxy_protocol,
            "proxy_allow_ips": ",".join(given.trusted_proxies),
            "forwarded_allow_ips": ",".join(given.trusted_proxies),
            "proc_name": f"junctor {given.server_name}",
            "preload_app": True,
            "logger_class": MasterLogger,
            "control_socket_disable": True,
            "backlog": 2048,
            "when_ready": self._when_ready,
            "pre_fork": self._pre_fork,
            "post_fork": self._post_fork,
            "worker_exit": self._worker_exit,
            "child_exit": self._child_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)
        self.callable = None  # workers that start from now on get an application with these settings

    def load(self) -> App:
        """The application that workers serve."""
        compat.install()
        base.kinds()
        live_classes()
        given = self.settings
        context = Context(given, self._logs, Metrics(self._aggregator.datagrams))
        self._worker = Worker(context)
        return App(context, self._worker.drain, self._worker.accepting.event)

    def run(self) -> None:
        """Serves until the process is told to stop."""
        for directory in (
            self.settings.run_directory,
            self.settings.log_directory,
            self.settings.pickup_directory,
        ):
            directory.mkdir(parents=True, exist_ok=True)
        self._logs.install(self.settings.log_level)
        self._logs.server.is_immediate = True
        self._aggregator.start()
        descriptors.allow_all()
        super().run()

    def _when_ready(self, arbiter: Any) -> None:
        del arbiter
        gc.collect()
        gc.freeze()
        log.info("Server %s listens on port %d.", self.settings.server_name, self.settings.port)

    def _pre_fork(self, arbiter: Any, worker: Any) -> None:
        del arbiter, worker
        self._logs.flush()

    def _post_fork(self, arbiter: Any, worker: Any) -> None:
        del arbiter, worker
        self._aggregator.after_fork()
        self._logs.server.is_immediate = False
        assert self._worker is not None
        self._worker.start()

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        del arbiter, worker
        assert self._worker is not None
        self._worker.stop()

    def _child_exit(self, arbiter: Any, worker: Any) -> None:
        del arbiter
        self._aggregator.forget(worker.pid)


def main(arguments: list[str]) -> int:
    """Runs the server; returns the process's exit code."""
    if len(arguments) != 1:
        print("Usage: python -m junctor.server.main DIRECTORY", file=sys.stderr)
        return USAGE
    environ = dict(os.environ)
    try:
        settings.load(Path(arguments[0]))
        server = Server(Path(arguments[0]), environ)
        server.run()
    except JunctorError as error:
        print(f"The server cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
