"""Changing passwords: one's own, and by super-users."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from junctor.server.sso.change_password import NewPassword
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.login import Credentials
from junctor.sql.secrets import Keyring
from tests.helpers.second_factors import SecondFactors, refused
from tests.helpers.sso import PASSWORD, through

NEW = "wombat kazoo theremin 9"


@pytest.fixture
def sso(module_engine: Engine, keyring: Keyring) -> Iterator[SecondFactors]:
    """A worker whose notices are read here."""
    made = SecondFactors(module_engine, keyring)
    yield made
    made.stop()


def own(new: str = NEW, old: str = PASSWORD, **more: object) -> NewPassword:
    return NewPassword(new_password=new, old_password=old, **more)  # type: ignore[arg-type]  # fields by name


def test_users_change_their_own_password_and_go_on_under_a_new_token(sso: SecondFactors) -> None:
    user = sso.user()
    before, other = sso.log_in(), sso.log_in()
    session = sso.session(before)

    ust = sso.sso.change_password.change(sso.caller(before), own())

    assert sso.session(ust).id == session.id
    assert sso.sso.sessions.find(before) is None
    assert sso.sso.sessions.find(other) is None
    after = sso.reload(user)
    assert sso.sso.passwords.verify(after, NEW).is_right
    assert after.password_last_set > user.password_last_set
    assert after.generation > user.generation
    assert sso.notices == [(user.user_id, "password")]
    (event,) = sso.events("user.change_password")
    assert (event["outcome"], event["actor"], event["target"]) == ("ok", user.user_id, user.user_id)


def test_other_sessions_go_on_if_the_settings_say_so(sso: SecondFactors) -> None:
    sso.user()
    sso.settings(session_revoke_on_change=False)
    before, other = sso.log_in(), sso.log_in()

    sso.sso.change_password.change(sso.caller(before), own())

    assert sso.session(other)
    assert sso.sso.sessions.find(before) is None


def test_the_old_password_is_needed_and_its_failures_are_counted(sso: SecondFactors) -> None:
    user = sso.user()
    caller = sso.caller(sso.log_in())
    change = sso.sso.change_password.change

    refused("E008003", change, caller, own(old=""))
    for _ in range(5):
        refused("E005001", change, caller, own(old="wrong"))
    refused("E005009", change, caller, own())
    assert sso.reload(user).password == user.password


def test_super_users_too_give_their_old_password(sso: SecondFactors) -> None:
    caller = sso.super_user_caller()

    refused("E008003", sso.sso.change_password.change, caller, NewPassword(new_password=NEW))


def test_a_bad_password_is_refused_and_why_is_told_if_the_settings_say_so(sso: SecondFactors) -> None:
    sso.user(email="alice.cooper@example.com")
    caller = sso.caller(sso.log_in())

    for new, codes in (
        ("bad", ["E003002", "E003008"]),
        ("alice.cooper", ["E003009"]),
        (PASSWORD, ["E003001"]),
    ):
        with pytest.raises(ValidationError) as caught:
            sso.sso.change_password.change(caller, own(new))
        assert caught.value.shown == codes
    sso.settings(password_inform_if_invalid=False)
    with pytest.raises(ValidationError) as caught:
        sso.sso.change_password.change(caller, own("bad"))
    assert caught.value.shown == ["E005001"]


def test_changing_it_is_what_a_user_who_must_change_it_has_to_do(sso: SecondFactors) -> None:
    user = sso.change(sso.user(), password_must_change=True)

    sso.sso.change_password.change(sso.caller(sso.log_in()), own())

    assert not sso.reload(user).password_must_change


@pytest.mark.parametrize("more", [{"expiry": 30}, {"must_change": True}], ids=str)
def test_super_users_alone_decide_when_it_must_be_changed(
    sso: SecondFactors, more: dict[str, object]
) -> None:
    sso.user()
    caller = sso.caller(sso.log_in())

    refused("E008002", sso.sso.change_password.change, caller, own(**more))


def test_super_users_set_the_password_of_others(sso: SecondFactors) -> None:
    user = sso.user()
    ust = sso.log_in()
    caller = sso.super_user_caller()
    wanted = NewPassword(new_password=NEW, user_id=user.user_id, expiry=30, must_change=True)

    assert sso.sso.change_password.change(caller, wanted) == ""

    after = sso.reload(user)
    assert sso.sso.passwords.verify(after, NEW).is_right
    assert after.password_must_change
    assert after.password_expiry is not None
    assert abs(after.password_expiry - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    assert sso.sso.sessions.find(ust) is None
    assert sso.session(caller.current_ust)


def test_what_must_be_changed_stays_so_unless_a_super_user_says_something_else(sso: SecondFactors) -> None:
    user = sso.change(sso.user(), password_must_change=True)
    caller = sso.super_user_caller()
    change = sso.sso.change_password.change

    change(caller, NewPassword(new_password=NEW, user_id=user.user_id))
    assert sso.reload(user).password_must_change
    change(caller, NewPassword(new_password=NEW, user_id=user.user_id, must_change=False))
    assert not sso.reload(user).password_must_change


@pytest.mark.parametrize(
    ("expiry", "days"), [(None, 90), (-1, 90), (0, None), (7, 7)], ids=["default", "negative", "never", "7"]
)
def test_a_password_expires_as_wanted_or_as_the_settings_say(
    sso: SecondFactors, expiry: int | None, days: int | None
) -> None:
    user = sso.user()
    sso.settings(password_expiry=90)

    sso.sso.change_password.change(
        sso.trusted(), NewPassword(new_password=NEW, user_id=user.user_id, expiry=expiry)
    )

    expires = sso.reload(user).password_expiry
    if days is None:
        assert expires is None
    else:
        assert expires is not None
        assert abs(expires - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)


def test_regular_users_do_not_set_the_password_of_others(sso: SecondFactors) -> None:
    other = sso.user("bob")
    sso.user()
    caller = sso.caller(sso.log_in())

    refused("E005005", sso.sso.change_password.change, caller, own(user_id=other.user_id))


def test_a_super_user_sets_it_after_a_fresh_log_in_alone(sso: SecondFactors) -> None:
    user = sso.user()
    caller = sso.super_user_caller()
    sso.settings(session_step_up_after=1)
    session = sso.session(caller.current_ust)
    with sso.store.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE sso_session SET auth_time = now() - interval '1 hour' WHERE id = {session.id}"
        )
    sso.sso.sessions.announce()

    refused(
        "E005010",
        sso.sso.change_password.change,
        caller,
        NewPassword(new_password=NEW, user_id=user.user_id),
    )


def test_a_new_password_ends_resets_and_what_was_throttled(sso: SecondFactors) -> None:
    user = sso.user()
    with sso.store.engine.begin() as connection:
        token = sso.sso.one_time.issue(connection, user.id, "reset", minutes=60)
    sso.settings(throttle_password_off=10)
    for _ in range(10):
        sso.sso.throttle.failed("alice", sso.caller())
    assert sso.sso.throttle.is_off("alice")

    sso.sso.change_password.change(sso.trusted(), NewPassword(new_password=NEW, user_id=user.user_id))

    with sso.store.engine.begin() as connection:
        assert sso.sso.one_time.use(connection, "reset", token) is None
    assert not sso.sso.throttle.is_off("alice")
    assert sso.sso.login.log_in(sso.caller(), Credentials(username="alice", password=NEW)).ust


def test_nobody_changes_a_password_that_was_changed_meanwhile(
    sso: SecondFactors, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = sso.user()
    caller = sso.caller(sso.log_in())
    hashed = sso.sso.passwords.hashed

    def overtaken(password: str) -> str:
        sso.change(user, generation=user.generation + 1)
        return hashed(password)

    monkeypatch.setattr(sso.sso.passwords, "hashed", overtaken)

    refused("E005001", sso.sso.change_password.change, caller, own())
    assert sso.reload(user).password == user.password


def test_no_password_is_shown_by_what_holds_it() -> None:
    assert PASSWORD not in repr(own())
    assert PASSWORD not in repr(Credentials(username="alice", password=PASSWORD, new_password=PASSWORD))


def test_the_call_needs_a_session(sso: SecondFactors) -> None:
    refused("E007001", sso.sso.change_password.change, sso.caller(), own())
    refused("E008003", sso.sso.change_password.change, through(sso.trusted(), current_app=""), own())
