"""What a server allows and whom it believes."""

import pytest
from gunicorn.config import Config

from junctor.server.http_settings import HTTPLimits, TrustedPeers
from junctor.server.http_worker import HTTPWorker


@pytest.mark.parametrize(
    ("addresses", "peer", "trusted"),
    [
        (["127.0.0.1", "::1"], "127.0.0.1", True),
        (["127.0.0.1", "::1"], "::1", True),
        (["127.0.0.1", "::1"], "::ffff:127.0.0.1", True),
        (["127.0.0.1", "::1"], "127.0.0.2", False),
        (["10.0.0.0/8", " 192.0.2.0/24 "], "192.0.2.200", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "2001:db8::1", False),
        (["*"], "203.0.113.1", True),
        ([], "127.0.0.1", False),
        ([], "", True),
        (["10.0.0.0/8"], "not an address", False),
    ],
)
def test_a_peer_is_trusted_by_its_address(addresses, peer, trusted):
    assert (peer in TrustedPeers.parse(addresses)) is trusted


def test_what_is_not_an_address_cannot_be_trusted():
    with pytest.raises(ValueError, match="nonsense"):
        TrustedPeers.parse(["nonsense"])


def test_the_settings_of_a_worker_come_from_gunicorn_and_from_its_limits():
    config = Config()
    config.set("workers", 2)
    config.set("worker_connections", 7)
    config.set("proxy_protocol", "v1")
    config.set("proxy_allow_ips", "10.0.0.0/8")
    config.set("forwarded_allow_ips", "*")
    limits = HTTPLimits(header_count=3)
    worker = HTTPWorker.with_limits(limits).__new__(HTTPWorker.with_limits(limits))
    worker.cfg = config
    settings = worker.settings()
    assert (settings.limits, settings.max_connections, settings.multiprocess) == (limits, 7, True)
    assert (settings.proxy_protocol, settings.proxies) == ("v1", TrustedPeers.parse(["10.0.0.0/8"]))
    assert settings.forwarders == TrustedPeers(everybody=True)
    assert ("HTTP_X_FORWARDED_PROTO", "https") in settings.secure_headers
    assert HTTPWorker.limits == HTTPLimits()
