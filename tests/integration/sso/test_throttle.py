"""How often something may fail: for an account, an address, an application."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from junctor.server.sso.caller import Caller
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.throttle import Throttle
from junctor.sql.secrets import new_key_line, parse_keys
from tests.helpers.sso import SsoUnderTest

ELSEWHERE = "198.51.100.23"


@pytest.fixture
def throttle(sso: SsoUnderTest) -> Throttle:
    """The counters, with three free failures."""
    sso.settings(throttle_free_failures=3, throttle_max_delay=60, throttle_password_off=10)
    return sso.sso.throttle


def refusal(call: Callable[[], Any]) -> ValidationError:
    """How a call is refused."""
    with pytest.raises(ValidationError) as caught:
        call()
    return caught.value


def fail(sso: SsoUnderTest, times: int, account: str = "alice", **caller: Any) -> None:
    """Fails so many times in a row, and waits after each as long as one has to."""
    for _ in range(times):
        sso.sso.throttle.failed(account, sso.caller(**caller))
        wait(sso)


def wait(sso: SsoUnderTest) -> None:
    """Lets the time pass that anybody has to wait."""
    change(sso, "blocked_until = now() - interval '1 second' WHERE blocked_until IS NOT NULL AND")


def change(sso: SsoUnderTest, what: str) -> None:
    with sso.store.engine.begin() as connection:
        connection.execute(
            text(f"UPDATE sso_throttle SET {what} cluster_id = :cluster"), {"cluster": sso.store.cluster_id}
        )


def known(sso: SsoUnderTest, account: str = "alice", **caller: Any) -> None:
    """Succeeds once from an address."""
    attempt = sso.sso.throttle.begin(account, sso.caller(**caller))
    with sso.store.engine.begin() as connection:
        assert attempt.is_granted(connection)


def test_the_first_failures_are_free(sso: SsoUnderTest, throttle: Throttle) -> None:
    for _ in range(2):
        throttle.failed("alice", sso.caller())

    throttle.admit("alice", sso.caller())


def test_each_further_failure_doubles_the_wait_up_to_a_limit(sso: SsoUnderTest, throttle: Throttle) -> None:
    waits = []
    fail(sso, 2)
    for _ in range(7):
        throttle.failed("alice", sso.caller())
        error = refusal(lambda: throttle.admit("alice", sso.caller()))
        assert error.shown == ["E005009"]
        waits.append(error.retry_after)
        wait(sso)

    assert waits == [1, 2, 4, 8, 16, 32, 60]


def test_after_the_wait_the_next_one_is_admitted(sso: SsoUnderTest, throttle: Throttle) -> None:
    fail(sso, 4)

    throttle.admit("alice", sso.caller())


def test_a_name_that_is_nobodys_is_counted_like_any(sso: SsoUnderTest, throttle: Throttle) -> None:
    sso.user("alice")
    answers = []
    for account in ("alice", "nobody"):
        for _ in range(4):
            throttle.failed(account, sso.caller())
        error = refusal(lambda account=account: throttle.admit(account, sso.caller()))
        answers.append((error.shown, error.retry_after))

    assert answers[0] == answers[1]


def test_a_name_is_the_same_in_any_case(sso: SsoUnderTest, throttle: Throttle) -> None:
    for account in ("alice", "ALICE", "\uff21\uff4c\uff49\uff43\uff45"):
        throttle.failed(account, sso.caller())

    assert refusal(lambda: throttle.admit("aLiCe", sso.caller())).shown == ["E005009"]


def test_another_account_and_another_factor_do_not_wait(sso: SsoUnderTest, throttle: Throttle) -> None:
    for _ in range(3):
        throttle.failed("alice", sso.caller())

    throttle.admit("bob", sso.caller())
    throttle.admit("alice", sso.caller(), factor="otp")


def test_a_success_forgets_the_failures(sso: SsoUnderTest, throttle: Throttle) -> None:
    fail(sso, 5)
    known(sso)
    throttle.failed("alice", sso.caller())

    throttle.admit("alice", sso.caller())


def test_who_attacks_from_elsewhere_cannot_keep_the_owner_out(sso: SsoUnderTest, throttle: Throttle) -> None:
    known(sso)
    for _ in range(20):
        throttle.failed("alice", sso.caller(remote_addr=ELSEWHERE))

    assert refusal(lambda: throttle.admit("alice", sso.caller(remote_addr=ELSEWHERE)))
    throttle.admit("alice", sso.caller())


def test_the_owner_is_not_known_at_an_address_for_ever(sso: SsoUnderTest, throttle: Throttle) -> None:
    known(sso)
    change(sso, "expires = now() - interval '1 second' WHERE")
    for _ in range(3):
        throttle.failed("alice", sso.caller(remote_addr=ELSEWHERE))

    assert refusal(lambda: throttle.admit("alice", sso.caller())).shown == ["E005009"]


def test_somebody_elses_success_at_an_address_is_no_success_of_the_owner(
    sso: SsoUnderTest, throttle: Throttle
) -> None:
    known(sso, "mallory", remote_addr=ELSEWHERE)
    for _ in range(3):
        throttle.failed("alice", sso.caller())

    assert refusal(lambda: throttle.admit("alice", sso.caller(remote_addr=ELSEWHERE))).shown == ["E005009"]


def test_after_too_many_failures_in_a_row_the_factor_is_off_until_it_is_reset(
    sso: SsoUnderTest, throttle: Throttle
) -> None:
    fail(sso, 9)
    assert not throttle.is_off("alice")
    throttle.admit("alice", sso.caller())
    fail(sso, 1)

    assert throttle.is_off("alice")
    assert not throttle.is_off("alice", factor="otp")
    assert refusal(lambda: throttle.admit("alice", sso.caller())).shown == ["E005009"]
    throttle.succeeded("alice")
    assert not throttle.is_off("alice")
    throttle.admit("alice", sso.caller())


def test_a_factor_stays_off_when_a_key_comes_in_front(sso: SsoUnderTest, throttle: Throttle) -> None:
    fail(sso, 10)
    keyring = sso.store.keyring
    keyring._use({**parse_keys(new_key_line()), **keyring._keys})

    assert throttle.is_off("alice")
    assert refusal(lambda: throttle.admit("alice", sso.caller())).shown == ["E005009"]
    throttle.succeeded("alice")
    throttle.admit("alice", sso.caller())


def test_an_address_may_fail_so_often_within_ten_minutes(sso: SsoUnderTest, throttle: Throttle) -> None:
    sso.settings(throttle_address_limit=5)
    for number in range(5):
        throttle.failed(f"user{number}", sso.caller())

    error = refusal(lambda: throttle.admit("another", sso.caller()))

    assert error.shown == ["E005009"]
    assert 590 <= error.retry_after <= 600
    throttle.admit("another", sso.caller(remote_addr=ELSEWHERE))
    change(sso, "expires = now() - interval '1 second' WHERE")
    throttle.admit("another", sso.caller())


def test_owners_get_in_from_a_known_address_that_fails_too_often(
    sso: SsoUnderTest, throttle: Throttle
) -> None:
    known(sso, "alice")
    sso.settings(throttle_address_limit=5)
    for number in range(5):
        throttle.failed(f"user{number}", sso.caller())

    throttle.admit("alice", sso.caller())


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", "203.0.113.9", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("203.0.113.9", "203.0.113.10", False),
        ("no address", "no address", True),
    ],
)
def test_an_address_is_that_of_a_network_that_somebody_has(
    sso: SsoUnderTest, throttle: Throttle, one: str, other: str, is_same: bool
) -> None:
    known(sso, remote_addr=one)

    attempt = throttle.begin("alice", sso.caller(remote_addr=other))

    assert attempt.is_known is is_same


def test_once_an_application_fails_too_often_unknown_addresses_wait(
    sso: SsoUnderTest, throttle: Throttle
) -> None:
    known(sso, "bob")
    sso.settings(throttle_app_limit=10)
    sso.application("ERP")
    for number in range(10):
        throttle.failed(f"user{number}", sso.caller(remote_addr=f"198.51.100.{number}"))

    assert refusal(lambda: throttle.admit("carol", sso.caller(remote_addr=ELSEWHERE))).shown == ["E005009"]
    throttle.admit("carol", sso.caller())
    throttle.admit("carol", sso.caller(remote_addr=ELSEWHERE, app="ERP"))


def test_the_cluster_itself_waits_for_nobody_else(sso: SsoUnderTest, throttle: Throttle) -> None:
    for _ in range(20):
        throttle.failed("alice", sso.caller())

    throttle.admit("alice", sso.trusted())


def test_failures_at_the_same_moment_are_all_counted(sso: SsoUnderTest, throttle: Throttle) -> None:
    sso.settings(throttle_free_failures=50, throttle_password_off=40)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: throttle.failed("alice", sso.caller()), range(39)))

    assert not throttle.is_off("alice")
    throttle.failed("alice", sso.caller())
    assert throttle.is_off("alice")


def test_an_attempt_that_was_overtaken_by_failures_is_of_no_use(
    sso: SsoUnderTest, throttle: Throttle
) -> None:
    attempt = throttle.begin("alice", sso.caller())
    for _ in range(3):
        throttle.failed("alice", sso.caller())

    with sso.store.engine.begin() as connection:
        assert not attempt.is_granted(connection)
    assert not throttle.begin("bob", sso.caller()).is_known


def test_calls_are_counted_within_their_time(sso: SsoUnderTest, throttle: Throttle) -> None:
    for _ in range(3):
        throttle.take("reset", "alice", 3, 3600)

    error = refusal(lambda: throttle.take("reset", "alice", 3, 3600))

    assert error.shown == ["E005009"]
    assert 3590 <= error.retry_after <= 3600
    throttle.take("reset", "bob", 3, 3600)
    change(sso, "expires = now() - interval '1 second' WHERE")
    throttle.take("reset", "alice", 3, 3600)


def test_no_counter_tells_whose_it_is(sso: SsoUnderTest, throttle: Throttle) -> None:
    fail(sso, 2)
    known(sso)

    with sso.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT CAST(t.* AS text) FROM sso_throttle t")).scalars().all()
    assert rows
    assert not any("alice" in row or "203.0.113" in row for row in rows)


@pytest.mark.parametrize("account", ["", "\0", "\ud800", "x" * 100_000])
def test_any_text_can_be_an_account(sso: SsoUnderTest, throttle: Throttle, account: str) -> None:
    caller: Caller = sso.caller(remote_addr="")
    throttle.failed(account, caller)

    throttle.admit(account, caller)
