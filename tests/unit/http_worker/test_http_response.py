"""What clients get of what applications return."""

import logging
import re
import sys
from wsgiref.validate import validator

import pytest

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_ALIVE = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


def returning(result, status="200 OK", headers=()):
    def app(environ, start_response):
        start_response(status, list(headers))
        return result() if callable(result) else result

    return app


def test_an_ordinary_response_has_a_length_a_date_and_stays_open(serve):
    answer = serve(returning([b"hello"], headers=[("Content-Type", "text/plain")])).ask(GET)
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.body == b"hello"
    assert set(answer.headers) == {"date", "content-type", "content-length"}
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])


def test_head_and_body_go_out_in_one_piece(serve, monkeypatch):
    from junctor.server.http_socket import TimedSocket

    sent = []
    transmit = TimedSocket.transmit
    monkeypatch.setattr(
        TimedSocket, "transmit", lambda self, data: (sent.append(bytes(data)), transmit(self, data))
    )
    serve(returning([b"hello"])).ask(GET)
    serve(returning([b"hello", b" ", b"world"])).ask(GET)
    assert [data.endswith((b"\r\n\r\nhello", b"\r\n\r\nhello world")) for data in sent] == [True, True]


@pytest.mark.parametrize(
    "result", [[], [b""], (b"",), iter([])], ids=["empty list", "list of nothing", "tuple", "iterator"]
)
def test_an_empty_body_has_the_length_0(serve, result):
    answer = serve(returning(result)).ask(GET)
    assert (answer.headers["content-length"], answer.closes) == ("0", False)


def test_an_iterator_is_streamed_in_chunks(serve):
    with serve(returning(lambda: iter([b"one", b"", b"two"]))).connect() as client:
        answer = client.ask(GET)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.chunks == [b"one", b"two"]
        assert client.ask(GET).body == b"onetwo"


def test_each_piece_is_sent_before_the_next_one_is_made(serve):
    from gevent.event import Event

    seen = Event()

    def pieces():
        yield b"first"
        seen.wait(5)
        yield b"second"

    with serve(returning(pieces)).connect() as client:
        client.send(GET)
        received = b""
        while b"first" not in received:
            received += client.socket.recv(1000)
        assert b"second" not in received
        seen.set()
        assert client.socket.recv(1000).startswith(b"6\r\nsecond")


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(serve):
    with serve(returning(lambda: iter([b"one", b"two"]))).connect() as client:
        answer = client.ask(OLD_ALIVE)
        assert (answer.body, answer.closes) == (b"onetwo", True)
        assert "transfer-encoding" not in answer.headers


def test_http_1_0_is_kept_alive_if_it_asks_for_it(serve):
    served = serve(returning([b"hello"]))
    with served.connect() as client:
        for _ in range(2):
            assert client.ask(OLD_ALIVE).headers["connection"] == "keep-alive"
        assert client.ask(OLD).closes
        assert client.rest() == b""


@pytest.mark.parametrize(
    "result", [lambda: [b"hello"], lambda: iter([b"hel", b"lo"])], ids=["list", "iterator"]
)
def test_head_gets_no_body(serve, result):
    served = serve(returning(result, headers=[("Content-Length", "5")]))
    with served.connect() as client:
        for _ in range(2):
            client.send(HEAD)
            assert client.answer(head_only=True).headers["content-length"] == "5"
        assert client.ask(GET).body == b"hello"


def test_head_of_an_unknown_length_says_none(serve):
    with serve(returning([])).connect() as client:
        client.send(HEAD + GET)
        assert "content-length" not in client.answer(head_only=True).headers
        assert client.answer().status == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [lambda: [b"hello"], lambda: iter([b"hello"]), list])
def test_204_and_304_have_no_body(serve, status, result):
    with serve(returning(result, status)).connect() as client:
        for _ in range(2):
            answer = client.ask(GET)
            assert "transfer-encoding" not in answer.headers
            assert not answer.closes
            if status.startswith("204"):
                assert "content-length" not in answer.headers


def test_204_has_no_length_even_if_the_application_says_one(serve):
    assert (
        "content-length"
        not in serve(returning([], "204 No Content", [("Content-Length", "0")])).ask(GET).headers
    )


@pytest.mark.parametrize("result", [lambda: [b"hello world"], lambda: iter([b"hello ", b"wo", b"rld"])])
def test_a_body_longer_than_its_length_is_cut_and_logged(serve, result):
    served = serve(returning(result, headers=[("Content-Length", "5")]))
    with served.connect() as client:
        for _ in range(2):
            assert client.ask(GET).body == b"hello"
    assert served.logged(logging.ERROR) == ["GET /: the body is longer than its Content-Length, 5"] * 2


@pytest.mark.parametrize("result", [lambda: [b"hello"], lambda: iter([b"hel", b"lo"])])
def test_a_body_shorter_than_its_length_ends_the_connection_and_is_logged(serve, result, until):
    served = serve(returning(result, headers=[("Content-Length", "9")]))
    with served.connect() as client:
        client.send(GET)
        assert client.rest().endswith(b"\r\n\r\nhello")
    assert served.logged(logging.ERROR) == ["GET /: the body has 5 bytes, its Content-Length is 9"]


def test_write_is_there_for_those_who_need_it(serve):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"one")
        write(b"")
        write(b"two")
        return [b"three"]

    with serve(app).connect() as client:
        for _ in range(2):
            assert client.ask(GET).chunks == [b"one", b"two", b"three"]


def test_a_large_response_waits_for_its_client(serve, until):
    made = []

    def pieces():
        for number in range(100):
            made.append(number)
            yield bytes(1_000_000)

    with serve(returning(pieces)).connect() as client:
        client.send(GET)
        until(lambda: len(made) > 1)
        assert len(made) < 50
        assert len(client.answer().body) == 100_000_000


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_large_list_arrives_whole(serve, pieces):
    body = bytes(range(256)) * 8000
    size = -(-len(body) // pieces)
    result = [body[at : at + size] for at in range(0, len(body), size)]
    with serve(returning(result)).connect() as client:
        for _ in range(2):
            answer = client.ask(GET)
            assert answer.headers["content-length"] == str(len(body))
            assert answer.body == body


def test_a_client_that_does_not_read_is_let_go(serve, until):
    served = serve(returning([bytes(20_000_000)]), write_timeout=0.1)
    with served.connect() as client:
        client.send(GET)
        until(lambda: served.server.connections == 1)
        until(lambda: served.server.connections == 0)


def test_a_client_that_leaves_is_a_debug_message(serve, until):
    closed = []

    class Pieces:
        def __iter__(self):
            while True:
                yield bytes(1_000_000)

        def close(self):
            closed.append(True)

    served = serve(returning(Pieces()))
    client = served.connect()
    client.send(GET)
    until(lambda: served.server.connections == 1)
    client.close()
    until(lambda: served.server.connections == 0)
    assert closed == [True]
    assert served.logged(logging.INFO) == []
    assert served.logged() != []


def test_the_application_may_close_the_connection(serve):
    with serve(returning([b"bye"], headers=[("Connection", "close")])).connect() as client:
        assert client.ask(GET).closes
        assert client.rest() == b""


def test_the_client_may_close_the_connection(serve):
    with serve(returning([b"bye"])).connect() as client:
        assert client.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n")).closes
        assert client.rest() == b""


def test_the_application_may_not_decide_about_the_connection_otherwise(serve):
    headers = [
        ("Transfer-Encoding", "chunked"),
        ("Keep-Alive", "timeout=5"),
        ("Connection", "keep-alive"),
        ("Upgrade", "h2c"),
    ]
    answer = serve(returning([b"hello"], headers=headers)).ask(GET)
    assert set(answer.headers) == {"date", "content-length"}


def test_the_application_s_own_date_is_kept(serve):
    assert serve(returning([b""], headers=[("Date", "today")])).ask(GET).headers["date"] == "today"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X-A", "b\r\nX-B: c")]),
        ("200 OK", [("X-A", "b\nc")]),
        ("200 OK", [("X-A", "b\rc")]),
        ("200 OK", [("X-A", "b\r"), ("X-B", "\nc")]),
        ("200 OK", [("X-A", "b\0c")]),
        ("200 OK", [("X-A: b\r\nX-B", "c")]),
        ("200 OK", [("X A", "b")]),
        ("200 OK", [("X-A", "\u20ac")]),
        ("200 OK", [("X-A", 1)]),
        ("200 OK", [("Content-Length", "many")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1"), ("content-length", "2")]),
        ("200 OK\r\nX-B: c", []),
        ("OK", []),
        ("2000", []),
    ],
)
def test_a_response_that_would_not_be_http_is_a_500(serve, status, headers):
    served = serve(returning([b"hello"], status, headers))
    answer = served.ask(GET)
    assert (answer.status, answer.closes) == (500, True)
    assert answer.json() == {
        "result": "Error",
        "cid": answer.headers["x-zato-cid"],
        "details": "Internal Server Error",
    }
    [record] = [record for record in served.records if record.levelno == logging.ERROR]
    assert answer.headers["x-zato-cid"] in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("result", [None, ["text"], ["two", "texts"], 1, lambda: iter(["text"])])
def test_a_body_that_is_not_bytes_is_a_500(serve, result):
    assert serve(returning(result)).ask(GET).status == 500


def failing(error):
    def app(environ, start_response):
        raise error

    return app


class Quit(SystemExit):
    pass


@pytest.mark.parametrize(
    "error", [KeyError("x"), Quit(3), OSError(111, "refused"), ConnectionResetError()], ids=repr
)
def test_an_application_that_fails_is_a_500_and_a_traceback_in_the_log(serve, error):
    served = serve(failing(error))
    for _ in range(2):
        answer = served.ask(GET)
        assert (answer.status, answer.closes, len(answer.headers["x-zato-cid"])) == (500, True, 24)
    assert [record.exc_info[1] for record in served.records if record.exc_info] == [error, error]


def test_a_time_out_that_escapes_from_the_application_is_a_500(serve):
    import gevent

    def app(environ, start_response):
        raise gevent.Timeout(1)

    assert serve(app).ask(GET).status == 500


def test_an_application_that_does_not_start_a_response_is_a_500(serve):
    assert serve(lambda environ, start_response: [b"hello"]).ask(GET).status == 500
    assert serve(lambda environ, start_response: []).ask(GET).status == 500


def test_an_application_may_change_its_mind_until_something_was_sent(serve):
    def app(environ, start_response):
        start_response("200 OK", [("X-A", "b")])
        try:
            raise KeyError
        except KeyError:
            start_response("503 Sorry", [], sys.exc_info())
        return [b"sorry"]

    answer = serve(app).ask(GET)
    assert (answer.status, answer.body) == (503, b"sorry")
    assert "x-a" not in answer.headers


def test_a_second_start_without_an_error_is_a_mistake(serve):
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert serve(app).ask(GET).status == 500


def test_a_response_that_fails_after_it_began_is_cut_off(serve):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"half of it"
        try:
            raise KeyError("x")
        except KeyError:
            start_response("500 Sorry", [], sys.exc_info())
        yield b"never"

    for request in (GET, OLD):
        served = serve(app)
        with served.connect() as client:
            client.send(request)
            received = client.rest()
        assert not received.endswith(b"0\r\n\r\n")
        assert b"never" not in received
        assert [record.exc_info[0] for record in served.records if record.exc_info] == [KeyError]


def test_what_the_application_returns_is_closed_also_if_it_fails(serve):
    closed = []

    class Result:
        def __iter__(self):
            raise KeyError

        def close(self):
            closed.append(True)

    assert serve(returning(Result())).ask(GET).status == 500
    assert closed == [True]


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET,
        HEAD,
        OLD,
        b"POST /a/b?c=d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello",
        b"POST /a/b?c=d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_the_server_is_what_pep_3333_says(serve, request_bytes, late):
    def app(environ, start_response):
        body = environ["wsgi.input"].read(5)
        environ["wsgi.errors"].write("a line\n\n")
        environ["wsgi.errors"].writelines(["another\n", "\n"])
        environ["wsgi.errors"].flush()
        if environ["REQUEST_METHOD"] == "POST":
            assert body == b"hello"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]

    served = serve(validator(app))
    with served.connect() as client:
        head, _, body = request_bytes.partition(b"\r\n\r\n")
        if late:
            client.send_first(head + b"\r\n\r\n")
            client.send(body)
        else:
            client.send(request_bytes)
        assert client.answer(head_only=request_bytes is HEAD).status == 200
    assert served.logged(logging.ERROR) == ["a line", "another"]
