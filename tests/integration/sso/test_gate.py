"""Who may call what, and from where: the checks that every call passes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.gate import ENROL
from tests.helpers.sso import SsoUnderTest, through


def refusal(call: Callable[[], Any]) -> ValidationError:
    """How a call is refused."""
    with pytest.raises(ValidationError) as caught:
        call()
    return caught.value


def test_an_unknown_application_is_refused_and_told_so(sso: SsoUnderTest) -> None:
    error = refusal(lambda: sso.sso.gate.application(sso.caller(app="nowhere")))

    assert error.shown == ["E004001"]


def test_an_inactive_application_is_refused(sso: SsoUnderTest) -> None:
    sso.application("CRM", is_active=False)

    assert refusal(lambda: sso.sso.gate.application(sso.caller())).sub_status == ["E004001"]


def test_what_is_wrong_with_an_application_can_be_kept_back(sso: SsoUnderTest) -> None:
    sso.settings(apps_inform_if_app_invalid=False)

    error = refusal(lambda: sso.sso.gate.application(sso.caller(app="nowhere")))

    assert (error.sub_status, error.shown) == (["E004001"], ["E005001"])


def test_nothing_works_while_single_sign_on_is_off(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    sso.settings(is_active=False)

    assert refusal(lambda: sso.sso.gate.session(sso.caller(ust))).shown == ["E005001"]


def test_a_trusted_caller_needs_neither_an_application_nor_a_session(sso: SsoUnderTest) -> None:
    assert sso.sso.gate.application(sso.trusted()) is None
    assert sso.sso.gate.super_user(sso.trusted()) is None


@pytest.mark.parametrize("ust", ["", "zust", "x" * 5000, "zust\x00", "\ud800"])
def test_what_is_no_token_is_no_session(sso: SsoUnderTest, ust: str) -> None:
    assert refusal(lambda: sso.sso.gate.session(sso.caller(ust))).shown == ["E007001"]


def test_a_user_with_a_session_may_call(sso: SsoUnderTest) -> None:
    alice = sso.user()

    session = sso.sso.gate.session(sso.caller(sso.log_in()))

    assert session is not None
    assert session.user == alice


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"is_locked": True}, "E005002"),
        ({"is_active": False}, "E005002"),
        ({"sign_up_status": "before_confirmation"}, "E005003"),
        ({"approval_status": "rejected"}, "E005004"),
        ({"approval_status": "before_decision"}, "E005004"),
        ({"password_expiry": datetime.now(UTC) - timedelta(days=1)}, "E003004"),
    ],
)
def test_a_session_is_worth_nothing_once_its_user_may_not_log_in(
    sso: SsoUnderTest, values: dict[str, Any], code: str
) -> None:
    alice = sso.user()
    ust = sso.log_in()
    sso.change(alice, **values)

    assert refusal(lambda: sso.sso.gate.session(sso.caller(ust))).sub_status == [code]


def test_whose_password_has_expired_may_still_change_it(sso: SsoUnderTest) -> None:
    sso.user(password_expiry=datetime.now(UTC) - timedelta(days=1))

    assert sso.sso.gate.session(sso.caller(sso.log_in()), checks_password_expiry=False) is not None


def test_a_user_comes_from_listed_addresses_alone(sso: SsoUnderTest) -> None:
    sso.user("Alice")
    caller = sso.caller(sso.log_in("alice"))
    sso.addresses("ALICE", "10.0.0.0/8", "2001:db8::/32")

    for address in ("10.1.2.3", "2001:db8::7", "::ffff:10.1.2.3"):
        assert sso.sso.gate.session(through(caller, remote_addr=address)) is not None
    for address in ("203.0.113.7", "", "10.1.2.3, 203.0.113.7", "localhost"):
        refused = through(caller, remote_addr=address)
        assert refusal(lambda refused=refused: sso.sso.gate.session(refused)).shown == ["E005001"]


def test_an_empty_list_is_nowhere_and_a_star_is_anywhere(sso: SsoUnderTest) -> None:
    sso.user()
    caller = sso.caller(sso.log_in())
    sso.addresses("alice")
    assert refusal(lambda: sso.sso.gate.session(caller)).shown == ["E005001"]

    sso.addresses("alice", "*")

    assert sso.sso.gate.session(caller) is not None


def test_users_without_a_list_can_be_refused(sso: SsoUnderTest) -> None:
    sso.user()
    caller = sso.caller(sso.log_in())
    sso.settings(login_reject_if_not_listed=True)
    assert refusal(lambda: sso.sso.gate.session(caller)).shown == ["E005001"]

    sso.addresses("alice", "203.0.113.0/24")

    assert sso.sso.gate.session(caller) is not None


def test_an_application_can_be_for_those_users_alone_who_were_given_it(sso: SsoUnderTest) -> None:
    sso.application("ERP", is_grant_needed=True)
    sso.user("alice")
    sso.user("bob", app_list=["ERP"])

    assert refusal(lambda: sso.sso.gate.session(sso.caller(sso.log_in("alice"), "ERP"))).shown == ["E004001"]
    assert sso.sso.gate.session(sso.caller(sso.log_in("bob"), "ERP")) is not None


def test_a_session_for_enrolment_is_for_nothing_else(sso: SsoUnderTest) -> None:
    sso.user()
    caller = sso.caller(sso.log_in(factors=("pwd", ENROL)))

    assert refusal(lambda: sso.sso.gate.session(caller)).shown == ["E005011"]
    assert sso.sso.gate.session(caller, may_enrol=True) is not None


def test_a_user_is_no_super_user(sso: SsoUnderTest) -> None:
    sso.user()

    assert refusal(lambda: sso.sso.gate.super_user(sso.caller(sso.log_in()))).shown == ["E005005"]
    assert sso.sso.gate.super_user(sso.super_user_caller()) is not None


def test_a_super_user_who_is_made_a_user_is_one_from_the_next_call_on(sso: SsoUnderTest) -> None:
    root = sso.user("root1", is_super_user=True)
    caller = sso.caller(sso.log_in("root1"))
    assert sso.sso.gate.super_user(caller) is not None

    sso.change(root, is_super_user=False)

    assert refusal(lambda: sso.sso.gate.super_user(caller)).shown == ["E005005"]


def test_a_user_reaches_oneself_and_a_super_user_everybody(sso: SsoUnderTest) -> None:
    alice, bob = sso.user("alice"), sso.user("bob")
    own, super_user = sso.caller(sso.log_in("alice")), sso.super_user_caller()
    gate = sso.sso.gate

    assert gate.own_or_super_user(own, "")[1:] == (alice, False)
    assert gate.own_or_super_user(own, alice.user_id)[1:] == (alice, False)
    assert refusal(lambda: gate.own_or_super_user(own, bob.user_id)).shown == ["E005005"]
    assert refusal(lambda: gate.own_or_super_user(own, "zusrnobody")).shown == ["E005005"]
    assert gate.own_or_super_user(super_user, bob.user_id)[1:] == (bob, True)
    assert refusal(lambda: gate.own_or_super_user(super_user, "zusrnobody")).shown == ["E001100"]
    assert gate.own_or_super_user(sso.trusted(), bob.user_id) == (None, bob, True)
    assert refusal(lambda: gate.own_or_super_user(sso.trusted(), "")).shown == ["E008003"]


def test_a_proof_of_who_somebody_is_does_not_stay_fresh(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in()
    sso.sso.gate.fresh(sso.session(ust))
    sso.sso.gate.fresh(None)

    sso.age(ust, auth_time=timedelta(minutes=16))

    assert refusal(lambda: sso.sso.gate.fresh(sso.session(ust))).shown == ["E005010"]


def test_a_linked_account_is_fresh_for_a_minute(sso: SsoUnderTest) -> None:
    sso.user()
    ust = sso.log_in(auth_type="basic_auth")
    sso.sso.gate.fresh(sso.session(ust))

    sso.age(ust, auth_time=timedelta(minutes=2))

    assert refusal(lambda: sso.sso.gate.fresh(sso.session(ust))).shown == ["E005010"]
