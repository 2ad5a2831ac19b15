"""Users: made, read, changed, approved, locked and deleted, each by whom it may."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from junctor.server.sso import signup_services
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoSession, SsoToken, SsoUser
from tests.helpers.outbox import Outbox
from tests.helpers.sso import PASSWORD, SsoUnderTest

_numbers = itertools.count(1)
NOT_ALLOWED = status_code.auth.not_allowed


@pytest.fixture
def store(module_engine: Engine, keyring: Keyring) -> Store:
    """A cluster of its own for each test, in one database."""
    return Store.create(module_engine, f"users{next(_numbers)}", keyring)


@pytest.fixture
def under_test(store: Store) -> Iterator[SsoUnderTest]:
    made = SsoUnderTest(store)
    Outbox(made.context).deploy(*signup_services.SERVICES)
    yield made
    made.stop()


def refused(call: Any, *codes: str, shown: bool | None = None) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        call()
    assert caught.value.sub_status == list(codes)
    if shown is not None:
        assert caught.value.return_status is shown
    return caught.value


def row(under_test: SsoUnderTest, user: User) -> Any:
    with under_test.store.engine.connect() as connection:
        return connection.execute(select(SsoUser.__table__).where(SsoUser.id == user.id)).one()


def notices(monkeypatch: pytest.MonkeyPatch, under_test: SsoUnderTest) -> list[tuple[str, str]]:
    """What users are told from now on."""
    told: list[tuple[str, str]] = []

    def notice(caller: Caller, user: User, event: str, *, email: str = "") -> None:
        told.append((event, email))

    monkeypatch.setattr(under_test.sso.mail, "notice", notice)
    monkeypatch.setattr(under_test.sso.mail, "welcome", lambda caller, user: told.append(("welcome", "")))
    return told


def test_a_super_user_makes_a_user_with_the_documented_defaults(under_test: SsoUnderTest) -> None:
    users, caller = under_test.sso.users, under_test.super_user_caller()
    data = {"username": "anna", "first_name": " Anna ", "last_name": "Müller", "email": "Anna@Example.com"}

    user = users.create(caller, data)

    view = users.view(user, is_full=True)
    assert view["display_name"] == "Anna Müller"
    assert (view["first_name"], view["email"]) == ("Anna", "Anna@Example.com")
    assert (view["sign_up_status"], view["approval_status"]) == ("final", "before_decision")
    assert view["is_approval_needed"] is True
    assert (view["is_locked"], view["password_must_change"], view["is_totp_enabled"]) == (False, False, False)
    assert (view["is_super_user"], view["is_active"], view["password_is_set"]) == (False, True, True)
    assert "middle_name" not in view
    assert "password" not in view
    assert "totp_key_sealed" not in view
    stored = row(under_test, user)
    assert stored.totp_key_sealed
    assert stored.email is None
    assert "example" not in stored.email_sealed.casefold()
    assert users.by_email("anna@EXAMPLE.com") == user
    (event,) = under_test.events("user.create_user")
    assert (event["outcome"], event["target"]) == ("ok", user.user_id)
    assert "anna" not in str(event["extra"]).casefold()


def test_nobody_but_a_super_user_makes_users(under_test: SsoUnderTest) -> None:
    under_test.user("bob")
    caller = under_test.caller(under_test.log_in("bob"))
    refused(
        lambda: under_test.sso.users.create(caller, {"username": "anna"}),
        status_code.auth.super_user_required,
    )
    refused(
        lambda: under_test.sso.users.create(under_test.caller(), {"username": "anna"}),
        status_code.session.no_such_session,
    )
    assert under_test.sso.users.by_username("anna") is None
    assert [event["outcome"] for event in under_test.events("user.create_user")] == ["refused"] * 2


def test_who_the_cluster_makes_is_approved_and_may_be_a_super_user(under_test: SsoUnderTest) -> None:
    users = under_test.sso.users
    user = users.create(
        under_test.trusted(), {"username": "admin1", "password": PASSWORD}, is_super_user=True
    )
    assert user.is_super_user
    assert (user.approval_status, user.approval_status_mod_by) == ("approved", "auto")
    assert under_test.sso.passwords.verify(user, PASSWORD).is_right
    assert under_test.events("user.create_super_user")[0]["outcome"] == "ok"


@pytest.mark.parametrize(
    ("more", "is_needed", "status"),
    [({"auto_approve": True}, True, "approved"), ({}, False, "approved"), ({}, True, "before_decision")],
)
def test_a_new_user_is_approved_as_it_is_asked_for(
    under_test: SsoUnderTest, more: dict[str, Any], is_needed: bool, status: str
) -> None:
    under_test.settings(signup_is_approval_needed=is_needed)
    user = under_test.sso.users.create(under_test.super_user_caller(), {"username": "anna", **more})
    assert user.approval_status == status


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({}, status_code.common.missing_input),
        ({"first_name": "Anna"}, status_code.common.missing_input),
        ({"username": "a b"}, status_code.username.has_whitespace),
        ({"username": ""}, status_code.username.invalid),
        ({"username": 7}, status_code.common.invalid_input),
        ({"username": "anna", "first_name": "x" * 201}, status_code.common.invalid_input),
        ({"username": "anna", "first_name": "a\nb"}, status_code.common.invalid_input),
        ({"username": "anna", "first_name": "a\0b"}, status_code.common.invalid_input),
        ({"username": "anna", "first_name": "\ud800"}, status_code.common.invalid_input),
        ({"username": "anna", "last_name": "abc\u202edef"}, status_code.common.invalid_input),
        ({"username": "anna", "email": "no address"}, status_code.email.has_whitespace),
        ({"username": "anna", "is_locked": "false"}, status_code.common.invalid_input),
        ({"username": "anna", "sign_up_status": "to_approve"}, status_code.common.invalid_input),
        ({"username": "anna", "totp_key": "abc"}, status_code.common.invalid_input),
        ({"username": "anna", "app_list": ["absent"]}, status_code.app_list.invalid),
        ({"username": "anna", "is_super_user": True}, status_code.common.invalid_input),
        ({"username": "anna", "password": "short"}, status_code.password.too_short),
    ],
)
def test_what_no_user_can_have_is_refused(under_test: SsoUnderTest, data: dict[str, Any], code: str) -> None:
    under_test.settings(password_min_complexity=0)
    refused(lambda: under_test.sso.users.create(under_test.trusted(), data), code)


def test_a_name_is_taken_in_any_case(under_test: SsoUnderTest) -> None:
    users = under_test.sso.users
    users.create(under_test.trusted(), {"username": "Straße"})
    for name in ("straße", "STRASSE", "\uff33\uff34\uff32\uff21\uff33\uff33\uff25"):
        refused(
            lambda name=name: users.create(under_test.trusted(), {"username": name}),
            status_code.username.exists,
            shown=True,
        )


def test_an_address_belongs_to_one_user_under_any_key_unless_the_settings_say_otherwise(
    under_test: SsoUnderTest,
) -> None:
    users = under_test.sso.users
    users.create(under_test.trusted(), {"username": "anna", "email": "anna@example.com"})
    older = under_test.store.keyring._keys
    newer = Store(
        under_test.store.engine,
        under_test.store.cluster_id,
        Keyring({**parse_keys(new_key_line()), **older}),
    )
    other = SsoUnderTest(newer)
    again = {"username": "anna2", "email": "ANNA@example.com"}
    refused(lambda: other.sso.users.create(other.trusted(), again), status_code.email.exists, shown=True)
    under_test.settings(signup_is_email_unique=False)
    users.create(under_test.trusted(), again)
    assert users.by_email("anna@example.com") is None
    other.stop()


def test_of_two_who_take_an_address_at_once_one_gets_it(under_test: SsoUnderTest) -> None:
    def create(number: int) -> str:
        data = {"username": f"anna{number}", "email": "anna@example.com"}
        try:
            under_test.sso.users.create(under_test.trusted(), data)
        except ValidationError as refusal:
            return refusal.sub_status[0]
        return "ok"

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(create, range(4)))
    assert outcomes == [status_code.email.exists] * 3 + ["ok"]


def test_an_address_is_in_the_clear_if_the_settings_say_so(under_test: SsoUnderTest) -> None:
    under_test.settings(encrypt_email=False)
    user = under_test.sso.users.create(
        under_test.trusted(), {"username": "anna", "email": "anna@example.com"}
    )
    assert row(under_test, user).email == "anna@example.com"
    under_test.settings(encrypt_email=True)
    assert under_test.sso.users.email_of(user) == "anna@example.com"
    assert under_test.sso.users.by_email("anna@example.com") == user


def test_users_see_their_own_data_and_super_users_everything(under_test: SsoUnderTest) -> None:
    users, anna = under_test.sso.users, under_test.user("anna", display_name="Anna")
    under_test.user("bob")
    own = under_test.caller(under_test.log_in("anna"))
    user, is_full = users.get(own)
    assert (user.user_id, is_full) == (anna.user_id, False)
    assert set(users.view(user, is_full=is_full)) == {
        "user_id",
        "username",
        "display_name",
        "is_totp_enabled",
        "is_email_verified",
    }
    assert users.get(own, anna.user_id)[1] is False
    root = under_test.super_user_caller()
    user, is_full = users.get(root, anna.user_id)
    assert is_full
    view = users.view(user, is_full=True)
    assert (view["approv_rej_by"], view["approv_rej_time"]) == ("auto", view["approval_status_mod_time"])
    assert datetime.fromisoformat(view["sign_up_time"]).tzinfo is None
    refused(
        lambda: users.get(under_test.caller(under_test.log_in("bob")), anna.user_id),
        status_code.auth.super_user_required,
    )
    refused(lambda: users.get(root, "zusr1"), status_code.user_id.invalid)
    refused(lambda: users.get(root, "\ud800\0"), status_code.user_id.invalid)


def test_users_change_what_is_theirs_and_nothing_else(
    under_test: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = notices(monkeypatch, under_test)
    users, anna = under_test.sso.users, under_test.user("anna", first_name="Anna", email="old@example.com")
    caller = under_test.caller(under_test.log_in("anna"))
    users.update(caller, {"first_name": None, "last_name": "Smith", "email": "new@example.com"})
    changed = under_test.reload(anna)
    assert (changed.first_name, changed.last_name, changed.is_email_verified) == ("", "Smith", False)
    assert users.email_of(changed) == "new@example.com"
    assert told == [("email", "old@example.com")]
    for data, code in (
        ({}, status_code.common.missing_input),
        ({"first_name": "A", "is_locked": False}, status_code.common.invalid_input),
        ({"approval_status": "approved"}, status_code.common.invalid_input),
        ({"is_super_user": True}, status_code.common.invalid_input),
        ({"username": None}, status_code.common.invalid_input),
        ({"username": "admin2"}, status_code.username.invalid),
    ):
        refused(lambda data=data: users.update(caller, data), code)
    assert under_test.reload(anna) == changed
    users.update(caller, {"first_name": "Ann"}, anna.user_id)
    assert under_test.events("user.update_user_by_id")[0]["outcome"] == "ok"
    bob = under_test.user("bob")
    refused(
        lambda: users.update(caller, {"first_name": "B"}, bob.user_id), status_code.auth.super_user_required
    )


def test_names_and_addresses_need_a_fresh_log_in(under_test: SsoUnderTest) -> None:
    under_test.user("anna", email="old@example.com")
    ust = under_test.log_in("anna")
    with under_test.store.engine.begin() as connection:
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(SsoSession.__table__.update().values(auth_time=long_ago))
    under_test.sso.sessions.announce()
    caller = under_test.caller(ust)
    for data in ({"username": "anna2"}, {"email": "new@example.com"}, {"email": None}):
        refused(
            lambda data=data: under_test.sso.users.update(caller, data), status_code.auth.step_up_required
        )
    under_test.sso.users.update(caller, {"last_name": "Smith", "email": "OLD@example.com"})


def test_a_new_address_ends_the_resets_that_went_to_the_old_one(under_test: SsoUnderTest) -> None:
    anna = under_test.user("anna", email="old@example.com")
    with under_test.store.engine.begin() as connection:
        under_test.sso.one_time.issue(connection, anna.id, "reset", minutes=5)
    under_test.sso.users.update(under_test.caller(under_test.log_in("anna")), {"email": "new@example.com"})
    with under_test.store.engine.connect() as connection:
        purposes = connection.scalars(select(SsoToken.purpose).where(SsoToken.user_id == anna.id)).all()
    assert purposes == ["confirm"]


def test_a_list_of_addresses_is_not_left_behind_by_another_name(under_test: SsoUnderTest) -> None:
    under_test.addresses("anna", "*")
    under_test.addresses("gone", "*")
    anna, users = under_test.user("anna"), under_test.sso.users
    caller, root = under_test.caller(under_test.log_in("anna")), under_test.super_user_caller()
    refused(lambda: users.update(caller, {"username": "free"}), NOT_ALLOWED)
    bob = under_test.user("bob")
    refused(
        lambda: users.update(under_test.caller(under_test.log_in("bob")), {"username": "gone"}), NOT_ALLOWED
    )
    users.update(caller, {"username": "Anna"})
    refused(
        lambda: users.update(root, {"username": "free"}, anna.user_id), status_code.common.invalid_operation
    )
    under_test.addresses("free", "10.0.0.0/8")
    users.update(root, {"username": "free"}, anna.user_id)
    users.update(root, {"username": "gone"}, bob.user_id)
    assert users.by_username("free") == under_test.reload(anna)


def test_super_users_change_the_state_of_users(
    under_test: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = notices(monkeypatch, under_test)
    users, root = under_test.sso.users, under_test.super_user_caller()
    by = under_test.session(root.current_ust).user.user_id
    anna = under_test.user("anna", approval_status="before_decision", sign_up_status="before_confirmation")
    users.update(root, {"sign_up_status": "final", "is_approved": True}, anna.user_id)
    approved = under_test.reload(anna)
    assert (approved.approval_status, approved.approval_status_mod_by) == ("approved", by)
    assert approved.sign_up_confirm_time
    assert told == [("welcome", "")]
    ust = under_test.log_in("anna")
    changes = {"is_locked": True, "must_change": True, "password_expiry": "2030-01-01T12:00:00"}
    users.update(root, changes, anna.user_id)
    locked = under_test.reload(anna)
    assert (locked.is_locked, locked.locked_by, locked.password_must_change) == (True, by, True)
    assert locked.password_expiry == datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert locked.locked_time
    assert under_test.sso.sessions.find(ust) is None
    users.update(root, {"is_locked": False, "password_expiry": None}, anna.user_id)
    unlocked = under_test.reload(anna)
    assert (unlocked.locked_time, unlocked.locked_by, unlocked.password_expiry) == (None, None, None)
    for data in (
        {"password_expiry": "tomorrow"},
        {"password_expiry": "0001-01-01T00:00:00+05:00"},
        {"approval_status": "approved", "is_approved": False},
        {"approval_status": "maybe"},
        {"is_locked": None},
    ):
        refused(
            lambda data=data: users.update(root, data, anna.user_id),
            status_code.common.invalid_input,
            shown=True,
        )


def test_a_user_who_is_approved_and_locked_again_and_again_is_told_once(
    under_test: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = notices(monkeypatch, under_test)
    users, root = under_test.sso.users, under_test.super_user_caller()
    anna = under_test.user("anna", approval_status="before_decision")
    users.decide(root, anna.user_id, is_approved=True)
    first = under_test.reload(anna)
    users.decide(root, anna.user_id, is_approved=True)
    assert under_test.reload(anna) == first
    ust = under_test.log_in("anna")
    users.set_lock(root, anna.user_id, is_locked=True)
    locked = under_test.reload(anna)
    users.set_lock(root, anna.user_id, is_locked=True)
    assert under_test.reload(anna) == locked
    assert under_test.sso.sessions.find(ust) is None
    users.set_lock(root, anna.user_id, is_locked=False)
    assert under_test.reload(anna).locked_by is None
    assert told == [("welcome", "")]
    ust = under_test.log_in("anna")
    users.decide(root, anna.user_id, is_approved=False)
    assert under_test.sso.sessions.find(ust) is None
    assert [event["op"] for event in under_test.events() if event["target"] == anna.user_id] == [
        "user.approve_user",
        "user.approve_user",
        "user.lock_user",
        "user.lock_user",
        "user.unlock_user",
        "user.reject_user",
    ]


def test_a_deleted_user_is_gone_with_all_sessions(under_test: SsoUnderTest) -> None:
    users, root = under_test.sso.users, under_test.super_user_caller()
    anna = under_test.user("anna")
    ust = under_test.log_in("anna")
    assert under_test.sso.sessions.find(ust)
    users.delete(root, anna.user_id)
    assert users.by_id(anna.id) is None
    assert under_test.sso.sessions.find(ust) is None
    refused(lambda: users.delete(root, anna.user_id), status_code.user_id.invalid)
    refused(lambda: users.delete(root, ""), status_code.common.missing_input)


def test_nobody_shuts_oneself_out(under_test: SsoUnderTest) -> None:
    users, root = under_test.sso.users, under_test.super_user_caller()
    own = under_test.session(root.current_ust).user.user_id
    invalid = status_code.common.invalid_operation
    refused(lambda: users.delete(root, own), invalid, shown=False)
    refused(lambda: users.set_lock(root, own, is_locked=True), invalid, shown=False)
    refused(lambda: users.decide(root, own, is_approved=False), invalid, shown=False)
    refused(lambda: users.update(root, {"is_locked": True}), invalid, shown=False)
    refused(lambda: users.update(root, {"sign_up_status": "before_confirmation"}, own), invalid, shown=False)


def test_two_super_users_who_lock_each_other_leave_one(under_test: SsoUnderTest) -> None:
    callers = [under_test.super_user_caller(name) for name in ("root1", "root2")]
    ids = [under_test.session(caller.current_ust).user.user_id for caller in callers]

    def lock(number: int) -> bool:
        try:
            under_test.sso.users.set_lock(callers[number], ids[1 - number], is_locked=True)
        except ValidationError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lock, range(2))) == [False, True]
    left = [user_id for user_id in ids if not under_test.sso.users.by_user_id(user_id).is_locked]  # type: ignore[union-attr]  # they exist
    assert len(left) == 1
    under_test.sso.users.set_lock(under_test.trusted(), left[0], is_locked=True)


def test_a_second_factor_is_switched_by_who_has_it(
    under_test: SsoUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = notices(monkeypatch, under_test)
    users = under_test.sso.users
    anna = users.create(under_test.trusted(), {"username": "anna", "is_totp_enabled": True})
    with_password = under_test.caller(under_test.log_in("anna"))
    off = {"is_totp_enabled": False}
    refused(lambda: users.update(with_password, off), status_code.auth.step_up_required)
    both = replace(with_password, current_ust=under_test.log_in("anna", factors=("pwd", "otp")))
    under_test.settings(login_totp_required=True)
    refused(lambda: users.update(both, off), status_code.auth.second_factor_required)
    under_test.settings(login_totp_required=False)
    users.update(both, off | {"totp_label": "Phone"})
    assert (under_test.reload(anna).is_totp_enabled, under_test.reload(anna).totp_label) == (False, "Phone")
    assert under_test.sso.sessions.find(with_password.current_ust) is None
    users.update(both, {"is_totp_enabled": True})
    assert told == [("totp", ""), ("totp", "")]
    under_test.user("bob")
    bob = under_test.caller(under_test.log_in("bob"))
    refused(lambda: users.update(bob, {"is_totp_enabled": True}), status_code.second_factor.not_enrolled)
