"""E-mails to users, from the call that causes one to a real mail server: sealed at rest, sent until they are sent."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from junctor.server.pubsub.durable import RunDurably
from junctor.server.service.base import Service
from junctor.server.sso import mail_service
from junctor.server.sso.mail import NOTICES, SERVICE
from junctor.server.sso.records import User
from junctor.sql.errors import CallFailed, InvalidInput, MailRefused, SecretUnreadable, StoreUnavailable
from junctor.sql.secrets import Keyring
from junctor.sql.store import Store
from tests.helpers.mail_server import MailServer
from tests.helpers.objects import add, edit
from tests.helpers.outbox import Outbox
from tests.helpers.sso import SsoUnderTest

TOKEN = "canary-t0ken"
EMAIL = "anna@example.com"
_numbers = itertools.count(1)


class Mailing(SsoUnderTest):
    """Single Sign-On with an outbox, and a connection to a mail server that tests start."""

    def __init__(self, store: Store, server: MailServer, **settings: Any) -> None:
        add(store, "email_smtp", "mail", **server.fields)
        super().__init__(store, smtp_conn="mail", site_url="https://shop.example/account", **settings)
        self.outbox = Outbox(self.context)
        self.server = server

    def anna(self, **values: Any) -> User:
        """A user with an address."""
        return self.user("anna", "", **{"email": EMAIL, "display_name": "Anna", **values})


@pytest.fixture
def store(module_engine: Engine, keyring: Keyring) -> Store:
    """A cluster of its own for each test, in one database."""
    return Store.create(module_engine, f"cluster{next(_numbers)}", keyring)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as made:
        yield made


@pytest.fixture
def mailing(store: Store, server: MailServer) -> Iterator[Mailing]:
    made = Mailing(store, server)
    yield made
    made.stop()


def test_a_mail_arrives_with_its_token_its_link_and_headers_that_keep_robots_quiet(mailing: Mailing) -> None:
    mailing.settings(
        signup_email_confirm_from="Shop <shop@example.com>", signup_email_confirm_bcc="a@example.com"
    )
    mailing.sso.mail.confirm(mailing.caller(), mailing.anna(), TOKEN)
    assert mailing.outbox.of(SERVICE)[0].expiration == pytest.approx(1440 * 60, abs=2)
    assert mailing.outbox.deliver() == 1
    received = mailing.server.wait(EMAIL)
    assert set(received.recipients) == {EMAIL, "a@example.com"}
    assert received.message["from"] == "Shop <shop@example.com>"
    assert received.message["auto-submitted"] == "auto-generated"
    assert received.subject == "Confirm your e-mail address for shop.example"
    assert f"\n{TOKEN}\n" in received.text
    assert f"https://shop.example/account#confirm_token={TOKEN}" in received.text
    assert "Hello Anna" in received.text


def test_every_notice_arrives(mailing: Mailing) -> None:
    user, caller = mailing.anna(), mailing.caller()
    for event in sorted(NOTICES):
        mailing.sso.mail.notice(caller, user, event)
    mailing.sso.mail.notice(caller, user, "email", email="old@example.com")
    mailing.sso.mail.welcome(caller, user)
    mailing.sso.mail.reset(caller, user, TOKEN)
    assert mailing.outbox.deliver() == len(NOTICES) + 3 == len(mailing.server.received)
    assert mailing.server.wait("old@example.com").subject == "Your e-mail address was changed"
    assert {received.sender for received in mailing.server.received} == {"no-reply@shop.example"}
    with pytest.raises(ValueError, match="no notice"):
        mailing.sso.mail.notice(caller, user, "absent")


def test_nothing_of_a_mail_can_be_read_where_it_is_stored(mailing: Mailing) -> None:
    mailing.sso.mail.reset(mailing.caller(), mailing.anna(), TOKEN)
    (waiting,) = mailing.outbox.waiting
    stored = waiting.message.data if isinstance(waiting.message.data, str) else waiting.message.data.decode()
    for secret in (TOKEN, EMAIL, "Anna", "Password reset", "shop.example"):
        assert secret not in stored
    with pytest.raises(SecretUnreadable):
        mailing.outbox.make(type(waiting)(_tampered(waiting.message), waiting.service, None))


def _tampered(message: Any) -> Any:
    data = message.data if isinstance(message.data, str) else message.data.decode()
    position = data.index("junctor.1.") + 60
    message.data = data[:position] + ("A" if data[position] != "A" else "B") + data[position + 1 :]
    return message


def test_a_mail_is_tried_later_and_later_while_the_server_is_away(
    mailing: Mailing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_service.random, "uniform", lambda low, high: 1.0)
    mailing.server.stop()
    mailing.sso.mail.reset(mailing.caller(), mailing.anna(), TOKEN)
    delays = []
    for _ in range(8):
        (waiting,) = mailing.outbox.waiting
        mailing.outbox.make(waiting)
        mailing.outbox.waiting.remove(waiting)
        delays.append(mailing.outbox.waiting[0].delay)
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    mailing.server.start()
    mailing.outbox.make(mailing.outbox.waiting[0])
    assert TOKEN in mailing.server.wait(EMAIL).text
    outcomes = [event["outcome"] for event in mailing.events("mail.send")]
    assert outcomes == ["error"] * 8 + ["ok"]
    assert all("example.com" not in event["reason"] for event in mailing.events("mail.send"))


def test_a_mail_that_comes_twice_can_be_told_from_two_mails(mailing: Mailing) -> None:
    mailing.sso.mail.welcome(mailing.caller(), mailing.anna())
    for again in (0, 1):
        mailing.outbox.make(mailing.outbox.waiting[0], again=again)
    first, second = mailing.server.received
    assert first.message["message-id"] == second.message["message-id"]


def test_what_the_server_refuses_for_good_stays_with_the_queue(mailing: Mailing) -> None:
    mailing.sso.mail.welcome(mailing.caller(), mailing.anna())
    mailing.server.refused[EMAIL] = f"550 5.1.1 <{EMAIL}> unknown"
    with pytest.raises(MailRefused, match="550") as refused:
        mailing.outbox.deliver()
    assert EMAIL not in str(refused.value)
    mailing.server.refused[EMAIL] = "451 later"
    mailing.outbox.make(mailing.outbox.waiting[0])
    assert mailing.outbox.waiting[-1].delay > 0


def test_a_mail_whose_token_has_expired_is_not_sent(
    mailing: Mailing, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailing.sso.mail.reset(mailing.caller(), mailing.anna(), TOKEN)
    late = mail_service.time.time() + 3601
    monkeypatch.setattr(mail_service.time, "time", lambda: late)
    mailing.outbox.deliver()
    assert mailing.server.received == []
    (event,) = mailing.events("mail.send")
    assert (event["outcome"], event["extra"]) == ("refused", {"mail": "reset"})


def test_an_address_that_is_none_is_an_error_without_it(mailing: Mailing) -> None:
    mailing.sso.mail.welcome(mailing.caller(), mailing.anna(email="canary at example"))
    with pytest.raises(InvalidInput, match=r"to: must be an e-mail address such as") as refused:
        mailing.outbox.deliver()
    assert "canary" not in str(refused.value)


def test_a_service_can_send_the_mails_instead(mailing: Mailing, caplog: pytest.LogCaptureFixture) -> None:
    taken: list[Any] = []

    class Sender(Service):
        name = "own.sender"

        def handle(self) -> None:
            if not taken:
                taken.append(None)
                raise KeyError(self.request.payload["body"])
            taken.append(self.request.payload)

    mailing.deploy(Sender)
    mailing.settings(email_service="own.sender", smtp_conn="", password_reset_email_from="r@example.com")
    mailing.sso.mail.reset(mailing.caller(), mailing.anna(), TOKEN)
    mailing.outbox.deliver()
    (waiting,) = mailing.outbox.waiting
    assert waiting.delay > 0
    mailing.outbox.make(waiting)
    assert taken[1]["to"] == EMAIL
    assert taken[1]["from"] == "r@example.com"
    assert taken[1]["subject"] == "Password reset"
    assert TOKEN in taken[1]["body"]
    assert set(taken[1]) == {"from", "to", "cc", "bcc", "subject", "body", "is_html", "headers"}
    assert "failed with KeyError" in caplog.text
    assert TOKEN not in caplog.text
    assert CallFailed.__name__ not in [event["outcome"] for event in mailing.events()]
    assert TOKEN not in str(mailing.events())


def test_without_a_way_to_send_mails_a_log_line_says_so_once_for_each_change(
    mailing: Mailing, caplog: pytest.LogCaptureFixture
) -> None:
    user, caller = mailing.anna(), mailing.caller()
    for change in ({"smtp_conn": ""}, {"site_name": "Shop"}):
        mailing.settings(**change)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            mailing.sso.mail.notice(caller, user, "password")
            mailing.sso.mail.welcome(caller, user)
        assert caplog.text.count("Users get no e-mails: There is neither an SMTP connection") == 1
    assert mailing.outbox.waiting == []
    assert {event["outcome"] for event in mailing.events("mail.send")} == {"refused"}
    mailing.settings(smtp_conn="mail", site_url="")
    mailing.sso.mail.welcome(caller, user)
    assert mailing.events("mail.send")[-1]["reason"] == "There is no sender in the settings."


def test_a_user_without_an_address_gets_nothing(mailing: Mailing) -> None:
    mailing.sso.mail.welcome(mailing.caller(), mailing.user("bob", ""))
    assert mailing.outbox.waiting == []
    assert mailing.events("mail.send")[0]["reason"] == "The user has no e-mail address."


def test_mails_that_are_switched_off_are_not_written(mailing: Mailing) -> None:
    mailing.settings(signup_email_confirm_enabled=False, signup_email_welcome_enabled=False)
    user, caller = mailing.anna(), mailing.caller()
    mailing.sso.mail.confirm(caller, user, TOKEN)
    mailing.sso.mail.welcome(caller, user)
    assert mailing.outbox.waiting == []


def test_a_mail_that_has_a_token_must_be_stored_and_one_that_only_tells_need_not(
    mailing: Mailing, caplog: pytest.LogCaptureFixture
) -> None:
    user, caller = mailing.anna(), mailing.caller()
    mailing.outbox.is_down = True
    for send in (mailing.sso.mail.confirm, mailing.sso.mail.reset):
        with pytest.raises(StoreUnavailable):
            send(caller, user, TOKEN)
    mailing.sso.mail.notice(caller, user, "password")
    assert f"The mail notice-password to {user.user_id} is lost" in caplog.text


def test_a_changed_connection_is_used_from_the_next_mail_on(mailing: Mailing) -> None:
    with MailServer() as other:
        edit(mailing.store, "email_smtp", "mail", **other.fields)
        mailing.catch_up()
        mailing.sso.mail.welcome(mailing.caller(), mailing.anna())
        mailing.outbox.deliver()
    assert len(other.received) == 1
    assert mailing.server.received == []


def test_only_the_server_itself_can_make_a_mail(mailing: Mailing, keyring: Keyring) -> None:
    assert RunDurably.name in mailing.context.services
    other = mailing.sso.protection.seal("{}", "sso_user.email")
    for sealed in ("", "x", other, keyring.encrypt("{}", "another.field")):
        with pytest.raises((SecretUnreadable, InvalidInput, ValueError)):
            mailing.context.invoker.invoke(_call(sealed))


def _call(sealed: str) -> Any:
    from junctor.server.service.call import Call

    return Call(SERVICE, {"sealed": sealed}, data_format="dict")
