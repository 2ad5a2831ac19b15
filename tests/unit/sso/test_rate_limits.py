"""The rate limits of a user, as text."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from junctor.server.sso.rate_limits import RateLimit, limit_for, parse


def test_each_line_is_a_limit() -> None:
    assert parse("10.0.0.0/8=100/m\n\n 2001:db8::1 = 5 / s\n*=2/h\n127.0.0.1=1/d") == (
        RateLimit(ip_network("10.0.0.0/8"), 100, 60),
        RateLimit(ip_network("2001:db8::1"), 5, 1),
        RateLimit(None, 2, 3600),
        RateLimit(ip_network("127.0.0.1"), 1, 86_400),
    )


def test_the_first_line_that_is_for_an_address_counts() -> None:
    definition = "10.1.0.0/16=1/s\n10.0.0.0/8=2/s"

    assert limit_for(definition, "10.1.2.3") == RateLimit(ip_network("10.1.0.0/16"), 1, 1)
    assert limit_for(definition, "::ffff:10.2.0.1") == RateLimit(ip_network("10.0.0.0/8"), 2, 1)
    assert limit_for(definition, "192.0.2.1") is None
    assert limit_for(definition, "") is None
    assert limit_for("*=3/s", "") == RateLimit(None, 3, 1)


@pytest.mark.parametrize(
    "definition", ["100/m", "*=100", "*=x/m", "*=5/w", "nowhere=5/m", "10.0.0.1/8=5/m", "*=1/s\n" * 201]
)
def test_what_is_no_limit_is_refused(definition: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse(definition)
