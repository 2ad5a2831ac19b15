"""Which requests are understood, which are refused, and what an application sees of them."""

import logging
import re

import pytest

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


def test_a_request_arrives_as_a_wsgi_environment(serve):
    answer = serve().ask(
        b"POST /a%20b/%C3%A9?x=1&y=%20 HTTP/1.1\r\nHost: example.com:17010\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 5\r\nX-Some-Name: value \t\r\nX-Empty:\r\n\r\nhello"
    )
    assert answer.status == 200
    assert answer.json() == {
        "method": "POST",
        "path": "/a b/\xc3\xa9",
        "query": "x=1&y=%20",
        "body": "hello",
        "length": "5",
        "type": "text/plain",
        "scheme": "http",
        "peer": "127.0.0.1",
        "headers": {"HTTP_HOST": "example.com:17010", "HTTP_X_SOME_NAME": "value", "HTTP_X_EMPTY": ""},
        "complete": True,
    }


def test_repeated_headers_become_one_list(serve):
    headers = (
        serve()
        .ask(GET + b"X-A: 1\r\nX-B: 0\r\nx-a: 2\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n")
        .json()["headers"]
    )
    assert headers["HTTP_X_A"] == "1,2"
    assert headers["HTTP_COOKIE"] == "a=1; b=2"


def test_a_header_with_an_underscore_cannot_pass_for_another(serve):
    headers = serve().ask(GET + b"X-User: a\r\nX_User: b\r\nContent_Length: 9\r\n\r\n").json()["headers"]
    assert headers["HTTP_X_USER"] == "a"
    assert "HTTP_CONTENT_LENGTH" not in headers


def test_one_empty_line_before_a_request_is_forgiven(serve):
    with serve().connect() as client:
        assert client.ask(b"\r\n" + GET + b"\r\n").status == 200
        client.send_first(b"\r")
        client.send_first(b"\n")
        assert client.ask(GET + b"\r\n").status == 200
        assert client.ask(b"\r\n\r\n" + GET + b"\r\n").status == 400


def test_a_head_may_arrive_byte_by_byte(serve):
    with serve().connect() as client:
        for byte in GET + b"X-A: b\r\n\r\n":
            client.send_first(bytes([byte]))
        assert client.answer().json()["headers"]["HTTP_X_A"] == "b"


def test_the_absolute_form_is_understood_and_may_not_contradict_the_host(serve):
    served = serve()
    seen = served.ask(b"GET http://localhost/x?y HTTP/1.1\r\nHost: localhost\r\n\r\n").json()
    assert (seen["path"], seen["query"]) == ("/x", "y")
    assert served.ask(b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n").json()["path"] == "/"
    assert served.ask(b"GET http://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 400


def test_the_asterisk_is_for_options_only(serve):
    served = serve()
    assert served.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").json()["path"] == "*"
    assert served.ask(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n").status == 400


def test_http_1_0_needs_no_host(serve):
    assert serve().ask(b"GET / HTTP/1.0\r\n\r\n").status == 200


MALFORMED = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other order": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "two lengths": GET + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": GET + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": GET + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": GET + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": GET + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": GET + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": GET + b"Content-Length:\r\n\r\n",
    "a length beyond any": GET + b"Content-Length: 99999999999999999999\r\n\r\n",
    "digits that are not ASCII": GET + b"Content-Length: \xb2\r\n\r\nab",
    "an unknown coding": GET + b"Transfer-Encoding: gzip\r\n\r\n",
    "a coding before chunked": GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "something like chunked": GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with a vertical tab": GET + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "a first header that is folded": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare CR in a value": GET + b"X-A: b\rc\r\n\r\n",
    "a bare LF in a value": GET + b"X-A: b\nX-B: c\r\n\r\n",
    "lines that end with LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "a NUL in a value": GET + b"X-A: b\0c\r\n\r\n",
    "a DEL in a value": GET + b"X-A: b\x7fc\r\n\r\n",
    "a space before the colon": GET + b"X-A : b\r\n\r\n",
    "a tab before the colon": GET + b"X-A\t: b\r\n\r\n",
    "a name that is not a token": GET + b"X(A): b\r\n\r\n",
    "a name that is not ASCII": GET + b"X-\xe9: b\r\n\r\n",
    "an empty name": GET + b": b\r\n\r\n",
    "a header without a colon": GET + b"X-A\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with an account": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "two content types": GET + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n",
    "an unknown method": b"HACK / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "CONNECT with a path": b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space at the end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a target that is not ASCII": b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a relative target": b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing like HTTP": b"\0\0\0\0",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_gets_one_normalised_400_and_is_closed(serve, request_bytes):
    served = serve()
    with served.connect() as client:
        client.send(request_bytes)
        answer = client.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert answer.headers["content-type"] == "application/json"
        cid = answer.headers["x-zato-cid"]
        assert re.fullmatch("[0-9a-f]{24}", cid)
        assert answer.json() == {"result": "Error", "cid": cid, "details": "Bad Request"}
        client.half_close()
        assert client.rest() == b""
    [record] = [record for record in served.records if record.levelno == logging.INFO]
    assert record.getMessage().startswith("Refused a request from 127.0.0.1: 400, ")
    assert cid in record.getMessage()


def test_an_expectation_that_is_not_known_is_417(serve):
    assert serve().ask(GET + b"Expect: the-unexpected\r\n\r\n").status == 417


def test_a_request_line_beyond_the_limit_is_414(serve):
    served = serve(request_line=100)
    line = b"GET /%s HTTP/1.1"
    longest = line % (b"a" * (100 - len(line % b"")))
    assert served.ask(longest + b"\r\nHost: a\r\n\r\n").status == 200
    assert served.ask(longest.replace(b"/a", b"/aa") + b"\r\nHost: a\r\n\r\n").status == 414


def test_a_request_line_that_does_not_end_is_414_before_it_ends(serve):
    assert serve().ask(b"GET /" + b"a" * 10_000).status == 414


def test_too_many_headers_are_431(serve):
    served = serve(header_count=10)
    assert served.ask(GET + b"X-A: b\r\n" * 9 + b"\r\n").status == 200
    assert served.ask(GET + b"X-A: b\r\n" * 10 + b"\r\n").status == 431


def test_a_header_beyond_the_limit_is_431(serve):
    served = serve(header_size=100)
    assert served.ask(GET + b"X-A: " + b"b" * 97 + b"\r\n\r\n").status == 200
    assert served.ask(GET + b"X-A: " + b"b" * 98 + b"\r\n\r\n").status == 431


def test_a_head_beyond_the_limit_is_431_even_if_it_does_not_end(serve):
    served = serve(head_size=5000)
    assert served.ask(GET + b"X-A: bbbbbbbb\r\n" * 500 + b"\r\n").status == 431
    assert served.ask(GET + b"X-A: bbbbbbbb\r\n" * 500).status == 431


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [(b"", "http"), (b"X-Forwarded-Proto: https\r\n", "https"), (b"X-Forwarded-Proto: http\r\n", "http")],
)
def test_a_trusted_proxy_says_which_scheme_its_client_used(serve, headers, scheme):
    from junctor.server.http_settings import TrustedPeers

    trusting = serve(settings={"forwarders": TrustedPeers.parse(["127.0.0.0/8"])})
    assert trusting.ask(GET + headers + b"\r\n").json()["scheme"] == scheme
    assert serve().ask(GET + headers + b"\r\n").json()["scheme"] == "http"


def test_a_proxy_that_contradicts_itself_is_refused(serve):
    from junctor.server.http_settings import TrustedPeers

    names = (("HTTP_X_FORWARDED_PROTO", "https"), ("HTTP_X_FORWARDED_SSL", "on"))
    served = serve(settings={"forwarders": TrustedPeers(everybody=True), "secure_headers": names})
    assert (
        served.ask(GET + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n\r\n").json()["scheme"]
        == "https"
    )
    assert served.ask(GET + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n").status == 400


def test_unknown_header_names_do_not_fill_the_memory(serve):
    from junctor.server import http_request

    served = serve()
    with served.connect() as client:
        for start in range(0, 2000, 90):
            names = b"".join(b"X-Name-%d: a\r\n" % number for number in range(start, start + 90))
            assert client.ask(GET + names + b"\r\n").status == 200
    assert len(http_request._names) <= http_request._MAX_KNOWN_NAMES
