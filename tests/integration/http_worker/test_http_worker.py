"""The worker under a real gunicorn: reloads and stops that no client notices."""

from __future__ import annotations

import json
import signal

import gevent
import psutil
import pytest
from gevent import socket

from tests.helpers.waiting import eventually


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Failed(Exception):
    """A client did not get the answer that it had a right to."""


class Browser:
    """A client that keeps its connection, and opens another one when the server has closed it between two requests."""

    def __init__(self, address) -> None:
        self._address = address
        self._socket = None
        self.last = ""

    def ask(self, path: str = "/") -> tuple[int, str]:
        if self._socket is not None and self._closed():
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=5)
        self._socket.sendall(request(path))
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more(received)
        head, _, body = received.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
        while len(body) < int(fields["content-length"]):
            body += self._more(body)
        if fields.get("connection") == "close":
            self.close()
        return int(head.split()[1]), body.decode()

    def _more(self, so_far: bytes) -> bytes:
        try:
            received = self._socket.recv(10_000)
        except OSError as error:
            raise Failed(f"{error!r} after {so_far!r}") from error
        if not received:
            raise Failed(f"closed after {so_far!r}")
        return received

    def _closed(self) -> bool:
        self._socket.settimeout(0)
        try:
            assert self._socket.recv(1) == b""
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(5)
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.fixture
def browser():
    browsers = []

    def make(master) -> Browser:
        browsers.append(Browser(master.address))
        return browsers[-1]

    yield make
    for made in browsers:
        made.close()


class Load:
    """Clients of every kind, all the time; ``answers`` counts per process, ``failures`` must stay empty."""

    def __init__(self, address) -> None:
        self._address = address
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self._stopped = False
        pauses = [0.0, 0.0, 0.001, 0.02, 0.1, 0.3]
        self._greenlets = [
            gevent.spawn(self._browse, pause, keep=keep) for pause in pauses for keep in (True, False)
        ]

    def _browse(self, pause: float, *, keep: bool) -> None:
        browser = Browser(self._address)
        while not self._stopped:
            try:
                _, pid = browser.ask()
                self.answers[pid] = self.answers.get(pid, 0) + 1
            except (Failed, OSError) as error:
                self.failures.append(repr(error))
                browser.close()
            if not keep:
                browser.close()
            gevent.sleep(pause)
        browser.close()

    def stop(self) -> None:
        self._stopped = True
        gevent.joinall(self._greenlets, timeout=10, raise_error=True)


def reload(master, load) -> None:
    """Has the master replace its two workers, and waits until only the new ones are left."""
    eventually(lambda: len(load.answers) == 2)
    before = set(load.answers)
    load.answers.clear()
    master.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(set(load.answers) - before) == 2)
    eventually(lambda: not any(psutil.pid_exists(int(pid)) for pid in before))
    load.answers.clear()


def test_no_client_notices_a_reload(gunicorn, browser):
    master = gunicorn(workers=2, limits={"drain_idle": 0.5}, graceful_timeout=5)
    idle = browser(master)
    idle.ask()
    load = Load(master.address)
    for _ in range(2):
        reload(master, load)
    load.stop()
    assert load.failures == []
    assert idle.ask()[0] == 200
    assert "Traceback" not in master.log()


def test_no_client_notices_that_a_worker_is_replaced_after_so_many_requests(gunicorn):
    master = gunicorn(workers=2, limits={"drain_idle": 0.2}, max_requests=50, graceful_timeout=5)
    load = Load(master.address)
    eventually(lambda: len(load.answers) >= 5, 20)
    load.stop()
    assert load.failures == []


def test_a_stopping_worker_fails_its_readiness_first_and_finishes_what_it_has_begun(gunicorn, browser):
    master = gunicorn(limits={"drain_delay": 1.0, "drain_idle": 0.1}, graceful_timeout=10)
    assert browser(master).ask("/ready")[0] == 200
    slow = gevent.spawn(browser(master).ask, "/slow")
    eventually(master.started.exists)
    master.process.send_signal(signal.SIGTERM)
    eventually(lambda: browser(master).ask("/ready")[0] == 503)
    assert slow.get(timeout=5)[0] == 200
    assert master.wait() == 0
    assert "unfinished" not in master.log()


def test_a_stop_takes_no_longer_than_it_may(gunicorn):
    master = gunicorn(graceful_timeout=1)
    client = Browser(master.address)
    asked = gevent.spawn(client.ask)
    assert asked.get(timeout=10)[0] == 200
    stuck = socket.create_connection(master.address, timeout=5)
    stuck.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    master.process.send_signal(signal.SIGTERM)
    assert master.wait(5) == 0
    assert "unfinished connections" in master.log()
    stuck.close()
    client.close()


def test_a_quick_stop_waits_for_nobody(gunicorn, browser):
    master = gunicorn(graceful_timeout=30)
    assert browser(master).ask()[0] == 200
    master.process.send_signal(signal.SIGQUIT)
    assert master.wait(5) == 0


def test_a_worker_whose_arbiter_is_gone_stops(gunicorn, browser):
    master = gunicorn(limits={"drain_delay": 60, "drain_idle": 0.1})
    _, pid = browser(master).ask()
    master.process.kill()
    eventually(lambda: not psutil.pid_exists(int(pid)))
    assert "The arbiter is gone" in master.log()


def test_a_worker_that_is_blocked_is_replaced_and_the_log_says_where(gunicorn, browser):
    master = gunicorn(timeout=2, limits={"drain_idle": 0.1})
    _, pid = browser(master).ask()
    blocked = socket.create_connection(master.address, timeout=5)
    blocked.sendall(request("/blocked"))
    eventually(lambda: not psutil.pid_exists(int(pid)))
    assert browser(master).ask()[1] != pid
    assert "WORKER TIMEOUT" in master.log()
    assert "really_sleep(60)" in master.log()
    blocked.close()


def test_an_application_whose_on_drain_fails_is_stopped_all_the_same(gunicorn, browser):
    master = gunicorn(application="app:broken", limits={"drain_idle": 0.1})
    assert browser(master).ask()[0] == 200
    master.process.send_signal(signal.SIGTERM)
    assert master.wait() == 0
    assert "on_drain failed" in master.log()


def test_gunicorn_s_settings_apply(gunicorn, browser, tmp_path):
    master = gunicorn(
        accesslog=str(tmp_path / "access"), access_log_format="%(h)s %(m)s %(U)s %(s)s %(B)s %({host}i)s"
    )
    status, pid = browser(master).ask("/a")
    assert status == 200
    line = f"127.0.0.1 GET /a 200 {len(pid)} localhost\n"
    assert eventually((tmp_path / "access").read_text) == line
    with socket.create_connection(master.address, timeout=5) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 Bad Request")
    assert eventually(lambda: "Refused a request from 127.0.0.1: 400" in master.log())


@pytest.mark.parametrize(
    "settings", [{"certfile": "app.py", "keyfile": "app.py"}, {"protocol": "uwsgi"}], ids=json.dumps
)
def test_what_cannot_be_served_is_said_at_the_start(gunicorn, settings):
    master = gunicorn(**settings)
    assert master.wait() != 0
    assert "HTTP worker" in master.log()
    assert "Traceback" not in master.log()
