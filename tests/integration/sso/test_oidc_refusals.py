"""What the OpenID provider refuses, and how: errors to applications, pages to users, nothing to anybody else."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import jwt
import pytest
from joserfc.jwk import RSAKey
from sqlalchemy import text

from junctor.server.sso.oidc import keys
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from tests.helpers.oidc import (
    AFTER_LOG_OUT,
    CALLBACK,
    CLIENT,
    ISSUER,
    SECRET,
    ProviderUnderTest,
    asked,
    query,
    verifier,
)

OFFLINE = "openid offline_access"


@pytest.fixture
def provider(module_engine, keyring):
    under_test = ProviderUnderTest(module_engine, keyring)
    under_test.user()
    yield under_test
    under_test.stop()


@pytest.fixture(scope="module")
def shared(module_engine):
    """One provider for tests that change nothing in it."""
    under_test = ProviderUnderTest(module_engine, Keyring(parse_keys(new_key_line())))
    under_test.user()
    yield under_test
    under_test.stop()


def execute(provider, statement, **values):
    with provider.store.engine.begin() as connection:
        connection.execute(text(statement), values)


def with_code(provider, code_verifier, browser=None, **changes):
    """What an application sends that has a code, which a user has just got."""
    browser = browser or provider.browser()
    answer = browser.get(f"{ISSUER}/authorize", **asked(code_verifier, **changes))
    location = answer.headers["Location"] if answer.status_code == 303 else browser.log_in(answer)
    return {
        "grant_type": "authorization_code",
        "code": query(location)["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": code_verifier,
    }


def tokens(provider, scope="openid"):
    code_verifier = verifier()
    answer = provider.post("token", with_code(provider, code_verifier, scope=scope))
    assert answer.status_code == 200, answer.text
    return answer.json()


def userinfo(provider, token):
    return provider.http().get(f"{ISSUER}/userinfo", headers={"Authorization": f"Bearer {token}"})


def is_error(answer, code, status=400):
    """Whether an answer is this error as RFC 6749 has it."""
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return True


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": f"{CALLBACK}/"},
        {"redirect_uri": f"{CALLBACK}?a=b"},
        {"redirect_uri": "https://evil.example.com/"},
        {"redirect_uri": None},
        {"client_id": "Nobody"},
        {"client_id": None},
        {"client_id": "CRM"},
        {"scope": 'openid "'},
        {"scope": "openid \u00e9"},
        {"state": "s" * 5000},
        {"nonce": "a\x00"},
    ],
    ids=str,
)
def test_a_browser_is_not_sent_where_nobody_knows_that_it_may_go(shared, changes):
    answer = shared.browser().get(f"{ISSUER}/authorize", **asked(**changes))

    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "This does not work" in answer.text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"nonce": "n" * 501}, "invalid_request"),
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example.com/"}, "request_uri_not_supported"),
        ({"prompt": "none"}, "login_required"),
    ],
    ids=str,
)
def test_an_application_is_told_what_is_wrong(shared, changes, code):
    answer = shared.browser().get(f"{ISSUER}/authorize", **asked(**changes))

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    told = query(answer.headers["Location"])
    assert (told["error"], told["state"], told["iss"]) == (code, "a-state", ISSUER)
    assert shared.events("oidc.authorize")[-1]["reason"] == code


def test_a_parameter_that_comes_twice_is_refused(shared):
    session = shared.http()
    doubled = [*asked().items(), ("scope", "openid")]

    answer = session.get(f"{ISSUER}/authorize", params=doubled, allow_redirects=False)

    assert answer.status_code == 400
    is_error(session.post(f"{ISSUER}/token", data=[("code", "a"), ("code", "b")]), "invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"redirect_uri": "https://evil.example.com/"},
        {"redirect_uri": ""},
        {"code": "zoic" + "0" * 52},
        {"code": "x" * 3000},
    ],
    ids=str,
)
def test_a_code_is_for_who_asked_for_it_in_the_same_way(shared, changes):
    given = with_code(shared, verifier())

    assert is_error(shared.post("token", given | changes), "invalid_grant")


@pytest.mark.parametrize("missing", ["code_verifier", "code"])
def test_what_is_missing_is_said(shared, missing):
    given = with_code(shared, verifier())
    del given[missing]

    assert is_error(shared.post("token", given), "invalid_request")


def test_a_code_that_comes_again_ends_what_it_gave(shared):
    given = with_code(shared, verifier())
    token = shared.post("token", given).json()["access_token"]
    assert userinfo(shared, token).status_code == 200

    assert is_error(shared.post("token", given), "invalid_grant")

    assert userinfo(shared, token).status_code == 401


def test_a_code_that_was_tried_with_a_wrong_verifier_is_used_up(shared):
    given = with_code(shared, verifier())
    shared.post("token", given | {"code_verifier": "w" * 43})

    assert is_error(shared.post("token", given), "invalid_grant")


def test_a_code_is_not_for_another_application(provider):
    provider.client("Wiki")
    given = with_code(provider, verifier())

    assert is_error(provider.post("token", given, ("Wiki", SECRET)), "invalid_grant")
    assert provider.post("token", given).status_code == 200


def test_a_code_expires_within_a_minute(provider):
    given = with_code(provider, verifier())
    execute(provider, "UPDATE sso_grant SET expiration_time = expiration_time - interval '61 s'")

    assert is_error(provider.post("token", given), "invalid_grant")


def test_a_code_is_worth_nothing_once_its_session_has_ended(provider):
    browser = provider.browser()
    given = with_code(provider, verifier(), browser)
    execute(provider, "DELETE FROM sso_session")

    assert is_error(provider.post("token", given), "invalid_grant")


@pytest.mark.parametrize(
    ("auth", "more"),
    [
        ((CLIENT, "wrong"), {}),
        (None, {"client_id": CLIENT, "client_secret": "wrong"}),
        (None, {"client_id": CLIENT}),
        (None, {}),
        (("Nobody", SECRET), {}),
        ((CLIENT, SECRET), {"client_secret": SECRET}),
        ((CLIENT, SECRET), {"client_id": "Other"}),
    ],
    ids=str,
)
def test_an_application_must_prove_who_it_is(shared, auth, more):
    given = with_code(shared, verifier()) | more

    answer = shared.post("token", given, auth)

    assert is_error(answer, "invalid_client", 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic /w==", "Basic " + "A" * 5000, "Bearer x"])
def test_credentials_that_cannot_be_read_are_none(shared, header):
    answer = shared.http().post(f"{ISSUER}/token", headers={"Authorization": header})

    assert is_error(answer, "unsupported_grant_type")
    given = with_code(shared, verifier())
    answer = shared.http().post(f"{ISSUER}/token", data=given, headers={"Authorization": header})
    assert is_error(answer, "invalid_client", 401)


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", "implicit", "", 'é"'])
def test_there_are_two_ways_to_get_tokens_and_no_others(shared, grant_type):
    given = {"grant_type": grant_type, "username": "alice", "password": "x"}

    assert shared.post("token", given).status_code == 400


def test_an_access_token_must_be_one_of_ours(shared):
    good = tokens(shared)
    claims = jwt.decode(good["access_token"], options={"verify_signature": False})
    other = RSAKey.generate_key(2048)
    kid = jwt.get_unverified_header(good["access_token"])["kid"]
    head = {"typ": "at+jwt", "kid": kid}
    forged = [
        jwt.encode(claims, "", "none", headers=head),
        jwt.encode(claims, other.as_pem(private=True), "RS256", headers=head),
        jwt.encode(claims, shared.sso.oidc.keys.find(kid).as_dict(private=False)["n"], "HS256", headers=head),
        good["id_token"],
        good["access_token"][:-4] + "AAAA",
        "a.b.c",
        "é",
        "x" * 5000,
    ]

    assert userinfo(shared, good["access_token"]).status_code == 200
    for token in forged:
        answer = userinfo(shared, token.encode()) if not token.isascii() else userinfo(shared, token)
        assert answer.status_code == 401, token
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "changes",
    [{"aud": "https://other.example.com"}, {"iss": "https://other.example.com"}, {"exp": 1}, {"jti": ""}],
)
def test_an_access_token_with_other_claims_is_refused_even_with_our_signature(shared, changes):
    claims = jwt.decode(tokens(shared)["access_token"], options={"verify_signature": False})

    token = shared.sso.oidc.tokens._signed("at+jwt", claims | changes)

    assert userinfo(shared, token).status_code == 401


def test_no_token_gets_the_challenge_and_no_error(shared):
    answer = shared.http().get(f"{ISSUER}/userinfo")

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="junctor"'
    in_query = shared.http().get(f"{ISSUER}/userinfo", params=tokens(shared))
    assert in_query.status_code == 401


def test_an_access_token_may_come_in_a_form_but_not_twice(shared):
    token = tokens(shared)["access_token"]
    session = shared.http()

    assert session.post(f"{ISSUER}/userinfo", data={"access_token": token}).status_code == 200
    twice = session.post(
        f"{ISSUER}/userinfo", data={"access_token": token}, headers={"Authorization": f"Bearer {token}"}
    )
    assert is_error(twice, "invalid_request")


def test_of_refresh_tokens_that_are_used_at_once_one_is_right_and_the_family_ends(shared):
    token = tokens(shared, OFFLINE)["refresh_token"]
    given = {"grant_type": "refresh_token", "refresh_token": token}

    answers = [shared.post("token", given).status_code for _ in range(3)]

    assert answers == [200, 400, 400]


def test_a_refresh_token_lives_as_long_as_its_family_and_not_longer(provider):
    given = {"grant_type": "refresh_token", "refresh_token": tokens(provider, OFFLINE)["refresh_token"]}
    execute(provider, "UPDATE sso_grant SET expiration_time = now()")

    assert is_error(provider.post("token", given), "invalid_grant")


def test_a_refresh_token_gives_no_scope_that_was_not_granted(shared):
    given = {"grant_type": "refresh_token", "refresh_token": tokens(shared, OFFLINE)["refresh_token"]}

    assert is_error(shared.post("token", given | {"scope": "openid email"}), "invalid_scope")
    assert shared.post("token", given | {"scope": "openid"}).json()["scope"] == "openid"


def test_there_is_nothing_without_an_issuer(provider):
    provider.settings(oidc_issuer="")

    for path in (
        ".well-known/openid-configuration",
        "jwks",
        "authorize",
        "userinfo",
        "logout",
        "static/style.css",
    ):
        assert provider.http().get(f"{ISSUER}/{path}").status_code == 404
    assert provider.post("token", {}).status_code == 404


def test_keys_follow_each_other_and_overlap(provider):
    first = tokens(provider)["id_token"]
    oidc = provider.sso.oidc
    soon = datetime.now(UTC) + timedelta(minutes=5)
    execute(provider, "UPDATE sso_signing_key SET signs_until = :soon", soon=soon)
    oidc.keys._keys, oidc.keys._looked = [], float("-inf")

    published = {key["kid"] for key in provider.http().get(f"{ISSUER}/jwks").json()["keys"]}

    signs = jwt.get_unverified_header(first)["kid"]
    assert len(published) == 2
    assert jwt.get_unverified_header(tokens(provider)["id_token"])["kid"] == signs, (
        "the next one does not sign yet"
    )
    execute(provider, "UPDATE sso_signing_key SET signs_from = now() WHERE kid <> :kid", kid=signs)
    execute(provider, "UPDATE sso_signing_key SET signs_until = now() WHERE kid = :kid", kid=signs)
    oidc.keys._keys, oidc.keys._looked = [], float("-inf")
    assert {jwt.get_unverified_header(tokens(provider)["id_token"])["kid"]} == published - {signs}
    assert oidc.tokens.read_hint(first), "what the old one signed is still valid"


def test_two_workers_that_need_a_key_at_the_same_time_get_the_same(provider):
    other = keys.SigningKeys(provider.sso)
    other._create(datetime.now(UTC))
    provider.sso.oidc.keys._create(datetime.now(UTC))

    provider.sso.oidc.keys.look()

    assert provider.sso.oidc.keys.signing().kid == other.signing().kid


def test_keys_that_are_replaced_are_not_valid_any_more(provider):
    token = tokens(provider)["access_token"]

    kid = provider.sso.oidc.keys.replace("admin", "cid")

    assert userinfo(provider, token).status_code == 401
    assert [key["kid"] for key in provider.http().get(f"{ISSUER}/jwks").json()["keys"]] == [kid]


def test_private_keys_and_tokens_are_not_in_the_database(provider):
    made = tokens(provider, OFFLINE)
    with provider.store.engine.connect() as connection:
        dump = str(
            [
                connection.execute(text(f"SELECT t::text FROM {table} t")).all()
                for table in ("sso_grant", "sso_signing_key", "sso_challenge", "audit_event")
            ]
        )

    assert "PRIVATE" not in dump
    for token in made.values():
        assert len(str(token)) < 50 or str(token) not in dump
    assert made["refresh_token"].partition(".")[2] not in dump


def test_a_log_out_needs_the_users_word_unless_an_id_token_says_whose_it_is(provider):
    browser = provider.browser()
    with_code(provider, verifier(), browser)

    question = browser.get(f"{ISSUER}/logout", client_id=CLIENT, post_logout_redirect_uri=AFTER_LOG_OUT)
    assert "Log out?" in question.text
    forged = browser.session.post(f"{ISSUER}/logout", data={"csrf": "x"}, allow_redirects=False)
    assert "Log out?" in forged.text
    assert browser.get(f"{ISSUER}/authorize", **asked()).status_code == 303, "still logged in"

    assert browser.submit(question).headers["Location"] == AFTER_LOG_OUT
    assert browser.get(f"{ISSUER}/authorize", **asked()).status_code == 200


@pytest.mark.parametrize("uri", [f"{AFTER_LOG_OUT}/", "https://evil.example.com/", CALLBACK])
def test_a_log_out_sends_nobody_to_an_address_that_is_not_known(shared, uri):
    answer = shared.browser().get(f"{ISSUER}/logout", client_id=CLIENT, post_logout_redirect_uri=uri)

    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize("encode", [str, quote_plus], ids=["as it is", "form-encoded"])
def test_any_secret_works_in_basic_authentication_encoded_or_not(provider, encode):
    name, secret = "Wiki & more", "a+b/c=d%2B e&f:g-of-the-tests"
    provider.client(name, secret=secret)
    given = with_code(provider, verifier(), client_id=name)

    assert provider.post("token", given, (encode(name), encode(secret))).status_code == 200
    assert is_error(
        provider.post("token", given, (encode(name), encode(secret) + "x")), "invalid_client", 401
    )
