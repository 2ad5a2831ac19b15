"""Signing up: who may, what is checked, what a visitor learns, and what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from junctor.server.service.base import Service
from junctor.server.sso import signup_services
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.records import User
from junctor.server.sso.signup import SignupCtx
from junctor.server.sso.signup_aftermath import SERVICE
from junctor.sql.errors import StoreUnavailable
from junctor.sql.tables.sso import SsoToken
from tests.helpers.outbox import Outbox
from tests.helpers.sso import PASSWORD, SsoUnderTest

NOT_ALLOWED = status_code.auth.not_allowed
called: list[dict[str, Any]] = []


class OnlyVips(Service):
    """Lets nobody in but VIPs."""

    name = "test.only-vips"

    def handle(self) -> None:
        is_valid = self.request.payload["username"].startswith("vip")
        self.response.payload = {
            "is_valid": is_valid,
            "sub_status": [] if is_valid else ["E999001"],
            "return_status": True,
        }


class Silent(Service):
    """Does not answer."""

    name = "test.silent"

    def handle(self) -> None:
        called.append({"silent": True})


class Callback(Service):
    """Is called after sign-ups."""

    name = "test.callback"

    def handle(self) -> None:
        called.append(dict(self.request.payload))


class SigningUp:
    """Sign-ups, and the e-mails that follow: (what, to whom, token)."""

    def __init__(self, sso: SsoUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sso, self.mails = sso, []
        self.outbox = Outbox(sso.context)
        self.outbox.deploy(*signup_services.SERVICES)
        self.part = sso.sso.signup

        def keep(what: str) -> Any:
            def mail(_caller: Caller, user: User, *more: str, **_: Any) -> None:
                self.mails.append((what, user.username, *more))

            return mail

        for what in ("confirm", "welcome", "notice"):
            monkeypatch.setattr(sso.sso.mail, what, keep(what))

    mails: list[tuple[str, ...]]

    def up(self, username: str = "anna", email: str = "anna@example.com", **more: Any) -> str:
        caller = more.pop("caller", None) or self.sso.caller()
        wanted = SignupCtx(username=username, email=email, password=more.pop("password", PASSWORD), **more)
        token = self.part.sign_up(caller, wanted)
        self.outbox.deliver()
        return token

    def token(self, username: str = "anna") -> str:
        """The token that was mailed last to a user."""
        return next(mail[2] for mail in reversed(self.mails) if mail[:2] == ("confirm", username))

    def confirm(self, token: str) -> None:
        self.part.confirm(self.sso.caller(), token)

    def user(self, username: str = "anna") -> User:
        found = self.sso.sso.users.by_username(username)
        assert found is not None
        return found

    def expire(self) -> None:
        """All tokens have expired."""
        long_ago = datetime.now(UTC) - timedelta(minutes=1)
        with self.sso.store.engine.begin() as connection:
            connection.execute(update(SsoToken).values(expiration_time=long_ago))


@pytest.fixture
def signing(sso: SsoUnderTest, monkeypatch: pytest.MonkeyPatch) -> SigningUp:
    called.clear()
    return SigningUp(sso, monkeypatch)


def refused(call: Any, *codes: str, shown: bool) -> None:
    with pytest.raises(ValidationError) as caught:
        call()
    assert (caught.value.sub_status, caught.value.return_status) == (list(codes), shown)


def test_a_sign_up_is_confirmed_then_approved_and_then_welcome(signing: SigningUp) -> None:
    assert signing.up(app_list=["CRM"]) == ""
    user = signing.user()
    assert (user.sign_up_status, user.approval_status) == ("before_confirmation", "before_decision")
    assert (user.app_list, user.sign_up_confirm_time) == (["CRM"], None)
    assert signing.sso.sso.passwords.verify(user, PASSWORD).is_right
    signing.confirm(signing.token())
    confirmed = signing.user()
    assert (confirmed.sign_up_status, confirmed.is_email_verified) == ("final", True)
    assert confirmed.sign_up_confirm_time
    assert [mail[0] for mail in signing.mails] == ["confirm"]
    signing.sso.sso.users.decide(signing.sso.trusted(), user.user_id, is_approved=True)
    assert signing.mails[-1] == ("welcome", "anna")
    (event,) = signing.sso.events("user.signup")
    assert (event["outcome"], event["target"]) == ("ok", user.user_id)
    assert signing.sso.events("user.confirm_signup")[0]["actor"] == user.user_id


def test_who_needs_no_approval_is_welcome_once_it_is_confirmed(signing: SigningUp) -> None:
    signing.sso.settings(signup_is_approval_needed=False)
    signing.up()
    signing.confirm(signing.token())
    assert [mail[0] for mail in signing.mails] == ["confirm", "welcome"]


def test_a_token_works_once_for_a_while_and_says_no_more_than_no(signing: SigningUp) -> None:
    signing.up()
    token = signing.token()
    refused(lambda: signing.confirm("zust1"), status_code.auth.no_such_sign_up_token, shown=False)
    signing.expire()
    refused(lambda: signing.confirm(token), status_code.auth.no_such_sign_up_token, shown=False)
    signing.up("ben", "ben@example.com")
    token = signing.token("ben")
    signing.confirm(token)
    refused(lambda: signing.confirm(token), status_code.auth.sign_up_confirmed, shown=False)


def test_the_token_is_in_the_answer_if_the_settings_say_so(signing: SigningUp) -> None:
    signing.sso.settings(signup_always_return_confirm_token=True)
    token = signing.up()
    assert token == signing.token()
    signing.confirm(token)
    assert signing.user().sign_up_status == "final"


def test_an_application_signs_users_up_if_it_may(signing: SigningUp) -> None:
    signing.sso.application("Shop")
    shop = signing.sso.caller(app="Shop")
    refused(lambda: signing.up(caller=shop), status_code.app_list.no_signup, shown=False)
    signing.sso.settings(signup_inform_if_app_invalid=True)
    refused(lambda: signing.up(caller=shop), status_code.app_list.no_signup, shown=True)
    refused(lambda: signing.up(app_list=["absent"]), status_code.app_list.invalid, shown=True)
    refused(
        lambda: signing.up(caller=signing.sso.caller(app="absent")), status_code.app_list.invalid, shown=True
    )


def test_what_is_missing_is_told(signing: SigningUp) -> None:
    missing = status_code.common.missing_input
    refused(lambda: signing.up(""), missing, shown=True)
    refused(lambda: signing.up(password=""), missing, shown=True)
    refused(lambda: signing.up(email=""), status_code.email.missing, shown=False)
    signing.sso.settings(signup_is_email_required=False)
    signing.up(email="")
    assert signing.mails == []


@pytest.mark.parametrize(
    ("more", "code", "setting"),
    [
        ({"username": "a b"}, status_code.username.has_whitespace, "signup_inform_if_user_invalid"),
        ({"username": "MyAdmin"}, status_code.username.invalid, "signup_inform_if_user_invalid"),
        ({"email": "nothing"}, status_code.email.invalid, "signup_inform_if_email_invalid"),
        ({"email": "ROOT@example.com"}, status_code.email.invalid, "signup_inform_if_email_invalid"),
        ({"password": "short"}, status_code.password.too_short, "password_inform_if_invalid"),
        (
            {"username": "anna1", "email": "x@example.com"},
            status_code.username.exists,
            "signup_inform_if_user_exists",
        ),
    ],
)
def test_what_is_wrong_is_shown_if_the_settings_say_so(
    signing: SigningUp, more: dict[str, Any], code: str, setting: str
) -> None:
    signing.sso.user("Anna1")
    signing.sso.settings(password_min_complexity=0, **{setting: False})
    refused(lambda: signing.up(**more), code, shown=False)
    signing.sso.settings(**{setting: True})
    refused(lambda: signing.up(**more), code, shown=True)


def test_own_validation_services_are_asked_in_order(signing: SigningUp) -> None:
    signing.sso.deploy(OnlyVips, Silent)
    signing.sso.settings(user_validation_service=["test.only-vips", "zato.sso.user.validate"])
    refused(signing.up, "E999001", shown=True)
    signing.up("vip1")
    refused(lambda: signing.up("vip 2"), status_code.username.has_whitespace, shown=False)
    signing.sso.settings(user_validation_service=["test.silent", "test.only-vips"])
    refused(lambda: signing.up("vip2"), status_code.common.internal_error, shown=False)
    assert called == [{"silent": True}]


def test_callbacks_learn_who_signed_up_and_no_secret(signing: SigningUp) -> None:
    signing.sso.deploy(Callback)
    signing.sso.settings(signup_callback_service_list=["test.callback"])
    signing.up()
    expected = {
        "user_id": signing.user().user_id,
        "username": "anna",
        "current_app": "CRM",
        "app_list": [],
    }
    assert called == [expected]
    signing.sso.settings(signup_always_return_confirm_token=True)
    token = signing.up("ben", "ben@example.com")
    assert called[-1]["confirm_token"] == token


def test_nothing_of_a_sign_up_can_be_read_where_it_is_stored(signing: SigningUp) -> None:
    wanted = SignupCtx(username="anna", email="anna@example.com", password=PASSWORD)
    signing.part.sign_up(signing.sso.caller(), wanted)
    (waiting,) = signing.outbox.of(SERVICE)
    assert waiting.expiration == 1440 * 60
    for secret in ("anna", "example.com", PASSWORD):
        assert secret not in str(waiting.message.data)


def test_a_taken_address_is_answered_as_any_other_and_its_owner_is_told(signing: SigningUp) -> None:
    owner = signing.sso.user("owner", email="anna@example.com")
    assert signing.up() == ""
    assert signing.mails == [("notice", "owner", "signup-exists")]
    shadow = signing.user()
    assert shadow.email_mac is None
    assert shadow.creation_ctx["is_email_taken"] is True
    refused(lambda: signing.up(email="other@example.com"), status_code.username.exists, shown=False)
    for number in range(5):
        signing.up(f"anna{number}", "ANNA@example.com")
    assert len(signing.mails) == 3
    assert signing.sso.sso.users.by_email("anna@example.com") == owner
    signing.sso.settings(signup_inform_if_email_exists=True)
    refused(lambda: signing.up("anna9"), status_code.email.exists, shown=True)


def test_who_did_not_confirm_keeps_nobody_from_an_address(signing: SigningUp) -> None:
    signing.up("squatter")
    signing.up("anna")
    signing.confirm(signing.token("anna"))
    refused(
        lambda: signing.confirm(signing.token("squatter")),
        status_code.auth.no_such_sign_up_token,
        shown=False,
    )
    assert signing.sso.sso.users.by_email("anna@example.com") == signing.user("anna")
    with pytest.raises(ValidationError):
        signing.sso.sso.users.update(
            signing.sso.trusted(), {"sign_up_status": "final"}, signing.user("squatter").user_id
        )


def test_a_name_is_free_again_when_its_sign_up_was_not_confirmed_in_time(signing: SigningUp) -> None:
    signing.up()
    first = signing.user()
    refused(signing.up, status_code.username.exists, shown=False)
    signing.expire()
    signing.up("ANNA")
    assert signing.user().user_id != first.user_id
    made = signing.sso.user("made", sign_up_status="before_confirmation")
    signing.expire()
    with signing.sso.store.engine.begin() as connection:
        assert signing.part.purge(connection) == 1
        assert signing.part.purge(connection) == 0
    assert signing.sso.sso.users.by_username("anna") is None
    assert signing.user("made") == made
    assert signing.sso.events("user.purge_signups")[0]["extra"] == {"count": 1}


def test_a_sign_up_whose_mail_cannot_be_stored_leaves_nothing(signing: SigningUp) -> None:
    signing.outbox.is_down = True
    with pytest.raises(StoreUnavailable):
        signing.up()
    assert signing.sso.sso.users.by_username("anna") is None
    signing.outbox.is_down = False
    signing.up()


def test_sign_ups_of_an_address_are_counted(signing: SigningUp) -> None:
    signing.sso.settings(throttle_signup_limit=2)
    signing.up("one", "one@example.com")
    signing.up("two", "two@example.com")
    refused(lambda: signing.up("three", "three@example.com"), status_code.auth.too_many_attempts, shown=True)
    signing.up("three", "three@example.com", caller=signing.sso.caller(remote_addr="198.51.100.1"))


def test_a_new_address_is_confirmed_by_a_token_and_an_old_token_does_not_do_it(signing: SigningUp) -> None:
    signing.sso.user("anna", email="old@example.com")
    caller = signing.sso.caller(signing.sso.log_in("anna"))
    signing.sso.sso.users.update(caller, {"email": "new@example.com"})
    signing.outbox.deliver()
    token = signing.token()
    assert not signing.user().is_email_verified
    signing.confirm(token)
    assert signing.user().is_email_verified
    signing.sso.sso.users.update(caller, {"email": "newer@example.com"})
    refused(lambda: signing.confirm(token), status_code.auth.no_such_sign_up_token, shown=False)
    assert not signing.user().is_email_verified
