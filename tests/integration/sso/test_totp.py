"""One-time passwords: right once, enrolled with a confirmation, reset, ended with a proof."""

from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest

from junctor.server.sso.errors import ValidationError
from tests.helpers.second_factors import SecondFactors, refused


@pytest.fixture
def factors(module_engine, keyring):
    under_test = SecondFactors(module_engine, keyring)
    yield under_test
    under_test.stop()


def is_right(factors, user, code):
    with factors.store.engine.begin() as connection:
        return factors.sso.totp.is_right(connection, user, code)


def enrolled(factors, username="alice"):
    """A user who has enrolled, the key, and what confirming it returned."""
    user = factors.user(username, "")
    caller = factors.caller(factors.log_in(username))
    key = factors.sso.totp_enrolment.begin(caller).totp_key
    return user, key, factors.sso.totp_enrolment.confirm(caller, factors.code(key))


def test_a_code_is_right_once(factors):
    user, key = factors.with_totp()
    code = factors.code(key)

    assert [is_right(factors, user, code) for _ in range(3)] == [True, False, False]


def test_a_code_of_before_one_that_was_used_is_wrong(factors):
    user, key = factors.with_totp()

    assert is_right(factors, user, factors.code(key))
    assert not is_right(factors, user, factors.code(key, steps=-1))
    assert is_right(factors, user, factors.code(key, steps=1))


def test_codes_of_two_minutes_ago_and_of_other_keys_are_wrong(factors):
    user, key = factors.with_totp()

    assert not is_right(factors, user, factors.code(key, steps=-4))
    assert not is_right(factors, user, factors.code(pyotp.random_base32()))
    assert not is_right(factors, user, "")


def test_a_code_that_is_sent_many_times_at_once_is_right_once(factors):
    user, key = factors.with_totp()
    code = factors.code(key)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: is_right(factors, user, code), range(16)))

    assert results.count(True) == 1


def test_a_code_is_not_used_up_by_what_was_undone(factors):
    user, key = factors.with_totp()
    with factors.store.engine.connect() as connection:
        assert factors.sso.totp.is_right(connection, user, factors.code(key))
        connection.rollback()

    assert is_right(factors, user, factors.code(key))


def test_nothing_is_asked_for_before_the_enrolment_is_confirmed(factors):
    user = factors.user("alice", "")
    caller = factors.caller(factors.log_in())

    enrolment = factors.sso.totp_enrolment.begin(caller, "Alice at work")

    assert enrolment.totp_key in enrolment.totp_uri
    assert "issuer=Example" in enrolment.totp_uri
    assert "Alice%20at%20work" in enrolment.totp_uri
    assert enrolment.qr_svg.startswith("<svg")
    assert enrolment.totp_key not in repr(enrolment)
    stored = factors.reload(user)
    assert not stored.is_totp_enabled
    assert not is_right(factors, stored, factors.code(enrolment.totp_key))
    assert enrolment.totp_key not in stored.totp_pending_sealed
    assert factors.notices == []


def test_a_right_code_confirms_and_other_sessions_end(factors):
    user = factors.user("alice", "")
    mine, other = factors.log_in(), factors.log_in()
    caller = factors.caller(mine)
    key = factors.sso.totp_enrolment.begin(caller, "Work").totp_key

    done = factors.sso.totp_enrolment.confirm(caller, factors.code(key))

    stored = factors.reload(user)
    assert (stored.is_totp_enabled, stored.totp_label, stored.totp_pending_sealed) == (True, "Work", "")
    assert key not in stored.totp_key_sealed
    assert len(done.recovery_codes) == 10
    assert set(factors.session(done.ust).auth_factors) == {"pwd", "otp"}
    assert factors.sso.sessions.find(mine) is None
    assert factors.sso.sessions.find(other) is None
    assert factors.notices == [(user.user_id, "totp")]
    assert not is_right(factors, stored, factors.code(key)), "the code of the confirmation is used up"
    assert is_right(factors, stored, factors.code(key, steps=1))


def test_other_sessions_stay_if_the_settings_say_so(factors):
    factors.settings(session_revoke_on_change=False)
    factors.user("alice", "")
    other, caller = factors.log_in(), factors.caller(factors.log_in())
    key = factors.sso.totp_enrolment.begin(caller).totp_key

    factors.sso.totp_enrolment.confirm(caller, factors.code(key))

    assert factors.sso.sessions.find(other) is not None


def test_a_wrong_code_confirms_nothing(factors):
    user = factors.user("alice", "")
    caller = factors.caller(factors.log_in())
    factors.sso.totp_enrolment.begin(caller)

    refused("E011001", factors.sso.totp_enrolment.confirm, caller, "000000")

    assert not factors.reload(user).is_totp_enabled
    assert factors.events("user.confirm_totp")[-1]["outcome"] == "refused"


def test_an_enrolment_that_took_too_long_or_never_began_cannot_be_confirmed(factors):
    factors.user("alice", "")
    caller = factors.caller(factors.log_in())
    refused("E011002", factors.sso.totp_enrolment.confirm, caller, "000000")
    key = factors.sso.totp_enrolment.begin(caller).totp_key
    factors.now += 901

    refused("E011002", factors.sso.totp_enrolment.confirm, caller, factors.code(key))


@pytest.mark.parametrize("call", ["begin", "confirm", "disable"])
def test_a_log_in_of_long_ago_is_not_enough(factors, call):
    factors.user("alice", "")
    caller = factors.caller(age_session(factors))
    arguments = () if call == "begin" else ("000000",)

    refused("E005010", getattr(factors.sso.totp_enrolment, call), caller, *arguments)


def age_session(factors):
    """The token of a session whose user proved who they are an hour ago."""
    ust = factors.log_in()
    with factors.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sso_session SET auth_time = auth_time - interval '1 hour'")
    factors.sso.sessions.announce()
    return ust


def test_a_session_for_enrolment_becomes_a_whole_one(factors):
    factors.user("alice", "")
    caller = factors.caller(factors.log_in(factors=("pwd", "enrol")))
    refused("E005011", factors.sso.recovery_codes.renew, caller)
    key = factors.sso.totp_enrolment.begin(caller).totp_key

    done = factors.sso.totp_enrolment.confirm(caller, factors.code(key))

    assert len(factors.sso.recovery_codes.renew(factors.caller(done.ust))) == 10


def test_who_ends_it_proves_it_once_more(factors):
    user, key, done = enrolled(factors)
    caller = factors.caller(done.ust)

    refused("E011001", factors.sso.totp_enrolment.disable, caller, "000000")
    refused("E008003", factors.sso.totp_enrolment.disable, caller, "")
    assert factors.reload(user).is_totp_enabled

    factors.sso.totp_enrolment.disable(caller, factors.code(key, steps=1))
    stored = factors.reload(user)
    assert (stored.is_totp_enabled, stored.totp_key_sealed) == (False, "")
    assert not is_right(factors, stored, done.recovery_codes[0])
    refused("E011002", factors.sso.totp_enrolment.disable, caller, "000000")


def test_it_cannot_be_ended_where_everybody_needs_a_second_factor(factors):
    user, key, done = enrolled(factors)
    factors.settings(login_totp_required=True)
    caller = factors.caller(done.ust)

    refused("E005011", factors.sso.totp_enrolment.disable, caller, factors.code(key, steps=1))

    assert factors.reload(user).is_totp_enabled


def test_the_owner_resets_the_key(factors):
    user, key = factors.with_totp()
    mine, other = factors.log_in(), factors.log_in()

    new = factors.sso.totp.reset(factors.caller(mine), label="Phone")

    stored = factors.reload(user)
    assert (stored.is_totp_enabled, stored.totp_label) == (True, "Phone")
    assert not is_right(factors, stored, factors.code(key))
    assert is_right(factors, stored, factors.code(new))
    assert factors.sso.sessions.find(mine) is not None
    assert factors.sso.sessions.find(other) is None
    assert factors.notices == [(user.user_id, "totp")]
    refused("E005010", factors.sso.totp.reset, factors.caller(age_session(factors)))


def test_a_super_user_resets_anybodys_key_and_others_only_their_own(factors):
    user, _ = factors.with_totp()
    factors.user("bob", "")
    given = pyotp.random_base32()

    assert factors.sso.totp.reset(factors.super_user_caller(), user.user_id, given) == given

    assert is_right(factors, factors.reload(user), factors.code(given))
    bob = factors.caller(factors.log_in("bob"))
    refused("E005005", factors.sso.totp.reset, bob, user.user_id)
    refused("E008002", factors.sso.totp.reset, bob, "", "SHORT")
    event = factors.events("user.reset_totp_key")[0]
    assert (event["outcome"], event["target"]) == ("ok", user.user_id)
    assert given not in str(factors.events())


def test_the_command_line_resets_a_key_without_a_session(factors):
    user, _ = factors.with_totp()

    key = factors.sso.totp.reset(factors.trusted(), user.user_id)

    assert is_right(factors, factors.reload(user), factors.code(key))


def test_a_key_that_is_reset_is_not_the_one_that_was_being_enrolled(factors):
    factors.user("alice", "")
    caller = factors.caller(factors.log_in())
    pending = factors.sso.totp_enrolment.begin(caller).totp_key
    factors.sso.totp.reset(caller)

    refused("E011002", factors.sso.totp_enrolment.confirm, caller, factors.code(pending))


def test_services_validate_a_code_of_a_user_or_of_a_session(factors):
    user, key = factors.with_totp()
    ust, caller = factors.log_in(), factors.caller()
    validate = factors.sso.totp.validate_code

    validate(caller, factors.code(key, steps=-1), username="ALICE")
    validate(caller, factors.code(key), ust=ust)
    factors.sso.totp.validate_code_for_user(caller, factors.code(key, steps=1), factors.reload(user))

    refused("E011001", validate, caller, factors.code(key), username="alice")
    refused("E011001", validate, caller, factors.code(key), username="nobody")
    refused("E007001", validate, caller, factors.code(key), ust="zust123")
    refused("E008002", validate, caller, factors.code(key))
    refused("E008002", validate, caller, factors.code(key), ust=ust, username="alice")
    outcomes = [event["outcome"] for event in factors.events("totp_api.validate_code")]
    assert outcomes == ["ok", "ok", *["refused"] * 5]


def test_too_many_wrong_codes_make_the_next_one_wait_until_the_key_is_reset(factors):
    user, key = factors.with_totp()
    validate, caller = factors.sso.totp.validate_code, factors.caller()
    for _ in range(5):
        refused("E011001", validate, caller, "000000", username="alice")

    assert refused("E005009", validate, caller, factors.code(key), username="alice").retry_after > 0
    for _ in range(5):
        refused("E011001", validate, caller, "000000", username="nobody")
    refused("E005009", validate, caller, "000000", username="nobody")

    new = factors.sso.totp.reset(factors.trusted(), user.user_id)
    validate(caller, factors.code(new), username="alice")


def test_wrong_codes_count_when_somebody_wants_to_end_it_too(factors):
    _, _, done = enrolled(factors)
    caller = factors.caller(done.ust)
    for _ in range(5):
        refused("E011001", factors.sso.totp_enrolment.disable, caller, "000000")

    refused("E005009", factors.sso.totp_enrolment.disable, caller, done.recovery_codes[0])


def test_of_two_factors_that_are_removed_at_once_one_stays_where_everybody_needs_one(factors):
    factors.with_passkey()
    key = factors.sso.totp_enrolment.begin(caller := factors.caller(factors.log_in())).totp_key
    caller = factors.caller(factors.sso.totp_enrolment.confirm(caller, factors.code(key)).ust)
    factors.settings(login_totp_required=True)
    (passkey,) = factors.sso.passkeys.get_list(caller)

    def remove(call):
        try:
            call()
        except ValidationError as error:
            return error.sub_status
        return []

    with ThreadPoolExecutor(2) as pool:
        calls = (
            lambda: factors.sso.totp_enrolment.disable(caller, factors.code(key, steps=1)),
            lambda: factors.sso.passkeys.delete(caller, passkey["id"]),
        )
        results = sorted(pool.map(remove, calls))

    assert results == [[], ["E005011"]]
