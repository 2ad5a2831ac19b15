"""Passkeys: registered by who has logged in a moment ago, and a log-in without anything else."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from junctor.server.sso.errors import ValidationError
from tests.helpers.authenticator import Authenticator
from tests.helpers.second_factors import ORIGIN, SecondFactors, refused


@pytest.fixture
def factors(module_engine, keyring):
    under_test = SecondFactors(module_engine, keyring)
    yield under_test
    under_test.stop()


@pytest.fixture
def passkeys(factors):
    return factors.sso.passkeys


def log_in(factors, authenticator, username="", **changes):
    """A log-in with a passkey; ``changes`` are to what the browser says."""
    caller = factors.caller()
    options = factors.sso.passkeys.authentication_options(caller, username)
    return factors.sso.passkeys.log_in(caller, authenticator.get(options, **changes))


def make_old(factors):
    with factors.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sso_session SET auth_time = auth_time - interval '1 hour'")
    factors.sso.sessions.announce()


def test_a_passkey_is_registered_and_others_sessions_end(factors, passkeys):
    user, authenticator = factors.user("alice", ""), Authenticator(ORIGIN)
    mine, other = factors.log_in(), factors.log_in()
    caller = factors.caller(mine)

    id_, ust = passkeys.register(caller, authenticator.create(passkeys.registration_options(caller)), " Key ")

    (listed,) = passkeys.get_list(factors.caller(ust))
    assert (listed["id"], listed["label"], listed["last_used"]) == (id_, "Key", None)
    assert listed["transports"] == ["usb", "nfc"]
    assert set(factors.session(ust).auth_factors) == {"pwd", "hwk", "user"}
    assert factors.sso.sessions.find(mine) is None
    assert factors.sso.sessions.find(other) is None
    assert factors.notices == [(user.user_id, "passkey")]
    assert factors.events("passkey.register")[0]["target"] == user.user_id


def test_a_session_for_enrolment_may_register_one_and_becomes_a_whole_one(factors, passkeys):
    factors.user("alice", "")
    caller, authenticator = factors.caller(factors.log_in(factors=("pwd", "enrol"))), Authenticator(ORIGIN)
    refused("E005011", passkeys.get_list, caller)

    _, ust = passkeys.register(caller, authenticator.create(passkeys.registration_options(caller)))

    assert len(passkeys.get_list(factors.caller(ust))) == 1


def test_registration_needs_a_fresh_log_in(factors, passkeys):
    factors.user("alice", "")
    caller, authenticator = factors.caller(factors.log_in()), Authenticator(ORIGIN)
    credential = authenticator.create(passkeys.registration_options(caller))
    make_old(factors)

    refused("E005010", passkeys.registration_options, caller)
    refused("E005010", passkeys.register, caller, credential)


def test_without_a_domain_there_are_no_passkeys(factors, passkeys):
    factors.user("alice", "")
    factors.settings(webauthn_rp_id="", webauthn_origins=[])
    caller = factors.caller(factors.log_in())

    refused("E011002", passkeys.registration_options, caller)
    refused("E011002", passkeys.authentication_options, factors.caller())


def test_what_is_registered_is_not_registered_again(factors, passkeys):
    _, authenticator = factors.with_passkey()
    caller = factors.caller(factors.log_in())
    (listed,) = passkeys.get_list(caller)
    options = passkeys.registration_options(caller)
    assert [descriptor["id"] for descriptor in options["excludeCredentials"]] == [listed["id"]]

    known = authenticator.keys[0].id
    options["excludeCredentials"] = []
    again = Authenticator(ORIGIN)
    again.create(options)
    again.keys[0].id = known
    options = passkeys.registration_options(caller) | {"excludeCredentials": []}
    credential = _create_with_id(again, options, known)
    refused("E008001", passkeys.register, caller, credential)


def _create_with_id(authenticator, options, id_):
    """A registration whose new key says that it has an id of before."""
    import secrets

    original, secrets.token_bytes = secrets.token_bytes, lambda size: id_
    try:
        return authenticator.create(options)
    finally:
        secrets.token_bytes = original


def test_a_user_has_no_more_than_twenty(factors, passkeys, monkeypatch):
    monkeypatch.setattr("junctor.server.sso.passkeys.MAX_PASSKEYS", 1)
    factors.with_passkey()
    caller = factors.caller(factors.log_in())
    credential = Authenticator(ORIGIN).create(passkeys.registration_options(caller))

    assert "at most 1" in refused("E008001", passkeys.register, caller, credential).reason


def test_a_challenge_is_good_for_one_answer_of_one_session(factors, passkeys):
    factors.user("alice", "")
    caller, other = factors.caller(factors.log_in()), factors.caller(factors.log_in())
    credential = Authenticator(ORIGIN).create(passkeys.registration_options(caller))
    refused("E011001", passkeys.register, other, credential)
    refused("E011001", passkeys.register, caller, credential)

    credential = Authenticator(ORIGIN).create(passkeys.registration_options(caller))
    _, ust = passkeys.register(caller, credential)
    refused("E011001", passkeys.register, factors.caller(ust), credential)


def test_a_challenge_is_good_for_five_minutes(factors, passkeys):
    _, authenticator = factors.with_passkey()
    credential = authenticator.get(passkeys.authentication_options(factors.caller()))
    with factors.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sso_challenge SET expiration_time = now()")

    refused("E011001", passkeys.log_in, factors.caller(), credential)


def test_a_challenge_for_one_thing_is_not_good_for_another(factors, passkeys):
    _, authenticator = factors.with_passkey()
    caller = factors.caller(factors.log_in())
    for_step_up = authenticator.get(passkeys.step_up_options(caller))
    for_log_in = authenticator.get(passkeys.authentication_options(factors.caller()))

    refused("E011001", passkeys.log_in, factors.caller(), for_step_up)
    refused("E011001", passkeys.step_up, caller, for_log_in)


@pytest.mark.parametrize("username", ["", "alice", "ALICE"])
def test_a_passkey_logs_its_user_in(factors, username):
    user, authenticator = factors.with_passkey()

    info = log_in(factors, authenticator, username)

    session = factors.session(info.ust)
    assert (info.user_id, session.user_id) == (user.user_id, user.id)
    assert session.auth_factors == ["hwk", "user"]
    event = factors.events("user.login")[-1]
    assert (event["outcome"], event["target"]) == ("ok", user.user_id)


def test_a_passkey_that_is_synchronised_is_said_to_be_so(factors):
    _, authenticator = factors.with_passkey(is_synced=True)

    assert factors.session(log_in(factors, authenticator).ust).auth_factors == ["swk", "user"]


def test_a_log_in_is_remembered_with_the_passkey(factors, passkeys):
    _, authenticator = factors.with_passkey()

    info = log_in(factors, authenticator)

    (listed,) = passkeys.get_list(factors.caller(info.ust))
    assert listed["last_used"] is not None


def test_an_answer_logs_in_once_even_if_it_is_sent_many_times_at_once(factors, passkeys):
    _, authenticator = factors.with_passkey()
    credential = authenticator.get(passkeys.authentication_options(factors.caller()))

    def attempt(_):
        try:
            return passkeys.log_in(factors.caller(), credential)
        except ValidationError:
            return None

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, range(8)))
    assert sum(result is not None for result in results) == 1


@pytest.mark.parametrize("changes", [{"origin": "https://evil.example"}, {"type": "webauthn.create"}])
def test_an_answer_to_another_page_does_not_log_in(factors, changes):
    user, authenticator = factors.with_passkey()

    refused("E011001", log_in, factors, authenticator, **changes)

    event = factors.events("user.login")[-1]
    assert (event["outcome"], event["target"]) == ("refused", user.user_id)


def test_a_passkey_whose_user_was_not_verified_does_not_log_in(factors):
    _, authenticator = factors.with_passkey()
    authenticator.is_verifying = False

    refused("E011001", log_in, factors, authenticator)


def test_a_copied_passkey_is_noticed(factors):
    _, authenticator = factors.with_passkey()
    for _ in range(3):
        log_in(factors, authenticator)
    authenticator.keys[0].count = 1

    refused("E011001", log_in, factors, authenticator)

    authenticator.keys[0].count = 3
    log_in(factors, authenticator)


def test_a_passkey_of_nobody_or_with_another_users_handle_does_not_log_in(factors, passkeys):
    _, authenticator = factors.with_passkey()
    bob = factors.user("bob", "")
    stranger = Authenticator(ORIGIN)
    stranger.create(passkeys.registration_options(factors.caller(factors.log_in())))
    refused("E011001", log_in, factors, stranger)

    authenticator.keys[0].handle = bob.user_id.encode()
    refused("E011001", log_in, factors, authenticator)


def test_a_user_who_is_locked_is_not_logged_in(factors):
    user, authenticator = factors.with_passkey()
    factors.change(user, is_locked=True)

    with pytest.raises(ValidationError):
        log_in(factors, authenticator)

    assert factors.events("user.login")[-1]["outcome"] == "refused"


def test_nobody_learns_which_users_there_are(factors, passkeys):
    factors.with_passkey()
    factors.user("bob", "")

    def ids(username):
        options = passkeys.authentication_options(factors.caller(), username)
        return [descriptor["id"] for descriptor in options.pop("allowCredentials")], options

    known, shape = ids("alice")
    for username in ("bob", "nobody", "NOBODY", "x" * 500):
        made_up, options = ids(username)
        assert made_up
        assert options.keys() == shape.keys()
        assert ids(username)[0] == made_up, "the same each time"
    assert ids("nobody")[0] == ids("NOBODY")[0] != ids("bob")[0]
    assert known == ids("alice")[0]


def test_a_passkey_is_a_fresh_proof_of_who_calls(factors, passkeys):
    _, authenticator = factors.with_passkey()
    ust = factors.log_in()
    make_old(factors)
    caller = factors.caller(ust)
    refused("E005010", passkeys.registration_options, caller)

    info = passkeys.step_up(caller, authenticator.get(passkeys.step_up_options(caller)))

    assert factors.sso.sessions.find(ust) is None
    assert set(factors.session(info.ust).auth_factors) == {"pwd", "hwk", "user"}
    assert passkeys.registration_options(factors.caller(info.ust))["challenge"]


def test_the_passkey_of_somebody_else_is_no_proof(factors, passkeys):
    factors.with_passkey()
    _, bobs = factors.with_passkey("bob")
    caller = factors.caller(factors.log_in())
    options = passkeys.step_up_options(caller) | {"allowCredentials": []}

    refused("E011001", passkeys.step_up, caller, bobs.get(options))


def test_who_has_no_passkey_cannot_step_up_with_one(factors, passkeys):
    factors.user("alice", "")

    refused("E011002", passkeys.step_up_options, factors.caller(factors.log_in()))


def test_passkeys_are_renamed_by_their_owner(factors, passkeys):
    factors.with_passkey()
    factors.with_passkey("bob")
    caller, bob = factors.caller(factors.log_in()), factors.caller(factors.log_in("bob"))
    (listed,) = passkeys.get_list(caller)

    passkeys.rename(caller, listed["id"], "Drawer")
    refused("E011002", passkeys.rename, bob, listed["id"], "Mine")
    refused("E008002", passkeys.rename, caller, listed["id"], "x" * 201)

    assert passkeys.get_list(caller)[0]["label"] == "Drawer"


def test_passkeys_are_deleted_by_their_owner_and_by_super_users(factors, passkeys):
    user, authenticator = factors.with_passkey()
    factors.with_passkey("bob")
    caller, bob = factors.caller(factors.log_in()), factors.caller(factors.log_in("bob"))
    (listed,) = passkeys.get_list(caller)
    refused("E011002", passkeys.delete, bob, listed["id"])
    refused("E005005", passkeys.delete, bob, listed["id"], user.user_id)
    for wrong in ("", "x", "é", "A" * 3000):
        refused("E011002", passkeys.delete, caller, wrong)
    make_old(factors)
    refused("E005010", passkeys.delete, caller, listed["id"])

    passkeys.delete(factors.super_user_caller(), listed["id"], user.user_id)

    refused("E011001", log_in, factors, authenticator)
    assert factors.notices == [(user.user_id, "passkey")]
    with factors.store.engine.connect() as connection:
        assert not passkeys.has_any(connection, user)


def test_the_last_factor_stays_where_everybody_needs_one(factors, passkeys):
    factors.with_passkey()
    factors.settings(login_totp_required=True)
    caller = factors.caller(factors.log_in())
    (listed,) = passkeys.get_list(caller)

    refused("E005011", passkeys.delete, caller, listed["id"])

    assert len(passkeys.get_list(caller)) == 1


def test_another_clusters_passkeys_are_not_known_here(factors, module_engine, keyring):
    _, authenticator = factors.with_passkey()
    other = SecondFactors(module_engine, keyring)

    refused("E011001", log_in, other, authenticator)
    other.stop()
