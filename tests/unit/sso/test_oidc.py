"""Parts of the OpenID provider that need no database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.oidc.browser import Cookies
from junctor.server.sso.oidc.exchange import Exchange, origin_of, parse_cookies, redirect
from junctor.server.sso.oidc.tokens import level_of
from junctor.server.sso.pages.messages import GENERIC, message_of
from junctor.server.sso.pages.pages import FILES, HERE, Pages

SECURE, LOCAL = "https://sso.example.com/zato/sso/oidc", "http://127.0.0.1:17010/zato/sso/oidc"


def exchange(**parameters):
    return Exchange.of("GET", parameters, {}, Caller(cid="cid"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"scope": ["openid", "email"]},
        {"scope": 'openid "'},
        {"redirect_uri": "https://a.example.com/\u00e9"},
        {"redirect_uri": "https://a.example.com/\r\nSet-Cookie: a"},
        {"state": "s" * 4097},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_right_are_a_problem(parameters):
    assert exchange(**parameters).problem


def test_what_users_type_in_and_applications_make_up_may_have_any_characters():
    assert exchange(state='"\u00e9"', nonce="\\", login_hint="J\u00fcrgen").problem == ""


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(), st.lists(st.text()))))
def test_any_parameters_are_looked_at_without_an_error(parameters):
    assert isinstance(exchange(**parameters).problem, str)


@given(st.text(max_size=200))
def test_any_cookie_header_is_read_or_left(header):
    assert isinstance(parse_cookies(header), dict)


@given(state=st.text(max_size=50))
def test_a_redirect_is_one_line_to_the_same_place_whatever_comes_along(state):
    location = redirect("https://a.example.com/cb?x=1", {"state": state, "empty": ""}).headers["Location"]

    assert location.isascii()
    assert location.isprintable()
    assert location.startswith("https://a.example.com/cb?x=1")
    assert "empty" not in location


def test_origins_have_scheme_host_and_port():
    assert origin_of("https://a.example.com:8443/cb?x=1") == "https://a.example.com:8443"


def test_cookies_are_secure_where_the_issuer_is():
    (secure,), (local,) = (Cookies(issuer).set_session("t").values() for issuer in (SECURE, LOCAL))

    assert secure == "__Secure-junctor_sso=t; Path=/zato/sso/oidc; HttpOnly; SameSite=Lax; Secure"
    assert local == "junctor_sso=t; Path=/zato/sso/oidc; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize("value", ["", "a b", "a;b", "\u00e9", "x" * 201])
def test_a_cookie_that_is_none_of_ours_is_none(value):
    assert Cookies(LOCAL).session({"junctor_sso": value}) == ""


def test_the_cookie_of_an_http_issuer_is_not_taken_by_an_https_one():
    assert Cookies(SECURE).session({"junctor_sso": "t"}) == ""


@pytest.mark.parametrize(
    ("factors", "level"),
    [
        ((), "1"),
        (("pwd",), "1"),
        (("otp",), "1"),
        (("pwd", "otp"), "2"),
        (("hwk", "user"), "2"),
        (("hwk",), "1"),
        (("pwd", "swk"), "2"),
        (("mfa",), "2"),
        (("unknown", "pwd"), "1"),
    ],
    ids=str,
)
def test_two_kinds_of_factors_make_level_two(factors, level):
    assert level_of(factors) == level


def test_users_are_told_what_the_settings_let_them_know():
    locked = status_code.auth.locked

    assert "locked" in message_of(ValidationError(locked, True))
    assert message_of(ValidationError(locked, False)) == GENERIC
    assert message_of(ValidationError("E999999", True)) == GENERIC


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "a moment"), (1, "1 second"), (45, "45 seconds"), (121, "3 minutes")]
)
def test_users_are_told_how_long_to_wait(seconds, told):
    refusal = ValidationError(status_code.auth.too_many_attempts, True, retry_after=seconds)

    assert message_of(refusal) == f"There were too many attempts. Try again in {told}."


def test_only_what_belongs_to_the_pages_is_served():
    pages = Pages(None)

    assert {name for name in FILES if pages.file(name) is not None} == set(FILES)
    for name in (*(path.name for path in HERE.iterdir() if path.name not in FILES), "../pages/style.css", ""):
        assert pages.file(name) is None
