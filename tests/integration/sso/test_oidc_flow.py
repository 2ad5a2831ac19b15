"""OpenID Connect as an application sees it that uses an independent client library: from the log-in page to the end of its tokens."""

import jwt
import pytest
from requests_oauthlib import OAuth2Session

from tests.helpers.oidc import (
    AFTER_LOG_OUT,
    CALLBACK,
    CLIENT,
    ISSUER,
    SCOPE,
    SECRET,
    Browser,
    ProviderUnderTest,
    asked,
    query,
)
from tests.helpers.wsgi import WsgiAdapter

OFFLINE = f"{SCOPE} offline_access"


@pytest.fixture
def provider(module_engine, keyring):
    under_test = ProviderUnderTest(module_engine, keyring)
    yield under_test
    under_test.stop()


def application(provider, scope=SCOPE, **more):
    client = OAuth2Session(CLIENT, redirect_uri=CALLBACK, scope=scope.split(), pkce="S256", **more)
    client.mount("https://", WsgiAdapter(provider.app))
    return client


def logged_in(provider, browser, scope=SCOPE, username="alice", **params):
    """An application that has its tokens, after its user logged in with a browser."""
    client = application(provider, scope)
    url, state = client.authorization_url(f"{ISSUER}/authorize", **params)
    page = browser.get(url)
    location = page.headers["Location"] if page.status_code == 303 else browser.log_in(page, username)
    assert query(location)["state"] == state
    client.fetch_token(f"{ISSUER}/token", authorization_response=location, client_secret=SECRET)
    return client


def id_token_claims(provider, token, nonce=None):
    """The claims of an ID token, verified with the keys that are published."""
    keys = jwt.PyJWKSet.from_dict(provider.http().get(f"{ISSUER}/jwks").json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token, key, ["RS256"], audience=CLIENT, issuer=ISSUER, options={"require": ["exp", "iat", "sub"]}
    )
    assert claims.get("nonce") == nonce
    return claims


def test_a_user_logs_in_and_the_application_knows_who_it_is(provider):
    user = provider.user(
        display_name="Alice Smith", first_name="Alice", last_name="Smith", email="alice@example.com"
    )

    client = logged_in(provider, provider.browser(), nonce="the-nonce")

    claims = id_token_claims(provider, client.token["id_token"], "the-nonce")
    assert (claims["sub"], claims["amr"], claims["acr"]) == (user.user_id, ["pwd"], "1")
    assert client.get(f"{ISSUER}/userinfo").json() == {
        "sub": user.user_id,
        "preferred_username": "alice",
        "name": "Alice Smith",
        "given_name": "Alice",
        "family_name": "Smith",
        "email": "alice@example.com",
        "email_verified": False,
    }
    assert {event["op"] for event in provider.events()} >= {"oidc.authorize", "oidc.token", "oidc.userinfo"}


def test_a_second_application_needs_no_log_in(provider):
    provider.user()
    provider.client("Wiki", redirect_uris=["https://wiki.example.com/cb"])
    browser = provider.browser()
    logged_in(provider, browser)

    answer = browser.get(
        f"{ISSUER}/authorize", **asked(client_id="Wiki", redirect_uri="https://wiki.example.com/cb")
    )

    assert answer.headers["Location"].startswith("https://wiki.example.com/cb?code=")
    assert query(answer.headers["Location"])["iss"] == ISSUER


def test_scopes_decide_what_is_told(provider):
    user = provider.user(email="alice@example.com", first_name="Alice")

    client = logged_in(provider, provider.browser(), "openid")

    assert client.get(f"{ISSUER}/userinfo").json() == {"sub": user.user_id}


def test_refresh_tokens_rotate(provider):
    provider.user()
    client = logged_in(provider, provider.browser(), OFFLINE)
    first = dict(client.token)

    second = client.refresh_token(f"{ISSUER}/token", auth=(CLIENT, SECRET))

    assert second["refresh_token"] != first["refresh_token"]
    assert client.get(f"{ISSUER}/userinfo").status_code == 200


def test_a_refresh_token_that_comes_again_ends_the_whole_family(provider):
    provider.user()
    client = logged_in(provider, provider.browser(), OFFLINE)
    first = client.token["refresh_token"]
    second = client.refresh_token(f"{ISSUER}/token", auth=(CLIENT, SECRET))["refresh_token"]

    again = provider.post("token", {"grant_type": "refresh_token", "refresh_token": first})

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    newest = provider.post("token", {"grant_type": "refresh_token", "refresh_token": second})
    assert newest.json()["error"] == "invalid_grant"
    assert client.get(f"{ISSUER}/userinfo").status_code == 401


def test_without_offline_access_there_is_no_refresh_token(provider):
    provider.user()

    assert "refresh_token" not in logged_in(provider, provider.browser()).token


def test_a_log_out_ends_what_the_session_gave(provider):
    provider.user()
    browser = provider.browser()
    client = logged_in(provider, browser)

    answer = browser.get(
        f"{ISSUER}/logout",
        id_token_hint=client.token["id_token"],
        post_logout_redirect_uri=AFTER_LOG_OUT,
        state="s",
    )

    assert (answer.status_code, answer.headers["Location"]) == (303, f"{AFTER_LOG_OUT}?state=s")
    assert client.get(f"{ISSUER}/userinfo").status_code == 401
    assert "Log in" in browser.get(f"{ISSUER}/authorize", **asked()).text


def test_offline_access_outlives_a_log_out_but_not_what_ends_all_sessions(provider):
    user = provider.user()
    browser = provider.browser()
    client = logged_in(provider, browser, OFFLINE)

    browser.get(f"{ISSUER}/logout", id_token_hint=client.token["id_token"])
    assert client.refresh_token(f"{ISSUER}/token", auth=(CLIENT, SECRET))

    with provider.store.engine.begin() as connection:
        provider.sso.sessions.end_all(connection, user)
    refused = provider.post(
        "token", {"grant_type": "refresh_token", "refresh_token": client.token["refresh_token"]}
    )
    assert refused.json()["error"] == "invalid_grant"


def test_tokens_of_a_locked_user_are_not_valid(provider):
    user = provider.user()
    client = logged_in(provider, provider.browser(), OFFLINE)

    provider.change(user, is_locked=True)

    assert client.get(f"{ISSUER}/userinfo").status_code == 401
    given = {"grant_type": "refresh_token", "refresh_token": client.token["refresh_token"]}
    assert provider.post("token", given).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_oidc_client": False}], ids=str)
def test_grants_of_an_application_that_is_switched_off_end_for_good(provider, change):
    provider.user()
    client = logged_in(provider, provider.browser(), OFFLINE)

    provider.client(**change)
    provider.client(is_active=True, is_oidc_client=True)

    assert client.get(f"{ISSUER}/userinfo").status_code == 401


def test_a_revoked_token_takes_its_grant_along(provider):
    provider.user()
    client = logged_in(provider, provider.browser(), OFFLINE)

    assert provider.post("revoke", {"token": client.token["refresh_token"]}).status_code == 200

    assert client.get(f"{ISSUER}/userinfo").status_code == 401


def test_revoking_what_is_no_token_or_anothers_changes_nothing(provider):
    provider.user()
    provider.client("Wiki")
    client = logged_in(provider, provider.browser())

    assert provider.post("revoke", {"token": "nothing"}).status_code == 200
    assert (
        provider.post("revoke", {"token": client.token["access_token"]}, ("Wiki", SECRET)).status_code == 200
    )
    assert client.get(f"{ISSUER}/userinfo").status_code == 200


def test_an_application_that_may_introspect_learns_what_a_token_is_worth(provider):
    user = provider.user()
    provider.application("API", introspection_allowed=True, secret=SECRET)
    client = logged_in(provider, provider.browser(), OFFLINE)
    token = client.token["access_token"]

    told = provider.post("introspect", {"token": token}, ("API", SECRET)).json()
    assert (told["active"], told["sub"], told["client_id"]) == (True, user.user_id, CLIENT)
    refresh = provider.post("introspect", {"token": client.token["refresh_token"]}, ("API", SECRET)).json()
    assert refresh["active"]

    assert provider.post("introspect", {"token": token}).status_code == 401
    provider.change(user, is_locked=True)
    assert provider.post("introspect", {"token": token}, ("API", SECRET)).json() == {"active": False}


def test_a_public_application_uses_pkce_alone(provider):
    provider.user()
    provider.client("SPA", secret="", redirect_uris=["https://spa.example.com/"])
    client = OAuth2Session("SPA", redirect_uri="https://spa.example.com/", scope=["openid"], pkce="S256")
    client.mount("https://", WsgiAdapter(provider.app))
    url, _ = client.authorization_url(f"{ISSUER}/authorize")
    browser: Browser = provider.browser()

    location = browser.log_in(browser.get(url))
    client.fetch_token(f"{ISSUER}/token", authorization_response=location, include_client_id=True)

    assert (
        client.get(f"{ISSUER}/userinfo", headers={"Origin": "https://spa.example.com"}).headers[
            "Access-Control-Allow-Origin"
        ]
        == "https://spa.example.com"
    )
    other = client.get(f"{ISSUER}/userinfo", headers={"Origin": "https://evil.example.com"})
    assert "Access-Control-Allow-Origin" not in other.headers
