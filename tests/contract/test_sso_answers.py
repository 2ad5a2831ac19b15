"""What the REST API of Single Sign-On answers: a row for each documented call that succeeds, and one for each code that there is."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
from sqlalchemy import Engine

from junctor.server.sso import signup_services
from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints import ENDPOINTS
from junctor.server.sso.records import User
from junctor.sql import base
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.objects import add
from tests.helpers.outbox import Outbox
from tests.helpers.sso import PASSWORD, SsoUnderTest
from tests.helpers.sso_rest import Answered, SsoRest

BASE = "/zato/sso/"
NEW_PASSWORD = "seven green elephants in a row 8"
SESSION = {"ust", "user_id", "username", "public_id", "creation_time", "expiration_time"}
VIEW = {"user_id", "username", "is_email_verified", "is_totp_enabled"}
FULL_VIEW = VIEW | {
    *("is_active", "is_internal", "is_super_user", "is_approval_needed", "approval_status", "is_locked"),
    *("approval_status_mod_by", "approval_status_mod_time", "password_is_set", "password_must_change"),
    *("password_last_set", "sign_up_status", "sign_up_time", "is_rate_limit_active"),
    "rate_limit_check_parent_def",
}
_numbers = itertools.count(1)


class World:
    """A cluster with a super-user; each test has users of its own."""

    def __init__(self, sso: SsoUnderTest) -> None:
        self.sso, self.rest = sso, SsoRest(sso)
        Outbox(sso.context).deploy(*signup_services.SERVICES)
        sso.settings(signup_always_return_confirm_token=True, throttle_signup_limit=1000)
        self.admin = sso.super_user_caller().current_ust

    def call(self, request: str, **fields: Any) -> Answered:
        """The answer to a request such as 'POST user/login'."""
        method, path = request.split()
        return self.rest(method, BASE + path, **fields)

    def as_admin(self, request: str, **fields: Any) -> Answered:
        """The answer to a super-user."""
        return self.call(request, ust=self.admin, **fields)

    def someone(self, **values: Any) -> Someone:
        """A user with a session."""
        user = self.sso.user(f"someone{next(_numbers)}", **values)
        return Someone(self, user, self.sso.log_in(user.username))

    def token(self, purpose: str, user: User) -> str:
        """A token of the kind that is mailed."""
        with self.sso.store.engine.begin() as connection:
            return self.sso.sso.one_time.issue(connection, user.id, purpose, minutes=5)

    def signed_up(self, **fields: Any) -> Answered:
        """The answer to a sign-up."""
        name = f"visitor{next(_numbers)}"
        given = {
            "username": name,
            "email": f"{name}@example.com",
            "password": PASSWORD,
            "app_list": ["CRM"],
            **fields,
        }
        return self.call("POST user/signup", **given)


@dataclass
class Someone:
    """A user who calls."""

    world: World
    user: User
    ust: str

    def call(self, request: str, **fields: Any) -> Answered:
        """The answer to this user."""
        return self.world.call(request, ust=self.ust, **fields)

    def logs_in(self, **fields: Any) -> Answered:
        """The answer to this user's log-in."""
        given = {"username": self.user.username, "password": PASSWORD, **fields}
        return self.world.call("POST user/login", **given)


@pytest.fixture(scope="module")
def module_world(module_engine: Engine) -> Iterator[World]:
    """The cluster of the module."""
    store = Store.create(module_engine, "sso answers", Keyring(parse_keys(new_key_line())))
    sso = SsoUnderTest(store, password_min_complexity=0)
    yield World(sso)
    sso.stop()


@pytest.fixture
def world(module_world: World) -> Iterator[World]:
    """The same, with the settings that it had at first."""
    before = {name: module_world.sso.sso.settings[name] for name in base.declared(base.kind_class("sso"))}
    yield module_world
    changed = {name: value for name, value in before.items() if module_world.sso.sso.settings[name] != value}
    if changed:
        module_world.sso.settings(**changed)


def confirmed(world: World) -> Answered:
    token = world.signed_up().body["confirm_token"]
    return world.call("PATCH user/signup", confirm_token=token)


def confirmed_at_the_documented_path(world: World) -> Answered:
    token = world.signed_up().body["confirm_token"]
    return world.call("POST user/signup/confirm", confirm_token=token)


def with_attribute(world: World, request: str, **fields: Any) -> Answered:
    someone = world.someone()
    someone.call("POST user/attr", name="colour", value={"is": "green"})
    return someone.call(request, **fields)


def with_session_attribute(world: World, request: str, **fields: Any) -> Answered:
    someone = world.someone()
    someone.call("POST session/attr", name="colour", value=["green"], target_ust=someone.ust)
    return someone.call(request, **fields)


def other_session(world: World) -> tuple[Someone, str]:
    someone = world.someone()
    return someone, world.sso.session(world.sso.log_in(someone.user.username)).public_id


def end_one(world: World) -> Answered:
    someone, public_id = other_session(world)
    return someone.call("DELETE user/session", public_id=public_id)


def end_others(world: World) -> Answered:
    someone, _ = other_session(world)
    answer = someone.call("DELETE user/session/others")
    assert answer.body["ended"] == 1
    return answer


def reset_key(world: World, user: User) -> tuple[str, Answered]:
    token = world.token("reset", user)
    return token, world.call("PATCH password/reset", token=token)


def password_set(world: World) -> Answered:
    token, answer = reset_key(world, world.someone().user)
    key = answer.body["reset_key"]
    return world.call("DELETE password/reset", token=token, reset_key=key, password=NEW_PASSWORD)


def introspected(world: World, secret: str = "") -> Answered:
    given = secrets.token_hex(16)
    world.sso.application("Portal", secret=given, introspection_allowed=True)
    return world.call(
        "POST session/introspect",
        current_app="Portal",
        app_secret=secret or given,
        target_ust=world.someone().ust,
    )


def enrolled(world: World, someone: Someone) -> Answered:
    key = someone.call("POST user/totp").body["totp_key"]
    answer = someone.call(
        "POST user/totp/confirm", totp_code=pyotp.TOTP(key).at(int(world.sso.sso.totp.clock()))
    )
    someone.ust = answer.body["ust"]
    return answer


def linked(world: World, request: str) -> Answered:
    name = f"partner{next(_numbers)}"
    add(world.sso.store, "security_basic_auth", name, username=name)
    world.sso.catch_up()
    someone = world.someone()
    meant = {"user_id": someone.user.user_id, "auth_type": "basic_auth", "auth_username": name}
    made = world.as_admin("POST user/linked", is_active=True, **meant)
    assert made.body["status"] == "ok"
    if request == "POST user/linked":
        return made
    return world.as_admin(
        request, **(meant if request.startswith("DELETE") else {"user_id": meant["user_id"]})
    )


def stepped_up_by_totp(world: World) -> Answered:
    someone = world.someone()
    enrolled(world, someone)
    codes = someone.call("POST user/recovery-codes").body["recovery_codes"]
    return someone.call("POST user/session/step-up", password=PASSWORD, totp_code=codes[0])


def passkey_options(world: World, request: str) -> Answered:
    world.sso.settings(webauthn_rp_id="example.com", webauthn_origins=["https://example.com"])
    return world.someone().call(request)


# A call that succeeds, and all that its answer has beside the envelope (facts sheet, section 1, and Junctor's own).
DONE: dict[str, tuple[Callable[[World], Answered], set[str]]] = {
    "POST user": (
        lambda w: w.as_admin("POST user", username=f"made{next(_numbers)}"),
        FULL_VIEW | {"creation_ctx"},
    ),
    "GET user, own": (
        lambda w: w.someone(first_name="Ann", email="ann@example.com").call("GET user"),
        VIEW | {"first_name", "email"},
    ),
    "GET user, by id": (
        lambda w: w.as_admin("GET user", user_id=w.someone(is_super_user=False).user.user_id),
        FULL_VIEW | {"approv_rej_by", "approv_rej_time", "sign_up_confirm_time"},
    ),
    "PATCH user": (lambda w: w.someone().call("PATCH user", first_name="Ann", last_name=None), set()),
    "PATCH user, by id": (
        lambda w: w.as_admin(
            "PATCH user",
            user_id=w.someone().user.user_id,
            is_locked=True,
            password_must_change=True,
            password_expiry="2031-01-31T12:00:00",
            sign_up_status="final",
            approval_status="approved",
        ),
        set(),
    ),
    "DELETE user": (lambda w: w.as_admin("DELETE user", user_id=w.someone().user.user_id), set()),
    "POST user/signup": (lambda w: w.signed_up(), {"confirm_token"}),
    "PATCH user/signup": (confirmed, set()),
    "POST user/signup/confirm": (confirmed_at_the_documented_path, set()),
    "POST user/approve": (lambda w: w.as_admin("POST user/approve", user_id=w.someone().user.user_id), set()),
    "POST user/reject": (lambda w: w.as_admin("POST user/reject", user_id=w.someone().user.user_id), set()),
    "POST user/signup/approve": (
        lambda w: w.as_admin("POST user/signup/approve", user_id=w.someone().user.user_id, reason="known"),
        set(),
    ),
    "POST user/login": (lambda w: w.someone().logs_in(), SESSION),
    "POST user/logout": (lambda w: w.someone().call("POST user/logout"), set()),
    "GET user/search": (
        lambda w: w.as_admin("GET user/search", username=w.someone().user.username),
        {
            *("total", "total_is_exact", "num_pages", "page_size", "cur_page", "has_next_page"),
            *("has_prev_page", "result"),
        },
    ),
    "PATCH user/password, own": (
        lambda w: w.someone().call("PATCH user/password", old_password=PASSWORD, new_password=NEW_PASSWORD),
        {"ust"},
    ),
    "PATCH user/password, another's": (
        lambda w: w.as_admin(
            "PATCH user/password",
            user_id=w.someone().user.user_id,
            new_password=NEW_PASSWORD,
            password_expiry=-1,
            must_change=True,
        ),
        set(),
    ),
    "POST user/session": (
        lambda w: w.call("POST user/session", current_ust=w.admin, target_ust=w.someone().ust),
        {"is_valid"},
    ),
    "PATCH user/session": (lambda w: w.someone().call("PATCH user/session"), {"expiration_time"}),
    "GET user/session": (
        lambda w: w.call("GET user/session", current_ust=w.admin, target_ust=w.someone().ust),
        {"creation_time", "expiration_time", "remote_addr", "user_agent"},
    ),
    "POST session": (
        lambda w: w.call("POST session", current_ust=w.admin, target_ust=w.someone().ust),
        {"is_valid"},
    ),
    "GET user/session/list": (lambda w: w.someone().call("GET user/session/list"), {"result"}),
    "GET user/session/list, another's": (
        lambda w: w.call("GET user/session/list", current_ust=w.admin, target_ust=w.someone().ust),
        {"result"},
    ),
    "DELETE user/session": (end_one, set()),
    "DELETE user/session/others": (end_others, {"ended"}),
    "POST user/session/step-up": (
        lambda w: w.someone().call("POST user/session/step-up", password=PASSWORD),
        SESSION,
    ),
    "POST user/session/step-up, with a code": (stepped_up_by_totp, SESSION),
    "POST session/introspect": (
        introspected,
        {
            *("is_valid", "user_id", "username", "is_super_user", "public_id", "creation_time"),
            *("expiration_time", "auth_time", "auth_factors"),
        },
    ),
    "POST user/attr": (
        lambda w: w.someone().call("POST user/attr", name="a", value=None, encrypt=True, expiration=60),
        set(),
    ),
    "POST user/attr, many": (
        lambda w: w.someone().call(
            "POST user/attr", data=[{"name": "a", "value": 1}, {"name": "b", "value": "", "encrypt": True}]
        ),
        set(),
    ),
    "PATCH user/attr": (lambda w: with_attribute(w, "PATCH user/attr", name="colour", value=1), set()),
    "PUT user/attr": (lambda w: with_attribute(w, "PUT user/attr", name="other", value=1), set()),
    "DELETE user/attr": (lambda w: with_attribute(w, "DELETE user/attr", name="colour"), set()),
    "DELETE user/attr, of what there is not": (
        lambda w: with_attribute(w, "DELETE user/attr", name="sound"),
        set(),
    ),
    "GET user/attr": (
        lambda w: with_attribute(w, "GET user/attr", name="colour"),
        {"found", "name", "value", "creation_time", "last_modified", "is_encrypted"},
    ),
    "GET user/attr, of what there is not": (
        lambda w: with_attribute(w, "GET user/attr", name="sound"),
        {"found", "name"},
    ),
    "GET user/attr, many": (
        lambda w: with_attribute(w, "GET user/attr", data=["colour", "sound"]),
        {"result"},
    ),
    "GET user/attr/exists": (
        lambda w: with_attribute(w, "GET user/attr/exists", name="sound"),
        {"result"},
    ),
    "GET user/attr/names": (lambda w: w.someone().call("GET user/attr/names"), {"result"}),
    "POST session/attr": (lambda w: w.someone().call("POST session/attr", name="a", value=1), set()),
    "PATCH session/attr": (
        lambda w: with_session_attribute(w, "PATCH session/attr", name="colour", value=1),
        set(),
    ),
    "PUT session/attr": (lambda w: w.someone().call("PUT session/attr", name="a", value=1), set()),
    "DELETE session/attr": (
        lambda w: with_session_attribute(w, "DELETE session/attr", data=["colour"]),
        set(),
    ),
    "GET session/attr": (
        lambda w: with_session_attribute(w, "GET session/attr", name="colour"),
        {"found", "name", "value", "creation_time", "last_modified", "is_encrypted"},
    ),
    "GET session/attr/exists": (
        lambda w: with_session_attribute(w, "GET session/attr/exists", data=["colour", "sound"]),
        {"result"},
    ),
    "GET session/attr/names": (
        lambda w: with_session_attribute(w, "GET session/attr/names"),
        {"result"},
    ),
    "PATCH user/totp": (lambda w: w.someone().call("PATCH user/totp", totp_label="phone"), {"totp_key"}),
    "PATCH user/totp, with a key": (
        lambda w: w.someone().call("PATCH user/totp", totp_key="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"),
        set(),
    ),
    "POST user/totp": (lambda w: w.someone().call("POST user/totp"), {"totp_key", "totp_uri", "qr_svg"}),
    "POST user/totp/confirm": (lambda w: enrolled(w, w.someone()), {"ust", "recovery_codes"}),
    "GET user/recovery-codes": (lambda w: w.someone().call("GET user/recovery-codes"), {"left"}),
    "GET user/passkey": (lambda w: w.someone().call("GET user/passkey"), {"result"}),
    "POST user/passkey/options": (lambda w: passkey_options(w, "POST user/passkey/options"), {"options"}),
    "POST user/passkey/login/options": (
        lambda w: passkey_options(w, "POST user/passkey/login/options"),
        {"options"},
    ),
    "POST user/lock": (lambda w: w.as_admin("POST user/lock", user_id=w.someone().user.user_id), set()),
    "DELETE user/lock": (lambda w: w.as_admin("DELETE user/lock", user_id=w.someone().user.user_id), set()),
    "POST user/linked": (lambda w: linked(w, "POST user/linked"), set()),
    "GET user/linked": (lambda w: linked(w, "GET user/linked"), {"result"}),
    "DELETE user/linked": (lambda w: linked(w, "DELETE user/linked"), set()),
    "POST password/reset": (lambda w: w.call("POST password/reset", credential="nobody"), set()),
    "PATCH password/reset": (lambda w: reset_key(w, w.someone().user)[1], {"reset_key"}),
    "DELETE password/reset": (password_set, set()),
    "GET user/export": (lambda w: w.someone().call("GET user/export"), {"data"}),
    "DELETE user/erase": (lambda w: w.someone().call("DELETE user/erase"), set()),
}


@pytest.mark.parametrize("row", DONE)
def test_what_succeeds_answers_with_what_is_documented_and_nothing_else(world: World, row: str) -> None:
    call, keys = DONE[row]

    answer = call(world)

    assert (answer.status, answer.body["status"], answer.codes) == (200, "ok", [])
    assert answer.keys == keys
    assert len(answer.body["cid"]) == 24


def test_every_output_is_documented() -> None:
    documented: dict[str, set[str]] = {}
    for endpoint in ENDPOINTS:
        for method, path in endpoint.ways:
            documented[f"{method} {path.removeprefix(BASE)}"] = {item.name for item in endpoint.outputs}

    undocumented = {row: keys - documented[row.partition(",")[0]] for row, (_, keys) in DONE.items()}

    assert {row: names for row, names in undocumented.items() if names} == {}


def expired(world: World, days: int = -1) -> Someone:
    someone = world.someone()
    world.sso.change(someone.user, password_expiry=datetime.now(UTC) + timedelta(days=days))
    return someone


def logs_in(**columns: Any) -> Callable[[World], Answered]:
    def call(world: World) -> Answered:
        someone = world.someone()
        world.sso.change(someone.user, **columns)
        return someone.logs_in()

    return call


def with_settings(call: Callable[[World], Answered], **settings: Any) -> Callable[[World], Answered]:
    def changed(world: World) -> Answered:
        world.sso.settings(**settings)
        return call(world)

    return changed


def creates(**fields: Any) -> Callable[[World], Answered]:
    return lambda world: world.as_admin("POST user", **{"username": f"made{next(_numbers)}", **fields})


def taken_email(world: World) -> Answered:
    world.someone(email="taken@example.com")
    return creates(email="taken@example.com")(world)


def wrong_code(world: World) -> Answered:
    someone = world.someone()
    someone.call("POST user/totp")
    return someone.call("POST user/totp/confirm", totp_code="000000")


def without_code(world: World) -> Answered:
    someone = world.someone()
    enrolled(world, someone)
    return someone.logs_in()


def too_often(world: World) -> Answered:
    someone = world.someone()
    for _ in range(6):
        answer = someone.logs_in(password="wrong")
    return answer


def long_ago(world: World) -> Answered:
    someone = world.someone()
    world.sso.age(someone.ust, auth_time=timedelta(days=1))
    return someone.call("PATCH user", username="another")


def must_enrol(world: World) -> Answered:
    world.sso.settings(login_totp_required=True)
    ust = world.someone().logs_in().body["ust"]
    return world.call("GET user", ust=ust)


def used_twice(world: World) -> Answered:
    token = world.signed_up().body["confirm_token"]
    world.call("PATCH user/signup", confirm_token=token)
    return world.call("PATCH user/signup", confirm_token=token)


def changes_password(new_password: str) -> Callable[[World], Answered]:
    return lambda world: world.someone().call(
        "PATCH user/password", old_password=PASSWORD, new_password=new_password
    )


UNTOLD = status_code.auth.not_allowed
# A call that is refused, and the codes that a caller gets (facts sheet, section 0.2).
REFUSED: dict[str, tuple[Callable[[World], Answered], list[str]]] = {
    "E001001 a user name without a letter": (creates(username=""), ["E001001"]),
    "E001002 a user name that is taken": (
        lambda w: creates(username=w.someone().user.username.upper())(w),
        ["E001002"],
    ),
    "E001003 a user name that is too long": (creates(username="x" * 300), ["E001003"]),
    "E001004 a user name with a space": (creates(username="a b"), ["E001004"]),
    "E001100 an id that is nobody's": (lambda w: w.as_admin("GET user", user_id="zusr1"), ["E001100"]),
    "E002001 an e-mail address that is none": (creates(email="nowhere"), ["E002001"]),
    "E002002 an e-mail address that is taken": (taken_email, ["E002002"]),
    "E002003 an e-mail address that is too long": (creates(email=f"{'x' * 200}@example.com"), ["E002003"]),
    "E002004 an e-mail address with a space": (creates(email="a b@example.com"), ["E002004"]),
    "E002005 no e-mail address, untold": (
        with_settings(lambda w: w.signed_up(email=""), signup_inform_if_email_invalid=False),
        [UNTOLD],
    ),
    "E002005 no e-mail address": (
        with_settings(lambda w: w.signed_up(email=""), signup_inform_if_email_invalid=True),
        ["E002005"],
    ),
    "E003001 a password of the reject list": (
        with_settings(changes_password(NEW_PASSWORD), password_reject_list=[NEW_PASSWORD.upper()]),
        ["E003001"],
    ),
    "E003002 a short password": (changes_password("x8!qz"), ["E003002"]),
    "E003003 a long password": (changes_password("x8!qz-" * 300), ["E003003"]),
    "E003004 an expired password, untold": (lambda w: expired(w).logs_in(), [UNTOLD]),
    "E003004 an expired password": (
        with_settings(lambda w: expired(w).logs_in(), password_inform_if_expired=True),
        ["E003004"],
    ),
    "E003006 a password that expires soon, where that is too late": (
        with_settings(lambda w: expired(w, days=5).logs_in(), password_log_in_if_about_to_expire=False),
        ["E003006"],
    ),
    "E003007 a password that must be changed": (logs_in(password_must_change=True), ["E003007"]),
    "E003008 a password that is guessed soon": (
        with_settings(changes_password("summer20262027"), password_min_complexity=4),
        ["E003008"],
    ),
    "E003009 a common password": (changes_password("password123"), ["E003009"]),
    "E004002 an application that may not sign users up": (
        with_settings(
            lambda w: (w.sso.application("Till"), w.signed_up(current_app="Till"))[1],
            signup_inform_if_app_invalid=True,
        ),
        ["E004002"],
    ),
    "E005001 a wrong password": (lambda w: w.someone().logs_in(password="wrong"), [UNTOLD]),
    "E005001 an unknown user": (
        lambda w: w.call("POST user/login", username="nobody", password=PASSWORD),
        [UNTOLD],
    ),
    "E005002 a locked user, untold": (logs_in(is_locked=True), [UNTOLD]),
    "E005002 a locked user": (
        with_settings(logs_in(is_locked=True), login_inform_if_locked=True),
        ["E005002"],
    ),
    "E005003 a sign-up that is not confirmed": (logs_in(sign_up_status="before_confirmation"), ["E005003"]),
    "E005004 a user who is not approved": (logs_in(approval_status="before_decision"), ["E005004"]),
    "E005004 a user who is not approved, untold": (
        with_settings(logs_in(approval_status="rejected"), login_inform_if_not_approved=False),
        [UNTOLD],
    ),
    "E005005 what is for super-users": (lambda w: w.someone().call("GET user/search"), ["E005005"]),
    "E005006 a confirm token that is none": (
        lambda w: w.call("PATCH user/signup", confirm_token="none"),
        [UNTOLD],
    ),
    "E005007 a confirm token that was used": (used_twice, [UNTOLD]),
    "E005008 no code of the second factor": (without_code, ["E005008"]),
    "E005009 too many attempts": (too_often, ["E005009"]),
    "E005010 a log-in long ago": (long_ago, ["E005010"]),
    "E005011 a second factor must be set up": (must_enrol, ["E005011"]),
    "E006001 an application that may not tell of its users": (
        lambda w: w.someone().logs_in(remote_addr="192.0.2.1"),
        ["E006001"],
    ),
    "E007001 no such session": (lambda w: w.call("PATCH user/session", ust="zust1"), ["E007001"]),
    "E008001 deleting oneself": (
        lambda w: w.as_admin("DELETE user", user_id=w.sso.session(w.admin).user.user_id),
        [UNTOLD],
    ),
    "E008002 what one may not change": (
        lambda w: w.someone().call("PATCH user", first_name="Ann", is_locked=False),
        ["E008002"],
    ),
    "E008003 nothing to change": (lambda w: w.someone().call("PATCH user"), ["E008003"]),
    "E009001 an attribute that is there": (
        lambda w: with_attribute(w, "POST user/attr", name="colour", value=1),
        ["E009001"],
    ),
    "E009002 an attribute that is not there": (
        lambda w: w.someone().call("PATCH user/attr", name="colour", value=1),
        ["E009002"],
    ),
    "E010001 a reset token that is none": (
        lambda w: w.call("PATCH password/reset", token="none"),
        ["E010001"],
    ),
    "E011001 a wrong code": (wrong_code, ["E011001"]),
    "E011002 nothing to confirm": (
        lambda w: w.someone().call("POST user/totp/confirm", totp_code="000000"),
        ["E011002"],
    ),
    "introspection with a wrong secret": (lambda w: introspected(w, secret="wrong" * 8), [UNTOLD]),
}
NEVER_ANSWERED = {"W003005", "E004001", "E007002", "E008004"}
"""W003005 and E004001 come with status 200, see below and ``test_sso_endpoints.py``; the others are in the contract and never answered."""


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_refused_answers_403_with_the_codes_that_may_be_known(world: World, row: str) -> None:
    call, codes = REFUSED[row]

    answer = call(world)

    assert (answer.status, answer.body["status"], answer.codes) == (403, "error", codes)
    assert answer.keys == set()


def test_there_is_a_row_for_every_code() -> None:
    groups = [cls for cls in vars(status_code).values() if isinstance(cls, type)]
    codes = {code for group in groups for code in vars(group).values() if str(code)[1:].isdecimal()}

    assert codes - {row.partition(" ")[0] for row in REFUSED} == NEVER_ANSWERED


def test_a_password_that_expires_soon_is_a_warning_beside_the_session(world: World) -> None:
    answer = expired(world, days=5).logs_in()

    assert (answer.status, answer.body["status"], answer.codes) == (200, "warning", ["W003005"])
    assert answer.keys == SESSION


def test_whoever_has_to_wait_is_told_for_how_long(world: World) -> None:
    answer = too_often(world)

    assert answer.status == 403
    assert 1 <= int(answer.headers["Retry-After"]) <= 900


def test_fields_may_be_in_the_body_in_the_url_and_in_both(world: World) -> None:
    someone = world.someone()
    rest, path = world.rest, f"{BASE}user/attr"
    someone.call("POST user/attr", name="colour", value="green")

    in_url = rest("GET", path, {"current_app": "CRM", "name": "colour"}, ust=someone.ust)
    mixed = rest("GET", path, {"name": "colour"}, ust=someone.ust, decrypt="true")
    same = rest("GET", path, {"name": "colour"}, ust=someone.ust, name="colour")
    differing = rest("GET", path, {"name": "colour"}, ust=someone.ust, name="sound")
    several = rest("GET", path, {"data": ["colour", "sound"]}, ust=someone.ust)

    assert [answer.body["value"] for answer in (in_url, mixed, same)] == ["green"] * 3
    assert differing.status == 400
    assert set(several.body["result"]) == {"colour"}


def test_a_token_is_taken_from_a_url_if_the_settings_say_so(world: World) -> None:
    world.sso.settings(allow_token_in_query=True)

    answer = world.rest("GET", f"{BASE}user", {"ust": world.someone().ust})

    assert answer.body["status"] == "ok"


@pytest.mark.parametrize("body", [[], ["a"], "text", 5, True])
def test_a_body_that_is_no_object_gets_400(world: World, body: Any) -> None:
    assert world.rest.raw("POST", f"{BASE}user/login", body).status == 400


def test_null_empties_what_may_be_empty_and_absent_leaves_it(world: World) -> None:
    someone = world.someone(first_name="Ann", last_name="Lee")

    someone.call("PATCH user", first_name=None, middle_name="May")

    names = {name: value for name, value in someone.call("GET user").body.items() if "_name" in name}
    assert names == {"middle_name": "May", "last_name": "Lee"}


def test_values_of_attributes_come_back_as_they_were_given(world: World) -> None:
    someone = world.someone()
    for value in (None, "", 0, False, [], {}, 1.5, "ü", {"a": [{"b": None}]}):
        someone.call("PUT user/attr", name="any", value=value)
        answer = someone.call("GET user/attr", name="any")
        assert answer.body["value"] == value


def test_times_are_without_an_offset(world: World) -> None:
    answer = world.someone().logs_in().body

    began, ends = (datetime.fromisoformat(answer[name]) for name in ("creation_time", "expiration_time"))
    assert began.tzinfo is None
    assert timedelta(minutes=59) < ends - began < timedelta(minutes=61)


def test_no_list_of_sessions_has_a_token(world: World) -> None:
    someone = world.someone()

    listed = someone.call("GET user/session/list").body["result"]

    assert "zust" not in str(listed)
    assert {"auth_type", "creation_time", "remote_addr", "session_state_change_list"} <= set(listed[0])
    assert [item["is_current"] for item in listed] == [True]


def test_a_method_that_a_path_does_not_have_gets_405(world: World) -> None:
    answer = world.call("PUT user/login")

    assert answer.status == 405


def test_a_super_user_gives_a_user_an_application_that_needs_it_and_nobody_takes_it(world: World) -> None:
    someone = world.someone()
    world.sso.application("Ledger", is_grant_needed=True)

    assert someone.call("PATCH user", app_list=["Ledger"]).status == 403
    before = someone.call("GET user", current_app="Ledger")
    given = world.as_admin("PATCH user", user_id=someone.user.user_id, app_list=["Ledger"])
    after = someone.call("GET user", current_app="Ledger")

    assert (before.status, given.status, after.status) == (403, 200, 200)
    unknown = world.as_admin("PATCH user", user_id=someone.user.user_id, app_list=["Ledgre"])
    assert (unknown.status, unknown.codes) == (403, ["E004001"])
