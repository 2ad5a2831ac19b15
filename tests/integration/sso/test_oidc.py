"""OpenID Connect on running servers: wherever a browser and an application get to, it is the same provider."""

from __future__ import annotations

import jwt
import pytest
import requests
from requests_oauthlib import OAuth2Session

from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.oidc import Browser, query

APP, SECRET, CALLBACK = "oidc-portal", "secret-of-the-portal-of-the-tests", "http://127.0.0.1:9/callback"
USERNAME, PASSWORD = "oidc.user", "violet harbour seventeen lamps"
SCOPE = ["openid", "profile", "offline_access"]


@pytest.fixture
def issuers(cluster: ClusterUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The issuer's URL, and the same at the other server."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # it is this very machine
    urls = [f"{server.url}/zato/sso/oidc" for server in cluster.servers]
    cluster.write("zato.sso.edit", name="sso", oidc_issuer=urls[0], hash_secret_rounds=1000)
    fields = {"is_oidc_client": True, "secret": SECRET, "redirect_uris": [CALLBACK]}
    cluster.write("zato.sso-application.create", name=APP, **fields)
    given = {"username": USERNAME, "password": PASSWORD, "auto_approve": True}
    cluster.invoke("zato.sso.admin.create-user", given)
    return urls


def test_a_log_in_goes_on_at_another_server_and_ends_at_all(issuers: list[str]) -> None:
    issuer, other = issuers
    client = OAuth2Session(APP, redirect_uri=CALLBACK, scope=SCOPE, pkce="S256")
    browser = Browser(requests.Session())
    url, state = client.authorization_url(f"{issuer}/authorize", nonce="n")

    location = browser.log_in(browser.get(url), USERNAME, PASSWORD)

    assert (query(location)["state"], query(location)["iss"]) == (state, issuer)
    token = client.fetch_token(f"{other}/token", code=query(location)["code"], client_secret=SECRET)
    for path in ("static/style.css", "static/pages.js"):
        assert requests.get(f"{other}/{path}", timeout=10).status_code == 200
    known = requests.get(f"{other}/.well-known/openid-configuration", timeout=10).json()
    assert known["issuer"] == issuer
    key = jwt.PyJWKClient(known["jwks_uri"]).get_signing_key_from_jwt(token["id_token"])
    claims = jwt.decode(token["id_token"], key, ["RS256"], audience=APP, issuer=issuer)
    assert claims["nonce"] == "n"
    for url in issuers * 3:
        assert client.get(f"{url}/userinfo").json()["preferred_username"] == USERNAME

    client.refresh_token(f"{issuer}/token", auth=(APP, SECRET))
    assert requests.post(
        f"{other}/revoke", data={"token": client.token["refresh_token"]}, auth=(APP, SECRET), timeout=10
    ).ok
    for url in issuers * 3:
        assert client.get(f"{url}/userinfo").status_code == 401
