"""Bodies: with a length, in chunks, late, too large, and not all of it."""

import pytest

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_body_that_comes_late_is_waited_for(serve, until):
    with serve().connect() as client:
        client.send_first(POST + b"Content-Length: 10\r\n\r\n")
        client.send_first(b"01234")
        client.send(b"56789")
        seen = client.answer().json()
        assert seen["body"] == "0123456789"
        assert seen["length"] == "10"


def test_a_body_that_is_there_is_offered_whole(serve):
    served = serve()
    assert served.ask(POST + b"Content-Length: 3\r\n\r\nabc").json()["complete"] is True
    assert served.ask(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n").json()["complete"] is True
    assert served.ask(POST + b"\r\n").json()["complete"] is True


def test_a_large_body_arrives_whole(serve):
    import hashlib

    def digest(environ, start_response):
        seen = hashlib.sha256()
        while piece := environ["wsgi.input"].read(10_000):
            seen.update(piece)
        start_response("200 OK", [])
        return [seen.hexdigest().encode()]

    body = bytes(range(256)) * 4000
    served = serve(digest)
    expected = hashlib.sha256(body).hexdigest().encode()
    assert served.ask(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body).body == expected
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 999]), body[at : at + 999]) for at in range(0, len(body), 999)
    )
    assert served.ask(CHUNKED + chunks + b"0\r\n\r\n").body == expected


def test_the_input_is_a_file(serve):
    def lines(environ, start_response):
        stream = environ["wsgi.input"]
        seen = [
            stream.readline(),
            stream.read(3),
            *stream.readlines(),
            stream.read(),
            stream.read(5),
            *stream,
        ]
        start_response("200 OK", [])
        return [repr(seen).encode()]

    served = serve(lines)
    expected = repr([b"one\n", b"two", b"\n", b"three", b"", b""]).encode()
    assert served.ask(POST + b"Content-Length: 13\r\n\r\none\ntwo\nthree").body == expected
    with served.connect() as client:
        client.send_first(POST + b"Content-Length: 13\r\n\r\none\nt")
        client.send(b"wo\nthree")
        assert client.answer().body == expected


def test_chunks_may_be_cut_anywhere(serve):
    body = b'4;name=value\r\nWiki\r\n5 ; a = "b;\\"c"\r\npedia\r\n00E\r\n in\r\n\r\nchunks.\r\n0\r\nX-Trailer: a\r\n\r\n'
    with serve().connect() as client:
        client.send_first(CHUNKED)
        for byte in body:
            client.send_first(bytes([byte]))
        seen = client.answer().json()
        assert seen["body"] == "Wikipedia in\r\n\r\nchunks."
        assert "HTTP_X_TRAILER" not in seen["headers"]
        assert client.ask(POST + b"Content-Length: 1\r\n\r\na").json()["body"] == "a"


@pytest.mark.parametrize("split", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1 \r\na\r\n",
        b" 1\r\na\r\n",
        b"1_0\r\n",
        b"1\na\n0\n\n",
        b"1;\r\na\r\n",
        b"1;a=\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;" + b"a" * 2000,
        b"00000000000000001\r\na\r\n",
        b"fffffffffffffffff\r\n",
        b"1\r\nab\r\n",
        b"3\r\nab\r\n0\r\n",
        b"1\r\na0\r\n\r\n",
        b"0\r\nX-A : b\r\n\r\n",
        b"0\r\nX-A: b\r\n c\r\n\r\n",
        b"0\r\nX-A: b\nX-B: c\r\n\r\n",
        b"0\r\nX-A: b\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHost: b\r\n\r\n",
        b"0\r\nX-A: " + b"b" * 9000,
    ],
)
def test_a_malformed_chunk_is_refused(serve, body, split):
    with serve().connect() as client:
        if split:
            client.send_first(CHUNKED)
            client.send(body)
        else:
            client.send(CHUNKED + body)
        answer = client.answer()
        assert (answer.status, answer.closes, len(answer.headers["x-zato-cid"])) == (400, True, 24)


def test_extensions_may_not_outgrow_the_limit_in_sum(serve):
    chunk = b"1;" + b"a" * 100 + b"\r\nx\r\n"
    served = serve(header_size=1000)
    assert served.ask(CHUNKED + chunk * 9 + b"0\r\n\r\n").status == 200
    assert served.ask(CHUNKED + chunk * 10 + b"0\r\n\r\n").status == 400


def test_a_body_beyond_the_limit_is_413(serve):
    served = serve(body_size=1000)
    assert served.ask(POST + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000).status == 200
    answer = served.ask(POST + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001)
    assert (answer.status, answer.closes) == (413, True)
    assert served.ask(CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n").status == 200
    assert served.ask(CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n1\r\n").status == 413
    with served.connect() as client:
        client.send_first(CHUNKED)
        assert client.ask(b"3e9\r\n").status == 413


def test_the_answer_to_a_body_that_is_too_large_survives_that_the_client_goes_on_sending(serve):
    with serve(body_size=1000).connect() as client:
        client.send_first(POST + b"Content-Length: 5000000\r\n\r\n")
        for _ in range(50):
            client.send(b"a" * 100_000)
        assert client.answer().status == 413


def test_100_continue_is_said_when_the_application_reads(serve):
    with serve().connect() as client:
        client.send(POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
        interim = client.answer()
        assert (interim.status, interim.head) == (100, b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.ask(b"hello").json()["body"] == "hello"
        client.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert client.answer().status == 100
        assert client.ask(b"1\r\na\r\n0\r\n\r\n").json()["body"] == "a"


def test_100_continue_is_not_said_for_a_body_that_is_there_or_to_http_1_0(serve):
    served = serve()
    assert served.ask(POST + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\na").status == 200
    old = POST.replace(b"1.1", b"1.0") + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    with served.connect() as client:
        client.send_first(old)
        assert client.ask(b"a").status == 200


def test_an_application_that_refuses_without_reading_never_asks_for_the_body(serve):
    def refuse(environ, start_response):
        start_response("401 Unauthorized", [])
        return [b"no"]

    with serve(refuse).connect() as client:
        answer = client.ask(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (answer.status, answer.closes) == (401, True)


def test_an_application_may_leave_a_body_that_is_there_unread(serve):
    def ignore(environ, start_response):
        start_response("200 OK", [])
        return [b"ok"]

    with serve(ignore).connect() as client:
        for body in (
            b"Content-Length: 3\r\n\r\nabc",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ):
            answer = client.ask(POST + body)
            assert (answer.body, answer.closes) == (b"ok", False)


def test_an_application_may_answer_before_it_reads(serve):
    def early(environ, start_response):
        write = start_response("200 OK", [])
        write(b"seen: ")
        return [environ["wsgi.input"].read()]

    with serve(early).connect() as client:
        client.send_first(POST + b"Content-Length: 3\r\n\r\n")
        client.send(b"abc")
        answer = client.answer()
        assert (answer.body, answer.closes) == (b"seen: abc", True)


@pytest.mark.parametrize(
    "head", [POST + b"Content-Length: 10\r\n\r\nabc", CHUNKED + b"a\r\nabc"], ids=["length", "chunked"]
)
def test_a_body_that_ends_early_is_an_error_of_the_client(serve, head):
    with serve().connect() as client:
        client.send_first(head)
        client.half_close()
        assert client.answer().status == 400


def test_an_application_may_answer_what_it_could_not_read_itself(serve):
    from junctor.sql.errors import RequestRefused

    def app(environ, start_response):
        for _ in range(2):
            try:
                environ["wsgi.input"].read()
            except RequestRefused as refused:
                status = refused.status
        start_response(f"{status} Refused", [])
        return [b"by the application"]

    with serve(app).connect() as client:
        client.send_first(POST + b"Content-Length: 10\r\n\r\nabc")
        client.half_close()
        answer = client.answer()
        assert (answer.status, answer.body, answer.closes) == (400, b"by the application", True)


def test_a_body_that_stops_coming_is_408(serve):
    with serve(body_timeout=0.1).connect() as client:
        answer = client.ask(POST + b"Content-Length: 10\r\n\r\nabc")
        assert (answer.status, answer.closes) == (408, True)


def test_a_body_that_trickles_is_408(serve):
    import gevent

    with serve(body_timeout=0.3, body_rate=1000).connect() as client:
        client.send(POST + b"Content-Length: 100000\r\n\r\n")

        def trickle():
            while True:
                client.send(b"a")
                gevent.sleep(0.02)

        sender = gevent.spawn(trickle)
        try:
            assert client.answer().status == 408
        finally:
            sender.kill()


def test_a_slow_application_does_not_use_up_its_client_s_time(serve):
    import gevent

    def slow(environ, start_response):
        pieces = []
        for _ in range(10):
            gevent.sleep(0.03)
            pieces.append(environ["wsgi.input"].read(1))
        start_response("200 OK", [])
        return pieces

    with serve(slow, body_timeout=0.1, body_rate=1000).connect() as client:
        client.send_first(POST + b"Content-Length: 10\r\n\r\n")
        assert client.ask(b"0123456789").body == b"0123456789"
