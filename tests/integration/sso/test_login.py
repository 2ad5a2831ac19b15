"""Logging in: what leads to a session, what is refused, and who is told why."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from junctor.server.sso import pbkdf2
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.login import Credentials, SessionInfo
from junctor.server.sso.records import User
from junctor.sql.secrets import Keyring
from tests.helpers.second_factors import SecondFactors, refused
from tests.helpers.sso import ADDRESS, BROWSER, PASSWORD, through

NEW = "wombat kazoo theremin 9"
ELSEWHERE = "198.51.100.23"


@pytest.fixture
def sso(module_engine: Engine, keyring: Keyring) -> Iterator[SecondFactors]:
    """A worker whose notices are read here."""
    made = SecondFactors(module_engine, keyring)
    yield made
    made.stop()


def log_in(sso: SecondFactors, username: str = "alice", password: str = PASSWORD, **more: Any) -> SessionInfo:
    """Logs in through CRM; what begins with 'caller_' is about the caller."""
    caller = {name.removeprefix("caller_"): more.pop(name) for name in list(more) if name[:7] == "caller_"}
    credentials = Credentials(username=username, password=password, **more)
    return sso.sso.login.log_in(sso.caller(**caller), credentials)


def log_in_refused(sso: SecondFactors, code: str, *shown: str, **more: Any) -> ValidationError:
    """How a log-in is refused; ``shown`` is what a remote caller gets, the same code if it is not given."""
    error = refused(code, log_in, sso, **more)
    assert error.shown == list(shown or (code,))
    return error


def with_totp(sso: SecondFactors) -> tuple[User, str]:
    """Alice, with a password and a second factor."""
    user, key = sso.with_totp()
    return sso.change(user, password=sso.sso.passwords.hashed(PASSWORD)), key


def failures(sso: SecondFactors) -> int:
    """The failures that are counted for all accounts."""
    counted = text(
        "SELECT COALESCE(sum(count), 0) FROM sso_throttle WHERE cluster_id = :cluster AND owner_mac IS NOT NULL"
    )
    with sso.store.engine.connect() as connection:
        return int(connection.execute(counted, {"cluster": sso.store.cluster_id}).scalar_one())


def test_the_right_password_opens_a_session(sso: SecondFactors) -> None:
    user = sso.user()

    info = log_in(sso)

    session = sso.session(info.ust)
    assert (info.username, info.user_id, info.warnings) == ("alice", user.user_id, ())
    assert (session.user.id, session.app, session.auth_factors) == (user.id, "CRM", ["pwd"])
    assert (session.remote_addr, session.user_agent) == (ADDRESS, BROWSER)


def test_a_user_name_is_the_same_in_any_case(sso: SecondFactors) -> None:
    sso.user("Alice")

    assert log_in(sso, "ALICE").username == "Alice"


def test_each_log_in_opens_a_session_of_its_own(sso: SecondFactors) -> None:
    sso.user()
    first, second = log_in(sso), log_in(sso)

    assert first.ust != second.ust
    assert sso.session(first.ust).id != sso.session(second.ust).id


def test_a_session_can_be_shown_as_a_dictionary(sso: SecondFactors) -> None:
    sso.user()
    info = log_in(sso)

    shown, naive = info.to_dict(), info.to_dict(serialize_dt=False)

    assert shown["username"] == "alice"
    assert datetime.fromisoformat(shown["creation_time"]) == naive["creation_time"]
    assert naive["expiration_time"].tzinfo is None
    assert info.ust not in repr(info)


@pytest.mark.parametrize("username", ["nobody", "", "\0", "\ud800", "x" * 100_000])
def test_nobody_logs_in_under_a_name_that_is_nobodys(sso: SecondFactors, username: str) -> None:
    log_in_refused(sso, "E005001", username=username)


@pytest.mark.parametrize("password", ["", PASSWORD + " ", PASSWORD.upper(), "\0", "\ud800", "x" * 100_000])
def test_a_wrong_password_is_refused(sso: SecondFactors, password: str) -> None:
    sso.user()

    log_in_refused(sso, "E005001", password=password)


def test_a_log_in_is_audited_with_its_outcome_and_without_names(sso: SecondFactors) -> None:
    user = sso.user("bertha.benz")
    log_in(sso, "bertha.benz")
    log_in_refused(sso, "E005001", username="bertha.benz", password="wrong")
    log_in_refused(sso, "E005001", username="nobody")

    events = sso.events("user.login")

    assert [(event["outcome"], event["actor"], event["target"]) for event in events] == [
        ("ok", user.user_id, user.user_id),
        ("refused", "anonymous", user.user_id),
        ("refused", "anonymous", ""),
    ]
    assert "bertha" not in str(events)


def test_an_application_must_be_one_that_users_may_log_in_through(sso: SecondFactors) -> None:
    sso.user()
    sso.application("kiosk", login_allowed=False)

    log_in_refused(sso, "E004001", caller_app="nowhere")
    log_in_refused(sso, "E004001", caller_app="kiosk")
    sso.settings(apps_inform_if_app_invalid=False)
    log_in_refused(sso, "E004001", "E005001", caller_app="kiosk")


def test_an_application_tells_who_its_users_are_only_if_it_may(sso: SecondFactors) -> None:
    sso.user()
    log_in_refused(sso, "E006001", remote_addr="192.0.2.1")
    log_in_refused(sso, "E006001", user_agent="Lynx")
    sso.application("CRM", login_metadata_allowed=True)

    session = sso.session(log_in(sso, remote_addr="192.0.2.1", user_agent="Lynx").ust)

    assert (session.remote_addr, session.user_agent) == ("192.0.2.1", "Lynx")


def test_an_application_can_be_for_listed_users_alone(sso: SecondFactors) -> None:
    sso.application("CRM", is_grant_needed=True)
    user = sso.user()

    log_in_refused(sso, "E004001")
    sso.change(user, app_list=["CRM"])
    assert log_in(sso).ust


@pytest.mark.parametrize(
    ("columns", "code", "setting"),
    [
        ({"is_locked": True}, "E005002", "login_inform_if_locked"),
        ({"sign_up_status": "before_confirmation"}, "E005003", "login_inform_if_not_confirmed"),
        ({"approval_status": "before_decision"}, "E005004", "login_inform_if_not_approved"),
        ({"approval_status": "rejected"}, "E005004", "login_inform_if_not_approved"),
    ],
    ids=str,
)
def test_what_keeps_a_user_out_is_told_once_the_password_is_right_if_the_settings_say_so(
    sso: SecondFactors, columns: dict[str, Any], code: str, setting: str
) -> None:
    sso.change(sso.user(), **columns)

    log_in_refused(sso, "E005001", password="wrong")
    sso.settings(**{setting: True})
    log_in_refused(sso, code)
    sso.settings(**{setting: False})
    log_in_refused(sso, code, "E005001")


def test_what_is_told_does_not_count_as_a_failure_and_what_is_not_does(sso: SecondFactors) -> None:
    sso.change(sso.user(), is_locked=True)
    sso.settings(login_inform_if_locked=True)
    log_in_refused(sso, "E005002")
    assert failures(sso) == 0

    sso.settings(login_inform_if_locked=False)
    log_in_refused(sso, "E005002", "E005001")
    log_in_refused(sso, "E005001", password="wrong")
    assert failures(sso) == 2


def test_a_user_comes_from_listed_addresses_alone(sso: SecondFactors) -> None:
    sso.user()
    sso.addresses("alice", "203.0.113.0/24")

    assert log_in(sso).ust
    log_in_refused(sso, "E005001", caller_remote_addr=ELSEWHERE)
    sso.addresses("alice")
    log_in_refused(sso, "E005001")


def test_users_without_a_list_of_addresses_can_be_refused(sso: SecondFactors) -> None:
    sso.user()
    sso.settings(login_reject_if_not_listed=True)

    log_in_refused(sso, "E005001")
    sso.addresses("alice", "*")
    assert log_in(sso).ust


def test_after_too_many_wrong_passwords_everybody_waits_for_the_account(sso: SecondFactors) -> None:
    sso.user()
    for _ in range(5):
        log_in_refused(sso, "E005001", password="wrong")

    assert log_in_refused(sso, "E005009").retry_after == 1
    assert not sso.reload(sso.user("bob")).is_locked


def test_a_right_password_ends_the_count(sso: SecondFactors) -> None:
    sso.user()
    for _ in range(4):
        log_in_refused(sso, "E005001", password="wrong")
    log_in(sso)

    assert failures(sso) == 0


def test_a_right_password_among_many_wrong_ones_at_the_same_moment_is_of_no_use(
    sso: SecondFactors, monkeypatch: pytest.MonkeyPatch
) -> None:
    sso.user()
    verify = sso.sso.passwords.verify

    def overtaken(*arguments: Any) -> Any:
        for _ in range(5):
            sso.sso.throttle.failed("alice", sso.caller())
        return verify(*arguments)

    monkeypatch.setattr(sso.sso.passwords, "verify", overtaken)

    log_in_refused(sso, "E005001")
    assert failures(sso) == 6


def test_an_outdated_hash_is_replaced(sso: SecondFactors) -> None:
    user = sso.change(sso.user(), password=str(pbkdf2.made(PASSWORD.encode(), 1000, 16)))

    info = log_in(sso)

    after = sso.reload(user)
    assert after.password.startswith("junctor.1.")
    assert sso.sso.passwords.verify(after, PASSWORD).is_right
    assert not sso.sso.passwords.verify(after, PASSWORD).is_outdated
    assert after.password_last_set == user.password_last_set
    assert sso.session(info.ust)


def test_a_second_factor_is_asked_for_once_the_password_is_right(sso: SecondFactors) -> None:
    _, key = with_totp(sso)

    log_in_refused(sso, "E005008")
    log_in_refused(sso, "E005001", password="wrong")
    info = log_in(sso, totp_code=sso.code(key))

    assert sso.session(info.ust).auth_factors == ["pwd", "otp"]
    sso.settings(login_inform_if_totp_missing=False)
    log_in_refused(sso, "E005008", "E005001")


def test_a_wrong_second_factor_is_refused_and_counted_for_both(sso: SecondFactors) -> None:
    with_totp(sso)

    log_in_refused(sso, "E005001", totp_code="000000")

    assert failures(sso) == 2


def test_a_code_opens_one_session(sso: SecondFactors) -> None:
    _, key = with_totp(sso)
    code = sso.code(key)
    log_in(sso, totp_code=code)

    log_in_refused(sso, "E005001", totp_code=code)


def test_of_log_ins_with_one_code_at_the_same_moment_one_succeeds(sso: SecondFactors) -> None:
    _, key = with_totp(sso)
    code = sso.code(key)
    sso.settings(throttle_free_failures=50)

    def attempt(_: int) -> bool:
        try:
            return bool(log_in(sso, totp_code=code).ust)
        except ValidationError:
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, range(4))) == 1


def test_a_code_can_be_given_again_after_a_refusal_that_was_not_its_fault(sso: SecondFactors) -> None:
    user, key = with_totp(sso)
    sso.change(user, password_must_change=True)
    code = sso.code(key)
    log_in_refused(sso, "E003007", totp_code=code)

    assert log_in(sso, totp_code=code, new_password=NEW).ust


def test_too_many_wrong_codes_make_everybody_wait(sso: SecondFactors) -> None:
    _, key = with_totp(sso)
    sso.settings(throttle_free_failures=1)
    for _ in range(3):
        sso.sso.throttle.failed("alice", sso.caller(), factor="otp")

    log_in_refused(sso, "E005009", totp_code=sso.code(key))
    sso.settings(login_inform_if_totp_missing=False)
    log_in_refused(sso, "E005009", "E005001", totp_code=sso.code(key))


def test_who_has_no_second_factor_may_only_enrol_if_all_need_one(sso: SecondFactors) -> None:
    sso.user()
    sso.settings(login_totp_required=True)

    info = log_in(sso)

    assert sso.session(info.ust).auth_factors == ["pwd", "enrol"]
    refused("E005011", sso.sso.gate.session, sso.caller(info.ust))


def test_who_has_a_passkey_must_use_it_if_all_need_a_second_factor(sso: SecondFactors) -> None:
    user, _ = sso.with_passkey()
    sso.change(user, password=sso.sso.passwords.hashed(PASSWORD))
    sso.settings(login_totp_required=True)

    log_in_refused(sso, "E005011")


def _expires(days: float) -> dict[str, Any]:
    return {"password_expiry": datetime.now(UTC) + timedelta(days=days)}


def test_an_expired_password_logs_in_with_a_new_one_alone(sso: SecondFactors) -> None:
    user = sso.change(sso.user(), **_expires(-1))
    log_in_refused(sso, "E003004", "E005001")
    sso.settings(password_inform_if_expired=True)
    log_in_refused(sso, "E003004")

    info = log_in(sso, new_password=NEW)

    assert sso.session(info.ust)
    assert sso.reload(user).password_expiry is None
    assert log_in(sso, password=NEW).ust
    assert sso.notices == [(user.user_id, "password")]


def test_a_password_that_is_about_to_expire_logs_in_with_a_warning(sso: SecondFactors) -> None:
    sso.change(sso.user(), **_expires(29))

    info = log_in(sso)

    assert (info.warnings, info.has_w_about_to_exp) == (("W003005",), True)
    assert sso.session(info.ust)
    sso.settings(password_inform_if_about_to_expire=False)
    assert log_in(sso).warnings == ()


def test_a_password_that_is_about_to_expire_can_be_refused(sso: SecondFactors) -> None:
    sso.change(sso.user(), **_expires(29))
    sso.settings(password_log_in_if_about_to_expire=False)

    log_in_refused(sso, "E003006")
    assert log_in(sso, new_password=NEW).ust
    sso.change(sso.user("bob"), **_expires(29))
    sso.settings(password_inform_if_about_to_expire=False)
    log_in_refused(sso, "E003006", "E005001", username="bob")


def test_a_password_that_expires_later_says_nothing(sso: SecondFactors) -> None:
    sso.change(sso.user(), **_expires(31))

    assert log_in(sso).warnings == ()


def test_who_must_change_the_password_gives_a_new_one(sso: SecondFactors) -> None:
    user = sso.change(sso.user(), password_must_change=True)
    log_in_refused(sso, "E003007")
    sso.settings(password_inform_if_must_be_changed=False)
    log_in_refused(sso, "E003007", "E005001")

    log_in(sso, new_password=NEW)

    assert not sso.reload(user).password_must_change
    log_in_refused(sso, "E005001")
    assert log_in(sso, password=NEW).ust


@pytest.mark.parametrize("new", ["short", PASSWORD], ids=["bad", "the same"])
def test_a_new_password_that_is_not_good_enough_is_always_refused(sso: SecondFactors, new: str) -> None:
    user = sso.change(sso.user(), password_must_change=True)
    sso.settings(password_inform_if_invalid=False, password_inform_if_must_be_changed=False)

    with pytest.raises(ValidationError) as caught:
        log_in(sso, new_password=new)

    assert caught.value.shown == ["E005001"]
    assert sso.reload(user).password_must_change
    sso.settings(password_inform_if_invalid=True)
    with pytest.raises(ValidationError) as caught:
        log_in(sso, new_password=new)
    assert caught.value.shown[0] in ("E003001", "E003002")


def test_a_new_password_that_nobody_needs_is_not_taken(sso: SecondFactors) -> None:
    user = sso.user()

    log_in(sso, new_password=NEW)

    assert sso.reload(user).password == user.password


def test_a_new_password_at_log_in_ends_other_sessions(sso: SecondFactors) -> None:
    user = sso.user()
    before = sso.log_in()
    sso.change(user, password_must_change=True)

    info = log_in(sso, new_password=NEW)

    assert sso.sso.sessions.find(before) is None
    assert sso.session(info.ust)


def test_who_is_locked_while_the_password_is_verified_does_not_get_in(
    sso: SecondFactors, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = sso.user()
    verify = sso.sso.passwords.verify

    def overtaken(*arguments: Any) -> Any:
        verdict = verify(*arguments)
        sso.change(user, generation=user.generation + 1)
        return verdict

    monkeypatch.setattr(sso.sso.passwords, "verify", overtaken)

    log_in_refused(sso, "E005001")


def test_a_passkey_or_the_like_opens_a_session_and_ends_what_was_throttled(sso: SecondFactors) -> None:
    user = sso.user()
    sso.settings(throttle_password_off=10, throttle_free_failures=50)
    for _ in range(10):
        sso.sso.throttle.failed("alice", sso.caller())
    log_in_refused(sso, "E005009")

    info = sso.sso.login.log_in_as(sso.caller(), "alice", ("hwk", "user"))

    assert sso.session(info.ust).auth_factors == ["hwk", "user"]
    assert sso.events("user.login")[-1]["actor"] == user.user_id
    assert log_in(sso).ust


@pytest.mark.parametrize(
    ("columns", "factors", "code"),
    [
        ({"is_locked": True}, ("hwk",), "E005002"),
        ({"approval_status": "rejected"}, ("hwk",), "E005004"),
        ({"is_totp_enabled": True}, ("pwd",), "E005008"),
        ({"password_must_change": True}, ("pwd", "otp"), "E003007"),
    ],
    ids=str,
)
def test_what_keeps_a_user_out_does_so_with_a_passkey_too(
    sso: SecondFactors, columns: dict[str, Any], factors: tuple[str, ...], code: str
) -> None:
    sso.change(sso.user(), **columns)

    refused(code, sso.sso.login.log_in_as, sso.caller(), "alice", factors)


def test_a_passkey_needs_no_password_that_has_not_expired(sso: SecondFactors) -> None:
    sso.change(sso.user(), **_expires(-1), password_must_change=True)

    assert sso.sso.login.log_in_as(sso.caller(), "alice", ("hwk",)).ust


def test_the_cluster_itself_logs_anybody_in(sso: SecondFactors) -> None:
    user, _ = with_totp(sso)
    sso.settings(login_totp_required=True)

    info = sso.sso.login.log_in_as(sso.trusted("carol"), "alice", ())

    assert sso.session(info.ust).user.id == user.id
    assert sso.events("user.login")[-1]["actor"] == "carol"
    refused("E005001", sso.sso.login.log_in_as, sso.trusted(), "nobody", ())


def test_stepping_up_proves_again_who_calls_under_a_new_token(sso: SecondFactors) -> None:
    sso.user()
    before = sso.log_in()
    session = sso.session(before)

    info = sso.sso.login.step_up(sso.caller(before), password=PASSWORD)

    after = sso.session(info.ust)
    assert (after.id, after.auth_time > session.auth_time) == (session.id, True)
    assert sso.sso.sessions.find(before) is None
    assert sso.events("user.step_up")[-1]["outcome"] == "ok"


def test_stepping_up_needs_the_second_factor_of_who_has_one(sso: SecondFactors) -> None:
    _, key = with_totp(sso)
    caller = sso.caller(sso.log_in())

    refused("E005008", sso.sso.login.step_up, caller, password=PASSWORD)
    refused("E005001", sso.sso.login.step_up, caller, password=PASSWORD, totp_code="000000")
    info = sso.sso.login.step_up(caller, password=PASSWORD, totp_code=sso.code(key))

    assert sso.session(info.ust).auth_factors == ["pwd", "otp"]


def test_stepping_up_is_throttled_like_logging_in(sso: SecondFactors) -> None:
    sso.user()
    caller = sso.caller(sso.log_in())
    for _ in range(5):
        refused("E005001", sso.sso.login.step_up, caller, password="wrong")

    refused("E005009", sso.sso.login.step_up, caller, password=PASSWORD)
    refused("E005001", sso.sso.login.step_up, through(caller, is_trusted=True), password=PASSWORD)
    assert sso.session(caller.current_ust)
