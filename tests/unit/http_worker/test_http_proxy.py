"""PROXY protocol headers: whom they are taken from, and which are understood."""

import socket
import struct

import pytest

from junctor.server.http_proxy import ProxyHeader, parse_proxy_header
from junctor.server.http_settings import TrustedPeers
from junctor.sql.errors import BadRequest

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"


def v2(command, family, payload):
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


V2 = v2(
    0x21, 0x11, socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 56324, 443)
)
V2_IPV6 = v2(
    0x21,
    0x21,
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack("!HH", 1, 65535)
    + b"an extension",
)
ADDRESSES = (("192.0.2.1", 56324), ("192.0.2.2", 443))
ADDRESSES_IPV6 = (("2001:db8::1", 1), ("2001:db8::2", 65535))


@pytest.mark.parametrize(
    ("data", "version", "addresses"),
    [
        (V1, "v1", ADDRESSES),
        (V1_IPV6, "v1", ADDRESSES_IPV6),
        (b"PROXY UNKNOWN\r\n", "v1", (None, None)),
        (b"PROXY UNKNOWN whatever this is\r\n", "v1", (None, None)),
        (V2, "v2", ADDRESSES),
        (V2_IPV6, "v2", ADDRESSES_IPV6),
        (v2(0x20, 0x00, b""), "v2", (None, None)),
        (v2(0x20, 0x11, bytes(12)), "v2", (None, None)),
        (v2(0x21, 0x00, b""), "v2", (None, None)),
    ],
)
def test_a_header_is_understood_wherever_it_is_cut(data, version, addresses):
    for accepted in (version, "auto"):
        assert parse_proxy_header(data + GET, accepted) == ProxyHeader(len(data), *addresses)
        for length in range(1, len(data)):
            assert parse_proxy_header(data[:length], accepted) is None
    with pytest.raises(BadRequest):
        parse_proxy_header(data, "v1" if version == "v2" else "v2")


@pytest.mark.parametrize(
    "data",
    [
        GET,
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 one 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        v2(0x11, 0x11, bytes(12)),
        v2(0x22, 0x11, bytes(12)),
        v2(0x21, 0x12, bytes(12)),
        v2(0x21, 0x31, bytes(216)),
        v2(0x21, 0x11, bytes(11)),
        v2(0x21, 0x21, bytes(35)),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(BadRequest):
        parse_proxy_header(data, "auto")


def trusting(serve, **limits):
    return serve(settings={"proxy_protocol": "auto", "proxies": TrustedPeers.parse(["127.0.0.1"])}, **limits)


@pytest.mark.parametrize(
    ("header", "peer"), [(V1, "192.0.2.1"), (V2_IPV6, "2001:db8::1"), (v2(0x20, 0, b""), "127.0.0.1")]
)
def test_a_trusted_proxy_says_who_its_client_is(serve, header, peer):
    served = trusting(serve)
    with served.connect() as client:
        client.send_first(header[:7])
        client.send(header[7:] + GET)
        assert client.answer().json()["peer"] == peer
        assert client.ask(GET).json()["peer"] == peer


def test_a_trusted_proxy_must_say_it(serve):
    served = trusting(serve)
    with served.connect() as client:
        assert client.ask(GET).status == 400


def test_the_log_names_the_client_not_the_proxy(serve):
    import logging

    served = trusting(serve)
    assert served.ask(V1 + b"NONSENSE\r\n\r\n").status == 400
    assert served.logged(logging.INFO)[0].startswith("Refused a request from 192.0.2.1: ")


def test_nobody_else_is_believed(serve):
    served = serve(settings={"proxy_protocol": "auto", "proxies": TrustedPeers.parse(["192.0.2.0/24"])})
    assert served.ask(V1 + GET).status == 400
    assert served.ask(V2 + GET).status == 400
    assert served.ask(GET).json()["peer"] == "127.0.0.1"


def test_nobody_is_believed_unless_it_is_switched_on(serve):
    served = serve(settings={"proxies": TrustedPeers.parse(["*"])})
    assert served.ask(V1 + GET).status == 400


def test_a_proxy_that_says_nothing_is_let_go(serve):
    with trusting(serve, header_timeout=0.1).connect() as client:
        client.send(b"PROXY ")
        assert client.rest() == b""
