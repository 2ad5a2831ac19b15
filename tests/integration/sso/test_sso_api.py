"""``self.sso`` of services: what the contract documents, by its positions and names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyotp
import pytest
from sqlalchemy import Engine

from junctor.server import compat
from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.sso import signup_services
from junctor.server.sso.api import RequestCtx, Session, SsoApi, User
from junctor.server.sso.codes import const
from junctor.server.sso.errors import InvalidTOTPError, ValidationError
from junctor.server.sso.search import SearchCtx
from junctor.server.sso.signup import SignupCtx
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.objects import add
from tests.helpers.outbox import Outbox
from tests.helpers.sso import ADDRESS, APP, PASSWORD, SsoUnderTest

CID = "cid of a service"
NEW_PASSWORD = "seven green elephants in a row 8"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def under(module_engine: Engine) -> Iterator[SsoUnderTest]:
    """One cluster for all tests, each of which has users of its own."""
    store = Store.create(module_engine, "sso api", Keyring(parse_keys(new_key_line())))
    made = SsoUnderTest(store, password_min_complexity=0, signup_always_return_confirm_token=True)
    Outbox(made.context).deploy(*signup_services.SERVICES)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api(under: SsoUnderTest) -> SsoApi:
    """What a service has."""
    return SsoApi(under.sso, "crm.accounts")


@pytest.fixture(scope="module")
def admin(under: SsoUnderTest) -> tuple[str, str, str]:
    """What follows the other arguments of a super-user's call."""
    return under.super_user_caller().current_ust, APP, ADDRESS


@pytest.fixture
def name() -> str:
    """A user name that nobody has."""
    return f"user{next(_numbers)}"


@pytest.fixture
def mine(under: SsoUnderTest, name: str) -> tuple[str, str, str]:
    """What follows the other arguments of a user's call."""
    under.user(name, email=f"{name}@example.com", first_name="Ann")
    return under.log_in(name), APP, ADDRESS


def refused(*codes: str) -> Any:
    """Expects a refusal with these codes."""
    return pytest.raises(ValidationError, check=lambda error: error.sub_status == list(codes))


def test_a_service_has_it_while_it_is_switched_on(under: SsoUnderTest) -> None:
    class Look(Service):
        name = "t.look"

        def handle(self) -> None:
            self.response.payload = None if self.sso is None else self.sso.session is self.sso.user.session

    under.deploy(Look)
    on = under.context.invoker.invoke(Call("t.look")).payload
    under.settings(is_active=False)
    off = under.context.invoker.invoke(Call("t.look")).payload
    under.settings(is_active=True)

    assert (on, off) == (True, None)


def test_services_import_the_documented_names() -> None:
    compat.install()
    try:
        import zato.sso as names

        assert names.status_code.password.too_short == "E003002"
        assert names.const.search.or_ == "or"
        assert names.ValidationError is ValidationError
        assert (names.User, names.Session) == (User, Session)
        assert names.SearchCtx().page_size is None
        assert names.SignupCtx().sign_up_status == "before_confirmation"
        assert names.InvalidTOTPError is InvalidTOTPError
        assert names.RequestCtx("1").current_app == ""
    finally:
        compat.uninstall()


def test_from_sign_up_to_log_out(api: SsoApi, admin: tuple[str, str, str], name: str) -> None:
    ctx = SignupCtx()
    ctx.username, ctx.password, ctx.email = name, PASSWORD, f"{name}@example.com"
    ctx.app_list = [APP]

    token = api.user.signup(CID, ctx, APP, ADDRESS)
    api.user.confirm_signup(CID, token, APP, ADDRESS)
    with refused("E005004"):
        api.user.login(CID, name, PASSWORD, APP, ADDRESS, "Firefox")
    row = api.user.get_user_by_username(CID, name, needs_approved=False)
    assert row is not None
    assert api.user.get_user_by_username(CID, name) is None
    api.user.approve_user(CID, row.user_id, *admin)
    info = api.user.login(CID, name, PASSWORD, APP, ADDRESS, "Firefox")
    assert (info.username, info.user_id, info.has_w_about_to_exp) == (name, row.user_id, False)
    assert set(info.to_dict()) >= {"username", "user_id", "ust", "creation_time", "expiration_time"}
    api.user.logout(CID, info.ust, APP, ADDRESS)
    with refused("E007001"):
        api.user.logout(CID, info.ust, APP, ADDRESS)
    api.user.reject_user(CID, row.user_id, *admin)
    with refused("E005004"):
        api.user.login(CID, name, PASSWORD, APP, ADDRESS, "Firefox")


def test_a_service_may_log_users_in_by_itself(under: SsoUnderTest, api: SsoApi, name: str) -> None:
    under.user(name)

    info = api.user.login(CID, name, "", APP, ADDRESS, "Firefox", skip_sec=True)

    assert api.user.get_current_user(CID, info.ust, APP, ADDRESS).username == name
    (event,) = [event for event in under.events("user.login") if event["target"] == info.user_id]
    assert event["actor"] == "service crm.accounts"


def test_a_user_has_its_fields_as_attributes_and_attributes_of_its_own(
    api: SsoApi, mine: tuple[str, str, str], name: str
) -> None:
    user = api.user.get_current_user(CID, *mine)

    assert (user.username, user.first_name, user.last_name) == (name, "Ann", None)
    assert user.is_super_user is None
    with pytest.raises(AttributeError, match="shoe_size"):
        _ = user.shoe_size
    assert user.to_dict()["email"] == f"{name}@example.com"
    assert "password" not in user.to_dict()
    assert name not in repr(user)
    user.attr.create("colour", {"is": "green"}, 60, True)
    found = user.attr.get("colour")
    assert found is not None
    assert (found.value, found.is_encrypted) == ({"is": "green"}, True)
    assert user.attr.names() == ["colour"]


def test_all_of_a_user_is_shown_to_whom_may_see_it(
    api: SsoApi, mine: tuple[str, str, str], admin: tuple[str, str, str]
) -> None:
    user = api.user.get_current_user(CID, *mine, return_all_attrs=True)
    same = api.user.get_user_by_id(CID, user.user_id, *admin)

    assert (user.is_super_user, same.is_super_user) == (False, False)
    assert isinstance(same.sign_up_time, datetime)
    assert same.sign_up_time.tzinfo is None
    with refused("E005005"):
        api.user.get_user_by_id(CID, api.user.get_current_user(CID, *admin).user_id, *mine)


def test_users_are_made_changed_and_deleted(api: SsoApi, admin: tuple[str, str, str], name: str) -> None:
    data: dict[str, Any] = {"username": name, "password": PASSWORD, "first_name": "Ann", "last_name": "Lee"}
    user_id = api.user.create_user(CID, data, *admin, auto_approve=True)

    assert (data["user_id"], data["display_name"], "password" in data) == (user_id, "Ann Lee", False)
    api.user.update_user_by_id(CID, user_id, {"last_name": None}, *admin)
    ust = api.user.login(CID, name, PASSWORD, APP, ADDRESS, "").ust
    api.user.update_current_user(CID, {"middle_name": "May"}, ust, APP, ADDRESS)
    assert api.user.get_user_by_id(CID, user_id, *admin).to_dict().get("last_name") is None
    api.user.lock_user(CID, user_id, *admin)
    with refused("E007001"):
        api.user.get_current_user(CID, ust, APP, ADDRESS)
    api.user.unlock_user(CID, user_id, require_super_user=False)
    api.user.delete_user_by_username(CID, name, *admin)
    with refused("E001100"):
        api.user.delete_user_by_username(CID, name, skip_sec=True)


def test_a_user_of_a_name_is_no_business_of_others(
    api: SsoApi, mine: tuple[str, str, str], name: str
) -> None:
    for username in (name, "nobody at all"):
        with refused("E005005"):
            api.user.delete_user_by_username(CID, username, *mine)


def test_a_service_may_make_super_users(under: SsoUnderTest, api: SsoApi, name: str) -> None:
    data: dict[str, Any] = {"username": name, "password": PASSWORD}

    user_id = api.user.create_super_user(CID, data, require_super_user=False)

    ust = api.user.login(CID, name, PASSWORD, APP, ADDRESS, "").ust
    assert api.session.require_super_user(CID, ust, APP, ADDRESS).user.user_id == user_id


def test_users_are_found(
    api: SsoApi, admin: tuple[str, str, str], name: str, mine: tuple[str, str, str]
) -> None:
    ctx = SearchCtx()
    ctx.username = name

    page = api.user.search(CID, ctx, *admin)

    assert (page["total"], page["result"][0]["username"]) == (1, name)
    assert isinstance(page["result"][0]["sign_up_time"], datetime)
    assert isinstance(api.user.search(CID, ctx, *admin, serialize_dt=True)["result"][0]["sign_up_time"], str)


def test_passwords_are_changed_set_and_validated(api: SsoApi, mine: tuple[str, str, str], name: str) -> None:
    ust = api.user.change_password(CID, {"old_password": PASSWORD, "new_password": NEW_PASSWORD}, *mine)
    user = api.user.get_current_user(CID, ust, APP, ADDRESS)
    api.user.set_password(CID, user.user_id, PASSWORD, False, 30, APP, ADDRESS)

    assert api.user.login(CID, name, PASSWORD, APP, ADDRESS, "").ust
    api.user.validate_password(PASSWORD)
    with refused("E003002", "E003009"):
        api.user.validate_password("secret")
    with refused("E008002"):
        api.user.change_password(CID, {"password": "other"}, *mine)


def test_sessions_are_verified_renewed_read_and_listed(
    api: SsoApi, mine: tuple[str, str, str], admin: tuple[str, str, str]
) -> None:
    ust = mine[0]
    session = api.user.session.get(CID, ust, *admin)

    assert api.session.verify(CID, ust, *admin)
    assert not api.session.verify(CID, "zust1", *admin)
    renewed = api.session.renew(CID, *mine)
    assert renewed.tzinfo is None
    assert renewed - session.creation_time > timedelta(minutes=59)
    session.attr.set("step", 2)
    assert session.attr.exists("step")
    assert set(session.to_dict()) >= {"creation_time", "expiration_time", "remote_addr", "user_agent"}
    assert isinstance(session.to_dict()["creation_time"], str)
    assert len(api.session.get_list(CID, ust, None, None, APP, ADDRESS)) == 1
    assert len(api.session.get_list(CID, None, ust, *admin)) == 1
    assert api.session.get_current_session(CID, *mine).public_id == session.public_id
    with refused("E005005"):
        api.session.get_current_session(CID, *mine, True)


def test_codes_are_validated_apart_from_log_ins(
    under: SsoUnderTest, api: SsoApi, mine: tuple[str, str, str], name: str
) -> None:
    user = api.user.get_current_user(CID, *mine)
    key = api.user.reset_totp_key(CID, mine[0], None, None, "phone", APP, ADDRESS)
    api.user.update_user_by_id(CID, user.user_id, {"is_totp_enabled": True}, *mine)
    ctx = RequestCtx(CID, *mine)
    now = int(under.sso.totp.clock())
    under.sso.totp.clock = lambda: float(
        now
    )  # else the first code may be two steps old by the time that it is used
    codes = [pyotp.TOTP(key).at(now, counter_offset=offset) for offset in (-1, 0, 1)]

    api.totp.validate_code(ctx, code=codes[0], username=name)
    api.totp.validate_code(ctx, code=codes[1], ust=mine[0])
    api.totp.validate_code_for_user(ctx, code=codes[2], user=user)
    with pytest.raises(InvalidTOTPError):
        api.totp.validate_code(ctx, code=codes[2], username=name)


def test_definitions_are_linked(
    under: SsoUnderTest, api: SsoApi, mine: tuple[str, str, str], admin: tuple[str, str, str]
) -> None:
    add(under.store, "security_basic_auth", "partner", username="partner")
    under.catch_up()
    user_id = api.user.get_current_user(CID, *mine).user_id
    ust, app, address = admin

    linked = api.user.create_linked_auth(CID, ust, user_id, "zato.basic_auth", "partner", True, app, address)

    assert linked[0] == user_id
    assert [
        item["auth_username"] for item in api.user.get_linked_auth_list(CID, *mine[:1], None, APP, ADDRESS)
    ] == ["partner"]
    assert api.user.get_user_by_linked_auth(CID, "basic_auth", "partner", *admin).user_id == user_id
    assert api.user.delete_linked_auth(CID, ust, user_id, "basic_auth", "partner", app, address) == linked[1]


def test_forgotten_passwords_are_reset(
    under: SsoUnderTest, api: SsoApi, mine: tuple[str, str, str], name: str
) -> None:
    api.password_reset.create_token(CID, name, APP, ADDRESS, "Firefox")
    user = under.sso.users.by_username(name)
    assert user is not None
    with under.store.engine.begin() as connection:
        token = under.sso.one_time.issue(connection, user.id, "reset", minutes=5)

    accessed = api.password_reset.access_token(CID, token, APP, ADDRESS, "Firefox")
    api.password_reset.change_password(CID, NEW_PASSWORD, token, accessed.reset_key, APP, ADDRESS, "Firefox")

    assert accessed.user["username"] == name
    assert api.user.login(CID, name, NEW_PASSWORD, APP, ADDRESS, "").ust


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (ADDRESS, ADDRESS),
        ([ADDRESS], ADDRESS),
        ("192.0.2.1, 203.0.113.7", ADDRESS),
        (["192.0.2.1", ADDRESS, "127.0.0.1"], ADDRESS),
        (["127.0.0.1"], "127.0.0.1"),
        (None, ""),
    ],
)
def test_of_several_addresses_the_last_one_counts_that_is_not_a_trusted_proxys(
    under: SsoUnderTest, api: SsoApi, given: Any, counts: str
) -> None:
    name = f"user{next(_numbers)}"
    user = under.user(name)

    ust = api.user.login(CID, name, PASSWORD, APP, given, "").ust

    assert under.session(ust).remote_addr == counts
    assert user.user_id == under.session(ust).user.user_id


def test_every_code_is_told_to_services(under: SsoUnderTest, api: SsoApi, name: str) -> None:
    under.user(name, is_locked=True, approval_status=const.approval_status.approved)

    with refused("E005002"):
        api.user.login(CID, name, PASSWORD, APP, ADDRESS, "")
