"""Accepting, being full, and draining."""

import contextlib
import logging
import os
import resource
import socket as blocking
from time import monotonic

import gevent
import pytest
from gevent import socket
from gevent.event import Event

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Slow:
    """An application that answers when it is told to."""

    def __init__(self):
        self.go = Event()
        self.waiting = 0

    def __call__(self, environ, start_response):
        self.waiting += 1
        self.go.wait(5)
        start_response("200 OK", [])
        return [b"done"]


def draining(served, timeout=5.0):
    greenlet = gevent.spawn(served.server.drain, timeout)
    gevent.sleep(0)
    return greenlet


def test_accepted_connections_do_not_wait_for_small_packets(serve):
    seen = []

    def app(environ, start_response):
        seen.append(environ["junctor.socket"].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        start_response("200 OK", [])
        return []

    serve(app).ask(GET)
    assert seen != [0]


def test_a_full_server_lets_others_wait_until_there_is_a_place(serve, until):
    app = Slow()
    served = serve(app, settings={"max_connections": 2})
    first, second, third = (served.connect() for _ in range(3))
    for client in (first, second, third):
        client.send(GET)
    until(lambda: app.waiting == 2)
    assert served.server.connections == 2
    app.go.set()
    assert first.answer().body == b"done"
    first.close()
    assert third.answer().body == b"done"


def test_a_full_server_takes_back_the_places_of_idle_clients(serve, until, monkeypatch):
    from junctor.server import http_server

    monkeypatch.setattr(http_server, "_LEAST_IDLE", 0.05)
    served = serve(settings={"max_connections": 2}, header_timeout=3, body_timeout=0.1)
    idle, lately = served.connect(), served.connect()
    assert idle.ask(GET).status == 200
    assert lately.ask(GET).status == 200
    assert served.connect().ask(GET).status == 200
    assert idle.rest() == b""


def test_a_server_without_descriptors_goes_on_when_there_are_some(serve, until, monkeypatch):
    from junctor.server import http_server

    monkeypatch.setattr(http_server, "_ACCEPT_PAUSE", 0.01)
    served = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.closing(socket.socket()) as client:
        client.settimeout(5)
        lowest_free = os.dup(client.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            client.connect(served.address)
            until(lambda: served.logged(logging.ERROR))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(GET)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert served.logged(logging.ERROR)[0] == "Cannot accept connections: [Errno 24] Too many open files"


def test_draining_finishes_what_was_asked_and_says_that_it_closes(serve, until):
    app = Slow()
    served = serve(app)
    client = served.connect()
    client.send(GET)
    until(lambda: app.waiting)
    drain = draining(served)
    app.go.set()
    answer = client.answer()
    assert (answer.body, answer.closes) == (b"done", True)
    assert client.rest() == b""
    assert drain.get(timeout=5) == 0


def test_draining_answers_the_next_request_of_a_connection_that_was_idle(serve):
    served = serve(drain_idle=3)
    client = served.connect()
    assert not client.ask(GET).closes
    drain = draining(served)
    assert client.ask(GET).closes
    assert client.rest() == b""
    assert drain.get(timeout=5) == 0


def test_draining_answers_all_requests_that_came_together(serve, until):
    app = Slow()
    served = serve(app)
    client = served.connect()
    client.send(GET * 3)
    until(lambda: app.waiting)
    drain = draining(served)
    app.go.set()
    assert [client.answer().closes for _ in range(3)] == [False, False, True]
    assert drain.get(timeout=5) == 0


def test_draining_closes_idle_connections_in_the_end(serve):
    served = serve(drain_idle=0.2)
    asked, silent = served.connect(), served.connect()
    assert asked.ask(GET).status == 200
    silent.send_first(b"")
    drain = draining(served)
    assert (asked.rest(), silent.rest()) == (b"", b"")
    assert drain.get(timeout=5) == 0


def test_draining_serves_whom_the_kernel_has_accepted_already(serve):
    served = serve(drain_idle=3)
    # This one blocks, so that the server cannot come to accept it before it drains.
    waiting = blocking.create_connection(served.address)
    with contextlib.closing(socket.socket(fileno=waiting.detach())) as client:
        client.settimeout(5)
        client.sendall(GET)
        drain = gevent.spawn(served.server.drain, 5.0)
        received = b"".join(iter(lambda: client.recv(1000), b""))
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nConnection: close\r\n" in received
        assert drain.get(timeout=5) == 0
    with pytest.raises(ConnectionRefusedError):
        served.connect()


def test_draining_gives_up_in_the_end_and_says_on_how_many(serve, until):
    app = Slow()
    served = serve(app)
    clients = [served.connect(), served.connect()]
    for client in clients:
        client.send(GET)
    until(lambda: app.waiting == 2)
    started = monotonic()
    assert served.server.drain(0.2) == 2
    assert monotonic() - started < 3
    assert [client.rest() for client in clients] == [b"", b""]
    assert served.logged(logging.ERROR) == []


def test_draining_a_server_without_connections_takes_no_time(serve):
    assert serve().server.drain(5.0) == 0


def test_an_idle_connection_with_a_request_on_its_way_is_not_closed(serve):
    """The watch comes to run in the moment between a request's arrival and its greenlet's."""
    served = serve()
    client = served.connect()
    assert client.ask(GET).status == 200
    [connection] = served.server._connections
    client.send(GET)
    assert connection.client.expire() is False
    assert client.answer().status == 200
    assert connection.client.expire() is True
    assert client.rest() == b""


def test_a_connection_that_is_gone_already_does_not_disturb_the_watch(serve):
    served = serve()
    client = served.connect()
    client.send_first(b"")
    [connection] = served.server._connections
    connection.client._socket.close()
    served.server._expire(connection)
    assert served.logged(logging.INFO) == []
