"""The life of a connection: many requests, none, slow ones, WebSockets, and its end."""

import logging

import gevent
import pytest
from gunicorn.workers.base_async import ALREADY_HANDLED

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n%d"
CHUNKED = b"POST /%d HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%d\r\n0\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"


def test_a_connection_takes_many_requests(serve):
    with serve().connect() as client:
        for number in range(10):
            seen = client.ask(POST % (number, number)).json()
            assert (seen["path"], seen["body"]) == (f"/{number}", str(number))


def test_pipelined_requests_are_answered_in_their_order(serve):
    with serve().connect() as client:
        client.send(b"".join((POST if number % 2 else CHUNKED) % (number, number) for number in range(10)))
        for number in range(10):
            seen = client.answer().json()
            assert (seen["path"], seen["body"]) == (f"/{number}", str(number))


def test_pipelined_requests_may_be_cut_anywhere(serve):
    requests = b"".join((POST if number % 2 else CHUNKED) % (number, number) for number in range(4))
    served = serve()
    for cut in range(1, len(requests), 5):
        with served.connect() as client:
            client.send_first(requests[:cut])
            client.send(requests[cut:])
            assert [client.answer().json()["body"] for _ in range(4)] == ["0", "1", "2", "3"]


def test_what_follows_a_malformed_request_is_not_looked_at(serve):
    served = serve()
    with served.connect() as client:
        client.send(GET + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + GET)
        assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.rest() == b""


def test_nothing_of_a_refused_body_is_taken_for_a_request(serve):
    with serve(body_size=10).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n" + GET)
        assert client.answer().status == 413
        assert client.rest() == b""


def test_a_connection_is_closed_after_its_last_request(serve):
    with serve(requests_per_connection=3).connect() as client:
        assert [client.ask(GET).closes for _ in range(3)] == [False, False, True]
        assert client.rest() == b""


def test_the_headers_must_arrive_in_time_however_often_a_byte_does(serve):
    served = serve(header_timeout=0.3)
    with served.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")

        def trickle():
            while True:
                client.send(b"a")
                gevent.sleep(0.02)

        sender = gevent.spawn(trickle)
        answer = client.answer()
        sender.kill()
        assert (answer.status, answer.closes) == (408, True)
        assert answer.json()["details"] == "Request Timeout"
    assert "the headers did not arrive in time" in served.logged(logging.INFO)[0]


def test_a_connection_that_says_nothing_is_closed_without_a_word(serve):
    with serve(header_timeout=0.1).connect() as client:
        assert client.rest() == b""


def test_an_idle_connection_is_closed_without_a_word(serve):
    with serve(idle_timeout=0.1).connect() as client:
        assert client.ask(GET).status == 200
        assert client.rest() == b""


def test_a_client_that_leaves_in_the_middle_of_its_headers_is_forgotten(serve, until):
    served = serve()
    with served.connect() as client:
        client.send_first(b"GET / HT")
        client.half_close()
        assert client.rest() == b""
    assert served.logged(logging.INFO) == []


def test_a_client_that_resets_is_a_debug_message(serve, until):
    import struct

    from gevent import socket

    served = serve()
    client = served.connect()
    client.send_first(b"GET / HT")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until(lambda: served.server.connections == 0)
    assert served.logged(logging.INFO) == []
    assert served.logged() != []


def test_a_client_that_half_closes_still_gets_its_answer(serve):
    with serve().connect() as client:
        client.send(GET)
        client.half_close()
        assert client.answer().status == 200
        assert client.rest() == b""


def test_an_application_takes_as_long_as_it_takes(serve):
    def slow(environ, start_response):
        gevent.sleep(0.3)
        start_response("200 OK", [])
        return [b"done"]

    limits = dict.fromkeys(("header_timeout", "body_timeout", "idle_timeout", "write_timeout"), 0.1)
    assert serve(slow, **limits).ask(GET).body == b"done"


def test_a_busy_connection_lets_the_others_have_their_turn(serve):
    """One client pipelines so much that its connection never has to wait; another one asks once."""
    answered = []

    def app(environ, start_response):
        answered.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    served = serve(app, turn=0.0001)
    with served.connect() as busy, served.connect() as other:
        busy.send_first(GET)
        busy.answer()
        other.send_first(GET)
        other.answer()
        answered.clear()
        busy.send(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n" * 1500)
        other.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
        assert other.answer().status == 200
        assert answered.index("/other") < 1000


def websocket(environ, start_response):
    """Takes the connection over, says what it was given, and echoes until the client says bye."""
    connection = environ["junctor.socket"]
    assert connection is environ["gunicorn.socket"]
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    data = environ["junctor.buffered"]
    while not data.endswith(b"bye"):
        if data:
            connection.sendall(b"<" + data + b">")
        data = connection.recv(1000)
    connection.sendall(b"bye")
    return ALREADY_HANDLED


def test_an_application_can_take_a_connection_over(serve):
    limits = dict.fromkeys(("header_timeout", "body_timeout", "idle_timeout", "write_timeout"), 0.1)
    served = serve(websocket, **limits)
    with served.connect() as client:
        client.send(UPGRADE + b"early")
        assert client.answer().status == 101
        assert client.read(7) == b"<early>"
        gevent.sleep(0.3)  # none of the time-outs above applies now
        client.send(b"late")
        assert client.read(6) == b"<late>"
        client.send(b"bye")
        assert client.rest() == b"bye"
    assert served.logged(logging.INFO) == []


def test_an_application_that_takes_over_may_close_the_socket(serve, until):
    def app(environ, start_response):
        environ["junctor.socket"].sendall(b"mine")
        environ["junctor.socket"].close()
        return ALREADY_HANDLED

    served = serve(app)
    with served.connect() as client:
        client.send(UPGRADE + b"early")
        assert client.rest() == b"mine"
    until(lambda: served.server.connections == 0)
    assert served.logged(logging.INFO) == []


def test_an_application_may_refuse_to_upgrade(serve):
    def refuse(environ, start_response):
        start_response("426 Upgrade Required", [])
        return [environ["PATH_INFO"].encode(), repr("junctor.buffered" in environ).encode()]

    with serve(refuse).connect() as client:
        assert client.ask(UPGRADE).body == b"/wsTrue"
        assert client.ask(GET).body == b"/False"
        assert (
            client.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")).body
            == b"/False"
        )


def test_an_application_may_switch_protocols_through_start_response(serve):
    def app(environ, start_response):
        start_response("101 Switching Protocols", [("Upgrade", "websocket"), ("Connection", "Upgrade")])
        return []

    answer = serve(app).ask(UPGRADE)
    assert (answer.status, answer.headers["upgrade"], answer.headers["connection"]) == (
        101,
        "websocket",
        "upgrade",
    )


def test_each_response_is_reported(serve):
    seen = []
    served = serve(on_response=lambda environ, response, seconds: seen.append((environ, response, seconds)))
    with served.connect() as client:
        answer = client.ask(GET)
        client.ask(GET)
    [(environ, response, seconds), _] = seen
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert (response.status, response.status_code, response.sent) == ("200 OK", 200, len(answer.body))
    assert seconds >= 0
    assert served.server.requests == 2


def test_a_mistake_of_the_server_s_own_is_logged_and_ends_the_connection(serve, monkeypatch):
    from junctor.server.http_request import RequestHead

    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr(RequestHead, "parse", broken)
    served = serve()
    with served.connect() as client:
        client.send(GET)
        assert client.rest() == b""
    [record] = [record for record in served.records if record.levelno == logging.ERROR]
    assert record.exc_info[0] is KeyError


@pytest.mark.parametrize("path", ["", "socket"])
def test_a_unix_socket_serves_too(serve, tmp_path, path):
    seen = serve(path=str(tmp_path / path)).ask(GET).json() if path else serve().ask(GET).json()
    assert seen["peer"] == ("" if path else "127.0.0.1")
