"""A real gunicorn master, with our worker or another one, and an application to serve."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic

import gevent
import psutil
import pytest
from gevent import socket

APPLICATION = '''
import json
import os

import gevent
from gevent.monkey import get_original

really_sleep = get_original("time", "sleep")


class Application:
    """Says which process it is in; is ready until it is told that its worker stops."""

    def __init__(self):
        self.ready = True

    def on_drain(self):
        self.ready = False

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/slow":
            open(os.environ["STARTED"], "w").close()
            gevent.sleep(0.5)
        if path == "/blocked":
            really_sleep(60)
        status = "503 Draining" if path == "/ready" and not self.ready else "200 OK"
        start_response(status, [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]


application = Application()


def echo(environ, start_response):
    """Answers with what an application can see of the request."""
    seen = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "target": environ["RAW_URI"],
        "protocol": environ["SERVER_PROTOCOL"],
        "type": environ.get("CONTENT_TYPE"),
        "length": environ.get("CONTENT_LENGTH"),
        "headers": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Broken:
    def on_drain(self):
        raise KeyError("x")

    def __call__(self, environ, start_response):
        return application(environ, start_response)


broken = Broken()
'''

CONFIGURATION = """
from junctor.server.http_worker import HTTPWorker
from junctor.server.http_settings import HTTPLimits

worker_class = HTTPWorker.with_limits(HTTPLimits(**{limits!r}))
bind = "fd://{descriptor}"
control_socket_disable = True
worker_connections = 100
for name, value in {settings!r}.items():
    globals()[name] = value
"""


class Gunicorn:
    """A gunicorn master in a process of its own, on a port of its own."""

    def __init__(self, directory, *, application="app:application", limits=None, **settings) -> None:
        (directory / "app.py").write_text(APPLICATION)
        self.started = directory / "started"
        self._log = directory / "log"
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        self.address = listener.getsockname()
        text = CONFIGURATION.format(limits=limits or {}, descriptor=listener.fileno(), settings=settings)
        (directory / "gunicorn.conf.py").write_text(text)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", application],
                cwd=directory,
                env={**os.environ, "STARTED": str(self.started)},
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
        listener.close()

    def log(self) -> str:
        return self._log.read_text()

    def wait(self, seconds: float = 10.0) -> int:
        end = monotonic() + seconds
        while self.process.poll() is None:
            assert monotonic() < end, self.log()
            gevent.sleep(0.01)
        return self.process.returncode

    def stop(self) -> None:
        children = psutil.Process(self.process.pid).children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for child in children:
            if child.is_running():
                child.kill()


def _start_in(directory) -> Iterator[Callable[..., Gunicorn]]:
    running: list[Gunicorn] = []

    def start(**options) -> Gunicorn:
        own = directory / str(len(running))
        own.mkdir()
        running.append(Gunicorn(own, **options))
        return running[-1]

    yield start
    for master in running:
        master.stop()


@pytest.fixture
def gunicorn(tmp_path) -> Iterator[Callable[..., Gunicorn]]:
    """Starts a master for one test."""
    yield from _start_in(tmp_path)


@pytest.fixture(scope="module")
def gunicorns(tmp_path_factory) -> Iterator[Callable[..., Gunicorn]]:
    """Starts masters for a module."""
    yield from _start_in(tmp_path_factory.mktemp("gunicorns"))
