"""Password resets: what is mailed works once, for a while, and whoever asks learns nothing of who there is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from junctor.server.sso.codes import RESET_KEY_PREFIX, status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.login import Credentials
from junctor.server.sso.mail import SERVICE as MAIL
from junctor.server.sso.password_reset import SERVICE
from junctor.server.sso.records import User
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from junctor.sql.tables.sso import SsoToken
from tests.helpers.mail_server import MailServer
from tests.helpers.objects import add
from tests.helpers.outbox import Outbox
from tests.helpers.sso import PASSWORD, SsoUnderTest

EMAIL = "alice@example.com"
_numbers = itertools.count(1)
NEW = "another correct horse battery 8"
NO_ACCESS = status_code.password_reset.could_not_access


class Resetting(SsoUnderTest):
    """Single Sign-On whose e-mails arrive at a real mail server."""

    def __init__(self, store: Store, server: MailServer) -> None:
        add(store, "email_smtp", "mail", **server.fields)
        super().__init__(store, smtp_conn="mail", site_url="https://shop.example")
        self.outbox, self.server = Outbox(self.context), server

    def alice(self, **values: Any) -> User:
        return self.user(**{"email": EMAIL, "password_must_change": True, **values})

    def mailed(self, credential: str = "alice") -> str:
        """The token that is mailed to Alice when somebody asks for it."""
        before = len(self.server.received)
        self.sso.password_reset.create_token(self.caller(), credential)
        self.outbox.deliver()
        found = re.search(r"#reset_token=(\w+)", self.server.wait(EMAIL, count=before + 1).text)
        assert found is not None
        return found[1]

    def refused(self, call: Any, *arguments: Any) -> list[str]:
        """The codes that a call is refused with, which everybody may see."""
        with pytest.raises(ValidationError) as refused:
            call(*arguments)
        return refused.value.shown


@pytest.fixture
def store(module_engine: Engine, keyring: Keyring) -> Store:
    """A cluster of its own for each test, in one database."""
    return Store.create(module_engine, f"cluster{next(_numbers)}", keyring)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as made:
        yield made


@pytest.fixture
def resetting(store: Store, server: MailServer) -> Iterator[Resetting]:
    made = Resetting(store, server)
    yield made
    made.stop()


def log_in(under: Resetting, password: str) -> Any:
    return under.sso.login.log_in(under.caller(), Credentials(username="alice", password=password))


def test_a_forgotten_password_is_replaced_and_everything_that_the_old_one_opened_ends(
    resetting: Resetting,
) -> None:
    user, reset = resetting.alice(), resetting.sso.password_reset
    ust = resetting.log_in()
    token = resetting.mailed()
    found, key = reset.access_token(resetting.caller(), token)
    assert (found.user_id, key[:8]) == (user.user_id, RESET_KEY_PREFIX)
    reset.change_password(resetting.caller(), NEW, token, key)
    assert resetting.sso.sessions.find(ust) is None
    assert not resetting.reload(user).password_must_change
    assert log_in(resetting, NEW).user_id == user.user_id
    with pytest.raises(ValidationError):
        log_in(resetting, PASSWORD)
    resetting.outbox.deliver()
    assert resetting.server.wait(EMAIL, count=2).subject == "Your password was changed"
    steps = [(event["op"], event["outcome"], event["target"]) for event in resetting.events()]
    assert [step for step in steps if step[0].startswith("password_reset")] == [
        ("password_reset.create_token", "ok", ""),
        ("password_reset.issue", "ok", user.user_id),
        ("password_reset.access_token", "ok", user.user_id),
        ("password_reset.change_password", "ok", user.user_id),
    ]


def test_a_reset_does_not_stand_in_for_a_second_factor(resetting: Resetting) -> None:
    key = resetting.sso.protection.seal("JBSWY3DPEHPK3PXP", "sso_user.totp_key")
    resetting.alice(is_totp_enabled=True, totp_key_sealed=key)
    token = resetting.mailed()
    _, reset_key = resetting.sso.password_reset.access_token(resetting.caller(), token)
    resetting.sso.password_reset.change_password(resetting.caller(), NEW, token, reset_key)
    with pytest.raises(ValidationError) as refused:
        log_in(resetting, NEW)
    assert refused.value.sub_status == [status_code.auth.totp_missing]


def test_tokens_and_keys_work_once(resetting: Resetting) -> None:
    resetting.alice()
    reset, caller = resetting.sso.password_reset, resetting.caller()
    token = resetting.mailed()
    _, key = reset.access_token(caller, token)
    assert resetting.refused(reset.access_token, caller, token) == [NO_ACCESS]
    reset.change_password(caller, NEW, token, key)
    assert resetting.refused(reset.change_password, caller, NEW, token, key) == [NO_ACCESS]
    assert resetting.refused(reset.access_token, caller, token) == [NO_ACCESS]


def test_a_token_and_a_key_must_belong_together(resetting: Resetting) -> None:
    resetting.alice()
    reset, caller = resetting.sso.password_reset, resetting.caller()
    token = resetting.mailed()
    _, key = reset.access_token(caller, token)
    for wrong in (
        ("", key),
        (token, ""),
        (token, token),
        (key, key),
        ("x" * 500, key),
        (token[:-1], key),
        (token, "x" * 500),
        ("\x00", "\ud800"),
    ):
        assert resetting.refused(reset.change_password, caller, NEW, *wrong) == [NO_ACCESS]
    reset.change_password(caller, NEW, token, key)


@pytest.mark.parametrize("token", ["", "x", "x" * 500, "\x00", "\ud800", "zprtrkeyabc"])
def test_what_is_no_token_is_refused_like_any_other(resetting: Resetting, token: str) -> None:
    assert resetting.refused(resetting.sso.password_reset.access_token, resetting.caller(), token) == [
        NO_ACCESS
    ]


def test_tokens_and_keys_expire(resetting: Resetting) -> None:
    resetting.alice()
    reset, caller = resetting.sso.password_reset, resetting.caller()
    token = resetting.mailed()

    def expire() -> None:
        with resetting.store.engine.begin() as connection:
            connection.execute(
                update(SsoToken).values(expiration_time=datetime.now(UTC) - timedelta(seconds=1))
            )

    expire()
    assert resetting.refused(reset.access_token, caller, token) == [NO_ACCESS]
    token = resetting.mailed()
    _, key = reset.access_token(caller, token)
    expire()
    assert resetting.refused(reset.change_password, caller, NEW, token, key) == [NO_ACCESS]


def test_a_key_lasts_as_long_as_the_settings_say_though_its_token_ends_earlier(resetting: Resetting) -> None:
    resetting.alice()
    token = resetting.mailed()
    _, key = resetting.sso.password_reset.access_token(resetting.caller(), token)
    with resetting.store.engine.begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(SsoToken).where(SsoToken.purpose == "reset").values(expiration_time=past))
        connection.execute(delete(SsoToken).where(SsoToken.expiration_time <= past))  # as maintenance does
        statement = select(SsoToken).order_by(SsoToken.id.desc()).limit(1)
        key_row = connection.execute(statement.with_only_columns(*SsoToken.__table__.columns)).one()
    assert key_row.expiration_time - key_row.creation_time == timedelta(seconds=1800)
    resetting.sso.password_reset.change_password(resetting.caller(), NEW, token, key)


def test_a_new_token_ends_those_before_it(resetting: Resetting) -> None:
    resetting.alice()
    reset, caller = resetting.sso.password_reset, resetting.caller()
    first, second = resetting.mailed(), resetting.mailed()
    assert resetting.refused(reset.access_token, caller, first) == [NO_ACCESS]
    reset.access_token(caller, second)


def test_a_password_that_is_not_good_enough_uses_nothing_up_and_the_settings_say_what_is_told(
    resetting: Resetting,
) -> None:
    resetting.alice()
    reset, caller = resetting.sso.password_reset, resetting.caller()
    token = resetting.mailed()
    _, key = reset.access_token(caller, token)
    assert status_code.password.too_short in resetting.refused(reset.change_password, caller, "x", token, key)
    resetting.settings(password_inform_if_invalid=False)
    assert resetting.refused(reset.change_password, caller, "x", token, key) == [status_code.auth.not_allowed]
    reset.change_password(caller, NEW, token, key)


def test_whoever_asks_for_somebody_gets_the_same_as_for_nobody(resetting: Resetting) -> None:
    resetting.alice()
    resetting.user("bob", email="", password="")
    resetting.user("carl", "", email="carl@example.com", is_locked=True)
    resetting.user("dora", "", email="dora@example.com", sign_up_status="before_confirmation")
    resetting.user("emil", "", email="emil@example.com", approval_status="rejected")
    for credential in ("alice", "ALICE", "nobody", "bob", "carl", "dora", "emil", EMAIL, "\x00", "\ud800 a"):
        resetting.sso.password_reset.create_token(resetting.caller(), credential)
    waiting = resetting.outbox.of(SERVICE)
    assert len(waiting) == 10 == len(resetting.outbox.waiting)
    assert {len(item.message.data) // 100 for item in waiting[:7]} == {len(waiting[0].message.data) // 100}
    assert not any("alice" in str(item.message.data) for item in waiting)
    resetting.outbox.deliver()
    assert {recipient for item in resetting.server.received for recipient in item.recipients} == {EMAIL}
    outcomes = [event["outcome"] for event in resetting.events("password_reset.create_token")]
    assert outcomes == ["ok"] * 10
    issued = [event["outcome"] for event in resetting.events("password_reset.issue")]
    assert issued == [
        "ok",
        "ok",
        "refused",
        "refused",
        "refused",
        "refused",
        "refused",
        "ok",
        "refused",
        "refused",
    ]


def test_settings_say_what_users_are_asked_for(resetting: Resetting) -> None:
    resetting.alice()
    for search_by, found in (
        ("username", {"alice"}),
        ("email", {EMAIL}),
        ("username_or_email", {"alice", EMAIL}),
    ):
        resetting.settings(password_reset_user_search_by=search_by)
        for credential in ("alice", EMAIL):
            before = len(resetting.server.received)
            resetting.sso.password_reset.create_token(resetting.caller(), credential)
            resetting.outbox.deliver()
            assert (len(resetting.server.received) > before) == (credential in found)


def test_nobody_gets_more_mails_than_the_settings_allow(resetting: Resetting) -> None:
    resetting.settings(throttle_reset_limit=2)
    resetting.alice()
    for _ in range(4):
        resetting.sso.password_reset.create_token(resetting.caller(), "alice")
    resetting.outbox.deliver()
    assert len(resetting.server.received) == 2
    assert "E005009" in resetting.events("password_reset.issue")[-1]["reason"]


def test_an_address_that_calls_too_often_has_to_wait(resetting: Resetting) -> None:
    resetting.settings(throttle_address_limit=5)
    reset, caller = resetting.sso.password_reset, resetting.caller(remote_addr="198.51.100.9")
    for number in range(5):
        reset.create_token(caller, f"nobody{number}")
    with pytest.raises(ValidationError) as refused:
        reset.create_token(caller, "nobody")
    assert refused.value.shown == [status_code.auth.too_many_attempts]
    assert refused.value.retry_after > 0
    reset.create_token(resetting.caller(remote_addr="198.51.100.10"), "nobody")
    reset.create_token(resetting.trusted(), "nobody")


def test_a_user_who_is_locked_meanwhile_cannot_go_on(resetting: Resetting) -> None:
    user, reset, caller = resetting.alice(), resetting.sso.password_reset, resetting.caller()
    token = resetting.mailed()
    resetting.change(user, is_locked=True)
    assert resetting.refused(reset.access_token, caller, token) == [NO_ACCESS]
    resetting.change(user, is_locked=False)
    _, key = reset.access_token(caller, token)
    resetting.change(user, approval_status="rejected")
    assert resetting.refused(reset.change_password, caller, NEW, token, key) == [NO_ACCESS]


def test_unknown_applications_and_impossible_credentials_are_refused(resetting: Resetting) -> None:
    reset = resetting.sso.password_reset
    for call, arguments in (
        (reset.create_token, ("a",)),
        (reset.access_token, ("t",)),
        (reset.change_password, ("p", "t", "k")),
    ):
        assert resetting.refused(call, resetting.caller(app="absent"), *arguments) == [
            status_code.app_list.invalid
        ]
    assert resetting.refused(reset.create_token, resetting.caller(), "") == [status_code.common.missing_input]
    assert resetting.refused(reset.create_token, resetting.caller(), "x" * 321) == [
        status_code.common.invalid_input
    ]


def test_a_token_is_issued_even_if_the_mail_cannot_be_stored_at_first(resetting: Resetting) -> None:
    resetting.alice()
    resetting.sso.password_reset.create_token(resetting.caller(), "alice")
    (waiting,) = resetting.outbox.waiting
    resetting.outbox.is_down = True
    with pytest.raises(Exception, match="away"):
        resetting.outbox.make(waiting)
    resetting.outbox.is_down = False
    resetting.outbox.make(waiting, again=1)
    assert len(resetting.outbox.of(MAIL)) == 1


def test_a_reset_takes_the_password_again_that_was_off_after_too_many_failures(resetting: Resetting) -> None:
    resetting.settings(throttle_password_off=10, throttle_max_delay=1)
    resetting.alice()
    caller = resetting.caller()
    for _ in range(10):
        resetting.sso.throttle.failed("alice", caller)
    assert resetting.sso.throttle.is_off("alice")
    token = resetting.mailed()
    _, key = resetting.sso.password_reset.access_token(caller, token)
    resetting.sso.password_reset.change_password(caller, NEW, token, key)
    assert not resetting.sso.throttle.is_off("alice")
    assert log_in(resetting, NEW)
