"""The pages of a log-in: step by step, in the browser where it began, and with nothing in them that is not ours."""

import json
import re

import pyotp
import pytest

from tests.helpers.authenticator import Authenticator
from tests.helpers.oidc import (
    AFTER_LOG_OUT,
    CALLBACK,
    CLIENT,
    ISSUER,
    Form,
    ProviderUnderTest,
    asked,
    query,
)
from tests.helpers.sso import PASSWORD

ORIGIN = "https://sso.example.com"
NEW = "another horse battery staple 9"


@pytest.fixture
def provider(module_engine, keyring):
    under_test = ProviderUnderTest(module_engine, keyring)
    yield under_test
    under_test.stop()


def log_in_page(browser, **changes):
    page = browser.get(f"{ISSUER}/authorize", **asked(**changes))
    assert page.status_code == 200, page.headers
    return page


def with_totp(provider, **more):
    key = pyotp.random_base32()
    sealed = provider.sso.protection.seal(key, "sso_user.totp_key")
    return provider.user(is_totp_enabled=True, totp_key_sealed=sealed, **more), pyotp.TOTP(key)


def factors_of(provider):
    """What the newest session was opened with."""
    from sqlalchemy import select

    from junctor.sql.tables.sso import SsoSession

    with provider.store.engine.connect() as connection:
        return connection.execute(
            select(SsoSession.auth_factors).order_by(SsoSession.id.desc()).limit(1)
        ).scalar_one()


def test_a_page_lets_nothing_foreign_in_and_stays_nowhere(provider):
    answer = log_in_page(provider.browser())

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "form-action 'self' https://grafana.example.com;" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?! src)|<style|\son\w+=|style=", answer.text)


def test_what_the_pages_are_made_of_is_there(provider):
    page = log_in_page(provider.browser())
    urls = re.findall(rf'(?:src|href)="({ISSUER}/static/[^"]+)"', page.text)

    assert len(urls) == 2
    for url in urls:
        found = provider.http().get(url)
        assert (found.status_code, found.headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert provider.http().get(f"{ISSUER}/static/pages.py").status_code == 404
    assert provider.http().get(f"{ISSUER}/static/..%2fpages.py").status_code == 404


def test_cookies_are_for_our_paths_out_of_reach_of_scripts_and_for_https(provider):
    provider.user()
    browser = provider.browser()
    page = log_in_page(browser)
    answer = browser.submit(page, username="alice", password=PASSWORD)

    for cookie in (page.headers["Set-Cookie"], answer.headers["Set-Cookie"]):
        assert cookie.startswith("__Secure-junctor_sso")
        assert cookie.endswith("; Path=/zato/sso/oidc; HttpOnly; SameSite=Lax; Secure")


@pytest.mark.parametrize(
    ("username", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("a" * 5000, "x")]
)
def test_wrong_credentials_get_the_same_page_for_every_reason(provider, username, password):
    provider.user()
    browser = provider.browser()

    answer = browser.submit(log_in_page(browser), username=username[:3000], password=password)

    assert answer.status_code == 400
    assert "The user name or the password is wrong" in answer.text
    assert "Location" not in answer.headers
    assert Form(answer.text).fields["password"] == ""
    assert answer.headers.get("Set-Cookie") is None


def test_who_was_refused_can_try_again_on_the_same_page(provider):
    provider.user()
    browser = provider.browser()
    again = browser.submit(log_in_page(browser), username="alice", password="wrong")

    assert query(browser.log_in(again))["state"] == "a-state"


def test_a_second_factor_is_a_step_of_its_own(provider):
    _, totp = with_totp(provider)
    browser = provider.browser()

    code_page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)
    assert "Second factor" in code_page.text
    assert PASSWORD not in code_page.text
    assert "Set-Cookie" not in code_page.headers, "there is no session yet"

    wrong = browser.submit(code_page, code="000000")
    assert (wrong.status_code, "The code is wrong" in wrong.text) == (400, True)
    done = browser.submit(wrong, code=f" {totp.now()} ")
    assert query(done.headers["Location"])["code"]
    assert factors_of(provider) == ["pwd", "otp"]


def test_the_second_factor_alone_is_not_enough(provider):
    _, totp = with_totp(provider)
    browser = provider.browser()

    answer = browser.submit(log_in_page(browser), username="alice", password="wrong", code=totp.now())

    assert answer.status_code == 400
    assert "Second factor" not in answer.text


def test_whoever_must_change_the_password_does_so_on_the_way(provider):
    provider.user(password_must_change=True)
    browser = provider.browser()

    page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)
    assert "New password" in page.text
    differ = browser.submit(page, new_password=NEW, new_password_again="x")
    assert "not the same" in differ.text
    short = browser.submit(differ, new_password="x", new_password_again="x")
    assert "too short" in short.text
    done = browser.submit(short, new_password=NEW, new_password_again=NEW)

    assert query(done.headers["Location"])["code"]
    fresh = provider.browser()
    assert fresh.log_in(log_in_page(fresh), password=NEW)


def test_a_new_password_comes_after_the_second_factor(provider):
    _, totp = with_totp(provider, password_must_change=True)
    browser = provider.browser()

    code_page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)
    password_page = browser.submit(code_page, code=totp.now())
    assert "New password" in password_page.text
    done = browser.submit(password_page, new_password=NEW, new_password_again=NEW)

    assert query(done.headers["Location"])["code"]
    assert factors_of(provider) == ["pwd", "otp"]


def test_a_form_is_of_no_use_in_another_browser(provider):
    provider.user()
    page = log_in_page(provider.browser())
    other = provider.browser()
    log_in_page(other)

    for browser in (other, provider.browser()):
        answer = browser.submit(page, username="alice", password=PASSWORD)
        assert (answer.status_code, "expired" in answer.text) == (403, True)


@pytest.mark.parametrize("change", [{"csrf": "x"}, {"csrf": ""}, {"request": "x"}, {"request": ""}], ids=str)
def test_a_form_that_was_made_up_is_refused(provider, change):
    provider.user()
    browser = provider.browser()

    answer = browser.submit(log_in_page(browser), username="alice", password=PASSWORD, **change)

    assert answer.status_code == 403
    assert "junctor_sso=" not in answer.headers.get("Set-Cookie", "")


def test_a_form_that_another_site_sends_is_refused(provider):
    provider.user()
    browser = provider.browser()
    form = Form(log_in_page(browser).text)
    given = form.fields | {"username": "alice", "password": PASSWORD}

    answer = browser.session.post(form.action, data=given, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403


def test_a_log_in_page_is_good_once_and_for_ten_minutes(provider):
    from sqlalchemy import text

    provider.user()
    browser = provider.browser()
    page = log_in_page(browser)
    browser.log_in(page)
    assert browser.submit(page, username="alice", password=PASSWORD).status_code == 403

    expired = log_in_page(browser, prompt="login")
    with provider.store.engine.begin() as connection:
        connection.execute(text("UPDATE sso_challenge SET expiration_time = now()"))
    assert browser.submit(expired, username="alice", password=PASSWORD).status_code == 403


def test_where_the_browser_goes_to_is_not_in_the_page(provider):
    provider.user()
    browser = provider.browser()
    page = log_in_page(browser)

    answer = browser.submit(
        page, username="alice", password=PASSWORD, redirect_uri="https://evil.example.com/", state="x"
    )

    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    assert query(answer.headers["Location"])["state"] == "a-state"


@pytest.mark.parametrize(
    "again", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}], ids=str
)
def test_an_application_may_want_a_fresh_log_in(provider, again):
    provider.user()
    browser = provider.browser()
    browser.log_in(log_in_page(browser))
    before = browser.session.cookies.get("__Secure-junctor_sso")

    assert query(browser.log_in(log_in_page(browser, **again)))["code"]

    after = browser.session.cookies.get("__Secure-junctor_sso")
    assert after != before
    assert provider.sso.sessions.find(before) is None
    assert provider.sso.sessions.find(after) is not None


@pytest.mark.parametrize("given", [{"prompt": "consent"}, {"prompt": "none"}, {"max_age": "3600"}], ids=str)
def test_who_is_logged_in_goes_straight_back(provider, given):
    provider.user()
    browser = provider.browser()
    browser.log_in(log_in_page(browser))

    answer = browser.get(f"{ISSUER}/authorize", **asked(**given))

    assert query(answer.headers["Location"])["code"]


def test_a_user_without_the_application_is_refused_and_the_application_told(provider):
    provider.user()
    browser = provider.browser()
    browser.log_in(log_in_page(browser))
    provider.client(is_grant_needed=True)

    answer = browser.get(f"{ISSUER}/authorize", **asked())

    assert query(answer.headers["Location"])["error"] == "access_denied"


def test_a_user_who_was_locked_meanwhile_must_log_in(provider):
    user = provider.user()
    browser = provider.browser()
    browser.log_in(log_in_page(browser))

    provider.change(user, is_locked=True)

    page = log_in_page(browser)
    assert browser.submit(page, username="alice", password=PASSWORD).status_code == 400


def test_input_is_never_part_of_the_page_as_html(provider):
    browser = provider.browser()
    page = log_in_page(browser, login_hint='"><script>alert(1)</script>')
    again = browser.submit(page, username='"><img src=x>', password="x")

    assert "<script>alert" not in page.text
    assert "<img" not in again.text
    assert Form(again.text).fields["username"] == '"><img src=x>'


def test_a_session_ends_with_a_page_when_nobody_says_where_to_go(provider):
    provider.user()
    browser = provider.browser()
    browser.log_in(log_in_page(browser))

    done = browser.submit(browser.get(f"{ISSUER}/logout"))

    assert "You are logged out" in done.text
    assert "Max-Age=0" in done.headers["Set-Cookie"]
    assert (
        browser.get(f"{ISSUER}/logout", client_id=CLIENT, post_logout_redirect_uri=AFTER_LOG_OUT).status_code
        == 303
    )


def test_passwords_and_codes_are_in_no_audit_event(provider):
    _, totp = with_totp(provider)
    browser = provider.browser()
    code_page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)
    code = totp.now()
    location = browser.submit(code_page, code=code).headers["Location"]

    told = str(
        [
            {key: event[key] for key in ("op", "reason", "extra", "actor", "target")}
            for event in provider.events()
        ]
    )

    for secret in (PASSWORD, code, query(location)["code"], "alice"):
        assert secret not in told


def test_what_was_proved_is_worth_nothing_once_the_password_has_changed(provider):
    user, totp = with_totp(provider)
    browser = provider.browser()
    code_page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)
    stored = provider.sso.change_password.prepared(user, NEW)
    with provider.store.engine.begin() as connection:
        provider.sso.change_password.store(connection, user, stored)
    provider.sso.sessions.announce(user)

    answer = browser.submit(code_page, code=totp.now())

    assert (answer.status_code, "wrong" in answer.text) == (400, True)
    assert "Set-Cookie" not in answer.headers


def test_the_password_of_before_is_not_taken_as_a_new_one(provider):
    provider.user(password_must_change=True)
    browser = provider.browser()
    page = browser.submit(log_in_page(browser), username="alice", password=PASSWORD)

    answer = browser.submit(page, new_password=PASSWORD, new_password_again=PASSWORD)

    assert "cannot be used" in answer.text


def test_who_must_set_a_second_factor_up_first_gets_into_no_application(provider):
    provider.settings(login_totp_required=True)
    provider.user()
    browser = provider.browser()

    location = browser.log_in(log_in_page(browser))

    assert query(location)["error"] == "access_denied"
    again = browser.get(f"{ISSUER}/authorize", **asked())
    assert query(again.headers["Location"])["error"] == "access_denied"


def test_a_passkey_logs_in_without_a_password(provider):
    provider.settings(webauthn_rp_id="example.com", webauthn_origins=[ORIGIN])
    user, authenticator = provider.user(), Authenticator(ORIGIN)
    caller = provider.caller(provider.log_in("alice"))
    provider.sso.passkeys.register(
        caller, authenticator.create(provider.sso.passkeys.registration_options(caller)), "Key ring"
    )
    browser = provider.browser()
    page = log_in_page(browser)
    form = Form(page.text).fields
    url = re.search('data-options="([^"]+)"', page.text)[1]

    options = browser.session.post(url, data=form).json()
    done = browser.submit(page, credential=json.dumps(authenticator.get(options)))

    assert query(done.headers["Location"])["code"]
    session = provider.session(browser.session.cookies["__Secure-junctor_sso"])
    assert session.user.user_id == user.user_id
    assert "pwd" not in session.auth_factors


@pytest.mark.parametrize("credential", ["x", "[]", "{}", '{"id": 1}'])
def test_a_passkey_that_answers_nonsense_is_refused(provider, credential):
    provider.settings(webauthn_rp_id="example.com", webauthn_origins=[ORIGIN])
    browser = provider.browser()

    assert browser.submit(log_in_page(browser), credential=credential).status_code == 400


def test_passkey_options_are_for_the_page_alone(provider):
    browser = provider.browser()
    form = Form(log_in_page(browser).text).fields

    assert browser.session.post(f"{ISSUER}/passkey-options", data=form | {"csrf": "x"}).status_code == 403
    assert browser.session.post(f"{ISSUER}/passkey-options", data=form).status_code == 403, (
        "there are none here"
    )


def test_who_fails_too_often_must_wait_and_is_told_how_long(provider):
    provider.settings(throttle_free_failures=1)
    provider.user()
    browser = provider.browser()
    page = log_in_page(browser)

    answers = [browser.submit(page, username="alice", password=f"wrong{number}") for number in range(4)]

    assert answers[-1].status_code == 429
    assert "too many attempts" in answers[-1].text
    assert int(answers[-1].headers["Retry-After"]) > 0
