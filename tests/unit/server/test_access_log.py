"""The access log: where a request comes from, and whom to believe; the lines are tested with real requests."""

from __future__ import annotations

import pytest

from junctor.server.access_log import ClientAddress
from junctor.server.http_settings import TrustedPeers

TRUSTED = ClientAddress(TrustedPeers.parse(["127.0.0.1/32", "10.0.0.0/8", "::1/128"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.1", None, "203.0.113.1"),
        ("203.0.113.1", "1.1.1.1", "203.0.113.1"),  # nobody we know says so
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),  # the first one is the client's own word
        ("127.0.0.1", "203.0.113.7, 10.1.2.3", "203.0.113.7"),  # through two proxies of ours
        ("127.0.0.1", " 203.0.113.7 ,10.1.2.3,127.0.0.1", "203.0.113.7"),
        ("127.0.0.1", "10.1.2.3, 10.4.5.6", "127.0.0.1"),
        ("127.0.0.1", ", ,", "127.0.0.1"),
        ("127.0.0.1", "unknown", "unknown"),
        ("127.0.0.1", "x" * 1000, "x" * 64),
        ("", "203.0.113.7", "203.0.113.7"),  # a Unix socket: who may open it is one of us
        ("", None, ""),
    ],
)
def test_the_last_address_that_is_no_proxy_of_ours_is_the_clients(
    peer: str, forwarded: str | None, expected: str
) -> None:
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert TRUSTED(environ) == expected


def test_zatos_own_header_comes_first() -> None:
    environ = {
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_X_ZATO_FORWARDED_FOR": "203.0.113.1",
        "HTTP_X_FORWARDED_FOR": "203.0.113.2",
    }
    assert TRUSTED(environ) == "203.0.113.1"
    assert TRUSTED(environ | {"REMOTE_ADDR": "203.0.113.9"}) == "203.0.113.9"


def test_a_request_without_a_peer_has_no_address() -> None:
    assert TRUSTED({}) == ""


def test_nobody_is_believed_when_nobody_is_trusted() -> None:
    nobody = ClientAddress(TrustedPeers.parse([]))
    assert nobody({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "6.6.6.6"}) == "127.0.0.1"
