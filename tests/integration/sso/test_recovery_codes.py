"""Codes for who has lost the authenticator."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from junctor.server.sso.recovery_codes import new_code, normalized
from tests.helpers.second_factors import SecondFactors, refused


@pytest.fixture
def factors(module_engine, keyring):
    under_test = SecondFactors(module_engine, keyring)
    yield under_test
    under_test.stop()


def codes_of(factors):
    """A user with codes, and the codes."""
    user, _ = factors.with_totp()
    return user, factors.sso.recovery_codes.renew(factors.caller(factors.log_in()))


def is_right(factors, user, code):
    with factors.store.engine.begin() as connection:
        return factors.sso.totp.is_right(connection, user, code)


def test_codes_are_long_and_differ():
    codes = {new_code() for _ in range(100)}

    assert len(codes) == 100
    assert all(len(normalized(code)) * 5 == 120 for code in codes), "120 bits each"


def test_each_code_works_once_in_place_of_a_one_time_password(factors):
    user, codes = codes_of(factors)

    assert [is_right(factors, user, code) for code in codes] == [True] * 10
    assert [is_right(factors, user, code) for code in codes] == [False] * 10


def test_a_code_may_be_typed_as_people_do(factors):
    user, codes = codes_of(factors)
    typed = codes[0].replace("-", " ").replace("0", "O").replace("1", "l").upper()

    assert is_right(factors, user, typed)


def test_a_code_that_is_sent_many_times_at_once_works_once(factors):
    user, codes = codes_of(factors)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: is_right(factors, user, codes[0]), range(16)))

    assert results.count(True) == 1


def test_a_code_is_of_one_user(factors):
    _, codes = codes_of(factors)
    bob, _ = factors.with_totp("bob")

    assert not is_right(factors, bob, codes[0])


def test_new_codes_end_those_of_before(factors):
    user, old = codes_of(factors)

    new = factors.sso.recovery_codes.renew(factors.caller(factors.log_in()))

    assert not is_right(factors, user, old[0])
    assert is_right(factors, user, new[0])
    assert factors.sso.recovery_codes.count(factors.caller(factors.log_in())) == 9
    assert factors.notices[-1] == (user.user_id, "recovery-code")


def test_only_digests_are_stored(factors):
    _, codes = codes_of(factors)
    with factors.store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT sso_recovery_code::text FROM sso_recovery_code").scalars()
        stored = "".join(rows)

    for code in codes:
        for form in (code, normalized(code)):
            assert form not in stored
            assert form.encode().hex() not in stored


def test_the_owner_is_told_that_a_code_was_used(factors):
    user, codes = codes_of(factors)
    factors.notices.clear()

    factors.sso.totp.validate_code(factors.caller(), codes[0], username="alice")

    assert factors.notices == [(user.user_id, "recovery-code")]


def test_new_codes_need_a_fresh_log_in_and_a_second_factor(factors):
    factors.with_totp()
    old = factors.log_in()
    with factors.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sso_session SET auth_time = auth_time - interval '1 hour'")
    factors.sso.sessions.announce()
    factors.user("bob", "")

    refused("E005010", factors.sso.recovery_codes.renew, factors.caller(old))
    refused("E011002", factors.sso.recovery_codes.renew, factors.caller(factors.log_in("bob")))
    refused("E005001", factors.sso.recovery_codes.renew, factors.trusted())
    assert {event["outcome"] for event in factors.events("user.renew_recovery_codes")} == {"refused"}
